package xray

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/document"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// Bounds of the pictures in a message.
const (
	// maxPictureFields bounds the places, maxMessagePictures the pictures.
	maxPictureFields   = 32
	maxMessagePictures = 64
)

// MessagePicture is a place where pictures stand in a message.
type MessagePicture struct {
	// Place is as in sidecar.Dialect.
	Place string `yaml:"place"`
	// Role is one of sidecar.RoleNames.
	Role string `yaml:"role"`
	// Name is what the picture is called, without what says its form; the last step of the
	// place if it is empty.
	Name string `yaml:"name"`
}

var pictureName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

func checkPictures(list []MessagePicture, most int) error {
	if len(list) > maxPictureFields {
		return fmt.Errorf("pictures: more than %d places", maxPictureFields)
	}
	if most < 1 || most > maxFileSize {
		return fmt.Errorf("max_picture: %d; take 1 to %d bytes", most, maxFileSize)
	}
	names := map[string]bool{}
	for i := range list {
		p := &list[i]
		if err := sidecar.CheckPlace(p.Place); err != nil {
			return fmt.Errorf("pictures: %w", err)
		}
		if p.Name == "" {
			p.Name = p.Place[strings.LastIndexAny(p.Place, "/@=")+1:]
		}
		switch {
		case !pictureName.MatchString(p.Name):
			return fmt.Errorf("pictures: the name %q is none for a file; take letters, digits, _ and -, 64 at most", p.Name)
		case names[p.Name]:
			return fmt.Errorf("pictures: the name %s is there twice; give each its own", p.Name)
		case !slices.Contains(sidecar.RoleNames(), p.Role):
			return fmt.Errorf("pictures: the role of %s is %q; take one of %s", p.Name, p.Role, strings.Join(sidecar.RoleNames(), ", "))
		}
		names[p.Name] = true
	}
	return nil
}

// extensions are what names of pictures end with.
var extensions = map[string]string{jpegType: ".jpg", pngType: ".png", "image/gif": ".gif", "image/bmp": ".bmp", "image/webp": ".webp"}

// errTooLarge is of a picture that is not taken.
var errTooLarge = errors.New("too large")

// decodePicture gives what stands at the place of a picture; nil for what is no base64.
func decodePicture(text string, most int) ([]byte, error) {
	const perByte = 4.0 / 3
	if float64(len(text)) > 2*perByte*float64(most) { // line ends and blanks take room too
		return nil, errTooLarge
	}
	b := document.Base64(text)
	if len(b) > most {
		return nil, errTooLarge
	}
	return b, nil
}

// attach makes attachments of the pictures in a message, and the small picture, and says in
// the event what is missing of them.
func (m *messenger) attach(e *event.XrayScan, n *document.Node) []drivers.Attachment {
	var list []drivers.Attachment
	var best []byte
	bestRole := ""
	for _, p := range m.settings.Pictures {
		for k, text := range sidecar.TextsAt(n, p.Place) {
			f := event.XrayFile{Name: suffixed(p.Name, k), Role: p.Role, State: "here"}
			if len(e.Files) == maxMessagePictures {
				e.Missing = append(e.Missing, f.Name)
				break
			}
			content, err := decodePicture(text, m.settings.MaxPicture)
			switch {
			case err != nil:
				f.State = "too_large"
			case content == nil: // there is a place for it, and no picture
				f.State = "missing"
				e.Missing = append(e.Missing, f.Name)
			default:
				kind := mediaType(f.Name, content[:min(len(content), 512)])
				f.Name += extensions[kind]
				if end := pictureEnds[kind]; end != nil && !bytes.Contains(content[max(0, len(content)-endSlack):], end) {
					f.State = "incomplete"
					e.Missing = append(e.Missing, f.Name)
				}
				a := event.NewAttachment(content, kind, f.Name)
				f.SHA256 = a.SHA256
				e.Attachments = append(e.Attachments, a)
				list = append(list, drivers.Attachment{Attachment: a, Content: content})
				if f.State == "here" && len(content) <= previewSize && http.DetectContentType(content) == kind &&
					(p.Role == "preview" && bestRole != "preview" || p.Role == "image" && bestRole == "") {
					best, bestRole = content, p.Role
				}
			}
			e.Files = append(e.Files, f)
		}
	}
	e.Completeness = "complete"
	if len(e.Missing) > 0 {
		e.Completeness = "partial"
	}
	if small := thumbnail(best); small != nil {
		a := event.NewAttachment(small, jpegType, "thumbnail.jpg")
		// It is sent before the large ones.
		e.Attachments = append([]event.Attachment{a}, e.Attachments...)
		list = append([]drivers.Attachment{{Attachment: a, Content: small}}, list...)
	}
	return list
}
