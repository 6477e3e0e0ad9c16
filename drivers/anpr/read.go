// Package anpr holds the drivers of number-plate readers: cameras and engines.
// This file is what they share: it makes of what a reader said one event that is
// on disk. Each driver is a file of its own.
//
// No driver sends anything that opens a barrier or changes a setting of a camera.
package anpr

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
	"github.com/lanepost/lanepost/protocol/plate"
)

// Bounds of what one reader makes.
const (
	// rememberedMessages and rememberedFor bound how long a message is known that a
	// camera sends again: a camera that was cut off for a day sends its whole store.
	rememberedMessages = 1 << 14
	// rememberedOnDisk bounds what of that is known after the agent was started anew.
	rememberedOnDisk = 4096
	rememberedFor    = 48 * time.Hour
	// rememberedGroups and groupFor bound the reads whose later revisions are
	// recognised.
	rememberedGroups = 1 << 10
	groupFor         = time.Hour
	// maxPictures bounds the pictures of one read, maxPicture one picture in bytes.
	maxPictures = 16
	// A document whose pictures can't be taken out is attached as a whole.
	maxPicture = link.MaxDelivery
	// maxAlternatives bounds the other readings of one plate.
	maxAlternatives = 16
	// maxWord bounds what a reader says in its own words, in bytes.
	maxWord = 256
)

// Settings are the settings that all drivers of plate readers have.
type Settings struct {
	// LaneDirection says what the reader's directions mean in the lane, for
	// instance toward: entry.
	LaneDirection map[string]string `yaml:"lane_direction"`
	// Zone is the zone of the reader's clock, for times that it tells without one:
	// an IANA name. Empty is UTC.
	Zone string `yaml:"zone"`
	// CodePage reads plates that are not UTF-8, one of plate.CodePages.
	CodePage string `yaml:"code_page"`
	// ConfidenceScale is what the reader counts its confidence in; empty for what is
	// known of its vendor.
	ConfidenceScale string `yaml:"confidence_scale"`
	// Unread are words that this reader sends in place of a plate, beside those of
	// its vendor.
	Unread []string `yaml:"unread"`
	// BelieveCountryIndex takes the numbers of countries too that nobody has
	// confirmed.
	BelieveCountryIndex bool `yaml:"believe_country_index"`
	// Directions says what the reader's own words for directions mean, beside those
	// of its vendor: toward, away, left, right or unknown.
	Directions map[string]string `yaml:"directions"`
	// CountryForms are the forms that countries come in, in place of those of the
	// vendor: alpha-2, alpha-3, vienna, name, region or hikvision-index.
	CountryForms []string `yaml:"country_forms"`
	// Pictures is false to leave the pictures with the reader.
	Pictures *bool `yaml:"pictures"`
}

// Check finds what is wrong with the settings.
func (s *Settings) Check() error {
	for from, to := range s.LaneDirection {
		if !slices.Contains([]string{"toward", "away", "left", "right"}, from) {
			return fmt.Errorf("lane_direction: %q is no direction; take toward, away, left or right", from)
		}
		if to != string(plate.Entry) && to != string(plate.Exit) {
			return fmt.Errorf("lane_direction: %s is %q; take entry or exit", from, to)
		}
	}
	if _, err := s.location(); err != nil {
		return err
	}
	if s.CodePage != "" && !slices.Contains(plate.CodePages(), s.CodePage) {
		return fmt.Errorf("code_page: %q is not known; there are %s", s.CodePage, strings.Join(plate.CodePages(), ", "))
	}
	for from, to := range s.Directions {
		if !slices.Contains([]string{"toward", "away", "left", "right", "unknown"}, to) {
			return fmt.Errorf("directions: %s is %q; take toward, away, left, right or unknown", from, to)
		}
	}
	for _, form := range s.CountryForms {
		if !slices.Contains(countryForms, plate.CountryForm(form)) {
			return fmt.Errorf("country_forms: %q is not known; there are %v", form, countryForms)
		}
	}
	if s.ConfidenceScale != "" && !plate.Scale(s.ConfidenceScale).Known() {
		return fmt.Errorf("confidence_scale: %q is not known; take 0-1, 0-100, 0-255 or 0-1000", s.ConfidenceScale)
	}
	return nil
}

var countryForms = []plate.CountryForm{plate.Alpha2, plate.Alpha3, plate.Vienna, plate.Name, plate.Region, plate.HikvisionIndex}

func (s *Settings) location() (*time.Location, error) {
	if s.Zone == "" {
		return time.UTC, nil
	}
	l, err := time.LoadLocation(s.Zone)
	if err != nil {
		return nil, fmt.Errorf("zone: %q is no time zone that is known; take a name like Europe/Kyiv", s.Zone)
	}
	return l, nil
}

// Reading is what a reader said of one plate, in the reader's own words.
type Reading struct {
	// Plate is the text as the reader sent it. One of the vendor's words for an
	// unread plate makes a no-read.
	Plate string
	// NoPlate: the reader says that there is none, whatever the text is.
	NoPlate bool
	// Lossy: bytes of it could not be read as text.
	Lossy        bool
	Alternatives []Alternative
	// Confidence, Country and Direction are raw.
	Confidence, Country, Direction              string
	PlateType, PlateColor, VehicleList, Trigger string
	Vehicle                                     *event.PlateVehicle
	// Reader is the device; the vendor is filled in.
	Reader event.PlateReader
	// MessageKey is what the vendor tells messages apart by, see plate.MessageKey;
	// empty if nothing.
	MessageKey string
	// VendorEventID is the device's id of the message, if it does not hold the plate.
	VendorEventID string
	// Group is what several revisions of one read have in common; empty for a read
	// of one message. GroupFor is how long after the last one another may come; zero is
	// an hour.
	Group    string
	GroupFor time.Duration
	// Revision is one of the event.Revision words; empty is RevisionSingle.
	Revision string
	// Replayed: the device had kept the message.
	Replayed bool
	// DeviceTime is when the plate was read by the device's clock, zero if it tells
	// no usable time, and TimeSource where that comes from.
	DeviceTime time.Time
	TimeSource string
	Pictures   []Picture
	// Raw is what the device sent, without pictures.
	Raw []byte
	// Received is when it arrived; zero is now.
	Received time.Time
}

// Alternative is another reading of the same plate.
type Alternative struct{ Plate, Confidence string }

// Picture is one picture of a read.
type Picture struct {
	// Name must not tell the plate.
	Name, MediaType string
	Content         []byte
}

// Recorder makes events of readings. It remembers what came before, so it lives
// as long as its device. It is safe for concurrent use; events are made one after
// the other.
type Recorder struct {
	vendor      plate.Vendor
	conventions plate.Conventions
	mounting    plate.Mounting
	zone        *time.Location
	codePage    string
	pictures    bool

	mu     sync.Mutex
	seen   *plate.Seen // by the keys of remember
	groups map[string]group
	// recalled: what was in the ledger is in seen. salt keeps plates out of the ledger,
	// remembered counts what was put there.
	recalled   bool
	salt       string
	remembered int
}

// group is one read that can still be revised.
type group struct {
	id string
	at time.Time
}

// NewRecorder makes a recorder for settings that Check has passed.
func NewRecorder(v plate.Vendor, s Settings) *Recorder {
	r := &Recorder{
		vendor: v, conventions: plate.Of(v), mounting: plate.Mounting{}, pictures: s.Pictures == nil || *s.Pictures, codePage: s.CodePage,
		seen: plate.NewSeen(rememberedMessages, rememberedFor), groups: map[string]group{},
	}
	r.zone, _ = s.location() // Check has passed
	r.conventions.NoRead = append(slices.Clone(r.conventions.NoRead), s.Unread...)
	if s.ConfidenceScale != "" {
		r.conventions.Scale = plate.Scale(s.ConfidenceScale)
	}
	r.conventions.Unverified = r.conventions.Unverified || s.BelieveCountryIndex
	if len(s.Directions) > 0 {
		known := maps.Clone(r.conventions.Directions)
		if known == nil {
			known = map[string]plate.Direction{}
		}
		for from, to := range s.Directions {
			maps.DeleteFunc(known, func(word string, _ plate.Direction) bool { return strings.EqualFold(word, from) })
			known[from] = plate.Direction(to)
		}
		r.conventions.Directions = known
	}
	if len(s.CountryForms) > 0 {
		r.conventions.Countries = nil
		for _, form := range s.CountryForms {
			r.conventions.Countries = append(r.conventions.Countries, plate.CountryForm(form))
		}
	}
	for from, to := range s.LaneDirection {
		r.mounting[plate.Direction(from)] = plate.LaneDirection(to)
	}
	return r
}

// Text gives what a reader sent as UTF-8, by the code page of the settings where it is
// none. Not all firmware writes the UTF-8 that it announces.
func (r *Recorder) Text(sent []byte) []byte {
	text, _ := r.Decode(sent)
	return []byte(text)
}

// Decode is Text, and says whether some of it could not be read.
func (r *Recorder) Decode(sent []byte) (text string, lossy bool) {
	text, lossy, err := plate.Decode(sent, r.codePage)
	if err != nil {
		return string(sent), true // Check has passed the code page
	}
	return text, lossy
}

// Location is the zone of the reader's clock by the settings.
func (r *Recorder) Location() *time.Location { return r.zone }

// Conventions are how the reader writes, by its vendor and the settings.
func (r *Recorder) Conventions() plate.Conventions { return r.conventions }

// Known reports whether a message with this key is on disk, so that its pictures
// need not be waited for.
func (r *Recorder) Known(h drivers.Host, messageKey string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recall(h)
	return r.seen.Has(r.key(messageKey), h.Now())
}

// recall takes up what the ledger knows, once.
func (r *Recorder) recall(h drivers.Host) {
	if r.recalled {
		return
	}
	r.recalled = true
	l := h.Ledger()
	if l == nil {
		return
	}
	if r.salt = l.Get("salt"); r.salt == "" {
		salt := rand.Text()
		if err := l.Put("salt", salt); err != nil {
			h.Log().Warn("what is recorded is not remembered over a restart", "error", err)
			return
		}
		r.salt = salt
	}
	type entry struct {
		key string
		at  time.Time
		n   int
	}
	var list []entry
	l.Each("seen:", func(_, v string) bool {
		var e entry
		var unix int64
		if got, err := fmt.Sscanf(v, "%d %d %s", &e.n, &unix, &e.key); got != 3 || err != nil || e.n < 0 {
			return true
		}
		e.at = time.Unix(unix, 0)
		list = append(list, e)
		return true
	})
	order.By(list, func(a, b entry) int { return cmp.Compare(a.n, b.n) })
	for _, e := range list {
		r.seen.Add(e.key, e.at)
		r.remembered = e.n + 1
	}
}

// key is what a message is remembered by. It does not tell the plate in it to who reads
// the ledger.
func (r *Recorder) key(messageKey string) string {
	if messageKey == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(r.salt + "|" + messageKey))
	return hex.EncodeToString(sum[:16])
}

// remember notes a message that is on disk.
func (r *Recorder) remember(h drivers.Host, messageKey string, now time.Time) {
	key := r.key(messageKey)
	if key == "" {
		return
	}
	r.seen.Add(key, now)
	if l := h.Ledger(); l != nil && r.salt != "" {
		if err := l.Put(fmt.Sprintf("seen:%d", r.remembered%rememberedOnDisk), fmt.Sprintf("%d %d %s", r.remembered, now.Unix(), key)); err != nil {
			h.Log().Warn("what is recorded is not remembered over a restart", "error", err)
			return
		}
		r.remembered++
	}
}

// Record makes an event of a reading. When it returns nil the event is on disk, or
// an earlier one of the same message is.
func (r *Recorder) Record(h drivers.Host, x Reading) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := h.Now()
	if x.Received.IsZero() {
		x.Received = now
	}
	r.recall(h)
	if r.seen.Has(r.key(x.MessageKey), now) {
		return nil
	}
	if g, ok := r.groups[x.Group]; x.Revision == event.RevisionUpdate && (!ok || now.Sub(g.at) >= cmp.Or(x.GroupFor, groupFor)) {
		x.Revision = event.RevisionNew // of nothing that is known
	}
	id, err := r.readID(x, now)
	if err != nil {
		return err
	}
	var random [event.MinSalt]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("make a salt: %w", err)
	}
	capture := r.capture(&x)
	direction := r.conventions.Direction(x.Direction)
	attachments, contents := r.attach(h, x.Pictures)
	o := drivers.Observation{Time: x.Received, DeviceTime: x.DeviceTime, Subject: id, Attachments: contents}
	if !x.DeviceTime.IsZero() {
		o.Time = x.DeviceTime
	}
	text := plate.Normalise(x.Plate)
	reason := r.conventions.NoReadReason(x.Plate)
	if x.NoPlate {
		reason = plate.Marked
	}
	if reason != "" {
		o.Data = event.PlateNoRead{
			ReadID: id, Reason: reason, Capture: capture,
			Direction: string(direction), DirectionRaw: word(x.Direction), LaneDirection: string(r.mounting.Of(direction)),
			Vehicle: x.Vehicle, Attachments: attachments,
			Private: &event.NoReadPrivate{Salt: event.Salt(random), PlateRaw: text.Raw, Raw: event.RawOf(x.Raw)},
		}
	} else {
		confidence, country := r.conventions.Confidence(x.Confidence), r.conventions.Country(x.Country)
		if confidence.Raw == "" {
			confidence.Scale = "" // nothing was counted
		}
		private := &event.PlatePrivate{
			Salt: event.Salt(random), Plate: text.Plate, MatchKey: text.MatchKey, PlateRaw: text.Raw,
			Lossy: x.Lossy || text.Truncated || strings.ContainsRune(x.Plate, utf8.RuneError), Alternatives: []event.PlateAlternative{}, Raw: event.RawOf(x.Raw),
		}
		for _, a := range x.Alternatives[:min(len(x.Alternatives), maxAlternatives)] {
			private.Alternatives = append(private.Alternatives, event.PlateAlternative{
				Plate: plate.Normalise(a.Plate).Plate, Confidence: r.conventions.Confidence(a.Confidence).Value,
			})
		}
		o.Data = event.PlateRead{
			ReadID: id, Capture: capture,
			Direction: string(direction), DirectionRaw: word(x.Direction), LaneDirection: string(r.mounting.Of(direction)),
			Confidence: event.PlateConfidence{Value: confidence.Value, Raw: confidence.Raw, Scale: string(confidence.Scale)},
			Country:    event.PlateCountry{Code: country.Code, Raw: country.Raw},
			PlateType:  word(x.PlateType), PlateColor: word(x.PlateColor), Vehicle: x.Vehicle, VehicleList: word(x.VehicleList),
			Attachments: attachments, Private: private,
		}
	}
	if err := h.Emit(o); err != nil {
		return err
	}
	r.remember(h, x.MessageKey, now)
	return nil
}

// readID is the id of a read: a new one, or that of the revisions before.
func (r *Recorder) readID(x Reading, now time.Time) (string, error) {
	if g, ok := r.groups[x.Group]; ok && now.Sub(g.at) < cmp.Or(x.GroupFor, groupFor) && x.Revision != event.RevisionNew {
		if x.Revision == event.RevisionLost {
			delete(r.groups, x.Group)
		} else {
			r.groups[x.Group] = group{g.id, now}
		}
		return g.id, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make the id of a read: %w", err)
	}
	if x.Group != "" && x.Revision != event.RevisionLost {
		if len(r.groups) >= rememberedGroups {
			oldest := ""
			for k, g := range r.groups {
				if oldest == "" || g.at.Before(r.groups[oldest].at) {
					oldest = k
				}
			}
			delete(r.groups, oldest)
		}
		r.groups[x.Group] = group{id.String(), now}
	}
	return id.String(), nil
}

// capture tells when and by what it was read, and makes the times agree.
func (r *Recorder) capture(x *Reading) event.PlateCapture {
	c := event.PlateCapture{
		Revision: x.Revision, VendorEventID: word(x.VendorEventID), Replayed: x.Replayed,
		ReceivedTS: event.At(x.Received), TimeSource: x.TimeSource, Trigger: word(x.Trigger), Reader: x.Reader,
	}
	if c.Revision == "" {
		c.Revision = event.RevisionSingle
	}
	if x.DeviceTime.IsZero() || c.TimeSource == "" {
		x.DeviceTime, c.TimeSource = time.Time{}, event.TimeFromArrival
	} else if !x.Replayed && c.Revision != event.RevisionLost {
		// What was on its way for a while tells nothing of the clock.
		offset := x.DeviceTime.Sub(x.Received).Round(time.Millisecond).Seconds()
		c.ClockOffsetS = &offset
	}
	rd := &c.Reader
	rd.Vendor = string(r.vendor)
	for _, s := range []*string{&rd.Model, &rd.Serial, &rd.Firmware, &rd.Camera, &rd.Lane} {
		*s = word(*s)
	}
	return c
}

// attach makes attachments of pictures. A picture that can't go is left out, and
// said so; the plate never waits for it.
func (r *Recorder) attach(h drivers.Host, pictures []Picture) ([]event.Attachment, []drivers.Attachment) {
	list, contents := []event.Attachment{}, []drivers.Attachment(nil)
	if !r.pictures {
		return list, nil
	}
	for i, p := range pictures {
		switch {
		case len(p.Content) == 0:
			continue
		case i >= maxPictures:
			h.Unparsed(fmt.Sprintf("a read with %d pictures; the first %d are kept", len(pictures), maxPictures), nil)
			return list, contents
		case len(p.Content) > maxPicture:
			h.Unparsed(fmt.Sprintf("a picture of %d bytes; at most %d are kept", len(p.Content), maxPicture), nil)
			continue
		}
		a := event.NewAttachment(p.Content, p.MediaType, word(p.Name))
		if slices.ContainsFunc(list, func(o event.Attachment) bool { return o.SHA256 == a.SHA256 }) {
			continue
		}
		list = append(list, a)
		contents = append(contents, drivers.Attachment{Attachment: a, Content: p.Content})
	}
	return list, contents
}

// word bounds what a device says in its own words, and makes it text.
func word(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= maxWord {
		return s
	}
	return strings.ToValidUTF8(s[:maxWord], "")
}
