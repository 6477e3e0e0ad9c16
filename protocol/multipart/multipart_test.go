package multipart

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

const (
	alert     = "<EventNotificationAlert version=\"2.0\"><eventType>ANPR</eventType></EventNotificationAlert>"
	heartbeat = "<EventNotificationAlert><eventType>videoloss</eventType></EventNotificationAlert>"
)

// jpeg is a picture with what looks like a delimiter in it.
var jpeg = []byte("\xff\xd8\xff\xe0\r\n--boundary\r\n\xff\xd9 more \x00\xff\xd9")

type want struct {
	typ, name, body          string
	wrong, before, truncated bool
}

func readAll(t *testing.T, r io.Reader, contentType string) ([]want, error) {
	t.Helper()
	var got []want
	m := NewReader(r, contentType)
	for {
		p, err := m.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, want{p.MediaType(), p.Name(), string(p.Body), p.LengthWrong, p.PreviousWrong, p.Truncated})
	}
}

// The streams are typed by hand: what cameras send, in every way that is known.
func TestReader(t *testing.T) {
	xml := want{typ: "application/xml", body: alert}
	for name, c := range map[string]struct {
		contentType, stream string
		want                []want
	}{
		"as the guide has it": {
			"multipart/mixed; boundary=boundary",
			"--boundary\r\nContent-Type: application/xml; charset=\"UTF-8\"\r\nContent-Length: 90\r\n\r\n" + alert + "\r\n" +
				"--boundary\r\nContent-Disposition: form-data; name=\"licensePlatePicture.jpg\"; filename=\"licensePlatePicture.jpg\"\r\n" +
				"Content-Type: image/jpeg\r\nContent-Length: 29\r\n\r\n" + string(jpeg) + "\r\n--boundary\r\n",
			[]want{xml, {typ: "image/jpeg", name: "licensePlatePicture.jpg", body: string(jpeg)}},
		},
		"LF only, no length": {
			"multipart/mixed;boundary=boundary",
			"--boundary\nContent-Type: application/xml\n\n" + alert + "\n--boundary\nContent-Type: application/xml\n\n" + heartbeat + "\n",
			[]want{xml, {typ: "application/xml", body: heartbeat}},
		},
		"the length counts the line end": {
			"multipart/mixed; boundary=boundary",
			"--boundary\r\nContent-Type: application/xml\r\nContent-Length: 92\r\n\r\n" + alert + "\r\n--boundary\r\nContent-Type: application/xml\r\nContent-Length: 83\r\n\r\n" + heartbeat + "\r\n--boundary--\r\n",
			[]want{{typ: "application/xml", body: alert, wrong: true}, {typ: "application/xml", body: heartbeat, wrong: true}},
		},
		"the length is far too short, and far too long": {
			"multipart/mixed; boundary=boundary",
			"--boundary\r\nContent-Type: application/xml\r\nContent-Length: 10\r\n\r\n" + alert + "\r\n--boundary\r\nContent-Type: application/xml\r\nContent-Length: 99999\r\n\r\n" + heartbeat + "\r\n--boundary--\r\n",
			[]want{{typ: "application/xml", body: alert, wrong: true}, {typ: "application/xml", body: heartbeat, wrong: true}},
		},
		"lengths that are none": {
			"multipart/mixed; boundary=boundary",
			"--boundary\r\nContent-Type: application/xml\r\nContent-Length: many\r\n\r\n" + alert + "\r\n--boundary\r\nContent-Type: image/jpeg\r\nContent-Length: 0\r\n\r\n\r\n--boundary\r\n",
			[]want{{typ: "application/xml", body: alert, wrong: true}, {typ: "image/jpeg"}},
		},
		"a boundary with dashes of its own": {
			"multipart/form-data; boundary=--MIME_boundary",
			"----MIME_boundary\r\nContent-Type: application/xml\r\n\r\n" + alert + "\r\n----MIME_boundary--\r\n",
			[]want{xml},
		},
		"a boundary with dashes of its own, written once": {
			"multipart/form-data; boundary=--MIME_boundary",
			"--MIME_boundary\r\nContent-Type: application/xml\r\n\r\n" + alert + "\r\n--MIME_boundary--\r\n",
			[]want{xml},
		},
		"a long one": {
			`multipart/x-mixed-replace; boundary="---------------------------7e13971310878"`,
			"-----------------------------7e13971310878\r\nContent-Type: application/xml\r\n\r\n" + alert + "\r\n-----------------------------7e13971310878\r\n",
			[]want{xml},
		},
		"no boundary given": {
			"multipart/mixed",
			"preamble\r\n--frontier  \r\nContent-Type: application/xml\r\n\r\n" + alert + "\r\n--frontier\r\nContent-Type: text/plain\r\n\r\nHeartbeat\r\n\r\n--frontier\r\n",
			[]want{xml, {typ: "text/plain", body: "Heartbeat\r\n"}},
		},
		"folded header, odd case, no blanks": {
			"multipart/mixed; boundary=boundary",
			"--boundary\r\ncontent-disposition:form-data;name=\"a\";\r\n filename=\"b\";\r\nCONTENT-TYPE:application/xml\r\ncontent-length:90\r\n\r\n" + alert + "\r\n--boundary\r\n",
			[]want{{typ: "application/xml", name: "a", body: alert}},
		},
		"no blank line": {
			"multipart/mixed; boundary=boundary",
			"--boundary\r\nContent-Type: application/xml\r\n" + alert + "\r\n--boundary\r\n",
			[]want{xml},
		},
		"cut in the body": {
			"multipart/mixed; boundary=boundary",
			"--boundary\r\nContent-Type: application/xml\r\nContent-Length: 90\r\n\r\n" + alert[:40],
			[]want{{typ: "application/xml", body: alert[:40], wrong: true, truncated: true}},
		},
		"a document after the end": {
			"multipart/mixed; boundary=boundary",
			"--boundary\r\nContent-Type: application/xml\r\n\r\n" + alert + "\r\n--boundary--\r\n\r\n--boundary\r\nContent-Type: application/xml\r\n\r\n" + alert + "\r\n--boundary--\r\n",
			[]want{xml, xml},
		},
		"the sign of life of nine bytes": {
			"multipart/x-mixed-replace; boundary=myboundary",
			"--myboundary\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nHeartbeat\r\n\r\n--myboundary\r\nContent-Type: text/plain\r\nContent-Length:9\r\n\r\nHeartbeat\r\n\r\n",
			[]want{{typ: "text/plain", body: "Heartbeat"}, {typ: "text/plain", body: "Heartbeat"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAll(t, strings.NewReader(c.stream), c.contentType)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			// However the bytes come, the bodies are the same.
			got, err = readAll(t, iotest.OneByteReader(strings.NewReader(c.stream)), c.contentType)
			require.NoError(t, err)
			require.Len(t, got, len(c.want))
			for i := range got {
				require.Equal(t, strings.TrimRight(c.want[i].body, "\r\n"), strings.TrimRight(got[i].body, "\r\n"))
			}
		})
	}
}

func TestNotMultipart(t *testing.T) {
	_, err := readAll(t, strings.NewReader("<EventNotificationAlert/>"), "application/xml")
	require.ErrorIs(t, err, ErrNoBoundary)
	got, err := readAll(t, strings.NewReader(""), "multipart/mixed; boundary=x")
	require.NoError(t, err)
	require.Empty(t, got)
}

// A part of a live stream is there before the next one begins.
func TestNothingWaitsForTheNextPart(t *testing.T) {
	for name, first := range map[string]string{
		"length":    "--b\r\nContent-Type: application/xml\r\nContent-Length: 90\r\n\r\n" + alert,
		"no length": "--b\r\nContent-Type: application/xml\r\n\r\n" + alert + "\r\n",
		"json":      "--b\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\":{} }",
	} {
		t.Run(name, func(t *testing.T) {
			in, out := io.Pipe()
			defer in.Close()
			go func() { _, _ = out.Write([]byte(first)) }()
			m := NewReader(in, "multipart/mixed; boundary=b")
			p, err := m.Next()
			require.NoError(t, err)
			require.True(t, Complete(p.Body))
			go func() {
				_, _ = out.Write([]byte("\r\n--b\r\nContent-Type: application/xml\r\nContent-Length: 81\r\n\r\n" + heartbeat[:78]))
				_ = out.CloseWithError(io.EOF)
			}()
			p, err = m.Next()
			require.NoError(t, err)
			require.Equal(t, heartbeat[:78], string(p.Body))
			require.False(t, p.PreviousWrong)
			require.True(t, p.Truncated)
		})
	}
}

// A length that was wrong, though the body looked whole, is noticed after it.
func TestLengthThatLooksRight(t *testing.T) {
	in, out := io.Pipe()
	defer in.Close()
	go func() {
		_, _ = out.Write([]byte("--b\r\nContent-Type: application/xml\r\nContent-Length: 90\r\n\r\n" + alert))
		_, _ = out.Write([]byte(" \n<!-- and more -->\r\n--b\r\nContent-Type: application/xml\r\n\r\n" + heartbeat + "\r\n--b--\r\n"))
		_ = out.Close()
	}()
	m := NewReader(in, "multipart/mixed; boundary=b")
	p, err := m.Next()
	require.NoError(t, err)
	require.Equal(t, alert, string(p.Body))
	p, err = m.Next()
	require.NoError(t, err)
	require.Equal(t, heartbeat, string(p.Body))
	require.True(t, p.PreviousWrong)
}

// interrupted gives a deadline error before each piece.
type interrupted struct {
	pieces [][]byte
	now    bool
}

func (r *interrupted) Read(p []byte) (int, error) {
	if r.now = !r.now; r.now {
		return 0, os.ErrDeadlineExceeded
	}
	if len(r.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.pieces[0])
	if r.pieces[0] = r.pieces[0][n:]; len(r.pieces[0]) == 0 {
		r.pieces = r.pieces[1:]
	}
	return n, nil
}

func TestGoesOnAfterADeadline(t *testing.T) {
	stream := []byte("--boundary\r\nContent-Type: application/xml\r\nContent-Length: 90\r\n\r\n" + alert + "\r\n--boundary\r\nContent-Type: image/jpeg\r\nContent-Length: 29\r\n\r\n" + string(jpeg) + "\r\n--boundary--\r\n")
	for cut := 1; cut < len(stream); cut++ {
		m := NewReader(&interrupted{pieces: [][]byte{stream[:cut], stream[cut:]}}, "multipart/mixed; boundary=boundary")
		var bodies []string
		for {
			p, err := m.Next()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, "cut at %d", cut)
			bodies = append(bodies, string(p.Body))
		}
		require.Equal(t, []string{alert, string(jpeg)}, bodies, "cut at %d", cut)
	}
}

func TestBounds(t *testing.T) {
	huge := func(n int) io.Reader { return io.LimitReader(endless{}, int64(n)) }
	after := "\r\n--b\r\nContent-Type: text/xml\r\n\r\n" + alert + "\r\n--b--\r\n"
	m := NewReader(io.MultiReader(strings.NewReader("--b\r\n\r\n"), huge(MaxPart+100_000), strings.NewReader(after)), "multipart/mixed; boundary=b")
	_, err := m.Next()
	require.ErrorIs(t, err, ErrTooLarge)
	p, err := m.Next()
	require.NoError(t, err)
	require.Equal(t, alert, string(p.Body))

	m = NewReader(io.MultiReader(strings.NewReader("--b\r\nX: "), huge(3*MaxHeader), strings.NewReader(after)), "multipart/mixed; boundary=b")
	_, err = m.Next()
	require.ErrorIs(t, err, ErrHeader)
	p, err = m.Next()
	require.NoError(t, err)
	require.Equal(t, alert, string(p.Body))
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// What Append writes, the reader reads, in every style and however it is cut.
func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		s := Style{
			Boundary: []string{"boundary", "MIME_boundary", "--MIME_boundary", "---------------------------7e13971310878"}[rng.IntN(4)],
			LF:       rng.IntN(2) == 0, NoLength: rng.IntN(2) == 0, OffBy: rng.IntN(5) - 2, Fold: rng.IntN(2) == 0,
		}
		var stream []byte
		var want []string
		for range 1 + rng.IntN(5) {
			body := []byte(alert)
			if rng.IntN(2) == 0 {
				body = append([]byte{0xff, 0xd8}, make([]byte, rng.IntN(2000))...)
				for i := 2; i < len(body); i++ {
					body[i] = byte(1 + rng.IntN(9))
				}
				body = append(body, 0xff, 0xd9)
			}
			stream = s.Append(stream, map[string]string{"Content-Type": "x/y", "Content-Disposition": `form-data; name="n"; filename="f"`}, body)
			want = append(want, string(body))
		}
		if rng.IntN(2) == 0 {
			stream = s.Close(stream)
		}
		var r io.Reader = bytes.NewReader(stream)
		if rng.IntN(2) == 0 {
			r = iotest.HalfReader(r)
		}
		m := NewReader(r, "multipart/mixed; boundary="+s.Boundary)
		for i, w := range want {
			p, err := m.Next()
			require.NoError(t, err, "round %d, part %d of %+v", round, i, s)
			require.Equal(t, w, strings.TrimRight(string(p.Body), "\r\n"), "round %d, part %d of %+v", round, i, s)
			require.Equal(t, "n", p.Name())
			require.Equal(t, "f", p.FileName())
		}
		_, err := m.Next()
		require.ErrorIs(t, err, io.EOF, "round %d of %+v", round, s)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("--boundary\r\nContent-Type: a/b\r\nContent-Length: 90\r\n\r\n"+alert+"\r\n--boundary--\r\n"), "multipart/mixed; boundary=boundary", uint8(0))
	f.Add([]byte("--x\nA: b\n c\n\n--x\n{}\n--x--"), "", uint8(3))
	f.Add([]byte("----m\nContent-Length: -1\n\n\xff\xd8\n----m"), "multipart/mixed; boundary=--m", uint8(7))
	f.Fuzz(func(t *testing.T, stream []byte, contentType string, piece uint8) {
		read := func(r io.Reader) int {
			m := NewReader(r, contentType)
			total := 0
			for range len(stream) + 10 {
				p, err := m.Next()
				if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrHeader) || errors.Is(err, os.ErrDeadlineExceeded) {
					continue
				}
				if err != nil {
					return total
				}
				total += len(p.Body)
			}
			t.Fatal("the reader makes no headway")
			return 0
		}
		if n := read(bytes.NewReader(stream)); n > len(stream) {
			t.Fatalf("%d bytes of bodies from %d", n, len(stream))
		}
		if k := int(piece); k > 0 && len(stream) > k {
			read(io.MultiReader(bytes.NewReader(stream[:k]), bytes.NewReader(stream[k:])))
		}
	})
}

func BenchmarkReader(b *testing.B) {
	picture := append(append([]byte{0xff, 0xd8}, bytes.Repeat([]byte("\r\n-\x12\x34\x56\x78\x9a"), 4<<20/8)...), 0xff, 0xd9)
	for _, c := range []struct {
		name  string
		style Style
		body  []byte
	}{
		{"xml", Style{Boundary: "boundary"}, []byte(alert)},
		{"xml-no-length", Style{Boundary: "boundary", NoLength: true}, []byte(alert)},
		{"jpeg-4MB", Style{Boundary: "boundary"}, picture},
		{"jpeg-4MB-no-length", Style{Boundary: "boundary", NoLength: true}, picture},
	} {
		b.Run(c.name, func(b *testing.B) {
			part := c.style.Append(nil, map[string]string{"Content-Type": "application/octet-stream"}, c.body)
			b.SetBytes(int64(len(part)))
			b.ReportAllocs()
			m := NewReader(io.MultiReader(&repeat{part: part, n: b.N}, strings.NewReader("--boundary--\r\n")), "multipart/mixed; boundary=boundary")
			for b.Loop() {
				p, err := m.Next()
				if errors.Is(err, io.EOF) {
					m = NewReader(&repeat{part: part, n: 1 << 30}, "multipart/mixed; boundary=boundary")
					continue
				}
				if err != nil || len(p.Body) != len(c.body) {
					b.Fatal(fmt.Sprint(err, len(p.Body)))
				}
			}
		})
	}
}

// repeat gives a part again and again.
type repeat struct {
	part []byte
	n, i int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.part[r.i:])
	if r.i += n; r.i == len(r.part) {
		r.i, r.n = 0, r.n-1
	}
	return n, nil
}
