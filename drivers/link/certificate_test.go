package link

import (
	"crypto/tls"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestServerCertificateIsRenewed(t *testing.T) {
	firstCert, firstKey, _ := certificate(t)
	secondCert, secondKey, _ := certificate(t)
	replace := func(at, from string) {
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(at+".new", b, 0o600))
		require.NoError(t, os.Rename(at+".new", at))
	}
	load := func(cert, key string) []byte {
		pair, err := tls.LoadX509KeyPair(cert, key)
		require.NoError(t, err)
		return pair.Certificate[0]
	}
	first, second := load(firstCert, firstKey), load(secondCert, secondKey)
	synctest.Test(t, func(t *testing.T) {
		c, err := ReadServerCertificate(firstCert, firstKey)
		require.NoError(t, err)
		shown := func() []byte {
			pair, err := c.Get(nil)
			require.NoError(t, err)
			return pair.Certificate[0]
		}
		require.Equal(t, first, shown())
		replace(firstCert, secondCert)
		time.Sleep(lookAgain)
		require.Equal(t, first, shown(), "its key is not there yet")
		replace(firstKey, secondKey)
		require.Equal(t, first, shown(), "too soon to look")
		time.Sleep(lookAgain)
		require.Equal(t, second, shown())
		require.NoError(t, os.Remove(firstCert))
		time.Sleep(lookAgain)
		require.Equal(t, second, shown(), "the files are gone")
	})
	_, err := ReadServerCertificate(firstCert, firstKey)
	require.ErrorContains(t, err, firstCert)
}
