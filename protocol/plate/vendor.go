package plate

import (
	"maps"
	"slices"
	"strings"
)

// Vendor names who made a reader, or the interface that several makers share.
type Vendor string

// The vendors whose conventions are known.
const (
	Hikvision       Vendor = "hikvision"        // ISAPI
	HikvisionONVIF  Vendor = "hikvision-onvif"  // Hikvision's own ONVIF topics
	Dahua           Vendor = "dahua"            // and Amcrest, Lorex, Intelbras
	Axis            Vendor = "axis"             // License Plate Verifier; FF Group, LILIN
	Nedap           Vendor = "nedap"            // ANPR
	Lumo            Vendor = "nedap-lumo"       // LUMO
	Vidar           Vendor = "vidar"            // Adaptive Recognition
	Vaxtor          Vendor = "vaxtor"           // and MOBOTIX VaxALPR
	Axxon           Vendor = "axxon"            // Auto-Intellect
	Genetec         Vendor = "genetec"          // AutoVu SharpV
	Milesight       Vendor = "milesight"        //
	Vzen            Vendor = "vzen"             // Zhenshi AlarmInfoPlate
	Uniview         Vendor = "uniview"          // LAPI
	TVT             Vendor = "tvt"              // Viewtron, Provision-ISR
	Rekor           Vendor = "rekor"            // OpenALPR
	PlateRecognizer Vendor = "plate-recognizer" // Stream
	Frigate         Vendor = "frigate"          //
	ONVIF           Vendor = "onvif"            // LicensePlateInfo, Profile M
)

// Direction is where a vehicle was going, as its reader saw it.
type Direction string

// The directions.
const (
	Toward           Direction = "toward" // toward the camera
	Away             Direction = "away"   // from the camera
	Left             Direction = "left"
	Right            Direction = "right"
	DirectionUnknown Direction = "unknown"
)

// LaneDirection is what a direction means in the lane.
type LaneDirection string

// The directions of a lane.
const (
	Entry                LaneDirection = "entry"
	Exit                 LaneDirection = "exit"
	LaneDirectionUnknown LaneDirection = "unknown"
)

// Mounting says what the directions of a reader mean where it is mounted. That
// is the site's to say; the reader can't know.
type Mounting map[Direction]LaneDirection

// Of is the lane's direction of a vehicle.
func (m Mounting) Of(d Direction) LaneDirection {
	if l, ok := m[d]; ok {
		return l
	}
	return LaneDirectionUnknown
}

// Conventions are how a vendor writes what all of them tell. Of gives them by
// vendor; a driver changes them by its settings.
type Conventions struct {
	// NoRead lists what stands in place of a plate that was not read, upper and
	// lower case alike.
	NoRead []string
	// Scale is how confidence is counted.
	Scale Scale
	// Countries lists the forms that countries come in, to be tried in this order.
	Countries []CountryForm
	// Index says what the numbers of HikvisionIndex mean. Unverified is true to
	// believe those too that nobody has confirmed.
	Index      Index
	Unverified bool
	// Directions says what the vendor's words for directions mean, upper and lower
	// case alike. A word that is not here means nothing that is known: "in" and
	// "out" follow from how a camera was set up, degrees from an axis that is not
	// documented.
	Directions map[string]Direction
}

// iso is what a vendor uses who says no more than that there is a country, and
// may use any of these: no text means two countries in them.
var iso = []CountryForm{Alpha3, Alpha2, Name}

// conventions is what is known of each vendor, from their documents and from
// captures. The documents of some say nothing of one thing or the other.
var conventions = map[Vendor]Conventions{
	Hikvision: {
		// The last two belong to Chinese firmware, and were not seen on the wire.
		NoRead:    []string{"unknown", "noPlate", "无车牌"},
		Scale:     OfHundred,
		Countries: []CountryForm{HikvisionIndex, Alpha3, Name},
		// A camera that looks at the rear sees nearly nothing but "reverse".
		Directions: map[string]Direction{"forward": Toward, "reverse": Away},
	},
	HikvisionONVIF: {NoRead: []string{"unknown"}, Scale: OfHundredOrThousand, Countries: []CountryForm{HikvisionIndex, Alpha3, Alpha2, Name}},
	Dahua: {
		NoRead: []string{"Unknown", "Unknow", "No Plate", "<unknown>", "unlicensed"},
		// The document says 255; some models count to 100, which is a setting.
		Scale:     Of255,
		Countries: iso,
		// DrivingDirection, and VehicleDirection: the head of a vehicle is seen as
		// it comes. JunctionDirection tells how the lane is set up, and not this.
		Directions: map[string]Direction{"Approach": Toward, "Leave": Away, "Head": Toward, "Tail": Away},
	},
	Axis:  {Scale: OfOne, Countries: []CountryForm{Alpha3}},
	Nedap: {Scale: ScaleUnknown, Countries: []CountryForm{Alpha3}},
	Lumo:  {Scale: ScaleUnknown, Countries: iso},
	Vidar: {Scale: OfHundred, Countries: iso},
	Vaxtor: {
		Scale: OfHundred, Countries: []CountryForm{Alpha3},
		// 0 is unknown, 3 a vehicle that stands.
		Directions: map[string]Direction{"1": Toward, "2": Away},
	},
	Axxon: {
		NoRead: []string{"Not defined"}, Scale: ScaleUnknown,
		Directions: map[string]Direction{"left": Left, "right": Right},
	},
	// Below zero means that none is given.
	Genetec:   {Scale: OfHundred, Countries: []CountryForm{Name}, Directions: map[string]Direction{"Moving Away": Away}},
	Milesight: {Scale: ScaleUnknown, Countries: iso},
	Vzen: {
		NoRead: []string{"_无_"}, Scale: OfHundred,
		// The axes of the picture; up and down say nothing sure of the vehicle.
		Directions: map[string]Direction{"1": Left, "2": Right},
	},
	Uniview:         {},
	TVT:             {},
	Rekor:           {Scale: OfHundred, Countries: []CountryForm{Region}},
	PlateRecognizer: {Scale: OfOne, Countries: []CountryForm{Region}},
	Frigate:         {Scale: OfOne},
	ONVIF:           {Scale: OfOne, Countries: []CountryForm{Alpha2}},
}

// Vendors lists the vendors whose conventions are known.
func Vendors() []Vendor { return slices.Sorted(maps.Keys(conventions)) }

// Of gives the conventions of a vendor, for the caller to keep and change. An
// unknown vendor has none: an empty text is no read, and confidence, country and
// direction are kept raw.
func Of(v Vendor) Conventions {
	c := conventions[v]
	c.NoRead = slices.Clone(c.NoRead)
	c.Countries = slices.Clone(c.Countries)
	c.Directions = maps.Clone(c.Directions)
	c.Index = HikvisionCountries()
	return c
}

// Why there is no plate.
const (
	// NoText: the device sent none.
	NoText = "no_text"
	// Marked: the device says that it read none.
	Marked = "marked"
	// NoCharacters: there is neither a letter nor a digit in what it sent.
	NoCharacters = "no_characters"
)

// NoReadReason tells why a text is no plate, one of NoText, Marked and
// NoCharacters; empty if it is one.
func (c Conventions) NoReadReason(raw string) string {
	text := strings.TrimSpace(Normalise(raw).Raw)
	switch {
	case text == "":
		return NoText
	case slices.ContainsFunc(c.NoRead, func(w string) bool { return strings.EqualFold(w, text) }):
		return Marked
	case !strings.ContainsFunc(Clean(text), character):
		return NoCharacters
	}
	return ""
}

// Country reads a country.
func (c Conventions) Country(raw string) Country {
	return countryOf(raw, c.Countries, c.Index, c.Unverified)
}

// Confidence reads a confidence.
func (c Conventions) Confidence(raw string) Confidence { return c.Scale.Of(raw) }

// Direction reads a direction.
func (c Conventions) Direction(raw string) Direction {
	text := strings.TrimSpace(raw)
	for word, d := range c.Directions {
		if strings.EqualFold(word, text) {
			return d
		}
	}
	return DirectionUnknown
}
