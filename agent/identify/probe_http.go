package identify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/protocol/opcua"
)

// probeOPCUA says hello.
func (r *Recogniser) probeOPCUA(ctx context.Context, address string, _ Options) probed {
	var p probed
	dialer := net.Dialer{Timeout: httpTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		p.said = append(p.said, err.Error())
		return p
	}
	defer conn.Close() //nolint:errcheck // nothing waits to be sent
	if err := conn.SetDeadline(time.Now().Add(httpTimeout)); err != nil {
		return p
	}
	hello := opcua.EncodeHello(opcua.Limits{Receive: 1 << 16, Send: 1 << 16, MaxMessage: 1 << 20, MaxPart: 16}, "opc.tcp://"+address)
	if _, err := conn.Write(hello); err != nil {
		return p
	}
	answer := make([]byte, httpHead)
	n, _ := io.ReadAtLeast(conn, answer, 8) // what is too short is told by what follows
	var refused *opcua.FailureError
	switch _, err := opcua.DecodeAcknowledge(answer[:n]); {
	case err == nil:
		p.said = append(p.said, "an OPC UA server answers")
	case errors.As(err, &refused):
		p.said = append(p.said, "an OPC UA server answers, and wants to be called by another address; ask its integrator for its path")
	default:
		return p
	}
	p.found = true
	var profile *profiles.Profile
	if p.hearing, profile = r.answered("state-bus-opcua", Possible, 1); profile != nil {
		place := strings.TrimSuffix(address, ":4840")
		p.config = snippet(profile, "opcua://"+place, signals)
	}
	return p
}

// probeHTTP asks for the pages that profiles name, without a login, and never guesses one.
func (r *Recogniser) probeHTTP(ctx context.Context, address string, o Options) probed {
	var p probed
	scheme := "http"
	if port := portOf(address); port == 443 || port == 8443 {
		scheme = "https"
	}
	client := &http.Client{
		Timeout: httpTimeout,
		Transport: &http.Transport{
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: httpHeaders,
			// It is asked what it is: nothing secret is sent, and who it is is shown.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // as above
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	asked := map[string]string{}
	var fits []string
	for _, name := range r.set.Names() {
		profile, ok := r.set.Get(name)
		if !ok || profile.Identify.Ask.Path == "" || ctx.Err() != nil {
			continue
		}
		ask := profile.Identify.Ask
		head, known := asked[ask.Path]
		if !known {
			o.tell("asking %s for %s", address, ask.Path)
			var err error
			if head, err = get(ctx, client, (&url.URL{Scheme: scheme, Host: address}).String()+ask.Path); err != nil {
				p.said = append(p.said, "no answer over "+strings.ToUpper(scheme)+": "+clean(err.Error()))
				return p
			}
			asked[ask.Path] = head
			p.said = append(p.said, fmt.Sprintf("%s answers %s: %s", strings.ToUpper(scheme), ask.Path, summary(head)))
			wait(ctx, probeSpacing)
		}
		if ask.Answer.MatchString(head) {
			fits = append(fits, name)
		}
	}
	if len(fits) == 0 {
		return p
	}
	p.found = true
	level := Likely
	if len(fits) > 1 {
		level = Equal
	}
	var profile *profiles.Profile
	if p.hearing, profile = r.answered(fits[0], level, 1); profile == nil {
		return p
	}
	for _, other := range fits[1:] {
		x, _ := r.answered(other, level, 1)
		p.rivals = append(p.rivals, x.best)
	}
	place := strings.TrimSuffix(strings.TrimSuffix(address, ":80"), ":443")
	p.config = snippet(profile, scheme+"://"+place, "") + "  username: lanepost   # needed: a user of the camera that may be told of events\n  password_file: /etc/lanepost/anpr-1.password   # needed\n"
	return p
}

// get gives the status line, the headers and the first bytes of the body.
func get(ctx context.Context, client *http.Client, page string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	var head strings.Builder
	head.WriteString(response.Status + "\n")
	if err := response.Header.Write(&head); err != nil {
		return "", err
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, httpHead)) // a stream ends by the time limit
	return head.String() + "\n" + string(body), nil
}

// summary is the status and who the server says to be.
func summary(head string) string {
	lines := strings.Split(head, "\n")
	text := lines[0]
	for _, l := range lines[1:] {
		lower := strings.ToLower(l)
		if strings.HasPrefix(lower, "server:") {
			text += ", " + l
		}
		if strings.HasPrefix(lower, "www-authenticate:") {
			if _, realm, ok := strings.Cut(l, `realm="`); ok {
				realm, _, _ = strings.Cut(realm, `"`)
				text += `, it calls itself "` + realm + `" and wants a login`
			}
		}
	}
	return clean(text)
}

// maxClean bounds what is repeated of a device's own words, in bytes.
const maxClean = 200

// clean makes a device's words fit for a terminal.
func clean(s string) string {
	if len(s) > maxClean {
		s = s[:maxClean] + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
}
