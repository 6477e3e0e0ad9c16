package llrp

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func raw(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

// The bytes are computed by hand from the form of messages; those of the keepalives are
// others' too.
func TestMessages(t *testing.T) {
	require.Equal(t, raw(t, "04 3E 00 00 00 0A 00 00 00 01"), Message{Type: Keepalive, ID: 1}.Append(nil))
	require.Equal(t, raw(t, "04 48 00 00 00 0A 00 00 00 02"), Message{Type: KeepaliveAck, ID: 2}.Append(nil))
	var s Splitter
	stream := append(Message{Type: Keepalive, ID: 1}.Append(nil), Message{Type: ROAccessReport, ID: 7, Payload: raw(t, "00F0001F 8D 3000ABCDEF00000000000003 81 0001 86 D0 82 0005A9E4BEF862E0")}.Append(nil)...)
	var got []Message
	for _, b := range stream {
		s.Write([]byte{b})
		m, ok, err := s.Next()
		require.NoError(t, err)
		if ok {
			got = append(got, m)
		}
	}
	require.Len(t, got, 2)
	require.Equal(t, Message{Type: Keepalive, ID: 1, Payload: []byte{}}, got[0])
	tags, err := ParseReport(got[1].Payload)
	require.NoError(t, err)
	require.Equal(t, []Tag{{EPC: raw(t, "3000ABCDEF00000000000003"), Antenna: 1, RSSI: -48, HasRSSI: true, FirstSeen: time.UnixMicro(1594174805140192).UTC()}}, tags)

	e, err := ParseEvent(raw(t, "00F6 0016 0080 000C 0005AC35BD20D1DA 0101 0006 0000"))
	require.NoError(t, err)
	require.Equal(t, Event{UTC: time.UnixMicro(1596721689842138).UTC(), Attempt: true}, e)
	e, err = ParseEvent(AppendEvent(nil, Event{UTC: e.UTC, Attempt: true, Status: 2}))
	require.NoError(t, err)
	require.EqualValues(t, 2, e.Status)

	long := Tag{EPC: []byte{1, 2, 3, 4, 5, 6}, Antenna: 3}
	tags, err = ParseReport(AppendReport(nil, long, long))
	require.NoError(t, err)
	require.Equal(t, []Tag{long, long}, tags)

	s = Splitter{}
	s.Write([]byte("HTTP/1.1 400 Bad Request"))
	_, _, err = s.Next()
	require.ErrorIs(t, err, ErrFrame)
	for _, bad := range []string{"00F0 0003", "00F0 0100 00", "FF", "00F0 0007 FF 0000", "00F0 0009 00F1 0005 00"} {
		_, err := ParseReport(raw(t, bad))
		require.Error(t, err, bad)
	}
}

// TestFixtures reads somebody else's messages, where they are at hand.
func TestFixtures(t *testing.T) {
	list, _ := filepath.Glob("../../../shared/data/lane/llrp/roAccessReports/*.bytes")
	if len(list) == 0 {
		t.Skip("the captures are not here")
	}
	for _, path := range list {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		text, err := os.ReadFile(strings.TrimSuffix(path, ".bytes") + ".json")
		require.NoError(t, err)
		var want struct {
			TagReportData []struct {
				EPC96        struct{ EPC string }
				AntennaID    uint16
				PeakRSSI     int8
				FirstSeenUTC int64
			}
		}
		require.NoError(t, json.Unmarshal(text, &want))
		tags, err := ParseReport(b)
		require.NoError(t, err)
		require.Len(t, tags, len(want.TagReportData))
		for i, w := range want.TagReportData {
			epc, err := base64.StdEncoding.DecodeString(w.EPC96.EPC)
			require.NoError(t, err)
			require.Equal(t, Tag{EPC: epc, Antenna: w.AntennaID, RSSI: w.PeakRSSI, HasRSSI: true, FirstSeen: time.UnixMicro(w.FirstSeenUTC).UTC()}, tags[i])
		}
	}
	b, err := os.ReadFile("../../../shared/data/lane/llrp/ReaderEventNotification-000.bytes")
	require.NoError(t, err)
	e, err := ParseEvent(b)
	require.NoError(t, err)
	require.Equal(t, time.UnixMicro(1596721689842138).UTC(), e.UTC)
	require.False(t, e.Attempt)
}

func FuzzStream(f *testing.F) {
	f.Add(Message{Type: ROAccessReport, Payload: AppendReport(nil, Tag{EPC: []byte{1, 2, 3}, Antenna: 1})}.Append(nil))
	f.Add(Message{Type: ReaderEventNotification, Payload: AppendEvent(nil, Event{Attempt: true, UTC: time.Unix(1e9, 0)})}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Splitter
		s.Write(b)
		for {
			m, ok, err := s.Next()
			if err != nil || !ok {
				return
			}
			_, _ = ParseEvent(m.Payload)
			tags, _ := ParseReport(m.Payload)
			if again, err := ParseReport(AppendReport(nil, tags...)); err != nil || len(again) != len(tags) {
				t.Fatalf("what is written can't be read: %v", err)
			}
		}
	})
}
