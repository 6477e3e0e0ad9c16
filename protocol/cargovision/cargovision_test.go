package cargovision

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/unicode"

	"github.com/lanepost/lanepost/protocol/sidecar"
)

// Both are written here after the shapes of real ones; plates and numbers are made up.
const v120 = `<DataForm xmlns="dataforms.model.cargovision.smiths.com"><Version>V01.20</Version><TruckId>20260314000412001K</TruckId><State>5</State><Site>000412</Site>` +
	`<Date>2026-03-14T08:22:41.704Z</Date><InTraining>0</InTraining><InReference>0</InReference><Archived>0</Archived><Analysed>1</Analysed><CargoSet/>` +
	`<AdminData><FileId/><Comments /><Vehicle><PlateNumber>AA1234BB</PlateNumber><OCR>91</OCR><Trailers>` +
	`<Trailer><PlateNumber>AC315TD</PlateNumber><OCR>-1</OCR><Containers><Container><ContainerId>CSQU3054383</ContainerId><TopLeft><Point3D><X>1</X></Point3D></TopLeft><OCR>96</OCR></Container><Container><ContainerId /><OCR>-1</OCR></Container></Containers></Trailer>` +
	`<Trailer><PlateNumber/><OCR>-1</OCR><Containers><Container><ContainerId/><OCR>-1</OCR></Container><Container><ContainerId/><OCR>-1</OCR></Container></Containers></Trailer></Trailers><Driver/></Vehicle></AdminData>` +
	`<Operations><Operation Type="1"><Start>2026-03-14T08:22:41.204Z</Start><End>2026-03-14T08:23:14.871Z</End><Site>000412</Site><System>HCVP-2</System><Verdict Value="2"/>` +
	`<Resources><Resource Type="img" IsLinked="false" IsPreview="false" IsDeleted="false">20260314000412001KS.Img</Resource><Resource Type="img" IsLinked="false" IsPreview="true" IsDeleted="false">20260314000412001KS_stamp.jpg</Resource>` +
	`<Resource Type="ard" IsLinked="false" IsPreview="false" IsDeleted="true">20260314000412001K.Rad</Resource><Resource Type="zz" IsDeleted="false">a.bin</Resource></Resources>` +
	`<ATR_Results><ATR ATRType="NEC"><Status>Success</Status><Result>Info</Result><Comments><Label LabelType="A"><Param name="NB_Container">1</Param></Label></Comments></ATR><ATR ATRType="ARDg"><Status>Failure</Status><Result>None</Result><Comments><Label LabelType="E">no data</Label></Comments></ATR></ATR_Results></Operation>` +
	`<Operation Type="14"><Start>2026-03-14T08:23:30Z</Start><End>2026-03-14T08:23:40Z</End><Login>x</Login><Verdict Value="0"/></Operation>` +
	`<Operation Type="3"><Start>2026-03-14T08:24:02Z</Start><End>2026-03-14T08:25:37Z</End><Login>x</Login><Workstation>DAW01</Workstation><Verdict Value="0">checked</Verdict></Operation></Operations><UpdateCount>11</UpdateCount></DataForm>`

const v107 = `<DataForm><Version>V01.07</Version><TruckId>20260314000413005X</TruckId><Site>000413</Site><Date>2026-03-14T09:00:19Z</Date><InTraining>1</InTraining><InReference>0</InReference>` +
	`<AdminData><Vehicle><PlateNumber>ABCU1+2345</PlateNumber><OCR>40</OCR><Trailers/></Vehicle></AdminData><Operations>` +
	`<Operation Type="3"><Start>2026-03-14T09:01:00Z</Start><End>2026-03-14T09:00:22Z</End><Verdict Value="0"/></Operation>` +
	`<Operation Type="1"><Start>2026-03-14T09:53:21Z</Start><End>2026-03-14T09:53:21Z</End></Operation></Operations></DataForm>`

func at(clock string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, "2026-03-14T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return t
}

func TestParse(t *testing.T) {
	s, err := Parse([]byte(v120), "")
	require.NoError(t, err)
	require.Equal(t, &sidecar.Scan{
		ID: "20260314000412001K", System: "HCVP-2", Site: "000412", Software: "V01.20", Codes: map[string]string{"State": "5"}, Start: at("08:22:41.204"), End: at("08:23:14.871"), Zoned: true, Inspected: true,
		Plates:     []sidecar.Plate{{Text: "AA1234BB", Confidence: "91"}, {Trailer: true, Text: "AC315TD", Confidence: "-1"}},
		Containers: []sidecar.Container{{Position: 1, Text: "CSQU3054383", Confidence: "96"}},
		Analyses: []sidecar.Analysis{
			{Machine: true, Name: "NEC", Result: "Info", Text: "NB_Container  1"}, {Machine: true, Name: "ARDg", Failed: true, Result: "None", Text: "no data"},
			{Name: "correction", Result: "0", Start: at("08:23:30"), End: at("08:23:40")},
			{Name: "analysis", Result: "0", Text: "checked", Start: at("08:24:02"), End: at("08:25:37")},
		},
		Files: []sidecar.File{
			{Name: "20260314000412001KS.Img", Role: "image"}, {Name: "20260314000412001KS_stamp.jpg", Role: "preview"},
			{Name: "20260314000412001K.Rad", Role: "radiation", Deleted: true}, {Name: "a.bin", Role: "other"},
		},
	}, s)
	require.Nil(t, sidecar.Confidence("-1"), "not read")

	utf16, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(v107)
	require.NoError(t, err)
	for _, form := range []string{v107, utf16, "\xef\xbb\xbf" + v107} {
		s, err = Parse([]byte(form), "")
		require.NoError(t, err)
		require.Equal(t, "20260314000413005X", s.ID)
		require.True(t, s.Training)
		require.Equal(t, at("09:53:21"), s.Start, "the operations are not in the order of time")
		require.True(t, s.Analyses[0].End.Before(s.Analyses[0].Start))
	}
	for _, bad := range []string{"", "<DataForm>", "<DataForm/>", "<Other/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><DataForm><TruckId>1</TruckId></DataForm>", v120[:len(v120)/2], "\xc0\xc1<DataForm/>"} {
		_, err := Parse([]byte(bad), "")
		require.Error(t, err, bad)
	}
}

func TestTruckID(t *testing.T) {
	for count, want := range map[int]string{1: "0001", 36: "0010", 229: "006D"} {
		require.Equal(t, "20260314000412"+want, TruckID(at("00:00:00"), "412", count))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(v120))
	f.Add([]byte(v107))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b, "")
		if err != nil {
			return
		}
		again, err := Parse(Form{UTF16: true}.Append(nil, s), "")
		if err != nil || again.ID != s.ID || again.Training != s.Training {
			t.Fatalf("what is written can't be read: %v", err)
		}
	})
}
