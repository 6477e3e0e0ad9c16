package dicos

// Tag is the number of an element: its group in the upper half.
type Tag uint32

func (t Tag) group() uint16   { return uint16(t >> 16) }
func (t Tag) element() uint16 { return uint16(t) }

// The elements that are read. The numbers are those of DICOM's dictionary.
const (
	tagItem          Tag = 0xfffee000
	tagItemEnd       Tag = 0xfffee00d
	tagSequenceEnd   Tag = 0xfffee0dd
	tagPixelData     Tag = 0x7fe00010
	tagGroupLength   Tag = 0x00020000
	tagSyntax        Tag = 0x00020010
	tagHeadVersion   Tag = 0x00020004 // of DICOS, not in the dictionary
	tagCharset       Tag = 0x00080005
	tagImageType     Tag = 0x00080008
	tagSOPClass      Tag = 0x00080016
	tagSOPInstance   Tag = 0x00080018
	tagScanDate      Tag = 0x00080020
	tagSeriesDate    Tag = 0x00080021
	tagScanTime      Tag = 0x00080030
	tagSeriesTime    Tag = 0x00080031
	tagModality      Tag = 0x00080060
	tagIntent        Tag = 0x00080068
	tagManufacturer  Tag = 0x00080070
	tagLocation      Tag = 0x00080080
	tagAddress       Tag = 0x00080081
	tagMachine       Tag = 0x00081010
	tagDescription   Tag = 0x00081030
	tagSubLocation   Tag = 0x00081040
	tagOperator      Tag = 0x00081072
	tagModel         Tag = 0x00081090
	tagRefScans      Tag = 0x00081110
	tagRefInstances  Tag = 0x0008114a
	tagRefClass      Tag = 0x00081150
	tagRefInstance   Tag = 0x00081155
	tagOOIName       Tag = 0x00100010
	tagOOI           Tag = 0x00100020
	tagOOIAuthority  Tag = 0x00100021
	tagOOIIDType     Tag = 0x00100022
	tagOtherIDs      Tag = 0x00101002
	tagKVP           Tag = 0x00180060
	tagSerial        Tag = 0x00181000
	tagSoftware      Tag = 0x00181020
	tagScanInstance  Tag = 0x0020000d
	tagSeries        Tag = 0x0020000e
	tagScanID        Tag = 0x00200010
	tagSeriesNumber  Tag = 0x00200011
	tagInstance      Tag = 0x00200013
	tagSamples       Tag = 0x00280002
	tagPhotometric   Tag = 0x00280004
	tagFrames        Tag = 0x00280008
	tagRows          Tag = 0x00280010
	tagColumns       Tag = 0x00280011
	tagBitsAllocated Tag = 0x00280100
	tagBitsStored    Tag = 0x00280101
	tagHighBit       Tag = 0x00280102
	tagSign          Tag = 0x00280103
	tagPersonCode    Tag = 0x00401101
	tagROI           Tag = 0x40101001
	tagROIBase       Tag = 0x40101004
	tagROIExtents    Tag = 0x40101005
	tagROIBitmap     Tag = 0x40101006
	tagThreatID      Tag = 0x40101010
	tagThreats       Tag = 0x40101011
	tagCategory      Tag = 0x40101012
	tagCategoryText  Tag = 0x40101013
	tagAbility       Tag = 0x40101014
	tagFlag          Tag = 0x40101015
	tagProbability   Tag = 0x40101016
	tagMass          Tag = 0x40101017
	tagDensity       Tag = 0x40101018
	tagZEffective    Tag = 0x40101019
	tagPolygon       Tag = 0x4010101d
	tagAbortReason   Tag = 0x40101021
	tagVolume        Tag = 0x40101023
	tagAbort         Tag = 0x40101024
	tagReportType    Tag = 0x40101027
	tagAlgorithm     Tag = 0x40101029
	tagDecisionTime  Tag = 0x4010102b
	tagDecision      Tag = 0x40101031
	tagObjects       Tag = 0x40101033
	tagAlarms        Tag = 0x40101034
	tagRepresent     Tag = 0x40101037
	tagAssess        Tag = 0x40101038
	tagTIPType       Tag = 0x40101039
	tagVersion       Tag = 0x4010103a
	tagOOIType       Tag = 0x40101042
	tagAcquisition   Tag = 0x40101044
	tagTestArticle   Tag = 0x40101046
	tagScanType      Tag = 0x40101048
	tagDescriptor    Tag = 0x40101068
	tagMilliseconds  Tag = 0x40101069
	tagScreening     Tag = 0x4010106d
	tagLocationText  Tag = 0x40101078
	tagTIP1          Tag = 0x40102041 // of threat image projection, as the next two; not in the dictionary
	tagTIP2          Tag = 0x40102043
	tagTIP3          Tag = 0x40102045
)

// wanted are the elements that are read, with the type that they have where a file does
// not say it. A file that says it is believed: the dictionary is wrong about some.
var wanted = map[Tag]string{
	tagCharset: "CS", tagImageType: "CS", tagSOPClass: "UI", tagSOPInstance: "UI", tagScanDate: "DA", tagScanTime: "TM", tagModality: "CS",
	tagManufacturer: "LO", tagLocation: "LO", tagAddress: "ST", tagMachine: "SH", tagDescription: "LO", tagSubLocation: "LO",
	tagOperator: "SQ", tagModel: "LO", tagRefScans: "SQ", tagRefInstances: "SQ", tagRefClass: "UI", tagRefInstance: "UI",
	tagOOI: "LO", tagOOIAuthority: "LO", tagOOIIDType: "CS", tagOtherIDs: "SQ", tagSerial: "LO", tagSoftware: "LO",
	tagScanInstance: "UI", tagScanID: "SH", tagSamples: "US", tagPhotometric: "CS", tagFrames: "IS", tagRows: "US", tagColumns: "US",
	tagBitsAllocated: "US", tagBitsStored: "US", tagROI: "SQ", tagROIBase: "FL", tagROIExtents: "FL", tagROIBitmap: "OB", tagThreatID: "US",
	tagThreats: "SQ", tagCategory: "CS", tagCategoryText: "LT", tagAbility: "CS", tagFlag: "CS", tagProbability: "FL", tagMass: "FL",
	tagDensity: "FL", tagZEffective: "FL", tagPolygon: "FL", tagAbortReason: "CS", tagVolume: "FL", tagAbort: "CS", tagReportType: "CS",
	tagAlgorithm: "LO", tagDecisionTime: "DT", tagDecision: "CS", tagObjects: "US", tagAlarms: "US", tagRepresent: "SQ", tagAssess: "SQ",
	tagTIPType: "CS", tagTIP1: "CS", tagTIP2: "CS", tagTIP3: "CS", tagVersion: "CS", tagOOIType: "CS", tagAcquisition: "CS", tagTestArticle: "CS", tagScanType: "CS", tagDescriptor: "LO",
	tagMilliseconds: "FL", tagScreening: "CS", tagLocationText: "ST",
}

// long are the types whose length has four bytes in an explicit syntax.
var long = map[string]bool{
	"OB": true, "OD": true, "OF": true, "OL": true, "OV": true, "OW": true, "SQ": true, "SV": true, "UC": true, "UN": true, "UR": true, "UT": true, "UV": true,
}

// width is how many bytes a number of a type has; types that are not here are text.
var width = map[string]int{"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8}

// texts are the types of text.
var texts = map[string]bool{
	"AE": true, "AS": true, "CS": true, "DA": true, "DS": true, "DT": true, "IS": true, "LO": true, "LT": true, "PN": true, "SH": true, "ST": true,
	"TM": true, "UC": true, "UI": true, "UR": true, "UT": true,
}
