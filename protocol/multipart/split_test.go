package multipart

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// cutReader gives a stream in two pieces.
type cutReader struct{ pieces [][]byte }

func (r *cutReader) Read(p []byte) (int, error) {
	for len(r.pieces) > 0 && len(r.pieces[0]) == 0 {
		r.pieces = r.pieces[1:]
	}
	if len(r.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.pieces[0])
	r.pieces[0] = r.pieces[0][n:]
	return n, nil
}

// texts joins the bodies without what stands between documents.
func texts(t *testing.T, r io.Reader) string {
	t.Helper()
	var b strings.Builder
	for m := NewReader(r, "multipart/mixed; boundary=boundary"); ; {
		p, err := m.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		require.NoError(t, err)
		b.WriteString(strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(string(p.Body)))
	}
}

// Of several documents in one part none is lost, wherever the stream is cut.
func TestSeveralDocumentsCutAnywhere(t *testing.T) {
	for name, c := range map[string]struct{ stream, want string }{
		"no length": {
			"--boundary\r\nContent-Type: application/xml\r\n\r\n<A>1</A>\r\n<A>2</A>\r\n<A>3</A>\r\n--boundary\r\nContent-Length: 8\r\n\r\n<B>4</B>\r\n",
			"<A>1</A><A>2</A><A>3</A><B>4</B>",
		},
		"a length of the first only": {
			"--boundary\r\nContent-Length: 8\r\n\r\n<A>1</A>\r\n<A>2</A>\r\n--boundary\r\nContent-Length: 8\r\n\r\n<B>4</B>\r\n",
			"<A>1</A><A>2</A><B>4</B>",
		},
		"JSON": {
			"--boundary\r\nContent-Type: application/json\r\n\r\n{\"a\":1}\r\n{\"a\":2}\r\n--boundary\r\n\r\n<B>4</B>\r\n",
			`{"a":1}{"a":2}<B>4</B>`,
		},
		"NULs before the delimiters": {
			"\x00\x00--boundary\r\nContent-Length: 8\r\n\r\n<A>1</A>\r\n\x00--boundary\r\nContent-Length: 8\r\n\r\n<B>4</B>\r\n",
			"<A>1</A><B>4</B>",
		},
		"a byte order mark": {
			"\xef\xbb\xbf--boundary\r\nContent-Length: 8\r\n\r\n<A>1</A>\r\n--boundary\r\nContent-Length: 8\r\n\r\n<B>4</B>\r\n",
			"<A>1</A><B>4</B>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for cut := range len(c.stream) {
				r := &cutReader{[][]byte{[]byte(c.stream[:cut]), []byte(c.stream[cut:])}}
				require.Equal(t, c.want, texts(t, r), "cut at %d", cut)
			}
			require.Equal(t, c.want, texts(t, iotest.OneByteReader(strings.NewReader(c.stream))))
		})
	}
}

// Whether a body is whole is not looked for in all of it each time something comes.
func TestCompleteLooksAtTheEnds(t *testing.T) {
	for _, fill := range []string{"\x00", "\r\n", "<?a?>", "<!---->"} {
		body := append([]byte("<"), bytes.Repeat([]byte(fill), MaxPart/len(fill))...)
		require.False(t, Complete(body))
		r := io.MultiReader(strings.NewReader("--boundary\r\n\r\n"), &segments{b: body[:4<<20]})
		p, err := NewReader(r, "multipart/mixed; boundary=boundary").Next()
		require.NoError(t, err)
		require.True(t, p.Truncated)
	}
}

// segments gives bytes as a network does.
type segments struct{ b []byte }

func (s *segments) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1460)], s.b)
	s.b = s.b[n:]
	return n, nil
}
