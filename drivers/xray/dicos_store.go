package xray

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/dicos"
	"github.com/lanepost/lanepost/protocol/dimse"
	"github.com/lanepost/lanepost/protocol/event"
)

// keep puts an object to its scan and tells that. It is called for one object at a time.
func (n *network) keep(h drivers.Host, x stored) error {
	if now := h.Now(); now.Sub(n.forgot) > 24*time.Hour {
		n.forgot = now
		if err := forgetDICOS(h.Ledger(), now.Add(-dicosRemembered)); err != nil {
			return err
		}
	}
	o, err := dicos.Decode(x.content)
	// What the scanner sent without its end would come so again, and it may be an alarm.
	cutOff := errors.Is(err, dicos.ErrTruncated) && o != nil && (dicosKey(o) != "" || o.Report != nil)
	if err != nil && !cutOff {
		return fmt.Errorf("%w: %w", errObject, err)
	}
	o.SOPInstance = cmp.Or(o.SOPInstance, x.instance)
	a := event.NewAttachment(x.content, mediaDICOM, fileName(o.SOPInstance))
	file := event.XrayFile{Name: a.Name, Role: "image", State: "here", SHA256: a.SHA256}
	if o.SOPClass == dicos.ClassTDR || o.Modality == "TDR" {
		file.Role = "threat_report"
	}
	part := newDICOSPart(o, file, a.Size, o.Whole() && !cutOff)
	if !part.Whole {
		part.File.State = "incomplete"
	}
	scan := loadDICOS(h.Ledger(), cmp.Or(part.Key, part.Head.SOPInstance))
	scan.takeBack(h.Ledger())
	// If it is not kept, the scanner keeps it, and the scan's event says that it has not all.
	_, left := scan.add(part)
	if errors.Is(left, errDICOSEntry) {
		return fmt.Errorf("%w: %w", errObject, left)
	}
	var list []drivers.Attachment
	if n.settings.Pictures == nil || *n.settings.Pictures {
		if o.Image.Pixels && len(x.content) <= previewSize {
			if small := dicosThumbnail(x.content); small != nil {
				// It is sent before the large one.
				list = append(list, drivers.Attachment{Attachment: event.NewAttachment(small, "image/jpeg", "thumbnail.jpg"), Content: small})
			}
		}
		list = append(list, drivers.Attachment{Attachment: a, Content: x.content})
	}
	return errors.Join(scan.tell(h, n.rules, false, list), left)
}

// fileName makes a name for a file of a UID, whatever is in that.
func fileName(uid string) string {
	return word(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, uid)) + ".dcm"
}

// takeBack takes out what was not told: the agent stopped between the ledger and the event,
// and the scanner, which got no answer, sends it again. Otherwise the next event would have
// that object without its content.
func (s *dicosScan) takeBack(l drivers.Ledger) {
	var before told
	if text := l.Get("scan:" + s.key); text != "" && json.Unmarshal([]byte(text), &before) != nil {
		return
	}
	all := s.parts
	for n := len(all); n >= 0; n-- {
		if s.parts = all[:n:n]; n == 0 && before.SHA256 == "" || n > 0 && s.digest() == before.SHA256 {
			return
		}
	}
	s.parts = all // what was told is forgotten in part; nothing is known better
}

// partTen makes a file of an object, as DICOM's part 10 has it: a preamble, and a group
// 0002 that is always in explicit VR little endian.
func partTen(o dimse.Object) []byte {
	var group []byte
	element := func(n uint16, vr string, value []byte, pad byte) {
		if len(value)%2 == 1 {
			value = append(value, pad)
		}
		group = binary.LittleEndian.AppendUint16(group, 2)
		group = binary.LittleEndian.AppendUint16(group, n)
		group = append(group, vr...)
		if vr == "OB" {
			group = binary.LittleEndian.AppendUint32(append(group, 0, 0), uint32(len(value)))
		} else {
			group = binary.LittleEndian.AppendUint16(group, uint16(len(value)))
		}
		group = append(group, value...)
	}
	element(0x0001, "OB", []byte{0, 1}, 0)
	element(0x0002, "UI", []byte(o.Class), 0)
	element(0x0003, "UI", []byte(o.Instance), 0)
	element(0x0010, "UI", []byte(o.Transfer), 0)
	element(0x0012, "UI", []byte(implementationClass), 0)
	element(0x0013, "SH", []byte(implementationRelease), ' ')
	b := make([]byte, 128, 128+4+12+len(group)+len(o.DataSet))
	b = append(b, "DICM"...)
	b = append(b, 2, 0, 0, 0, 'U', 'L', 4, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(group)))
	b = append(b, group...)
	return append(b, o.DataSet...)
}
