package digest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The values of RFC 7616 section 3.9.1 and RFC 2617 section 3.5.
func TestResponseOfTheStandards(t *testing.T) {
	const nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
	const cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
	for _, v := range []struct{ challenge, password, cnonce, want string }{
		{`Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, nonce="` + nonce + `"`, "Circle of Life", cnonce, "8ca523f5e9506fed4657c9700eebdbec"},
		{`Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="` + nonce + `"`, "Circle of Life", cnonce, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
		{`Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"`, "Circle Of Life", "0a4f113b", "6629fae49393a05397450978507c4ef1"},
	} {
		c, err := Parse(v.challenge)
		require.NoError(t, err)
		got, err := c.Response("Mufasa", v.password, "GET", "/dir/index.html", v.cnonce, 1)
		require.NoError(t, err)
		require.Equal(t, v.want, got)
	}
}

func TestParseCameraChallenge(t *testing.T) {
	c, err := Parse(`Digest qop="auth", realm="IP Camera(C2183)", nonce="4d6a", stale="TRUE"`)
	require.NoError(t, err)
	require.Equal(t, Challenge{Realm: "IP Camera(C2183)", Nonce: "4d6a", Auth: true, Stale: true}, c)
	for _, bad := range []string{"", "Basic realm=x", `Digest realm="x"`, `Digest nonce="x`, `Digest nonce="x", qop="auth-int"`, `Digest nonce="x", algorithm=MD4`, `Digest nonce="x", nonce="y"`} {
		_, err := Parse(bad)
		require.Error(t, err, bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`Digest qop="auth", realm="IP Camera(C2183)", nonce="4d6a", stale="FALSE"`)
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := Parse(s); err == nil {
			_, err := c.Response("u", "p", "GET", "/", "c", 1)
			require.NoError(t, err)
		}
	})
}
