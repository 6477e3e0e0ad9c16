package config

import (
	"regexp"
	"strings"
)

// hidden stands in place of what is not shown.
const hidden = "***"

// In a URL: user name and password, or what looks like them there; options that are secret
// or half of a secret; and paths behind which an instrument posts, which are what keeps
// others out.
var redactions = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`//.*@`), "//" + hidden + "@"},
	{regexp.MustCompile(`(?i)([?&][a-z_]*(?:user|login|pass|pwd|token|secret|key|auth)[a-z_]*=).*`), "${1}" + hidden},
	{regexp.MustCompile(`(?i)(http-listen:(?://)?[^\s/'"]*/)[^\s'"?]*`), "${1}" + hidden},
}

// secretKey finds a key whose value is secret, or half of a secret, misspelt ones
// included: people write passwords in here though they are refused.
var secretKey = regexp.MustCompile(`(?i)([a-z0-9_-]*(?:user|login|pas+w|pass|pwd|secret|token|credential|community|pseudonym_key|hash_key|pin_code)[a-z0-9_-]*|\b(?:private_key|key))(['"][ \t]*:|[ \t]*:(?:[ \t]|$))(.*)$`)

// upperName is how the names of variables are written; a password seldom is.
var upperName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// Redact takes out of the text of a configuration file what is secret, whether the file is
// valid or not: it is shown to people who look for what is wrong with it. The names of
// files and of variables that hold secrets are shown. It rather hides too much: of a line
// with a secret the rest is hidden too.
func Redact(text string) string {
	lines := strings.Split(text, "\n")
	within := -1 // the indentation of a key whose value is hidden and may go on
	for i, line := range lines {
		line, end := strings.CutSuffix(line, "\r")
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		switch {
		case within >= 0 && (indent > within || strings.TrimSpace(line) == ""):
			if strings.TrimSpace(line) != "" {
				line = line[:indent] + hidden
			}
		default:
			line, within = redactLine(line, indent)
		}
		if end {
			line += "\r"
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

func redactLine(line string, indent int) (redacted string, within int) {
	within = -1
	for from := 0; ; {
		at := secretKey.FindStringSubmatchIndex(line[from:])
		if at == nil {
			break
		}
		for i := range at {
			if at[i] >= 0 {
				at[i] += from
			}
		}
		name := strings.ToLower(line[at[2]:at[3]])
		if strings.HasSuffix(name, "_file") {
			// The pattern takes the rest of the line; there may be more keys in it.
			from = at[5]
			continue
		}
		value := strings.TrimSpace(line[at[6]:at[7]])
		if strings.HasSuffix(name, "_env") && upperName.MatchString(strings.Trim(value, `'"`)) {
			from = at[5]
			continue
		}
		within = indent
		line = strings.TrimRight(line[:at[5]], " \t")
		if value != "" {
			line += " " + hidden
		}
		break
	}
	for _, r := range redactions {
		line = r.find.ReplaceAllString(line, r.put)
	}
	return line, within
}
