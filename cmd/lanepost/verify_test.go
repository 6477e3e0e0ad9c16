package main

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/evidence"
)

// message is what a subscriber gets.
type message struct {
	topic string
	text  []byte
}

// chained makes the messages of an agent with a key of its own: its key, events,
// a checkpoint after each five.
func chained(t *testing.T, dir string, events int) []message {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	signer, err := agent.OpenSigner(dir)
	require.NoError(t, err)
	heads := map[event.Class]evidence.Head{}
	var list []message
	at := time.Date(2026, 3, 14, 8, 25, 0, 0, time.UTC)
	record := func(d event.Data) {
		at = at.Add(time.Second)
		draft, err := event.NewDraft(event.Header{
			ID: fmt.Sprintf("event-%d", len(list)), Agent: "box-1", Source: event.Source("site", event.AgentLane, "box-1"),
			Time: event.At(at), RecordedTime: event.At(at), ClockSync: "yes",
		}, d)
		require.NoError(t, err)
		h := heads[d.Class()]
		h.Sequence++
		h.Count++
		text := draft.Encode(h.Sequence, h.Hash)
		h.Hash = event.After(text)
		heads[d.Class()] = h
		list = append(list, message{draft.Topic(), text})
	}
	checkpoint := func() {
		c := evidence.Checkpoint{Agent: "box-1", Time: event.At(at), ClockSync: "yes", Urgent: heads[event.Urgent], Routine: heads[event.Routine]}
		d, err := signer.Checkpoint(c)
		require.NoError(t, err)
		record(d)
	}
	key, due, err := signer.Announcement("box-1", at)
	require.NoError(t, err)
	if due {
		record(key)
		require.NoError(t, signer.Announced())
	}
	for i := range events {
		record(event.RadiationDiagnostic{Kind: "test", Detail: fmt.Sprintf("number %d", i), Values: map[string]float64{}})
		if i%5 == 4 {
			checkpoint()
		}
	}
	checkpoint()
	return list
}

func plainLines(list []message) (b []byte) {
	for _, m := range list {
		b = append(append(b, m.text...), '\n')
	}
	return b
}

func topicLines(list []message) (b []byte) {
	for _, m := range list {
		b = append(append(append(b, m.topic...), ' '), append(bytes.Clone(m.text), '\n')...)
	}
	return b
}

func gzipped(t *testing.T, text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func fileOf(t *testing.T, text []byte) string {
	path := filepath.Join(t.TempDir(), "recording")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

func TestVerifyFiles(t *testing.T) {
	dir := t.TempDir()
	list := chained(t, dir, 22)
	public, _, err := agent.SigningKey(dir)
	require.NoError(t, err)
	state := "lanepost/v1/site/entry-3/rpm-1/lanepost.device.state (null)\r\n"
	for name, text := range map[string][]byte{
		"lines": plainLines(list), "with topics": append(topicLines(list), state...),
		"gzip": gzipped(t, plainLines(list)), "twice": append(plainLines(list), plainLines(list)...),
		"no last line feed": bytes.TrimSuffix(plainLines(list), []byte("\n")),
	} {
		t.Run(name, func(t *testing.T) {
			text, code := output(t, "verify", fileOf(t, text))
			require.Zero(t, code, text)
			require.Contains(t, text, "Nothing wrong was found.")
			require.Contains(t, text, "lanepost key show")
			require.Contains(t, text, evidence.Fingerprint(public))
		})
	}
	t.Run("key given", func(t *testing.T) {
		keyFile := fileOf(t, []byte(evidence.FormatKey(public)+"\n"))
		for _, key := range []string{keyFile, evidence.FormatKey(public)} {
			text, code := output(t, "verify", "--key", key, fileOf(t, plainLines(list)))
			require.Zero(t, code, text)
			require.Contains(t, text, "you gave it")
		}
	})
	t.Run("two files and JSON", func(t *testing.T) {
		text, code := output(t, "verify", "--json", fileOf(t, plainLines(list[:9])), fileOf(t, topicLines(list[9:])))
		require.Zero(t, code, text)
		var r evidence.Result
		require.NoError(t, json.Unmarshal([]byte(text), &r))
		require.Equal(t, uint64(len(list)), r.Totals.Events)
		require.Equal(t, uint64(22), r.Streams[1].SignedTo)
	})
	t.Run("standard input", func(t *testing.T) {
		cmd := lanepost("verify", "-")
		cmd.Stdin = bytes.NewReader(plainLines(list))
		text, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", text)
	})
}

func TestVerifyFinds(t *testing.T) {
	list := chained(t, t.TempDir(), 22)
	wrongKey, _, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	without := append(append([]message{}, list[:4]...), list[5:]...)
	text, code := output(t, "verify", fileOf(t, plainLines(without)))
	require.Equal(t, 1, code, text)
	require.Contains(t, text, "error, gap: box-1 routine 4: missing")

	changed := bytes.Replace(plainLines(list), []byte("number 7"), []byte("number 8"), 1)
	text, code = output(t, "verify", fileOf(t, changed))
	require.Equal(t, 1, code, text)
	require.Contains(t, text, "error, altered: box-1 routine 8 to 9")

	text, code = output(t, "verify", "--key", evidence.FormatKey(wrongKey), fileOf(t, plainLines(list)))
	require.Equal(t, 1, code, text)
	require.Contains(t, text, "not endorsed")

	noise := append(plainLines(list), bytes.Repeat([]byte("x"), maxLine+5000)...)
	text, code = output(t, "verify", fileOf(t, append(noise, "\n\x1b[2Jhello\n"...)))
	require.Equal(t, 1, code, text)
	require.Contains(t, text, "unreadable: line")
	require.NotContains(t, text, "\x1b")
}

func TestVerifyCantRead(t *testing.T) {
	for name, args := range map[string][]string{
		"nothing":         {"verify"},
		"no such file":    {"verify", filepath.Join(t.TempDir(), "none")},
		"empty":           {"verify", fileOf(t, nil)},
		"no gzip":         {"verify", fileOf(t, []byte{0x1f, 0x8b, 1, 2, 3})},
		"file and broker": {"verify", "--broker", "tcp://127.0.0.1:1", "x"},
		"no broker":       {"verify", "--broker", fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t)), "--for", "2s"},
		"no key":          {"verify", "--key", "abc", fileOf(t, []byte("{}\n"))},
		"no password":     {"verify", "--broker", "tcp://127.0.0.1:1", "--password-file", filepath.Join(t.TempDir(), "none")},
		"no authorities":  {"verify", "--broker", "tcp://127.0.0.1:1", "--ca-file", fileOf(t, []byte("x"))},
	} {
		t.Run(name, func(t *testing.T) {
			text, code := output(t, args...)
			require.Equal(t, 2, code, text)
			require.Contains(t, text, "lanepost: ")
		})
	}
}

func TestVerifyLive(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	mosquitto(t, port)
	list := chained(t, t.TempDir(), 22)
	broker := fmt.Sprintf("tcp://127.0.0.1:%d", port)
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID("box-1"))
	publish := func(list []message) {
		for _, m := range list {
			token := client.Publish(m.topic, 1, event.Retained(m.topic), m.text)
			require.True(t, token.WaitTimeout(patience))
			require.NoError(t, token.Error())
		}
	}
	token := client.Connect()
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	defer client.Disconnect(100)
	publish(list[:10]) // what was before the subscription, a retained checkpoint among it

	out := &syncBuffer{}
	cmd := lanepost("verify", "--broker", broker, "--for", "4s")
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "listening") }, patience, 5*time.Millisecond)
	publish(list[10:])
	require.NoError(t, cmd.Wait(), "%s", out)
	require.Contains(t, out.String(), "Nothing wrong was found.")
	require.Regexp(t, `box-1 +routine +\d+ +22 `, out.String())
}

func TestVerifyLiveBrokerGone(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() { // a broker that hangs up
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	text, code := output(t, "verify", "--broker", "tcp://"+ln.Addr().String(), "--for", "5s")
	require.Equal(t, 2, code, text)
}

func TestKeyCommands(t *testing.T) {
	config := writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", "tcp://127.0.0.1:1"))
	dir := filepath.Join(filepath.Dir(config), "spool")
	text, code := output(t, "key", "show", "--config", config)
	require.Equal(t, 1, code, text)
	require.Contains(t, text, "first start")

	chained(t, dir, 1)
	first, _, err := agent.SigningKey(dir)
	require.NoError(t, err)
	text, code = output(t, "key", "show", "--config", config)
	require.Zero(t, code, text)
	require.Contains(t, text, evidence.FormatKey(first))
	require.Contains(t, text, evidence.Fingerprint(first))

	text, code = output(t, "key", "rotate", "--config", config)
	require.Zero(t, code, text)
	second, rotating, err := agent.SigningKey(dir)
	require.NoError(t, err)
	require.True(t, rotating)
	require.Contains(t, text, evidence.FormatKey(second))
	text, code = output(t, "key", "show", "--config", config)
	require.Zero(t, code, text)
	require.Contains(t, text, "is new")
	text, code = output(t, "key", "rotate", "--config", config)
	require.Equal(t, 1, code, text)
	require.Contains(t, text, "reload")
}
