package customsgate

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// document has the 155 bytes of the vector's.
func document() []byte {
	d := []byte(`<GATHER_INFO AREA_ID="0000000001" CHNL_NO="0000000002" I_E_TYPE="I" SEQ_NO="20260314082241000001"><WEIGHT><GROSS_WT>38460</GROSS_WT></WEIGHT></GATHER_INFO>`)
	return append(d, bytes.Repeat([]byte(" "), 155-len(d))...)
}

// The header as it is written down in the protocol, typed by hand: total 195, document 155.
const head = "E25C4B89 C3000000 21 30303030303030303031 30303030303030303032 49 00000000 9B000000"

func vector(t testing.TB) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(head, " ", ""))
	require.NoError(t, err)
	return append(append(b, document()...), 0xff, 0xff)
}

func TestFrame(t *testing.T) {
	want := vector(t)
	require.Len(t, want, 195)
	f := Frame{Kind: Gather, Area: "0000000001", Lane: "0000000002", Document: document()}
	got, err := f.Append(nil)
	require.NoError(t, err)
	require.Equal(t, want, got)
	var s Splitter
	for _, b := range want[:len(want)-1] {
		s.Write([]byte{b})
		_, ok, err := s.Next()
		require.NoError(t, err)
		require.False(t, ok)
	}
	s.Write(want[len(want)-1:])
	read, ok, err := s.Next()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, f, read)

	out := Frame{Kind: Release, Area: "0000000001", Lane: "0000000002", Out: true, Mark: 0xffffffff, Document: []byte("<A/>\x00")}
	b, err := out.Append(nil)
	require.NoError(t, err)
	s.Write(b)
	read, ok, err = s.Next()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []byte("<A/>"), read.Document, "one program counts a NUL into the document")
	require.True(t, read.Out)

	_, err = Frame{Area: "1", Lane: "0000000002"}.Append(nil)
	require.ErrorIs(t, err, ErrForm)
	_, err = Frame{Area: "0000000001", Lane: "0000000002", Document: make([]byte, MaxDocument+1)}.Append(nil)
	require.ErrorIs(t, err, ErrForm)
}

// What is wrong is passed over up to the next frame.
func TestResync(t *testing.T) {
	good := vector(t)
	change := func(at int, b byte) []byte {
		bad := bytes.Clone(good)
		bad[at] = b
		return bad
	}
	for name, bad := range map[string][]byte{
		"noise": []byte("noise\xe2\x5c"), "another total": change(4, 0xc4), "another length": change(34, 0x9c), "no direction": change(29, 'X'),
		"no end": change(194, 0), "a length without bound": change(37, 0x7f), "cut off": good[:20],
	} {
		t.Run(name, func(t *testing.T) {
			var s Splitter
			s.Write(append(bytes.Clone(bad), good...))
			s.Write(good)
			failed, frames := 0, 0
			for range 100 {
				_, ok, err := s.Next()
				if err != nil {
					failed++
				}
				if ok {
					frames++
				}
			}
			require.NotZero(t, failed)
			require.Equal(t, 2, frames)
			require.Empty(t, s.b)
		})
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add(vector(f))
	f.Add([]byte("\xe2\x5c\x4b\x89"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Splitter
		s.Write(b)
		for range len(b) + 1 {
			frame, ok, err := s.Next()
			if !ok && err == nil {
				break
			}
			if ok && len(frame.Document) > MaxDocument {
				t.Fatal("a document beyond the bound")
			}
		}
		if _, ok, err := s.Next(); ok || err != nil {
			t.Fatalf("it does not come to an end: %v %v", ok, err)
		}
	})
}
