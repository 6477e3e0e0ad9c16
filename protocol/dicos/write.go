package dicos

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/order"
)

// Element is one element to write: a value, or the items of a sequence.
type Element struct {
	Tag   Tag
	VR    string
	Value []byte
	Items [][]Element
}

// Form is how a file is written, beside what is in it.
type Form struct {
	// Extra are elements that Object does not have.
	Extra []Element
	// GroupLength is added to the length of the head that is announced; 0 is right.
	GroupLength int
}

// Append writes a file: sequences and their items are of undefined length, as DICOS
// toolkits write them. pixels are the grey values of a picture, Rows·Columns·Frames of
// them, and 16 bits are written of each; nil for an object without a picture. It
// fails for a transfer syntax that is not one of DICOS, and if the pixels are too few.
func (f Form) Append(b []byte, o *Object, pixels []uint16) ([]byte, error) {
	implicit := o.TransferSyntax == ImplicitLE
	if !slices.Contains([]string{ImplicitLE, ExplicitLE, JPEGLossless, RLE}, o.TransferSyntax) {
		return nil, fmt.Errorf("%w: %q", ErrSyntax, o.TransferSyntax)
	}
	b = append(append(b, make([]byte, 128)...), "DICM"...)
	var head []byte
	for _, e := range []Element{
		{Tag: 0x00020001, VR: "OB", Value: []byte{0, 1}},
		text(0x00020002, "UI", o.SOPClass),
		text(0x00020003, "UI", o.SOPInstance),
		text(tagHeadVersion, "CS", o.Version),
		text(tagSyntax, "UI", o.TransferSyntax),
		text(0x00020012, "UI", implementationUID),
		text(0x00020013, "SH", implementationLabel),
	} {
		head = appendElement(head, e, false)
	}
	b = appendElement(b, whole(tagGroupLength, "UL", len(head)+f.GroupLength), false)
	b = append(b, head...)
	elements := append(o.elements(), f.Extra...)
	order.Stable(elements, func(a, b Element) int { return cmp.Compare(a.Tag, b.Tag) })
	for _, e := range elements {
		b = appendElement(b, e, implicit)
	}
	if pixels == nil {
		return b, nil
	}
	return o.appendPixels(b, pixels, implicit)
}

func (o *Object) appendPixels(b []byte, pixels []uint16, implicit bool) ([]byte, error) {
	i := o.Image
	size := i.Rows * i.Columns
	if size < 1 || len(pixels) != size*max(i.Frames, 1) {
		return nil, fmt.Errorf("there are %d pixels, and %d frames of %d by %d are to be written", len(pixels), max(i.Frames, 1), i.Columns, i.Rows)
	}
	if o.TransferSyntax == ImplicitLE || o.TransferSyntax == ExplicitLE {
		if len(pixels) >= undefined/2 {
			return nil, fmt.Errorf("%w: there are %d pixels", ErrBounds, len(pixels))
		}
		b = appendHeader(b, header{tagPixelData, "OW", uint32(2 * len(pixels))}, implicit)
		for _, v := range pixels {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
		return b, nil
	}
	b = appendHeader(b, header{tagPixelData, "OB", undefined}, false)
	b = appendHeader(b, header{tag: tagItem}, false) // no table of the frames
	for frame := range slices.Chunk(pixels, size) {
		var fragment []byte
		if o.TransferSyntax == RLE {
			fragment = appendRLE(nil, frame, i.Columns)
		} else {
			fragment = appendJPEG(nil, frame, i.Columns, i.Rows)
		}
		if len(fragment)%2 == 1 {
			fragment = append(fragment, 0)
		}
		b = append(appendHeader(b, header{tag: tagItem, length: uint32(len(fragment))}, false), fragment...)
	}
	return appendHeader(b, header{tag: tagSequenceEnd}, false), nil
}

func appendElement(b []byte, e Element, implicit bool) []byte {
	if e.VR != "SQ" {
		b = appendHeader(b, header{e.Tag, e.VR, uint32(len(e.Value) + len(e.Value)%2)}, implicit)
		b = append(b, e.Value...)
		if len(e.Value)%2 == 1 {
			if e.VR == "UI" || !texts[e.VR] {
				return append(b, 0)
			}
			return append(b, ' ')
		}
		return b
	}
	b = appendHeader(b, header{e.Tag, "SQ", undefined}, implicit)
	for _, item := range e.Items {
		b = appendHeader(b, header{tag: tagItem, length: undefined}, implicit)
		for _, inner := range item {
			b = appendElement(b, inner, implicit)
		}
		b = appendHeader(b, header{tag: tagItemEnd}, implicit)
	}
	return appendHeader(b, header{tag: tagSequenceEnd}, implicit)
}

func text(t Tag, vr, s string) Element { return Element{Tag: t, VR: vr, Value: []byte(s)} }

func whole(t Tag, vr string, n int) Element {
	e := Element{Tag: t, VR: vr}
	if width[vr] == 2 {
		e.Value = binary.LittleEndian.AppendUint16(nil, uint16(n))
	} else {
		e.Value = binary.LittleEndian.AppendUint32(nil, uint32(n))
	}
	return e
}

func floats(t Tag, list ...float64) Element {
	e := Element{Tag: t, VR: "FL"}
	for _, x := range list {
		e.Value = binary.LittleEndian.AppendUint32(e.Value, math.Float32bits(float32(x)))
	}
	return e
}

// add adds those that are told.
func add(list []Element, more ...Element) []Element {
	for _, e := range more {
		if len(e.Value) > 0 || e.Items != nil {
			list = append(list, e)
		}
	}
	return list
}

func optional(t Tag, x *float64) Element {
	if x == nil {
		return Element{}
	}
	return floats(t, *x)
}

func optionalWhole(t Tag, n *int) Element {
	if n == nil {
		return Element{}
	}
	return whole(t, "US", *n)
}

func day(t Tag, at time.Time) Element {
	if at.IsZero() {
		return Element{}
	}
	return text(t, "DA", at.Format("20060102"))
}

func clockTime(t Tag, at time.Time) Element {
	if at.IsZero() {
		return Element{}
	}
	return text(t, "TM", at.Format("150405.000000"))
}

func (o *Object) elements() []Element {
	s := o.Scanner
	list := add(nil,
		text(tagCharset, "CS", "ISO_IR 192"), text(tagImageType, "CS", strings.Join(o.Image.Type, `\`)),
		text(tagSOPClass, "UI", o.SOPClass), text(tagSOPInstance, "UI", o.SOPInstance),
		day(tagScanDate, o.Start), day(tagSeriesDate, o.Start), clockTime(tagScanTime, o.Start), clockTime(tagSeriesTime, o.Start),
		text(tagModality, "CS", o.Modality), text(tagManufacturer, "LO", s.Manufacturer), text(tagLocation, "LO", s.Location), text(tagAddress, "ST", s.Address),
		text(tagMachine, "SH", s.Machine), text(tagDescription, "LO", o.ScanDescription), text(tagSubLocation, "LO", s.SubLocation), text(tagModel, "LO", s.Model),
		text(tagSerial, "LO", s.Serial), text(tagSoftware, "LO", s.Software),
		text(tagOOI, "LO", o.Inspected.ID), text(tagOOIAuthority, "LO", o.Inspected.Authority), text(tagOOIIDType, "CS", o.Inspected.IDType),
		text(tagScanInstance, "UI", o.ScanInstance), text(tagSeries, "UI", o.ScanInstance+".1"), text(tagScanID, "SH", o.ScanID),
		text(tagVersion, "CS", o.Version), text(tagOOIType, "CS", o.Inspected.Type), text(tagAcquisition, "CS", o.AcquisitionStatus),
		text(tagTestArticle, "CS", o.TestArticle), text(tagScanType, "CS", o.ScanType), text(tagDescriptor, "LO", o.Inspected.Descriptor),
	)
	others := Element{Tag: tagOtherIDs, VR: "SQ", Items: [][]Element{}} // often there, and empty
	for _, id := range o.Inspected.OtherIDs {
		others.Items = append(others.Items, []Element{text(tagOOI, "LO", id)})
	}
	list = append(list, others)
	if i := o.Image; i.Rows > 0 {
		list = add(list, whole(tagSamples, "US", 1), text(tagPhotometric, "CS", cmp.Or(i.Photometric, "MONOCHROME2")), text(tagFrames, "IS", strconv.Itoa(max(i.Frames, 1))),
			whole(tagRows, "US", i.Rows), whole(tagColumns, "US", i.Columns), whole(tagBitsAllocated, "US", 16), whole(tagBitsStored, "US", cmp.Or(i.BitsStored, 16)),
			whole(tagHighBit, "US", cmp.Or(i.BitsStored, 16)-1), whole(tagSign, "US", 0))
	}
	return append(list, o.reportElements()...)
}

func (o *Object) reportElements() []Element {
	r := o.Report
	if r == nil {
		return nil
	}
	var list []Element
	if r.Operator {
		list = append(list, Element{Tag: tagOperator, VR: "SQ", Items: [][]Element{{{Tag: tagPersonCode, VR: "SQ", Items: [][]Element{}}}}})
	}
	if len(r.References) > 0 {
		list = append(list, referenceElement(tagRefScans, r.References))
	}
	decided := ""
	if !r.DecisionTime.IsZero() {
		if decided = r.DecisionTime.Format("20060102150405.000000"); r.Zoned {
			decided += r.DecisionTime.Format("-0700")
		}
	}
	list = add(list, text(tagReportType, "CS", r.Type), text(tagDecision, "CS", r.Decision), text(tagDecisionTime, "DT", decided), text(tagAbort, "CS", r.Abort),
		text(tagAbortReason, "CS", r.AbortReason), text(tagAlgorithm, "LO", strings.Join(r.Algorithm, `\`)), optionalWhole(tagObjects, r.Objects),
		optionalWhole(tagAlarms, r.Alarms), optional(tagMilliseconds, r.Milliseconds), text(tagScreening, "CS", r.AdditionalScreening))
	threats := Element{Tag: tagThreats, VR: "SQ", Items: [][]Element{}}
	for _, t := range o.Threats {
		represent, assess := t.elements()
		if t.ID == nil { // it stands beside the sequence
			list = append(list, represent, assess)
			continue
		}
		threats.Items = append(threats.Items, []Element{whole(tagThreatID, "US", *t.ID), represent, assess})
	}
	return append(list, threats)
}

func (t Threat) elements() (represent, assess Element) {
	represent = Element{Tag: tagRepresent, VR: "SQ", Items: [][]Element{}}
	for _, r := range t.Representations {
		var item []Element
		if len(r.References) > 0 {
			item = append(item, referenceElement(tagRefInstances, r.References))
		}
		if len(r.Regions) > 0 {
			regions := Element{Tag: tagROI, VR: "SQ"}
			for _, x := range r.Regions {
				regions.Items = append(regions.Items, []Element{
					floats(tagROIBase, x.Base[:]...), floats(tagROIExtents, x.Extents[:]...), {Tag: tagROIBitmap, VR: "OB", Value: x.Bitmap},
				})
			}
			item = append(item, regions)
		}
		var corners []float64
		for _, c := range r.Polygon {
			corners = append(corners, c[:]...)
		}
		represent.Items = append(represent.Items, add(item, optional(tagMass, r.Mass), optional(tagDensity, r.Density), optional(tagZEffective, r.ZEffective),
			floats(tagPolygon, corners...), optional(tagVolume, r.Volume), text(tagLocationText, "ST", r.Location)))
	}
	assess = Element{Tag: tagAssess, VR: "SQ", Items: [][]Element{}}
	for _, a := range t.Assessments {
		assess.Items = append(assess.Items, add(nil, text(tagCategory, "CS", a.Category), text(tagCategoryText, "LT", a.Text), text(tagAbility, "CS", a.Ability),
			text(tagFlag, "CS", a.Flag), optional(tagProbability, a.Probability)))
	}
	return represent, assess
}

func referenceElement(t Tag, list []Reference) Element {
	e := Element{Tag: t, VR: "SQ"}
	for _, r := range list {
		e.Items = append(e.Items, []Element{text(tagRefClass, "UI", r.Class), text(tagRefInstance, "UI", r.Instance)})
	}
	return e
}
