// Package deploy_test holds what stands beside the program to what the program tells.
package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/console"
)

// unused are the metrics that neither the dashboard nor an alert shows, each for a reason.
var unused = map[string]string{
	"lanepost_uplink_in_flight_messages":   "says something only together with the window of the configuration",
	"lanepost_uplink_events_skipped_total": "is as the configuration wants it",
	"go_goroutines":                        "is for developers",
}

// ofScrape are the labels and figures that Prometheus itself adds.
var ofScrape = []string{"instance", "job"}

// values are the words that a label can have, where it is not a name of the configuration.
var values = map[string][]string{
	"state":   {"connecting", "online", "silent", "offline", "fault"},
	"class":   {"urgent", "routine"},
	"outcome": {"alarm", "no_alarm", "incomplete"},
	"kind":    {"gamma", "neutron"},
	"result":  {"read", "no_read"},
	"role":    {"client", "ca", "broker"},
}

// functions are those of PromQL that are used.
var functions = []string{"rate", "increase", "deriv", "sum", "max", "abs", "time", "absent"}

// expression is what a query names.
type expression struct {
	metrics  []string
	labels   map[string][]string // by metric, those that its selector names
	grouping []string            // of by, without, on
}

var token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[a-zA-Z_:][a-zA-Z0-9_:]*|\[[^\]]*\]|\d+(?:\.\d+)?|=~|!~|!=|==|<=|>=|[-+*/<>=(){},]|\s+|.`)

// read takes a query apart. It knows as much of PromQL as is used here, and refuses the rest.
func read(text string) (expression, error) {
	x := expression{labels: map[string][]string{}}
	var tokens []string
	for _, t := range token.FindAllString(text, -1) {
		if strings.TrimSpace(t) != "" {
			tokens = append(tokens, t)
		}
	}
	depth := 0
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		next := ""
		if i+1 < len(tokens) {
			next = tokens[i+1]
		}
		switch {
		case t == "by" || t == "without" || t == "on":
			if next != "(" {
				return x, fmt.Errorf("%s without a list", t)
			}
			for i += 2; i < len(tokens) && tokens[i] != ")"; i++ {
				if tokens[i] != "," {
					x.grouping = append(x.grouping, tokens[i])
				}
			}
		case t == "or" || t == "and" || t == "unless":
		case unicode.IsLetter(rune(t[0])) && (next == "(" || next == "by"):
			if !slices.Contains(functions, t) {
				return x, fmt.Errorf("function %s", t)
			}
		case unicode.IsLetter(rune(t[0])):
			x.metrics = append(x.metrics, t)
			if next != "{" {
				continue
			}
			for i += 2; i < len(tokens) && tokens[i] != "}"; i += 3 {
				if tokens[i] == "," {
					i++
				}
				if i+2 >= len(tokens) || !slices.Contains([]string{"=", "!=", "=~", "!~"}, tokens[i+1]) || tokens[i+2][0] != '"' {
					return x, fmt.Errorf("selector of %s", t)
				}
				x.labels[t] = append(x.labels[t], tokens[i])
				value := strings.Trim(tokens[i+2], `"`)
				if of, ok := values[tokens[i]]; ok && !slices.Contains(of, value) {
					return x, fmt.Errorf("%s is never %q", tokens[i], value)
				}
			}
		case t == "(":
			depth++
		case t == ")":
			depth--
		case strings.ContainsAny(t[:1], "0123456789[-+*/<>=!"):
		default:
			return x, fmt.Errorf("%q", t)
		}
	}
	if depth != 0 {
		return x, fmt.Errorf("parentheses")
	}
	return x, nil
}

// metrics are the labels of each metric.
func metrics() map[string][]string {
	all := map[string][]string{"up": nil}
	for _, m := range console.Metrics() {
		all[m.Name] = m.Labels
	}
	return all
}

// checked reads a query and holds it to the metrics; it gives what it names, and the labels
// that its result may have.
func checked(text string) (expression, []string, error) {
	x, err := read(text)
	if err != nil {
		return x, nil, fmt.Errorf("%s: %w", text, err)
	}
	if len(x.metrics) == 0 {
		return x, nil, fmt.Errorf("%s: no metric", text)
	}
	all := metrics()
	labels := slices.Clone(ofScrape)
	for _, m := range x.metrics {
		of, ok := all[m]
		if !ok {
			return x, nil, fmt.Errorf("%s: there is no metric %s", text, m)
		}
		labels = append(labels, of...)
		for _, l := range x.labels[m] {
			if !slices.Contains(of, l) && !slices.Contains(ofScrape, l) {
				return x, nil, fmt.Errorf("%s: %s has no label %s", text, m, l)
			}
		}
	}
	for _, l := range x.grouping {
		if !slices.Contains(labels, l) {
			return x, nil, fmt.Errorf("%s: no label %s", text, l)
		}
	}
	if len(x.grouping) > 0 {
		labels = x.grouping
	}
	return x, labels, nil
}

type dashboard struct {
	Templating struct {
		List []struct {
			Name, Type string
			Definition string
		}
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ H, W, X, Y int }
		Targets []struct{ Expr, LegendFormat, RefID string }
	}
}

type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func theDashboard(t *testing.T) dashboard {
	t.Helper()
	b, err := os.ReadFile("grafana/lanepost.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(b, &d))
	require.Greater(t, len(d.Panels), 20)
	return d
}

func theRules(t *testing.T) rules {
	t.Helper()
	b, err := os.ReadFile("prometheus/alerts.yaml")
	require.NoError(t, err)
	var r rules
	require.NoError(t, yaml.UnmarshalWithOptions(b, &r, yaml.Strict()))
	require.Len(t, r.Groups, 1)
	require.Greater(t, len(r.Groups[0].Rules), 10)
	return r
}

var (
	legendLabel = regexp.MustCompile(`\{\{\s*([a-z_]+)\s*\}\}`)
	alertLabel  = regexp.MustCompile(`\$labels\.([a-z_]+)`)
)

func TestDashboardShowsWhatThereIs(t *testing.T) {
	t.Parallel()
	d := theDashboard(t)
	seen := map[int]bool{}
	for _, p := range d.Panels {
		require.False(t, seen[p.ID], "two panels %d", p.ID)
		seen[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, q := range p.Targets {
			_, labels, err := checked(variables(q.Expr))
			require.NoError(t, err, p.Title)
			for _, l := range legendLabel.FindAllStringSubmatch(q.LegendFormat, -1) {
				require.Contains(t, labels, l[1], "%s: legend %s", p.Title, q.LegendFormat)
			}
		}
	}
	for i, p := range d.Panels {
		for _, o := range d.Panels[:i] {
			a, b := p.GridPos, o.GridPos
			require.False(t, a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H, "%s lies over %s", p.Title, o.Title)
		}
	}
	query := regexp.MustCompile(`^label_values\((.*), ([a-z]+)\)$`)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := query.FindStringSubmatch(v.Definition)
		require.NotNil(t, m, v.Definition)
		_, labels, err := checked(variables(m[1]))
		require.NoError(t, err)
		require.Contains(t, labels, m[2])
	}
}

// variables puts into a query of Grafana what it would put there.
func variables(q string) string {
	return strings.NewReplacer("$__rate_interval", "1m").Replace(q)
}

func TestAlertsRestOnWhatThereIs(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, r := range theRules(t).Groups[0].Rules {
		require.Regexp(t, `^Lanepost[A-Z][A-Za-z]+$`, r.Alert)
		require.False(t, names[r.Alert], "two alerts %s", r.Alert)
		names[r.Alert] = true
		_, labels, err := checked(r.Expr)
		require.NoError(t, err, r.Alert)
		require.Contains(t, []string{"critical", "warning", "info"}, r.Labels["severity"], r.Alert)
		require.ElementsMatch(t, []string{"summary", "what_to_do"}, slices.Collect(maps.Keys(r.Annotations)), r.Alert)
		for name, text := range r.Annotations {
			require.Greater(t, len(text), 20, "%s: %s", r.Alert, name)
			for _, l := range alertLabel.FindAllStringSubmatch(text, -1) {
				require.Contains(t, labels, l[1], "%s: %s", r.Alert, text)
			}
		}
	}
	for _, name := range []string{
		"AgentGone", "DeviceSilent", "DeviceOffline", "DeviceFault", "DiskRefuses", "EventsLost", "BacklogGrows", "BacklogOld", "UplinkDown",
		"CertificateExpires", "ClockNotSynchronised", "ConfigRefused",
	} {
		require.True(t, names["Lanepost"+name], "no alert Lanepost%s", name)
	}
}

func TestEveryMetricIsShown(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, p := range theDashboard(t).Panels {
		for _, q := range p.Targets {
			x, err := read(variables(q.Expr))
			require.NoError(t, err)
			for _, m := range x.metrics {
				used[m] = true
			}
		}
	}
	for _, r := range theRules(t).Groups[0].Rules {
		x, err := read(r.Expr)
		require.NoError(t, err)
		for _, m := range x.metrics {
			used[m] = true
		}
	}
	all := metrics()
	for name := range all {
		_, left := unused[name]
		require.NotEqual(t, used[name], left, "%s: it is to be shown, or else in the list of those that are not", name)
	}
	for name := range unused {
		require.Contains(t, all, name)
	}
	// docs/console.md says the same of them.
	page, err := os.ReadFile("../docs/console.md")
	require.NoError(t, err)
	for name, labels := range all {
		if name == "up" {
			continue
		}
		row := regexp.MustCompile("(?m)^\\| `" + name + "` \\| [a-z]+ \\| (.*?) \\|").FindSubmatch(page)
		require.NotNil(t, row, name)
		require.Equal(t, strings.Join(labels, ", "), strings.ReplaceAll(strings.TrimSpace(string(row[1])), "`", ""), name)
	}
}

func TestWrongQueriesAreFound(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		`lanepost_devices_up == 0`:                     "there is no metric lanepost_devices_up",
		`lanepost_device_up{uplink="a"} == 0`:          "lanepost_device_up has no label uplink",
		`lanepost_device_state{state="silence"} == 1`:  `state is never "silence"`,
		`sum by (uplink) (lanepost_device_up)`:         "no label uplink",
		`quantile(0.5, lanepost_device_up)`:            "function quantile",
		`(lanepost_device_up`:                          "parentheses",
		`time() > 1`:                                   "no metric",
		`lanepost_device_up{state} == 0`:               "selector of lanepost_device_up",
		`lanepost_device_up ; lanepost_device_up == 0`: `";"`,
	} {
		_, _, err := checked(query)
		require.ErrorContains(t, err, want, query)
	}
}

// Prometheus' own tool reads the rules, and the dashboard's queries as rules.
func TestPrometheusReadsThem(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool (Debian: prometheus)")
	}
	var text strings.Builder
	text.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, p := range theDashboard(t).Panels {
		for i, q := range p.Targets {
			fmt.Fprintf(&text, "  - record: panel:%d:%d\n    expr: %q\n", p.ID, i, variables(q.Expr))
		}
	}
	queries := filepath.Join(t.TempDir(), "dashboard.yaml")
	require.NoError(t, os.WriteFile(queries, []byte(text.String()), 0o600))
	out, err := exec.Command(promtool, "check", "rules", "prometheus/alerts.yaml", queries).CombinedOutput()
	require.NoError(t, err, string(out))
}
