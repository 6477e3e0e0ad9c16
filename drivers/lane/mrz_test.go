package lane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// The specimen passport and card of ICAO Doc 9303.
const (
	passport1 = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<"
	passport2 = "L898902C36UTO7408122F1204159ZE184226B<<<<<10"
	card1     = "I<UTOD231458907<<<<<<<<<<<<<<<"
	card2     = "7408122F1204159UTO<<<<<<<<<<<6"
	card3     = "ERIKSSON<<ANNA<MARIA<<<<<<<<<<"
)

// clear are words of the specimens that must be found nowhere.
var clear = []string{"L898902", "898902C3", "ERIKSSON", "ANNA", "MARIA", "740812", "120415", "ZE184226", "D23145890", "D231458"}

func documentReaderOf(t *testing.T, change ...func(*MRZSettings)) drivers.Instrument {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef\n"), 0o600))
	d, err := MRZ().New(func(into any) error {
		s := into.(*MRZSettings)
		s.AllowPersonalData, s.KeyFile = true, key
		for _, f := range change {
			f(s)
		}
		return nil
	})
	require.NoError(t, err)
	return d
}

// rte is a message of a 3M RTE6701 with the byte that is assumed behind it.
func rte(length, text string) string {
	body := length + "OU\x020" + text + "\x03"
	sum := byte(0)
	for i := range len(body) {
		sum ^= body[i]
	}
	return "\x01" + body + string([]byte{sum})
}

func keepMaskedOnly(s *MRZSettings) { s.Keep, s.KeyFile = "masked", "" }

func rteFormat(s *MRZSettings) { s.Format = "rte6701" }

// What document readers do, by its name. Nothing that comes out has a clear word in it.
func TestDocuments(t *testing.T) {
	const passport, card = passport1 + "\r\n" + passport2 + "\r\n", card1 + "\r" + card2 + "\r" + card3 + "\r"
	pads := strings.Repeat("_", 44) + "\r"
	for name, c := range map[string]struct {
		change   []func(*MRZSettings)
		script   []string
		want     []string
		unparsed int
	}{
		"a passport":             {script: []string{passport}, want: []string{"td3 P UTO true expired"}},
		"a card":                 {script: []string{card}, want: []string{"td1 I UTO true expired"}},
		"one after the other":    {script: []string{passport + card, passport}, want: []string{"td3 P UTO true expired", "td1 I UTO true expired", "td3 P UTO true expired"}},
		"a line, then the other": {script: []string{passport[:46], passport[46:]}, change: []func(*MRZSettings){func(s *MRZSettings) { s.Pause = time.Minute }}, want: []string{"td3 P UTO true expired"}},
		"a line was lost":        {script: []string{passport[:46], card}, want: []string{"td1 I UTO true expired"}, unparsed: 1},
		"cut off":                {script: []string{passport[:70], card}, want: []string{"td1 I UTO true expired"}, unparsed: 1},
		"a wrong number":         {script: []string{passport1 + "\r\nL898902C46" + passport2[10:] + "\r\n"}, want: []string{"td3   false expired"}},
		"a wrong expiry":         {script: []string{passport1 + "\r\n" + strings.Replace(passport2, "120415", "320415", 1) + "\r\n"}, want: []string{"td3   false unknown"}},
		"lines in another order": {script: []string{card3 + "\r" + card1 + "\r" + card2 + "\r"}, want: []string{"td1   false unknown"}},
		"a character not read":   {script: []string{strings.Replace(passport, "ANNA", "AN?A", 1)}, unparsed: 1},
		"noise":                  {script: []string{"\xff\xfeERIKSSON\r\n" + passport}, want: []string{"td3 P UTO true expired"}, unparsed: 1},
		"a line that is endless": {script: []string{strings.Repeat("ERIKSSON", 100) + "\r\n" + passport}, want: []string{"td3 P UTO true expired"}, unparsed: 1},
		"masked":                 {change: []func(*MRZSettings){keepMaskedOnly}, script: []string{passport}, want: []string{"td3 P UTO true expired"}},
		"RTE6701":                {change: []func(*MRZSettings){rteFormat}, script: []string{rte("", pads+passport1+"\r"+passport2+"\r")}, want: []string{"td3 P UTO true expired"}},
		"RTE6701 with a length":  {change: []func(*MRZSettings){rteFormat}, script: []string{rte("\x00\x5f", card1+"\r"+card2+"\r"+card3+"\r")}, want: []string{"td1 I UTO true expired"}},
		"RTE6701, wrong sum":     {change: []func(*MRZSettings){rteFormat}, script: []string{strings.Replace(rte("", pads+passport1+"\r"+passport2+"\r"), "ANNA", "ANNB", 1)}, unparsed: 1},
		"RTE6701, nothing read":  {change: []func(*MRZSettings){rteFormat}, script: []string{rte("", pads+pads+pads)}, unparsed: 1},
		"RTE6701, cut off":       {change: []func(*MRZSettings){rteFormat}, script: []string{rte("", pads+passport1)[:80], rte("", pads+passport1+"\r"+passport2+"\r")}, want: []string{"td3 P UTO true expired"}, unparsed: 1},
		"RTE6701, another kind":  {change: []func(*MRZSettings){rteFormat}, script: []string{"\x01XX\x02" + passport1 + "\x03\x03"}, unparsed: 1},
		"RTE6701, no sum": {change: []func(*MRZSettings){rteFormat, func(s *MRZSettings) { s.Checksum = textframe.Checksum{Kind: "none"} }},
			script: []string{"\x01OU\x020" + pads + passport1 + "\r" + passport2 + "\r\x03"}, want: []string{"td3 P UTO true expired"}},
	} {
		t.Run(name, func(t *testing.T) {
			var script []drivers.Chunk
			for i, b := range c.script {
				script = append(script, drivers.Chunk{At: time.Duration(10*i) * time.Second, Bytes: []byte(b)})
			}
			script = append(script, drivers.Chunk{At: time.Duration(10*len(c.script)) * time.Second})
			p, err := drivers.Play(t.Context(), documentReaderOf(t, c.change...), script)
			require.NoError(t, err)
			var got []string
			for _, o := range p.Observations {
				e := o.Data.(event.LaneDocument)
				got = append(got, fmt.Sprintf("%s %s %s %t %s", e.Format, e.DocumentType, e.IssuingState, e.Valid, e.Validity))
				require.Equal(t, e.Valid, e.Private.NumberHash+e.Private.NumberMasked != "")
				require.Empty(t, o.Attachments)
			}
			require.Equal(t, c.want, got)
			require.Len(t, p.Unparsed, c.unparsed)
			for _, u := range p.Unparsed {
				require.Empty(t, u.Raw)
			}
			requireNothingClear(t, p)
		})
	}
}

// requireNothingClear looks through all that a device gave away.
func requireNothingClear(t *testing.T, all any) {
	t.Helper()
	b, err := json.Marshal(all)
	require.NoError(t, err)
	text := string(b) + fmt.Sprintf("%v %+v", all, all)
	for _, word := range clear {
		require.NotContains(t, text, word)
	}
}

func TestHashesOfDocuments(t *testing.T) {
	read := func(change ...func(*MRZSettings)) event.LaneDocument {
		p, err := drivers.Play(t.Context(), documentReaderOf(t, change...), []drivers.Chunk{{Bytes: []byte(passport1 + "\r" + passport2 + "\r")}})
		require.NoError(t, err)
		require.Len(t, p.Observations, 1)
		return p.Observations[0].Data.(event.LaneDocument)
	}
	e := read()
	// printf L898902C3 | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
	require.Equal(t, "9be9319a63dc4182125d2be8d3d9cf6b898b3334b24a39fd70a7ae0d8b8851a8", e.Private.NumberHash)
	require.Equal(t, e.Private.NumberHash, read().Private.NumberHash, "the same document is recognised")
	require.NotEqual(t, e.Private.Salt, read().Private.Salt)
	require.Equal(t, "UTO", e.IssuingState)
	p, err := drivers.Play(t.Context(), documentReaderOf(t), []drivers.Chunk{{Bytes: []byte(strings.Replace(passport1, "UTO", "UT0", 1) + "\r" + passport2 + "\r")}})
	require.NoError(t, err)
	misread := p.Observations[0].Data.(event.LaneDocument)
	require.Empty(t, misread.IssuingState, "there is no such state")
	require.Equal(t, e.Private.NumberHash, misread.Private.NumberHash)
	require.Equal(t, -164, *e.MonthsLeft) // from 15 April 2012 to 5 January 2026
	t.Setenv("LANEPOST_TEST_KEY", strings.Repeat("k", 32))
	other := read(func(s *MRZSettings) { s.KeyFile, s.KeyEnv = "", "LANEPOST_TEST_KEY" })
	require.NotEqual(t, e.Private.NumberHash, other.Private.NumberHash)
	require.NotEqual(t, e.Private.KeyID, other.Private.KeyID)
	require.Equal(t, "L***3", read(keepMaskedOnly).Private.NumberMasked)
}

func TestDocumentReadersThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	short, long := filepath.Join(dir, "short"), filepath.Join(dir, "long")
	require.NoError(t, os.WriteFile(short, []byte("secret-1"), 0o600))
	require.NoError(t, os.WriteFile(long, make([]byte, 5000), 0o600))
	for want, change := range map[string]func(*MRZSettings){
		"stays off until the settings say allow_personal_data: true": func(s *MRZSettings) { s.AllowPersonalData = false },
		`keep: "clear"`:             func(s *MRZSettings) { s.Keep = "clear" },
		"exactly one of them":       func(s *MRZSettings) {},
		"what is masked needs":      func(s *MRZSettings) { s.Keep, s.KeyFile = "masked", short },
		"the whole path":            func(s *MRZSettings) { s.KeyFile = "key" },
		"the key has 8 bytes":       func(s *MRZSettings) { s.KeyFile = short },
		"5000 bytes; a key has":     func(s *MRZSettings) { s.KeyFile = long },
		"no such file":              func(s *MRZSettings) { s.KeyFile = filepath.Join(dir, "none") },
		"LANEPOST_NO_KEY is not se": func(s *MRZSettings) { s.KeyEnv = "LANEPOST_NO_KEY" },
		`format: "x"`:               func(s *MRZSettings) { s.Format = "x" },
		`kind "x" is not known`:     func(s *MRZSettings) { s.Format, s.Checksum.Kind = "rte6701", "x" },
		"idle_gap: 1h":              func(s *MRZSettings) { s.Pause = time.Hour },
	} {
		_, err := MRZ().New(func(into any) error {
			into.(*MRZSettings).AllowPersonalData = true
			change(into.(*MRZSettings))
			return nil
		})
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret-1")
	}
	_, err := MRZ().New(func(any) error { return errors.New("not read") })
	require.EqualError(t, err, "not read")
}

// FuzzDocuments: whatever comes, nothing of it goes out but what a document's kind and state
// are.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(passport1+"\r\n"+passport2+"\r\n"), false)
	f.Add([]byte(rte("", card1+"\r"+card2+"\r"+card3+"\r")), true)
	f.Fuzz(func(t *testing.T, data []byte, messages bool) {
		d, err := MRZ().New(func(into any) error {
			s := into.(*MRZSettings)
			s.AllowPersonalData, s.Keep = true, "masked"
			if messages {
				s.Format = "rte6701"
			}
			return nil
		})
		require.NoError(t, err)
		p, err := drivers.Play(context.Background(), d, []drivers.Chunk{{Bytes: data}})
		require.NoError(t, err)
		for _, u := range p.Unparsed {
			require.Empty(t, u.Raw)
		}
		for _, o := range p.Observations {
			e := o.Data.(event.LaneDocument)
			_, err := json.Marshal(e)
			require.NoError(t, err)
			require.True(t, e.Valid || e.IssuingState+e.DocumentType == "")
		}
	})
}
