package event

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The SHA-256 of "abc", from FIPS 180-4's examples.
const abcHash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

const abcTopic = "lanepost/v1/medyka/entry-3/anpr-1/blob/" + abcHash + "/"

func TestChunkTopic(t *testing.T) {
	c := Chunk{Source: "/medyka/entry-3/anpr-1", SHA256: abcHash, Size: 412733, Offset: 131072}
	const topic = abcTopic + "000000131072of412733"
	require.Equal(t, topic, ChunkTopic(c))
	got, err := ParseChunkTopic(topic)
	require.NoError(t, err)
	require.Equal(t, c, got)

	last := Chunk{Source: "/a/b/c", SHA256: abcHash, Size: MaxAttachment, Offset: MaxAttachment - 1}
	got, err = ParseChunkTopic(ChunkTopic(last))
	require.NoError(t, err)
	require.Equal(t, last, got)
}

func TestChunkTopicRefused(t *testing.T) {
	for _, topic := range []string{
		"",
		"lanepost/v1",
		"lanepost/v2/medyka/entry-3/anpr-1/blob/" + abcHash + "/000000000000of3",
		"lanepost/v1/medyka/entry-3/anpr-1/lanepost.radiation.alarm",
		"lanepost/v1/medyka/entry-3/anpr-1/bulb/" + abcHash + "/000000000000of3",
		"lanepost/v1/medyka/entry-3/anpr-1/blob/" + strings.ToUpper(abcHash) + "/000000000000of3",
		"lanepost/v1/medyka/entry-3/anpr-1/blob/" + abcHash[1:] + "/000000000000of3",
		"lanepost/v1/med+ka/entry-3/anpr-1/blob/" + abcHash + "/000000000000of3",
		"lanepost/v1//entry-3/anpr-1/blob/" + abcHash + "/000000000000of3",
		"x/" + abcTopic + "000000000000of3",
		abcTopic + "000000000000of3/",
		abcTopic + "000000000000of3/more",
		abcTopic + "000000000000",
		abcTopic + "of3",
		abcTopic + "0of3",
		abcTopic + "0000000000000of3",
		abcTopic + "000000000000of03",
		abcTopic + "+00000000000of3",
		abcTopic + "-00000000001of3",
		abcTopic + "000000000000of-3",
		abcTopic + "000000000000of0",
		abcTopic + "000000000003of3",
		abcTopic + "000000000000of1073741825",
		abcTopic + "000000000000of99999999999999999999",
	} {
		_, err := ParseChunkTopic(topic)
		require.Error(t, err, topic)
	}
}

func FuzzParseChunkTopic(f *testing.F) {
	f.Add(abcTopic + "000000131072of412733")
	f.Add("lanepost/v1/a/b/c/blob/" + abcHash + "/000000000000of1")
	f.Fuzz(func(t *testing.T, topic string) {
		c, err := ParseChunkTopic(topic)
		if err != nil {
			return
		}
		require.Equal(t, topic, ChunkTopic(c))
		require.NoError(t, Attachment{SHA256: c.SHA256, Size: c.Size, MediaType: "x"}.Check())
		require.NotContains(t, topic, "+")
		require.NotContains(t, topic, "#")
	})
}

func TestAttachmentCheck(t *testing.T) {
	good := Attachment{SHA256: abcHash, Size: 3, MediaType: "text/plain"}
	require.NoError(t, good.Check())
	for _, change := range []func(*Attachment){
		func(a *Attachment) { a.SHA256 = "" },
		func(a *Attachment) { a.SHA256 = strings.ToUpper(abcHash) },
		func(a *Attachment) { a.Size = 0 },
		func(a *Attachment) { a.Size = MaxAttachment + 1 },
		func(a *Attachment) { a.MediaType = "" },
	} {
		bad := good
		change(&bad)
		require.Error(t, bad.Check())
	}
}

func TestAssembler(t *testing.T) {
	a := NewAssembler(1 << 20)
	for _, step := range []struct {
		name, payload string
		complete      bool
	}{
		{"000000000002of3", "c", false},
		{"000000000002of3", "c", false},
		{"000000000001of3", "b", false},
		{"000000000001of3", "bc", false}, // again, in another size
		{"000000000000of3", "a", true},
		{"000000000000of3", "a", false}, // a late copy begins nothing
	} {
		content, complete, err := a.Add(abcTopic+step.name, []byte(step.payload))
		require.NoError(t, err)
		require.Equal(t, step.complete, complete)
		if complete {
			require.Equal(t, "abc", string(content))
		}
	}
	require.Zero(t, a.bytes)
	require.Empty(t, a.open)
	require.Empty(t, a.order)
}

func TestAssemblerRefuses(t *testing.T) {
	a := NewAssembler(1 << 20)
	for _, x := range []struct{ topic, payload string }{
		{"lanepost/v1/a/b/c/lanepost.radiation.alarm", "{}"},
		{abcTopic + "000000000000of3", ""},
		{abcTopic + "000000000000of3", "abcd"},
		{abcTopic + "000000000002of3", "cd"},
		{abcTopic + "000000000000of3", "abd"}, // another hash
		{abcTopic + "000000000000of2", "ab"},
	} {
		_, complete, err := a.Add(x.topic, []byte(x.payload))
		require.Error(t, err, x.topic)
		require.False(t, complete)
	}
	// None of it stands in the way of the true ones.
	content, complete, err := a.Add(abcTopic+"000000000000of3", []byte("abc"))
	require.NoError(t, err)
	require.True(t, complete)
	require.Equal(t, "abc", string(content))
}

// Whatever claims come, what is held stays within the bound.
func TestAssemblerIsBounded(t *testing.T) {
	const bound = 64 << 10
	rnd := rand.New(rand.NewPCG(1, 2))
	a := NewAssembler(bound)
	dropped := 0
	for range 5000 {
		c := Chunk{Source: "/a/b/c", Size: MaxAttachment, Offset: rnd.Int64N(MaxAttachment - 1000)}
		c.SHA256 = strings.Repeat(string(hexDigits[rnd.IntN(16)]), 64)
		_, complete, err := a.Add(ChunkTopic(c), make([]byte, 1+rnd.IntN(1000)))
		require.False(t, complete)
		if err != nil {
			require.ErrorIs(t, err, ErrDropped)
			dropped++
		}
		require.LessOrEqual(t, a.bytes, int64(bound))
		require.Len(t, a.order, len(a.open))
	}
	require.Positive(t, dropped)

	// A content that is larger than the bound is never held, and does not stay.
	_, _, err := NewAssembler(2).Add(abcTopic+"000000000000of3", []byte("ab"))
	require.ErrorIs(t, err, ErrDropped)
	require.ErrorContains(t, err, abcHash)

	for range 3 * maxFinished {
		a.finished = append(a.finished, contentKey{})
	}
	_, complete, err := a.Add(abcTopic+"000000000000of3", []byte("abc"))
	require.NoError(t, err)
	require.True(t, complete)
	require.True(t, slices.Contains(a.finished, contentKey{abcHash, 3}))
}
