package agent

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/evidence"
)

var signedAt = time.Date(2026, 3, 14, 8, 25, 0, 0, time.UTC)

// announced opens a signer and tells the stream of its key.
func announced(t *testing.T, dir string) (*Signer, event.AgentKey) {
	t.Helper()
	s, err := OpenSigner(dir)
	require.NoError(t, err)
	d, due, err := s.Announcement("box-1", signedAt)
	require.NoError(t, err)
	require.True(t, due)
	_, _, err = evidence.VerifyKey(d)
	require.NoError(t, err)
	require.NoError(t, s.Announced())
	return s, d
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), e.Name())
	}
	return names
}

func TestSignerFirstStart(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenSigner(dir)
	require.NoError(t, err)
	// A crash before the announcement is on disk: the next start makes it.
	again, d := announced(t, dir)
	require.Equal(t, s.key, again.key)
	require.Equal(t, evidence.ReasonFirst, d.Reason)
	require.Empty(t, d.Endorsement)
	require.Equal(t, []string{signingKeyFile}, files(t, dir))

	later, err := OpenSigner(dir)
	require.NoError(t, err)
	_, due, err := later.Announcement("box-1", signedAt)
	require.NoError(t, err)
	require.False(t, due)

	c := evidence.Checkpoint{Agent: "box-1", Time: event.At(signedAt), ClockSync: "no"}
	signed, err := later.Checkpoint(c)
	require.NoError(t, err)
	back, by, err := evidence.VerifyCheckpoint(signed)
	require.NoError(t, err)
	require.Equal(t, c, back)
	require.Equal(t, d.PublicKey, evidence.FormatKey(by))
	public, rotating, err := SigningKey(dir)
	require.NoError(t, err)
	require.False(t, rotating)
	require.Equal(t, by, public)
}

func TestSignerRotation(t *testing.T) {
	dir := t.TempDir()
	_, err := RotateSigningKey(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, first := announced(t, dir)
	public, err := RotateSigningKey(dir)
	require.NoError(t, err)
	_, err = RotateSigningKey(dir)
	require.ErrorContains(t, err, "reload")
	shown, rotating, err := SigningKey(dir)
	require.NoError(t, err)
	require.True(t, rotating)
	require.Equal(t, public, shown)

	_, second := announced(t, dir)
	require.Equal(t, evidence.ReasonRotated, second.Reason)
	require.Equal(t, first.PublicKey, second.PreviousPublicKey)
	require.Equal(t, evidence.FormatKey(public), second.PublicKey)
	require.Equal(t, []string{signingKeyFile}, files(t, dir))
}

// A power cut at each step of a rotation leaves an endorsed key.
func TestSignerRotationCut(t *testing.T) {
	dir := t.TempDir()
	_, first := announced(t, dir)
	require.NoError(t, os.Rename(filepath.Join(dir, signingKeyFile), filepath.Join(dir, oldSigningKeyFile)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, signingKeyFile+".new"), []byte("half"), 0o600))
	_, second := announced(t, dir)
	require.Equal(t, evidence.ReasonRotated, second.Reason)
	require.Equal(t, first.PublicKey, second.PreviousPublicKey)
	require.NotEqual(t, first.PublicKey, second.PublicKey)
	require.Equal(t, []string{signingKeyFile}, files(t, dir))
}

func TestSignerDamagedKey(t *testing.T) {
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(large)
	require.NoError(t, err)
	for name, text := range map[string][]byte{
		"empty": {}, "noise": []byte("\x00\x01\x02"), "cut": []byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAw"),
		"too long": make([]byte, maxKeyFile+1), "another kind": pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}),
		"no key": pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: []byte("x")}),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, first := announced(t, dir)
			require.NoError(t, os.WriteFile(filepath.Join(dir, signingKeyFile), text, 0o600))
			_, _, err := SigningKey(dir)
			require.ErrorIs(t, err, errDamagedKey)
			_, err = OpenSigner(dir)
			require.NoError(t, err)
			_, second := announced(t, dir) // also after a crash in between
			require.Equal(t, evidence.ReasonLost, second.Reason)
			require.Empty(t, second.Endorsement)
			require.NotEqual(t, first.PublicKey, second.PublicKey)
			require.Equal(t, []string{signingKeyFile, signingKeyFile + ".damaged"}, files(t, dir))
			kept, err := os.ReadFile(filepath.Join(dir, signingKeyFile+".damaged"))
			require.NoError(t, err)
			require.Equal(t, text, kept)
		})
	}
}

// A damaged old key endorses nothing, and the new key says so.
func TestSignerDamagedOldKey(t *testing.T) {
	dir := t.TempDir()
	announced(t, dir)
	public, err := RotateSigningKey(dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, oldSigningKeyFile), nil, 0o600))
	_, d := announced(t, dir)
	require.Equal(t, evidence.ReasonLost, d.Reason)
	require.Equal(t, evidence.FormatKey(public), d.PublicKey)
}

// A damaged new key that was not told yet: the old one endorses the next.
func TestSignerDamagedNewKey(t *testing.T) {
	dir := t.TempDir()
	_, first := announced(t, dir)
	_, err := RotateSigningKey(dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, signingKeyFile), nil, 0o600))
	_, d := announced(t, dir)
	require.Equal(t, evidence.ReasonRotated, d.Reason)
	require.Equal(t, first.PublicKey, d.PreviousPublicKey)
}

func TestSignerWithoutDisk(t *testing.T) {
	_, err := OpenSigner(filepath.Join(t.TempDir(), "missing"))
	require.Error(t, err)
}
