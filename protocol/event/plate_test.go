package event

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/plate"
)

// nameOf is the name of a field in JSON.
func nameOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// What is private must be the last member of the data and an object of a
// pointer's, and nothing else may be called so: Redact looks for it as text.
func TestPrivateIsLast(t *testing.T) {
	var walk func(of reflect.Type, data bool)
	walk = func(of reflect.Type, data bool) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice || of.Kind() == reflect.Map {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of == timeType {
			return
		}
		for i := range of.NumField() {
			f := of.Field(i)
			walk(f.Type, false)
			if nameOf(f) != "private" {
				continue
			}
			require.True(t, data, "%s.%s: only the data itself has something private", of, f.Name)
			require.Equal(t, of.NumField()-1, i, "%s.%s must be the last field", of, f.Name)
			require.Equal(t, `private,omitempty`, f.Tag.Get("json"))
			require.Equal(t, reflect.Pointer, f.Type.Kind())
			salt, ok := f.Type.Elem().FieldByName("Salt")
			require.True(t, ok)
			require.Equal(t, "salt", nameOf(salt))
			redacted, ok := f.Type.Elem().FieldByName("Redacted")
			require.True(t, ok)
			require.Equal(t, "-", nameOf(redacted))
		}
	}
	found := 0
	for _, k := range Types() {
		of := reflect.TypeOf(k.Zero)
		walk(of, true)
		last := of.Field(of.NumField() - 1)
		if nameOf(last) != "private" {
			continue
		}
		found++
		require.False(t, reflect.ValueOf(k.Example.Data).Field(of.NumField()-1).IsNil(), "%s: the example must show it", k.Type)
	}
	require.GreaterOrEqual(t, found, 2)
}

// The public form tells nothing of the plate, and a receiver of it can follow
// the chain.
func TestRedactedPlate(t *testing.T) {
	for _, typ := range []string{PlateRead{}.Type(), PlateNoRead{}.Type()} {
		x := examples()[typ]
		text, err := x.Encode()
		require.NoError(t, err)
		public := Redact(text)
		require.NotEqual(t, string(text), string(public))
		require.Equal(t, After(text), After(public))
		require.Regexp(t, `,"private":"sha256:[0-9a-f]{64}"}}$`, string(public))

		secrets := []string{"1234", "Unknown", "Events[0]", "salt"}
		switch d := x.Data.(type) {
		case PlateRead:
			p := d.Private
			secrets = append(secrets, p.Plate, p.MatchKey, p.PlateRaw, p.Salt, p.Raw.SHA256, p.Alternatives[0].Plate)
		case PlateNoRead:
			secrets = append(secrets, d.Private.PlateRaw, d.Private.Salt, d.Private.Raw.SHA256)
		}
		for _, s := range secrets {
			require.NotContains(t, string(public), s)
		}
		require.Contains(t, string(text), secrets[len(secrets)-1])

		// Read, it says that there is something, and that it is not here.
		e, err := Parse(public)
		require.NoError(t, err)
		d, err := DecodeData(e)
		require.NoError(t, err)
		var redacted Hash
		switch d := d.(type) {
		case *PlateRead:
			redacted = d.Private.Redacted
			require.Equal(t, PlatePrivate{Redacted: redacted}, *d.Private)
		case *PlateNoRead:
			redacted = d.Private.Redacted
			require.Equal(t, NoReadPrivate{Redacted: redacted}, *d.Private)
		}
		require.False(t, redacted.IsZero())
		require.Contains(t, string(public), redacted.String())

		// Sent on, it is the same again.
		x.Data = d
		again, err := x.Encode()
		require.NoError(t, err)
		require.Equal(t, string(public), string(again))
	}
}

func TestPrivateIsAbsent(t *testing.T) {
	x := examples()[PlateRead{}.Type()]
	read := x.Data.(PlateRead)
	read.Private = nil
	x.Data = read
	text, err := x.Encode()
	require.NoError(t, err)
	require.NotContains(t, string(text), `"private"`)
	require.Equal(t, text, Redact(text))
	e, err := Parse(text)
	require.NoError(t, err)
	d, err := DecodeData(e)
	require.NoError(t, err)
	require.Nil(t, d.(*PlateRead).Private)
}

func TestPrivateForms(t *testing.T) {
	const (
		salt = `"salt":"AAECAwQFBgcICQoLDA0ODw=="`
		rest = `,"plate_raw":"x","raw":{"size":0,"sha256":""}`
		hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	)
	var p *NoReadPrivate
	require.NoError(t, json.Unmarshal([]byte(`{`+salt+rest+`}`), &p))
	require.Equal(t, &NoReadPrivate{Salt: Salt([16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}), PlateRaw: "x"}, p)
	require.NoError(t, json.Unmarshal([]byte(`"sha256:`+hash+`"`), &p))
	require.Equal(t, hash, p.Redacted.String())
	require.Empty(t, p.PlateRaw)
	require.Empty(t, p.Salt)
	b, err := json.Marshal(p)
	require.NoError(t, err)
	require.Equal(t, `"sha256:`+hash+`"`, string(b))

	for text, want := range map[string]string{
		`""`:                                     "neither",
		`"AA1234BB"`:                             "neither",
		`"sha256:` + hash[1:] + `"`:              "neither",
		`"sha256:` + strings.ToUpper(hash) + `"`: "neither",
		`"sha256:` + strings.Repeat("0", 64) + `"`: "zero",
		`[]`:             "array",
		`1`:              "number",
		`{}`:             "salt is missing",
		`{` + salt + `}`: "plate_raw is missing",
		`{` + salt + `,"plate_raw":null,"raw":{}}`:    "plate_raw is null",
		`{"salt":"AAECAwQFBgcICQoLDA0O"` + rest + `}`: "15 bytes",
		`{"salt":"plate"` + rest + `}`:                "base64",
	} {
		require.ErrorContains(t, json.Unmarshal([]byte(text), &p), want, text)
	}
}

// An event whose plate could be found by trying is not made at all.
func TestPrivateNeedsSalt(t *testing.T) {
	x := examples()[PlateRead{}.Type()]
	for salt, want := range map[string]string{"": "0 bytes", "c2FsdA==": "4 bytes", "*": "base64"} {
		read := x.Data.(PlateRead)
		private := *read.Private
		private.Salt = salt
		read.Private = &private
		_, err := NewDraft(x.Header, read)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "lanepost.plate.read.v1")
	}
}

// The words of the contract and those of package plate are the same.
func TestPlateWords(t *testing.T) {
	words := func(of reflect.Type, field string) (list []string) {
		f, ok := of.FieldByName(field)
		require.True(t, ok)
		for tag := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
			list = append(list, strings.TrimPrefix(tag, "enum="))
		}
		return list
	}
	for _, of := range []reflect.Type{reflect.TypeFor[PlateRead](), reflect.TypeFor[PlateNoRead]()} {
		require.Equal(t, []string{string(plate.Toward), string(plate.Away), string(plate.Left), string(plate.Right), string(plate.DirectionUnknown)},
			words(of, "Direction"))
		require.Equal(t, []string{string(plate.Entry), string(plate.Exit), string(plate.LaneDirectionUnknown)}, words(of, "LaneDirection"))
	}
	require.Equal(t, []string{plate.NoText, plate.Marked, plate.NoCharacters}, words(reflect.TypeFor[PlateNoRead](), "Reason"))
	capture := reflect.TypeFor[PlateCapture]()
	require.Equal(t, []string{RevisionSingle, RevisionNew, RevisionUpdate, RevisionLost}, words(capture, "Revision"))
	require.Equal(t, []string{TimeFromArrival, TimeFromDevice, TimeFromDeviceZone, TimeFromDeviceCorrected}, words(capture, "TimeSource"))
}

// The examples say what package plate makes of their raw text.
func TestPlateExamples(t *testing.T) {
	x := examples()[PlateRead{}.Type()]
	read := x.Data.(PlateRead)
	lines := strings.Split(read.Private.Raw.Text, "\r\n")
	raw := func(key string) string {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Events[0]."+key+"=") })
		require.GreaterOrEqual(t, i, 0, key)
		_, value, _ := strings.Cut(lines[i], "=")
		return value
	}
	dahua := plate.Of(plate.Dahua)
	dahua.Scale = plate.OfHundred
	text := plate.Normalise(raw("TrafficCar.PlateNumber"))
	require.Equal(t, text.Raw, read.Private.PlateRaw)
	require.Equal(t, text.Plate, read.Private.Plate)
	require.Equal(t, text.MatchKey, read.Private.MatchKey)
	confidence := dahua.Confidence(raw("Object.Confidence"))
	require.Equal(t, PlateConfidence{Value: confidence.Value, Raw: confidence.Raw, Scale: string(confidence.Scale)}, read.Confidence)
	country := dahua.Country(raw("TrafficCar.Country"))
	require.Equal(t, PlateCountry{Code: country.Code, Raw: country.Raw}, read.Country)
	require.Equal(t, string(dahua.Direction(raw("TrafficCar.DrivingDirection[0]"))), read.Direction)
	pseudonym, err := plate.Pseudonym([]byte("0123456789abcdef0123456789abcdef"), text.MatchKey)
	require.NoError(t, err)
	require.Equal(t, pseudonym, read.Pseudonym)
	require.Equal(t, read.ReadID, x.Header.Subject)

	sent := examples()[DeviceAttachment{}.Type()].Data.(DeviceAttachment)
	require.Equal(t, x.Header.ID, sent.EventID)
	require.Equal(t, Attachment{SHA256: sent.SHA256, Size: sent.Size, MediaType: sent.MediaType, Name: sent.Name}, read.Attachments[0])

	x = examples()[PlateNoRead{}.Type()]
	no := x.Data.(PlateNoRead)
	require.Equal(t, dahua.NoReadReason(no.Private.PlateRaw), no.Reason)
	require.Equal(t, no.ReadID, x.Header.Subject)
}
