// Package dicos reads and writes DICOS (NEMA IIC 1), the form of DICOM in which security
// scanners tell what they scanned and what was found in it: DX and CT pictures, and threat
// detection reports (TDR). It does no I/O of its own.
//
// The tags and words are those of the standard's group 4010, which the DICOM dictionary
// has; what real files do beyond it (a version in (0002,0004), sequences of undefined
// length, UIDs that break the rules, a threat in a picture) is read too.
//
// walk.go goes over the structure of a file within bounds and keeps an excerpt, the elements
// that are wanted in one syntax; values.go decodes that. github.com/suyashkumar/dicom reads
// the same files in the tests, and never those that come: it trusts the lengths that are
// announced, follows nesting without end, gives a file up for one element that it does not
// know, and brings a dictionary larger than all else here.
package dicos

import (
	"errors"
	"time"
)

// Bounds of what comes.
const (
	// MaxDepth is how deep sequences may be in each other.
	MaxDepth = 16
	// MaxElements is how many elements a file may have, pixel data not counted.
	MaxElements = 1 << 18
	// MaxExcerpt bounds what is kept of them, in bytes.
	MaxExcerpt = 4 << 20
	// MaxText is what is kept of a text, MaxBitmap of a threat's bitmap, in bytes.
	MaxText   = 4 << 10
	MaxBitmap = 1 << 20
	// forOthers is what bitmaps leave of MaxExcerpt to the elements that follow them.
	forOthers = 1 << 20
	// minYear and maxYear bound the times that are believed: a clock that was not set
	// tells another, and so does one who means "never".
	minYear, maxYear = 2000, 2200
	// MaxThreats, MaxParts and MaxPoints bound the threats of a file, the representations
	// and the assessments of a threat, and the points of a polygon.
	MaxThreats = 1000
	MaxParts   = 32
	MaxPoints  = 1000
	// MaxReferences bounds the scans that a report names.
	MaxReferences = 1000
)

// Errors of reading.
var (
	// ErrTruncated is for a file that ends before its end. What was read until there is
	// given beside it.
	ErrTruncated = errors.New("the file ends before its end")
	// ErrBounds is for a file that is larger or deeper than what is read.
	ErrBounds = errors.New("the file exceeds what is read")
	// ErrForm is for a file that is not built as DICOM files are.
	ErrForm = errors.New("this is no DICOS file")
	// ErrSyntax is for a transfer syntax that is not read: big endian and deflated ones,
	// which DICOS does not have.
	ErrSyntax = errors.New("a transfer syntax that DICOS does not have")
)

// The transfer syntaxes of DICOS files.
const (
	ImplicitLE   = "1.2.840.10008.1.2"
	ExplicitLE   = "1.2.840.10008.1.2.1"
	JPEGLossless = "1.2.840.10008.1.2.4.70" // process 14, first-order prediction (SV1)
	RLE          = "1.2.840.10008.1.2.5"
	deflated     = "1.2.840.10008.1.2.1.99"
	bigEndian    = "1.2.840.10008.1.2.2"
)

// The SOP classes of DICOS.
const (
	ClassCT             = "1.2.840.10008.5.1.4.1.1.501.1"
	ClassDX             = "1.2.840.10008.5.1.4.1.1.501.2.1" // for presentation
	ClassDXProcessing   = "1.2.840.10008.5.1.4.1.1.501.2.2"
	ClassTDR            = "1.2.840.10008.5.1.4.1.1.501.3"
	ClassAIT2D          = "1.2.840.10008.5.1.4.1.1.501.4"
	ClassAIT3D          = "1.2.840.10008.5.1.4.1.1.501.5"
	ClassQR             = "1.2.840.10008.5.1.4.1.1.501.6"
	implementationUID   = "2.25.113059749145936325402354257176981405696"
	implementationLabel = "LANEPOST"
)

// Object is one DICOS file or data set: a picture, a report, or a picture with a report in
// it. Texts are trimmed of spaces and NULs, and empty if they are not told.
type Object struct {
	// TransferSyntax is how it is encoded, Version the standard's ("V02A"), the one of
	// the data set before that of the file's head.
	TransferSyntax, Version string
	// SOPClass and SOPInstance are UIDs as they stand, valid or not. Modality is "CT",
	// "XRAY", "DX", "TDR" and so on.
	SOPClass, SOPInstance, Modality string
	// Inspected is the object of inspection, the vehicle or the bag.
	Inspected Inspected
	// ScanInstance is the UID that all objects of one scan share, ScanID what the scanner
	// calls it, ScanType "OPERATIONAL" or "NON_OPERATIONAL".
	ScanInstance, ScanID, ScanType, ScanDescription string
	// Start is when the scan began, by the scanner's clock, which tells no zone; the zone
	// here is UTC and means nothing. Zero if it is not told.
	Start time.Time
	// AcquisitionStatus is "SUCCESSFUL", "JAM", "INCOMPLETE" and so on; TestArticle is
	// "NIST_FAT", "OTK" and so on, empty for what was no test.
	AcquisitionStatus, TestArticle string
	Scanner                        Scanner
	Image                          Image
	// Report is the head of a threat detection report; nil if no element of one is there.
	Report *Report
	// Threats are those of the threat sequence, and one for what stands outside of it.
	Threats []Threat
	// Projected: the scanner has put a picture of a threat into that of the object, to see
	// whether the operator finds it. A Threat may say it of itself, too.
	Projected bool
	// Dropped counts elements that were wanted and whose length does not fit their type,
	// and threats, parts and points beyond the bounds or that are no numbers.
	Dropped int
	// WrongTimes counts times that are told and are none, or in a year in which no scan was
	// made.
	WrongTimes int
	// WrongGroupLength: the length of the file's head that it announces is not its length.
	WrongGroupLength bool
}

// Inspected is an object of inspection. Its id may be a plate, a person's or a bag's.
type Inspected struct {
	ID, Authority string
	// IDType is "TEXT", "RFID", "BARCODE" or "MRP".
	IDType string
	// Type is "CARGO", "BAGGAGE", "PERSON", "ANIMAL", "BIO_SAMPLE" or "OTHER".
	Type       string
	Descriptor string
	OtherIDs   []string
}

// Scanner is a machine, as it names itself.
type Scanner struct {
	Manufacturer, Model, Serial, Software string
	// Machine is its own name, Location where it stands.
	Machine, Location, Address, SubLocation string
}

// Image is how a picture is laid out.
type Image struct {
	// Type is like "ORIGINAL", "INTENSITY".
	Type                               []string
	Rows, Columns, Frames              int
	Samples, BitsAllocated, BitsStored int
	Photometric                        string
	// Pixels: there are pixel data. Encapsulated: in fragments. PixelBytes is how many, with
	// what is around the fragments.
	Pixels, Encapsulated bool
	PixelBytes           int64
}

// Report is what a threat detection report says of the whole.
type Report struct {
	// Type is "MACHINE", "OPERATOR", "GROUND TRUTH", "AGGREGATE", "MOD_AGGREGATE" or
	// "UNDEFINED".
	Type string
	// Decision is "ALARM", "CLEAR" or "UNKNOWN".
	Decision string
	// DecisionTime is when it was made, zero if that is not told. Zoned: with its zone.
	DecisionTime time.Time
	Zoned        bool
	// Abort is "SUCCESS" or "ABORT", AbortReason "TIMEOUT", "NOT_REVIEWED" and so on.
	Abort, AbortReason string
	// Algorithm is the maker, the version and the parameters of what has looked.
	Algorithm []string
	// Objects and Alarms count what was found, and what of it alarms; nil if not told.
	Objects, Alarms *int
	// Milliseconds is how long it took; nil if not told.
	Milliseconds *float64
	// AdditionalScreening is "YES" or "NO".
	AdditionalScreening string
	// Operator: an operator is named. Who it is, is not kept.
	Operator bool
	// References are the pictures that were looked at.
	References []Reference
}

// Reference names another object by its UIDs.
type Reference struct{ Class, Instance string }

// Threat is one potential threat object.
type Threat struct {
	// ID is the object's number in the file; nil for what stands outside of the sequence.
	ID *int
	// Projected: it is none, but was put into the picture as a drill.
	Projected       bool
	Representations []Representation
	Assessments     []Assessment
}

// Representation is where a threat is and what it is like. Numbers are nil if they are not
// told, and in the units of the file.
type Representation struct {
	References []Reference
	Regions    []Region
	// Polygon are the corners around it.
	Polygon [][3]float64
	// Location is where it is, in words.
	Location                          string
	Mass, Density, ZEffective, Volume *float64
}

// Region is a box of voxels, or of pixels with a depth of 1, and which of them belong to
// the threat: x runs fastest, the lowest bit of a byte is first, rows are not padded.
type Region struct {
	Base, Extents [3]float64
	// Bitmap may be empty: then the box is meant as a whole. One that is longer than
	// MaxBitmap, or for which the others leave no room, is not kept, and counted in
	// Object.Dropped.
	Bitmap []byte
}

// BitmapSize is how long a bitmap of w·h·d bits is, in bytes.
func BitmapSize(w, h, d int) int { return (w*h*d + 7) / 8 }

// At reports whether a voxel belongs to the threat. A region without a bitmap is whole.
func (r Region) At(x, y, z int) bool {
	w, h, d := int(r.Extents[0]), int(r.Extents[1]), int(r.Extents[2])
	if x < 0 || y < 0 || z < 0 || x >= w || y >= h || z >= d {
		return false
	}
	if len(r.Bitmap) == 0 {
		return true
	}
	n := (z*h+y)*w + x
	return n/8 < len(r.Bitmap) && r.Bitmap[n/8]>>(n%8)&1 == 1
}

// Assessment is what somebody thinks of a threat.
type Assessment struct {
	// Category is "EXPLOSIVE", "PI" (prohibited item), "CONTRABAND", "ANOMALY" and so on.
	Category, Text string
	// Ability is "NO_INTERFERENCE" or "SHIELD".
	Ability string
	// Flag is "HIGH_THREAT", "THREAT", "NO_THREAT" or "UNKNOWN".
	Flag string
	// Probability is as told; nil if not.
	Probability *float64
}

// Whole reports whether an object says what its kind is for. A file may have been cut off
// just between two elements; then it reads to its end, and this is missing.
func (o *Object) Whole() bool {
	switch o.SOPClass {
	case ClassTDR:
		return o.Report != nil && (o.Report.Decision != "" || o.Report.Abort != "")
	case ClassCT, ClassDX, ClassDXProcessing, ClassAIT2D, ClassAIT3D:
		return o.Image.whole()
	}
	return true
}

// whole reports whether there are as many pixels as the picture is said to have. How many
// bytes those of a compressed picture, or of one in colours, must have can't be told.
func (i Image) whole() bool {
	if i.Encapsulated || i.Samples > 1 || i.Rows < 1 || i.Columns < 1 || i.BitsAllocated < 1 {
		return i.PixelBytes > 0
	}
	bits := float64(i.Rows) * float64(i.Columns) * float64(i.Frames) * float64(i.BitsAllocated)
	return i.PixelBytes > 0 && float64(i.PixelBytes)*8 >= bits
}
