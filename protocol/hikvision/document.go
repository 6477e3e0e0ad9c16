// Package hikvision reads and writes what cameras with Hikvision's ISAPI say of
// number plates: the alerts of the alert stream and of HTTP hosts, as XML and as
// JSON, and the list that the plates poll gives. It does no I/O.
//
// Facts are from the ISAPI guide, from captures and from programs that talk to
// real cameras; spellings that look wrong are those of the wire.
package hikvision

import "github.com/lanepost/lanepost/protocol/document"

// MaxDocument bounds a document in bytes.
const MaxDocument = 1 << 20

// parse reads the documents of a body. JSON of the firmware that sends it has the
// same names; some have the name of the document around it, some have not.
func parse(body []byte) ([]*document.Node, error) {
	documents, err := document.Parse(body, MaxDocument)
	for i, d := range documents {
		if d.Name != "" {
			continue // XML
		}
		if inner := d.Child("EventNotificationAlert", "Plates", "ResponseStatus", "DeviceInfo"); inner != nil && d.Get("eventType") == "" {
			documents[i] = inner
		} else {
			d.Name = "EventNotificationAlert"
		}
	}
	return documents, err
}
