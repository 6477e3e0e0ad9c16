// Package onvif reads and writes the messages by which ONVIF cameras tell plates:
// the requests and answers of a pull point with its login, its notifications, and
// the JSON that cameras of Profile M publish over MQTT.
//
// XML is read by local names, and without a DTD. Vendors have topics of their own
// beside ONVIF's; the names of what they tell there are settings where they are
// not documented.
package onvif

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Operation is what is asked of a camera.
type Operation string

// The operations.
const (
	GetSystemDateAndTime        Operation = "GetSystemDateAndTime"
	CreatePullPointSubscription Operation = "CreatePullPointSubscription"
	PullMessages                Operation = "PullMessages"
	Renew                       Operation = "Renew"
	Unsubscribe                 Operation = "Unsubscribe"
)

// namespaces of the operations, and their actions by WS-Addressing.
var operations = map[Operation]struct{ namespace, action string }{
	GetSystemDateAndTime:        {"http://www.onvif.org/ver10/device/wsdl", "http://www.onvif.org/ver10/device/wsdl/GetSystemDateAndTime"},
	CreatePullPointSubscription: {"http://www.onvif.org/ver10/events/wsdl", "http://www.onvif.org/ver10/events/wsdl/EventPortType/CreatePullPointSubscriptionRequest"},
	PullMessages:                {"http://www.onvif.org/ver10/events/wsdl", "http://www.onvif.org/ver10/events/wsdl/PullPointSubscription/PullMessagesRequest"},
	Renew:                       {"http://docs.oasis-open.org/wsn/b-2", "http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager/RenewRequest"},
	Unsubscribe:                 {"http://docs.oasis-open.org/wsn/b-2", "http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager/UnsubscribeRequest"},
}

// ContentType is that of the messages.
const ContentType = "application/soap+xml; charset=utf-8"

const envelope = `<?xml version="1.0" encoding="UTF-8"?>` +
	`<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing"` +
	` xmlns:n="http://docs.oasis-open.org/wsn/b-2" xmlns:v="http://www.onvif.org/ver10/events/wsdl"` +
	` xmlns:d="http://www.onvif.org/ver10/device/wsdl" xmlns:tt="http://www.onvif.org/ver10/schema"` +
	` xmlns:tns1="http://www.onvif.org/ver10/topics">`

const (
	wsse         = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	wsu          = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
	passwordType = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordDigest"
	base64Type   = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"
)

// Login is a WS-UsernameToken with a digest.
type Login struct {
	Username string
	// Digest is base64(SHA-1(nonce, created, password)).
	Digest string
	Nonce  []byte
	// Created is when it was made, by the camera's clock: a camera refuses one that
	// is an hour off.
	Created string
}

// NewLogin makes a login from a nonce that was never used before, and the time by
// the camera's clock.
func NewLogin(username, password string, nonce []byte, created time.Time) *Login {
	l := &Login{Username: username, Nonce: nonce, Created: created.UTC().Format("2006-01-02T15:04:05.000Z")}
	l.Digest = l.digest(password)
	return l
}

func (l *Login) digest(password string) string {
	sum := sha1.Sum(slices.Concat(l.Nonce, []byte(l.Created), []byte(password)))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Matches reports whether the login was made with the password.
func (l *Login) Matches(password string) bool {
	return subtle.ConstantTimeCompare([]byte(l.digest(password)), []byte(l.Digest)) == 1
}

// Request is what is asked of a camera.
type Request struct {
	Operation Operation
	// Login is nil for none.
	Login *Login
	// To is the address of the subscription, for PullMessages, Renew and
	// Unsubscribe; MessageID tells requests apart. Both may be empty.
	To, MessageID string
	// Reference is what the camera wants to hear with them, see Response.
	Reference []Reference
	// Termination is for how long a subscription is made or renewed.
	Termination time.Duration
	// Timeout is how long the camera may wait for messages, and Limit how many it
	// may send.
	Timeout time.Duration
	Limit   int
}

// Encode writes a request.
func (r Request) Encode() ([]byte, error) {
	o, ok := operations[r.Operation]
	if !ok {
		return nil, fmt.Errorf("there is no operation %q", string(r.Operation))
	}
	var b strings.Builder
	b.WriteString(envelope + "<s:Header>")
	fmt.Fprintf(&b, `<a:Action s:mustUnderstand="1">%s</a:Action>`, o.action)
	if r.MessageID != "" {
		fmt.Fprintf(&b, "<a:MessageID>%s</a:MessageID>", escaped(r.MessageID))
	}
	if r.To != "" {
		fmt.Fprintf(&b, `<a:To s:mustUnderstand="1">%s</a:To>`, escaped(r.To))
	}
	for _, p := range r.Reference {
		fmt.Fprintf(&b, `<r:%s xmlns:r="%s" a:IsReferenceParameter="true">%s</r:%s>`, p.Name, escaped(p.Space), escaped(p.Text), p.Name)
	}
	if l := r.Login; l != nil {
		fmt.Fprintf(&b, `<w:Security s:mustUnderstand="1" xmlns:w="%s" xmlns:u="%s"><w:UsernameToken><w:Username>%s</w:Username>`+
			`<w:Password Type="%s">%s</w:Password><w:Nonce EncodingType="%s">%s</w:Nonce><u:Created>%s</u:Created></w:UsernameToken></w:Security>`,
			wsse, wsu, escaped(l.Username), passwordType, escaped(l.Digest), base64Type, base64.StdEncoding.EncodeToString(l.Nonce), escaped(l.Created))
	}
	b.WriteString("</s:Header><s:Body>")
	fmt.Fprintf(&b, `<%s xmlns="%s">`, r.Operation, o.namespace)
	switch r.Operation {
	case CreatePullPointSubscription:
		fmt.Fprintf(&b, "<InitialTerminationTime>%s</InitialTerminationTime>", duration(r.Termination))
	case Renew:
		fmt.Fprintf(&b, "<TerminationTime>%s</TerminationTime>", duration(r.Termination))
	case PullMessages:
		fmt.Fprintf(&b, "<Timeout>%s</Timeout><MessageLimit>%d</MessageLimit>", duration(r.Timeout), r.Limit)
	}
	fmt.Fprintf(&b, "</%s></s:Body></s:Envelope>", r.Operation)
	return []byte(b.String()), nil
}

// DecodeRequest reads a request.
func DecodeRequest(b []byte) (Request, error) {
	root, err := parseXML(b)
	if err != nil {
		return Request{}, err
	}
	body := root.at("Body")
	if body == nil || len(body.children) == 0 {
		return Request{}, errors.New("the request has no body")
	}
	x := body.children[0]
	r := Request{Operation: Operation(x.name), To: root.value("Header", "To"), MessageID: root.value("Header", "MessageID")}
	if h := root.at("Header"); h != nil {
		for _, c := range h.children {
			if c.attr("IsReferenceParameter") == "true" && len(r.Reference) < maxReference {
				r.Reference = append(r.Reference, Reference{c.space, c.name, strings.TrimSpace(c.text)})
			}
		}
	}
	if _, ok := operations[r.Operation]; !ok {
		return Request{}, errors.New("the request is for no operation that is known")
	}
	if t := root.at("Header", "Security", "UsernameToken"); t != nil {
		nonce, err := base64.StdEncoding.DecodeString(t.value("Nonce"))
		if err != nil {
			return Request{}, errors.New("the nonce is not in base64")
		}
		r.Login = &Login{Username: t.value("Username"), Digest: t.value("Password"), Nonce: nonce, Created: t.value("Created")}
	}
	for _, d := range []struct {
		name string
		into *time.Duration
	}{{"InitialTerminationTime", &r.Termination}, {"TerminationTime", &r.Termination}, {"Timeout", &r.Timeout}} {
		if text := x.value(d.name); text != "" {
			if *d.into, err = parseDuration(text); err != nil {
				return Request{}, fmt.Errorf("%s: %w", d.name, err)
			}
		}
	}
	if text := x.value("MessageLimit"); text != "" {
		if r.Limit, err = strconv.Atoi(text); err != nil {
			return Request{}, errors.New("MessageLimit: it is no number")
		}
	}
	return r, nil
}

// Response is a camera's answer.
type Response struct {
	Operation Operation
	// Subscription is the address of the new pull point. Only its path and query
	// are of use: it may name an address that leads elsewhere.
	Subscription string
	// Reference is what stands with the address and has to be said with each request to
	// it: WS-Addressing wants that, and Axis cameras insist.
	Reference []Reference
	// Current is the camera's time with the answer, and Termination when the
	// subscription ends by it; zero if it does not tell. CurrentZoned is false for a time
	// without a zone.
	Current, Termination time.Time
	CurrentZoned         bool
	// System is the camera's clock, for GetSystemDateAndTime.
	System time.Time
	// Notifications are what happened, for PullMessages.
	Notifications []Notification
}

// Reference is one parameter of a subscription's reference.
type Reference struct{ Space, Name, Text string }

// maxReference bounds the parameters of a reference.
const maxReference = 16

// Encode writes an answer.
func (r Response) Encode() ([]byte, error) {
	o, ok := operations[r.Operation]
	if !ok {
		return nil, fmt.Errorf("there is no operation %q", string(r.Operation))
	}
	var b strings.Builder
	fmt.Fprintf(&b, envelope+`<s:Header><a:Action>%s</a:Action></s:Header><s:Body>`, strings.TrimSuffix(o.action, "Request")+"Response")
	prefix := map[string]string{operations[GetSystemDateAndTime].namespace: "d", operations[PullMessages].namespace: "v", operations[Renew].namespace: "n"}[o.namespace]
	fmt.Fprintf(&b, "<%s:%sResponse>", prefix, r.Operation)
	switch r.Operation {
	case GetSystemDateAndTime:
		t := r.System.UTC()
		fmt.Fprintf(&b, "<d:SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType><tt:UTCDateTime>"+
			"<tt:Time><tt:Hour>%d</tt:Hour><tt:Minute>%d</tt:Minute><tt:Second>%d</tt:Second></tt:Time>"+
			"<tt:Date><tt:Year>%d</tt:Year><tt:Month>%d</tt:Month><tt:Day>%d</tt:Day></tt:Date></tt:UTCDateTime></d:SystemDateAndTime>",
			t.Hour(), t.Minute(), t.Second(), t.Year(), int(t.Month()), t.Day())
	case CreatePullPointSubscription:
		fmt.Fprintf(&b, "<v:SubscriptionReference><a:Address>%s</a:Address>", escaped(r.Subscription))
		if len(r.Reference) > 0 {
			b.WriteString("<a:ReferenceParameters>")
			for _, p := range r.Reference {
				fmt.Fprintf(&b, `<r:%s xmlns:r="%s">%s</r:%s>`, p.Name, escaped(p.Space), escaped(p.Text), p.Name)
			}
			b.WriteString("</a:ReferenceParameters>")
		}
		b.WriteString("</v:SubscriptionReference>")
		fmt.Fprintf(&b, "<n:CurrentTime>%s</n:CurrentTime><n:TerminationTime>%s</n:TerminationTime>", stamp(r.Current), stamp(r.Termination))
	case Renew:
		fmt.Fprintf(&b, "<n:TerminationTime>%s</n:TerminationTime><n:CurrentTime>%s</n:CurrentTime>", stamp(r.Termination), stamp(r.Current))
	case PullMessages:
		fmt.Fprintf(&b, "<v:CurrentTime>%s</v:CurrentTime><v:TerminationTime>%s</v:TerminationTime>", stamp(r.Current), stamp(r.Termination))
		for _, n := range r.Notifications {
			n.write(&b)
		}
	}
	fmt.Fprintf(&b, "</%s:%sResponse></s:Body></s:Envelope>", prefix, r.Operation)
	return []byte(b.String()), nil
}

// DecodeResponse reads an answer to an operation. A fault is a *Fault.
func DecodeResponse(b []byte, o Operation) (Response, error) {
	root, err := parseXML(b)
	if err != nil {
		return Response{}, err
	}
	body := root.at("Body")
	if f := body.at("Fault"); f != nil {
		return Response{}, decodeFault(f)
	}
	x := body.at(string(o) + "Response")
	if x == nil {
		return Response{}, fmt.Errorf("the answer is none to %s", o)
	}
	r := Response{Operation: o, Subscription: x.value("SubscriptionReference", "Address")}
	if p := x.at("SubscriptionReference", "ReferenceParameters"); p != nil {
		for _, c := range p.children[:min(len(p.children), maxReference)] {
			r.Reference = append(r.Reference, Reference{c.space, c.name, strings.TrimSpace(c.text)})
		}
	}
	r.Current, r.CurrentZoned, _ = ParseTime(x.value("CurrentTime")) // zero if it doesn't tell
	r.Termination, _, _ = ParseTime(x.value("TerminationTime"))
	if o == GetSystemDateAndTime {
		utc := x.at("SystemDateAndTime", "UTCDateTime")
		var n [6]int
		for i, path := range [6][2]string{{"Date", "Year"}, {"Date", "Month"}, {"Date", "Day"}, {"Time", "Hour"}, {"Time", "Minute"}, {"Time", "Second"}} {
			if n[i], err = strconv.Atoi(utc.value(path[:]...)); err != nil {
				return r, errors.New("the camera does not tell its time in UTC")
			}
		}
		r.System = time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC)
	}
	if o == CreatePullPointSubscription && r.Subscription == "" {
		return r, errors.New("the answer names no subscription")
	}
	messages := x.all("NotificationMessage")
	if len(messages) > MaxNotifications {
		return r, fmt.Errorf("the answer has %d notifications: want %d at most", len(messages), MaxNotifications)
	}
	for _, m := range messages {
		n := decodeNotification(m)
		n.Raw = b[m.from:m.to:m.to]
		r.Notifications = append(r.Notifications, n)
	}
	return r, nil
}

// Fault is a camera's answer that it did not do as it was asked.
type Fault struct {
	// Code and Subcodes are without their prefixes: Sender; NotAuthorized.
	Code     string
	Subcodes []string
	Reason   string
}

func (f *Fault) Error() string {
	return fmt.Sprintf("the camera refuses: %s %s: %q", f.Code, strings.Join(f.Subcodes, " "), f.Reason)
}

// NotAuthorized reports whether the login was refused. A clock that is off makes
// cameras say so, too.
func (f *Fault) NotAuthorized() bool {
	return slices.ContainsFunc(append([]string{f.Code}, f.Subcodes...), func(s string) bool {
		return slices.Contains([]string{"NotAuthorized", "FailedAuthentication", "FailedCheck", "InvalidSecurity", "MessageExpired"}, s)
	})
}

// Encode writes a fault.
func (f *Fault) Encode() []byte {
	var b strings.Builder
	b.WriteString(envelope + `<s:Body><s:Fault><s:Code><s:Value>s:` + escaped(f.Code) + "</s:Value>")
	for _, s := range f.Subcodes {
		fmt.Fprintf(&b, `<s:Subcode><s:Value xmlns:ter="http://www.onvif.org/ver10/error">ter:%s</s:Value>`, escaped(s))
	}
	b.WriteString(strings.Repeat("</s:Subcode>", len(f.Subcodes)))
	fmt.Fprintf(&b, `</s:Code><s:Reason><s:Text xml:lang="en">%s</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>`, escaped(f.Reason))
	return []byte(b.String())
}

func decodeFault(x *element) *Fault {
	f := &Fault{Code: shown(localName(x.value("Code", "Value"))), Reason: shown(x.value("Reason", "Text"))}
	if f.Code == "" { // SOAP 1.1
		f.Code, f.Reason = shown(localName(x.value("faultcode"))), shown(x.value("faultstring"))
	}
	for s := x.at("Code", "Subcode"); s != nil; s = s.child("Subcode") {
		f.Subcodes = append(f.Subcodes, shown(localName(s.value("Value"))))
	}
	return f
}

// shown bounds what an error repeats.
func shown(s string) string {
	if len(s) > 120 {
		return strings.ToValidUTF8(s[:120], "") + "..."
	}
	return s
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a builder takes everything
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// ParseTime reads a time. zoned is false if it names no zone; it is then given in
// UTC, for the caller to move.
func ParseTime(s string) (t time.Time, zoned, ok bool) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, true, true
	}
	t, err := time.Parse("2006-01-02T15:04:05", s)
	return t, false, err == nil
}

func duration(d time.Duration) string {
	return "PT" + strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S"
}

var (
	durationForm  = regexp.MustCompile(`^P(?:(\d{1,4})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,8}(?:\.\d{1,9})?)S)?)?$`)
	durationUnits = [...]time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second}
)

func parseDuration(s string) (time.Duration, error) {
	parts := durationForm.FindStringSubmatch(s)
	if parts == nil {
		return 0, errors.New("it is no duration in days, hours, minutes and seconds")
	}
	var d time.Duration
	for i, p := range parts[1:] {
		if p == "" {
			continue
		}
		n, err := strconv.ParseFloat(p, 64)
		if err != nil {
			return 0, errors.New("it is no duration")
		}
		d += time.Duration(n * float64(durationUnits[i]))
	}
	return d, nil
}

// Operations lists the operations.
func Operations() []Operation { return slices.Sorted(maps.Keys(operations)) }
