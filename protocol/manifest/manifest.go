// Package manifest reads and writes the manifest documents that a scanner which calls
// itself P60 writes beside its pictures. It does no I/O.
//
// Facts are from two real documents. Whose scanner it is, is guessed to be Rapiscan's.
package manifest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"github.com/lanepost/lanepost/protocol/sidecar"
)

// Parse reads a document. Its yes is -1, as Visual Basic has it; anything but 0 and
// nothing is taken for one.
func Parse(b []byte, codePage string) (*sidecar.Scan, error) {
	n, err := sidecar.Parse(b, codePage, "manifest")
	if err != nil {
		return nil, err
	}
	yes := func(name string) bool { v := n.Get(name); return v != "" && v != "0" && !strings.EqualFold(v, "false") }
	no := func(name string) bool { v := n.Get(name); return v != "" && !yes(name) } // what is not told is no answer
	s := &sidecar.Scan{
		ID: n.Get("accession"), System: n.Get("system"),
		Suspicious: yes("inspectionsuspicious") || yes("searchfound"), Inspected: yes("inspectdone"),
		Raw: fmt.Sprintf("inspectdone=%s inspectionsuspicious=%s searchdone=%s searchfound=%s",
			n.Get("inspectdone"), n.Get("inspectionsuspicious"), n.Get("searchdone"), n.Get("searchfound")),
	}
	s.Clear = s.Inspected && no("inspectionsuspicious") && !s.Suspicious && !(yes("searchdone") && !no("searchfound"))
	if s.ID == "" {
		return nil, errors.New("a manifest without an accession")
	}
	s.Start, s.Zoned, _ = sidecar.ParseTime(n.Get("createdate"), sidecar.XMLTimes()...)
	for _, a := range n.Child("attributes").All("attribute") {
		switch name := a.Attr("name"); {
		case a.Text == "":
		case name == "ANPR" && len(s.Plates) < sidecar.MaxPlates:
			s.Plates = append(s.Plates, sidecar.Plate{Text: a.Text})
		case name == "Container1" || name == "Container2":
			if len(s.Containers) < sidecar.MaxContainers {
				s.Containers = append(s.Containers, sidecar.Container{Position: int(name[len(name)-1] - '0'), Text: a.Text})
			}
		}
	}
	for _, f := range n.Child("files").All("file") {
		if f.Text == "" {
			continue
		}
		if len(s.Files) == sidecar.MaxFiles {
			return s, fmt.Errorf("more than %d files of one scan", sidecar.MaxFiles)
		}
		role := map[string]string{"XRAYJPEG": "preview", "XRAY": "image", "SNAPSHOT": "snapshot"}[f.Attr("type")]
		if role == "" {
			role = "other"
		}
		s.Files = append(s.Files, sidecar.File{Name: f.Text, Role: role})
	}
	return s, nil
}

// Append appends a document.
func Append(b []byte, s *sidecar.Scan) []byte {
	var w strings.Builder
	element := func(name, text string) {
		w.WriteString("<" + name + ">")
		_ = xml.EscapeText(&w, []byte(text)) // a builder takes everything
		w.WriteString("</" + strings.SplitN(name, " ", 2)[0] + ">\n")
	}
	bit := func(b bool) string {
		if b {
			return "-1"
		}
		return "0"
	}
	w.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<manifest>\n")
	element("accession", s.ID)
	element("system", s.System)
	element("createdate", s.Start.UTC().Format("2006-01-02T15:04:05Z"))
	element("exportdate", s.End.UTC().Format("2006-01-02T15:04:05Z"))
	element("xraydone", "-1")
	element("inspectdone", bit(s.Inspected))
	element("inspectionsuspicious", bit(s.Suspicious))
	element("searchdone", "0")
	element("searchfound", "0")
	w.WriteString("<attributes>\n")
	for i := range 2 {
		text := ""
		if i < len(s.Containers) {
			text = s.Containers[i].Text
		}
		element(fmt.Sprintf(`attribute name="Container%d"`, i+1), text)
	}
	plate := ""
	for _, p := range s.Plates {
		if !p.Trailer {
			plate = p.Text
		}
	}
	element(`attribute name="ANPR"`, plate)
	element(`attribute name="Comments"`, "")
	w.WriteString("</attributes>\n<files>\n")
	for _, f := range s.Files {
		typ := map[string]string{"preview": "XRAYJPEG", "image": "XRAY"}[f.Role]
		if typ == "" {
			typ = "SNAPSHOT"
		}
		element(`file type="`+typ+`"`, f.Name)
	}
	w.WriteString("</files>\n</manifest>\n")
	return append(b, w.String()...)
}
