package config

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/daily"
	"github.com/lanepost/lanepost/agent/tee"
)

func TestTee(t *testing.T) {
	require.Nil(t, one(t).Tee)
	for text, want := range map[string]tee.Settings{
		"{listen: tcp://127.0.0.1:1700}":                {Address: "127.0.0.1:1700", Clients: 4},
		`{listen: "tcp://[::1]:1700/", clients: 32}`:    {Address: "[::1]:1700", Clients: 32},
		"{listen: tcp://0.0.0.0:1700, allow: 10.0.3.7}": {Address: "0.0.0.0:1700", Clients: 4, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.3.7/32")}},
		"{listen: tcp://10.0.3.2:1700, allow: [10.0.3.7/24, 'fd00::1']}": {
			Address: "10.0.3.2:1700", Clients: 4, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.3.0/24"), netip.MustParsePrefix("fd00::1/128")},
		},
	} {
		d := one(t, "tee: "+text)
		require.NotNil(t, d.Tee, text)
		require.True(t, want.Equal(*d.Tee), "%s: %+v", text, *d.Tee)
		require.Equal(t, one(t).Fingerprint, d.Fingerprint, "a tee is no reason to part from a portal")
	}
}

func TestDaily(t *testing.T) {
	c, err := Parse("/etc/lanepost/c.yaml", []byte(oneDevice))
	require.NoError(t, err)
	require.Zero(t, c.Daily)
	require.Empty(t, c.Devices()[0].Daily)

	c, err = Parse("/etc/lanepost/c.yaml", []byte("daily: {dir: daily}\n"+oneDevice))
	require.NoError(t, err)
	require.Equal(t, daily.Settings{Dir: "/etc/lanepost/daily", Keep: 400 * 24 * time.Hour, MaxBytes: 2 << 30}, c.Daily)
	require.Equal(t, "l-d", c.Devices()[0].Daily)
	require.Equal(t, one(t).Fingerprint, c.Devices()[0].Fingerprint)
	require.Empty(t, c.Warnings)

	dir := t.TempDir()
	c, err = Parse("c.yaml", []byte("daily: {dir: "+dir+", keep: 30d, max_size: 500MB, zone: Europe/Kyiv}\n"+oneDevice+
		"      - {id: scale, profile: scale-toledo, connect: 'tcp://10.0.0.2:5000'}\n"))
	require.NoError(t, err)
	require.Equal(t, daily.Settings{Dir: filepath.Clean(dir), Keep: 720 * time.Hour, MaxBytes: 500_000_000, Zone: "Europe/Kyiv"}, c.Daily)
	require.Equal(t, "l-d", c.Devices()[0].Daily)
	require.Empty(t, c.Devices()[1].Daily, "portals' records only")

	c, err = Parse("c.yaml", []byte("daily: {dir: "+dir+"}\nsite: a\nlanes: [{id: l, devices: [{id: scale, profile: scale-toledo, connect: 'tcp://10.0.0.2:5000'}]}]\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"c.yaml:1:9: no device sends lines on a tcp: or serial: link, so there will be no daily files"}, warnings(c))
}
