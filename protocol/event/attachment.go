package event

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxAttachment bounds the content of one attachment, in bytes.
const MaxAttachment = 1 << 30

// Attachment is content that belongs to an event and does not travel in it: a
// picture, a spectrum file. The event holds its hash, so it is as much evidence
// as the event is. The content follows in chunks, see ChunkTopic.
type Attachment struct {
	// SHA256 is the hash of the content in lower-case hexadecimal.
	SHA256 string `json:"sha256" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// Size is the number of bytes of the content, at least one.
	Size int64 `json:"size"`
	// MediaType says what the content is, for instance "image/jpeg".
	MediaType string `json:"media_type"`
	// Name is what the instrument called it, where it has a name.
	Name string `json:"name,omitempty"`
}

// NewAttachment describes content.
func NewAttachment(content []byte, mediaType, name string) Attachment {
	sum := sha256.Sum256(content)
	return Attachment{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content)), MediaType: mediaType, Name: name}
}

// Check finds what would make an attachment that can't be delivered.
func (a Attachment) Check() error {
	switch {
	case !validHash(a.SHA256):
		return fmt.Errorf("attachment: sha256 is %q: want 64 lower-case hexadecimal digits", a.SHA256)
	case a.Size < 1 || a.Size > MaxAttachment:
		return fmt.Errorf("attachment %s: its size is %d bytes: want 1 to %d", a.SHA256, a.Size, int64(MaxAttachment))
	case a.MediaType == "":
		return fmt.Errorf("attachment %s: the media type is missing", a.SHA256)
	}
	return nil
}

// DeviceAttachment says what became of the content of an attachment at one
// uplink. It is sent once the content is with the broker, or as soon as it is
// certain that it will never be.
type DeviceAttachment struct {
	// SHA256 is the hash of the content in lower-case hexadecimal.
	SHA256 string `json:"sha256" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// Size is the number of bytes of the content.
	Size int64 `json:"size"`
	// MediaType says what the content is, for instance "image/jpeg".
	MediaType string `json:"media_type"`
	// Name is what the instrument called it, where it has a name.
	Name string `json:"name,omitempty"`
	// EventID is the id of the event that the content belongs to; absent when the
	// agent does not know it any more, because its disk was damaged.
	EventID string `json:"event_id,omitempty"`
	// Uplink is the name of the uplink that this is about.
	Uplink string `json:"uplink"`
	// Chunks is how many chunks make the whole content.
	Chunks int64 `json:"chunks"`
	// ChunkBytes is the size of each chunk in bytes; the last one may be shorter.
	ChunkBytes int64 `json:"chunk_bytes"`
	// Outcome is "delivered" (the broker has confirmed every chunk, now or, where
	// another event had the same content, earlier), "evicted" (deleted to make
	// room), "refused" (the broker will never take it) or "damaged" (the disk does
	// not give it back).
	Outcome string `json:"outcome" jsonschema:"enum=delivered,enum=evicted,enum=refused,enum=damaged"`
	// Detail says in words what happened; empty when it is delivered.
	Detail string `json:"detail"`
}

// Type implements Data.
func (DeviceAttachment) Type() string { return "lanepost.device.attachment.v1" }

// Class implements Data.
func (DeviceAttachment) Class() Class { return Routine }

// Chunk is one part of an attachment's content: where it belongs. Its bytes are
// the whole payload of the message, and nothing else is.
type Chunk struct {
	// Source is the source of the event that the content belongs to.
	Source string
	// SHA256 and Size are those of the whole content.
	SHA256 string
	Size   int64
	// Offset is where in the content the chunk begins.
	Offset int64
}

// chunkLevel stands in a topic where events have their type. No type is called so.
const chunkLevel = "blob"

// offsetDigits makes the topics of one content sort by offset.
const offsetDigits = 12

// ChunkTopic is where a chunk is published:
// "lanepost/v1/{site}/{lane}/{device}/blob/{sha256}/{offset}of{size}", the
// offset with twelve digits. Topic and payload together are all that a receiver
// needs: chunks may come in any order, more than once, and in other sizes when
// they come again.
func ChunkTopic(c Chunk) string {
	return fmt.Sprintf("%s%s/%s/%s/%0*dof%d", TopicRoot, c.Source, chunkLevel, c.SHA256, offsetDigits, c.Offset, c.Size)
}

// ParseChunkTopic reads what ChunkTopic wrote, without a prefix of the uplink's own.
func ParseChunkTopic(topic string) (Chunk, error) {
	wrong := func(what string) (Chunk, error) {
		return Chunk{}, fmt.Errorf("topic %q is not that of a chunk: %s", topic, what)
	}
	rest, ok := strings.CutPrefix(topic, TopicRoot+"/")
	levels := strings.Split(rest, "/")
	if !ok || len(levels) != 6 || levels[3] != chunkLevel {
		return wrong("want " + TopicRoot + "/site/lane/device/" + chunkLevel + "/sha256/offset")
	}
	c := Chunk{Source: Source(levels[0], levels[1], levels[2]), SHA256: levels[4]}
	if err := checkSource(c.Source); err != nil {
		return wrong(err.Error())
	}
	if !validHash(c.SHA256) {
		return wrong("want a hash of 64 lower-case hexadecimal digits")
	}
	offset, size, _ := strings.Cut(levels[5], "of")
	var err error
	if c.Offset, err = strconv.ParseInt(offset, 10, 64); err != nil {
		return wrong("its offset is no number")
	}
	if c.Size, err = strconv.ParseInt(size, 10, 64); err != nil {
		return wrong("its size is no number")
	}
	if c.Size < 1 || c.Size > MaxAttachment || c.Offset < 0 || c.Offset >= c.Size {
		return wrong("its offset or its size is out of range")
	}
	if ChunkTopic(c) != topic { // a sign, or zeros too many or too few
		return wrong("want the offset with twelve digits and the size as it is")
	}
	return c, nil
}

func validHash(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 2*sha256.Size
}

// Bounds of an Assembler beside MaxBytes.
const (
	// pieceCost is what a chunk is counted for beside its bytes.
	pieceCost = 128
	// maxFinished is how many finished contents are remembered.
	maxFinished = 1024
)

// ErrDropped says that an Assembler gave up contents that were not complete, to
// stay within its bound. Their chunks have to come again.
var ErrDropped = errors.New("unfinished contents were dropped to make room")

// Assembler puts contents together again, in memory, from chunks in any order
// and any number of copies. It is for receivers; it is not for use by several
// goroutines at once.
type Assembler struct {
	maxBytes int64
	bytes    int64
	open     map[contentKey]*pieces
	order    []contentKey // of open, the one that grew last at the end
	finished []contentKey // the newest at the end
}

// contentKey holds the size too: a false claim of it must not spoil the true one.
type contentKey struct {
	sha256 string
	size   int64
}

// pieces are the chunks of one content by offset, of each offset the longest.
type pieces struct {
	list  []piece
	bytes int64 // as counted
	have  int64 // of content, with overlaps counted twice
}

type piece struct {
	offset int64
	bytes  []byte
}

// NewAssembler makes an Assembler that holds at most about maxBytes of unfinished
// contents.
func NewAssembler(maxBytes int64) *Assembler {
	return &Assembler{maxBytes: maxBytes, open: map[contentKey]*pieces{}}
}

// Add takes a message on a chunk's topic. When it completes a content whose hash
// is right, that is returned, once; a content whose hash is wrong is dropped
// with an error. The payload is copied.
func (a *Assembler) Add(topic string, payload []byte) (content []byte, complete bool, err error) {
	c, err := ParseChunkTopic(topic)
	if err != nil {
		return nil, false, err
	}
	if len(payload) == 0 || int64(len(payload)) > c.Size-c.Offset {
		return nil, false, fmt.Errorf("the chunk at %d of %s has %d bytes: want 1 to %d",
			c.Offset, c.SHA256, len(payload), c.Size-c.Offset)
	}
	key := contentKey{c.SHA256, c.Size}
	if slices.Contains(a.finished, key) {
		return nil, false, nil
	}
	p := a.open[key]
	if p == nil {
		p = &pieces{}
		a.open[key] = p
		a.order = append(a.order, key)
	}
	a.bytes += p.add(c.Offset, payload)
	a.order = append(slices.DeleteFunc(a.order, func(k contentKey) bool { return k == key }), key)
	if content = p.join(c.Size); content == nil {
		return nil, false, a.makeRoom()
	}
	a.drop(key)
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != c.SHA256 {
		return nil, false, fmt.Errorf("the chunks of %s make a content with another hash: at least one was altered", c.SHA256)
	}
	if a.finished = append(a.finished, key); len(a.finished) > maxFinished {
		a.finished = slices.Delete(a.finished, 0, 1)
	}
	return content, true, nil
}

func (a *Assembler) drop(key contentKey) {
	a.bytes -= a.open[key].bytes
	delete(a.open, key)
	a.order = slices.DeleteFunc(a.order, func(k contentKey) bool { return k == key })
}

// makeRoom drops what has not grown for the longest.
func (a *Assembler) makeRoom() error {
	var dropped []string
	for a.bytes > a.maxBytes && len(a.order) > 0 {
		dropped = append(dropped, a.order[0].sha256)
		a.drop(a.order[0])
	}
	if dropped == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDropped, strings.Join(dropped, ", "))
}

// add keeps a chunk and tells by how much the pieces have grown.
func (p *pieces) add(offset int64, payload []byte) (grown int64) {
	i, found := slices.BinarySearchFunc(p.list, offset, func(x piece, offset int64) int {
		return int(x.offset - offset)
	})
	n := int64(len(payload))
	switch {
	case !found:
		p.list = slices.Insert(p.list, i, piece{offset, slices.Clone(payload)})
		grown = n + pieceCost
		p.have += n
	case n > int64(len(p.list[i].bytes)):
		grown = n - int64(len(p.list[i].bytes))
		p.list[i].bytes = slices.Clone(payload)
		p.have += grown
	}
	p.bytes += grown
	return grown
}

// join gives the content, nil while something is missing.
func (p *pieces) join(size int64) []byte {
	if p.have < size {
		return nil
	}
	at := int64(0)
	for _, x := range p.list {
		if x.offset > at {
			return nil
		}
		at = max(at, x.offset+int64(len(x.bytes)))
	}
	if at < size {
		return nil
	}
	content := make([]byte, size)
	for _, x := range p.list {
		copy(content[x.offset:], x.bytes)
	}
	return content
}
