package uplink

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// TestRenewedWithoutRestart: while events flow, the client's certificate is
// replaced, first the one file and a while later the other, and then the
// authority's.
func TestRenewedWithoutRestart(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	cert, key := ca.issue("broker", "127.0.0.1", later)
	clientCert, clientKey := ca.issue("client", "first", later)
	newCert, newKey := ca.issue("renewed", "second", later)
	var mu sync.Mutex
	var names []string
	b := tlsBroker(t, ca.server(cert, key, ca), func(cl *mochi.Client, _ packets.Packet) bool {
		state := cl.Net.Conn.(*tls.Conn).ConnectionState()
		mu.Lock()
		defer mu.Unlock()
		names = append(names, state.PeerCertificates[0].Subject.CommonName)
		return true
	})
	s := newSpool(t)
	o := (&agent{}).options(t, "tls://"+b.addr)
	o.StopTimeout = patience
	o.TLS = &TLSOptions{CAFile: ca.file, CertFile: clientCert, KeyFile: clientKey, every: 150 * time.Millisecond}
	u, stop := start(t, s, o)
	eventuallyStatus(t, u, online)
	require.Empty(t, u.Status().RenewalError)
	require.Equal(t, []CertificateStatus{
		{RoleClient, "first", later.UTC().Truncate(time.Second), clientCert},
		{RoleCA, "test authority", ca.cert.NotAfter, ca.file},
		{RoleBroker, "127.0.0.1", later.UTC().Truncate(time.Second), ""},
	}, u.Status().Certificates)

	var writers sync.WaitGroup
	done := make(chan struct{})
	writers.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond): // the pace of the events
				record(t, s, event.Urgent, 1, 200)
			}
		}
	})
	replace := func(with, path string) {
		text, err := os.ReadFile(with)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, text, 0o600))
	}
	replace(newCert, clientCert)
	eventuallyStatus(t, u, func(s Status) bool { return s.RenewalError != "" })
	require.Contains(t, u.Status().RenewalError, "the certificate files were changed and can't be used")
	require.Contains(t, u.Status().RenewalError, "private key does not match")
	require.Contains(t, u.Status().Problems(time.Now())[3].Text(), "can't be used", "after those of the three that last an hour")
	require.EqualValues(t, 1, u.Status().Session, "the session goes on with the old ones")
	replace(newKey, clientKey)
	eventuallyStatus(t, u, func(s Status) bool { return s.State == Online && s.Session == 2 })
	st := u.Status()
	require.Equal(t, "second", st.Certificates[0].Subject)
	require.Empty(t, st.RenewalError)
	require.Empty(t, st.LastError, "this is no failure")

	// An authority that the broker's certificate does not come from is taken up
	// too, and told in words. Putting the right one back heals it.
	old, err := os.ReadFile(ca.file)
	require.NoError(t, err)
	replace(other.file, ca.file)
	eventuallyStatus(t, u, func(s Status) bool { return strings.Contains(s.LastError, "authority that is not trusted here") })
	require.NoError(t, os.WriteFile(ca.file, old, 0o600))
	eventuallyStatus(t, u, online)
	close(done)
	writers.Wait()
	eventually(t, func() bool { return backlog(s) == 0 })
	stop()
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"first", "second", "second"}, names)
	require.Empty(t, b.willsSent(), "each session ended in good order")
	require.Zero(t, requireEvents(t, b.all(), event.Urgent, int(s.Stats().Urgent.Acked), 200), "and nothing came twice")
}

// TestRenewalWaits: what is half written, expired or gone does not take the
// place of what is in use.
func TestRenewalWaits(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("client", "lane-3", time.Now().Add(time.Hour))
	good, err := os.ReadFile(ca.file)
	require.NoError(t, err)
	options := &TLSOptions{CAFile: ca.file, CertFile: cert, KeyFile: key}
	tr := &trust{}
	_, err = tr.configure(options, "mqtt.example")
	require.NoError(t, err)
	now := time.Now()
	r := newRenewal(tr, now)
	look := func(after time.Duration) (bool, error) {
		now = now.Add(after)
		return r.look(now)
	}
	ready, problem := look(renewEvery)
	require.False(t, ready)
	require.NoError(t, problem)
	require.Equal(t, now.Add(renewEvery), r.next)

	for _, c := range []struct {
		name, want string
		change     func()
	}{
		{"half a certificate", "ends within a certificate", func() {
			require.NoError(t, os.WriteFile(ca.file, append(good, good[:len(good)/2]...), 0o600))
		}},
		{"no certificate at all", "holds no certificate", func() { require.NoError(t, os.WriteFile(ca.file, nil, 0o600)) }},
		{"gone", "no such file", func() { require.NoError(t, os.Remove(ca.file)) }},
		{"a huge file", "more than 1048576 bytes", func() {
			require.NoError(t, os.WriteFile(ca.file, make([]byte, 2*maxTLSFile), 0o600))
		}},
		{"expired", "has expired on", func() {
			require.NoError(t, os.WriteFile(ca.file, good, 0o600))
			ca.issue("client", "lane-3", time.Now().Add(-time.Minute))
		}},
		{"not valid yet", "is not valid before", func() { ca.issue("client", "lane-3", time.Now().Add(100*time.Hour)) }},
	} {
		c.change()
		if r.since.IsZero() {
			ready, problem = look(renewEvery)
			require.False(t, ready, c.name)
			require.NoError(t, problem, "%s: it may be under way", c.name)
		}
		ready, problem = look(renewEvery)
		require.False(t, ready, c.name)
		require.ErrorContains(t, problem, c.want, c.name)
	}
	// What fits counts when it was the same twice.
	ca.issue("client", "lane-3", time.Now().Add(2*time.Hour-time.Second))
	ready, problem = look(renewEvery)
	require.NoError(t, problem)
	require.False(t, ready)
	require.Equal(t, now.Add(renewEvery/settleDivisor), r.next, "looked at again soon")
	ready, problem = look(renewEvery / settleDivisor)
	require.NoError(t, problem)
	require.True(t, ready)

	require.Nil(t, newRenewal(&trust{}, now), "no TLS, no files")
	require.Nil(t, newRenewal(&trust{options: &TLSOptions{ServerName: "x"}}, now))
}

func TestProblems(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	const day = 24 * time.Hour
	for _, c := range []struct {
		certificate CertificateStatus
		want        []Problem
	}{
		{CertificateStatus{RoleClient, "lane-3", in(31 * day), "/etc/x.pem"}, nil},
		{CertificateStatus{RoleClient, "lane-3", in(12*day + time.Hour), "/etc/x.pem"}, []Problem{{false,
			"the client certificate /etc/x.pem (lane-3) expires in 12 days (2026-12-05)", "put a renewed one in its place; the agent takes it up by itself"}}},
		{CertificateStatus{RoleClient, "lane-3", in(30 * time.Hour), "/etc/x.pem"}, []Problem{{false,
			"the client certificate /etc/x.pem (lane-3) expires in 30 hours (2026-11-24)", "put a renewed one in its place; the agent takes it up by itself"}}},
		{CertificateStatus{RoleClient, "lane-3", in(time.Hour), "/etc/x.pem"}, []Problem{{false,
			"the client certificate /etc/x.pem (lane-3) expires in less than two hours (2026-11-23)", "put a renewed one in its place; the agent takes it up by itself"}}},
		{CertificateStatus{RoleClient, "lane-3", in(-3 * day), "/etc/x.pem"}, []Problem{{true,
			"the client certificate /etc/x.pem (lane-3) has expired on 2026-11-20", "put a renewed one in its place; the agent takes it up by itself"}}},
		{CertificateStatus{RoleCA, "Border CA", in(20 * day), "/etc/ca.pem"}, []Problem{{false,
			"the authority's certificate /etc/ca.pem (Border CA) expires in 20 days (2026-12-13)", "add the one that follows it to the file; the agent takes it up by itself"}}},
		{CertificateStatus{RoleCA, "Public CA", in(20 * day), ""}, []Problem{{false,
			"the authority's certificate (Public CA) expires in 20 days (2026-12-13)", "bring this system's list of certificate authorities up to date"}}},
		{CertificateStatus{RoleBroker, "mqtt.example", in(-time.Second), ""}, []Problem{{true,
			"the broker's certificate (mqtt.example) has expired on 2026-11-23", "those who run the broker must renew it; once it has expired, events wait in the spool"}}},
	} {
		require.Equal(t, c.want, Status{Certificates: []CertificateStatus{c.certificate}}.Problems(now))
	}
	require.Equal(t, []Problem{{false, "they don't fit", ""}}, Status{RenewalError: "they don't fit"}.Problems(now))
}

// TestExpiredBrokerIsNamed: the certificate that was refused is in the status.
func TestExpiredBrokerIsNamed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("broker", "127.0.0.1", time.Now().Add(-time.Minute))
	b := tlsBroker(t, ca.server(cert, key, nil), nil)
	o := (&agent{}).options(t, "tls://"+b.addr)
	o.TLS = &TLSOptions{CAFile: ca.file}
	u, _ := start(t, newSpool(t), o)
	eventuallyStatus(t, u, func(s Status) bool { return s.LastError != "" })
	problems := u.Status().Problems(time.Now())
	require.Len(t, problems, 2)
	require.Contains(t, problems[0].Text(), "the authority's certificate "+ca.file)
	require.Contains(t, problems[1].Text(), "the broker's certificate (127.0.0.1) has expired")
	require.True(t, problems[1].Critical)
}

// TestNameIsAlwaysVerified: whatever the options are, the certificate and its
// name are.
func TestNameIsAlwaysVerified(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("client", "lane-3", time.Now().Add(time.Hour))
	for _, o := range []*TLSOptions{
		nil, {}, {CAFile: ca.file}, {CAFile: ca.file, CertFile: cert, KeyFile: key}, {ServerName: "mqtt.example", ALPN: []string{"mqtt"}},
	} {
		config, err := (&trust{}).configure(o, "mqtt.example")
		require.NoError(t, err)
		require.False(t, config.InsecureSkipVerify)
		require.Equal(t, "mqtt.example", config.ServerName)
		require.EqualValues(t, tls.VersionTLS12, config.MinVersion)
		require.Nil(t, config.CipherSuites, "Go's own choice")
	}
	wrong, wrongKey := ca.issue("wrong", "elsewhere.example", time.Now().Add(time.Hour))
	b := tlsBroker(t, ca.server(wrong, wrongKey, nil), nil)
	for _, o := range []*TLSOptions{
		{CAFile: ca.file}, {CAFile: ca.file, ServerName: "mqtt.example"}, {CAFile: ca.file, ALPN: []string{"mqtt"}},
		{CAFile: ca.file, CertFile: cert, KeyFile: key},
	} {
		err := Probe(context.Background(), Options{Brokers: []string{"tls://" + b.addr}, ClientID: "x", TLS: o}, "test")
		require.ErrorContains(t, err, "made out to another name")
		require.Contains(t, Hint(err), "server name")
	}
	// And no file of this package knows the switch.
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		if !strings.HasSuffix(f, "_test.go") {
			require.NotContains(t, string(text), "InsecureSkipVerify", f)
		}
	}
}
