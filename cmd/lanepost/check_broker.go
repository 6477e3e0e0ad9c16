package main

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"

	"github.com/lanepost/lanepost/agent/blobs"
	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/uplink"
)

// checkClient is the name under which a check logs in while an agent may be running: with
// the agent's own it would end the agent's session.
const checkClient = "lanepost-check"

// verdicts are the results of an inspection's.
var verdicts = map[uplink.Verdict]string{uplink.Good: isOK, uplink.Doubtful: isWarning, uplink.Bad: isFailed}

// checkBrokers tries each broker step by step, side by side.
func checkBrokers(ctx context.Context, cfg *config.Config, running bool) (rows []result) {
	if len(cfg.MQTT) == 0 {
		return []result{{"broker", "", isSkipped, "no mqtt section: events stay on this box", ""}}
	}
	type one struct {
		m    *config.MQTT
		url  string
		rows []result
	}
	var all []*one
	for _, m := range cfg.MQTT {
		for _, b := range m.Brokers {
			all = append(all, &one{m: m, url: b})
		}
	}
	var group sync.WaitGroup
	for _, b := range all {
		group.Go(func() {
			what := "broker"
			if len(cfg.MQTT) > 1 {
				what += " " + b.m.Name
			}
			if u, err := url.Parse(b.url); err == nil && len(b.m.Brokers) > 1 {
				what += " " + u.Host
			}
			b.rows = checkBroker(ctx, cfg.Site, b.m, b.url, what, running)
		})
	}
	group.Wait()
	for _, b := range all {
		rows = append(rows, b.rows...)
	}
	return rows
}

func checkBroker(ctx context.Context, site string, m *config.MQTT, broker, what string, running bool) (rows []result) {
	o := uplink.Options{
		Brokers: []string{broker}, ClientID: checkClient, Username: m.ReadUsername, Password: m.ReadPassword,
		TopicPrefix: m.TopicPrefix,
		Log:         slog.New(slog.DiscardHandler),
	}
	if m.ClientID != "" && !running {
		o.ClientID = m.ClientID // the broker may know this one only
	}
	if m.TLS() {
		o.TLS = &uplink.TLSOptions{CAFile: m.CAFile, CertFile: m.CertFile, KeyFile: m.KeyFile, ServerName: m.ServerName, ALPN: m.ALPN}
	}
	largest := blobs.DefaultChunkBytes
	if m.Redact {
		largest = 0 // no pictures go there
	}
	timed, cancel := context.WithTimeout(ctx, brokerCheckTimeout)
	defer cancel()
	steps, err := uplink.Inspect(timed, o, site, largest)
	if err != nil {
		return []result{{what, "settings", isFailed, broker + ": " + err.Error(), "correct the mqtt section of the configuration"}}
	}
	for i, s := range expiredOnce(steps) {
		detail := s.Detail
		if i == 0 {
			detail = broker + ": " + detail
		}
		if s.Verdict != uplink.Good && ctx.Err() != nil && (s.Name != "TLS" || i == len(steps)-1) {
			rows = append(rows, result{what, s.Name, isSkipped, strings.TrimSuffix(detail, s.Detail) + "ended before it was known", ""})
			break
		}
		rows = append(rows, result{what, s.Name, verdicts[s.Verdict], detail, s.Hint})
	}
	return rows
}

// expiredOnce makes one step of a certificate that has expired and the handshake that fails
// by it.
func expiredOnce(steps []uplink.Step) []uplink.Step {
	last := len(steps) - 1
	var invalid x509.CertificateInvalidError
	if last < 1 || !errors.As(steps[last].Err, &invalid) || invalid.Reason != x509.Expired {
		return steps
	}
	for i, s := range steps[:last] {
		if s.Name == "TLS" && s.Verdict == uplink.Doubtful && strings.Contains(s.Detail, "has expired") {
			s.Verdict = uplink.Bad
			s.Hint = "those who run the broker must renew it; until then events wait in the spool. If the date is still to come, this box's clock is wrong"
			return append(append(steps[:i:i], steps[i+1:last]...), s)
		}
	}
	return steps
}
