package profiles

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// What one record of an instrument proves, from most to least. They are the words of
// Identify.Proof.
const (
	// ProofCheck: a record has a check sum or a check digit, or is so long and regular
	// that nothing else is taken for one.
	ProofCheck = "check"
	// ProofGrammar: a record follows a grammar that other text does not fit by chance.
	ProofGrammar = "grammar"
	// ProofForm: a record has a form that others have as well, a number and a unit for
	// instance. It makes an instrument likely and never certain.
	ProofForm = "form"
	// ProofNone: whatever is a line, or a document, is a record.
	ProofNone = "none"
)

// Proofs are the words of Identify.Proof, from most to least.
var Proofs = []string{ProofCheck, ProofGrammar, ProofForm, ProofNone}

// Bounds of what stands under identify.
const (
	// defaultProofRecords is how many records it takes unless the profile says otherwise.
	defaultProofRecords = 3
	maxProofRecords     = 100
	maxPattern          = 400 // bytes
)

// Identify is how an instrument is told from others by what it sends.
type Identify struct {
	// Proof is what one record proves. A profile that does not say it proves nothing, and
	// is never certain.
	Proof string
	// Records is how many records it takes to be certain, 1 to 100.
	Records int
	// Pattern is what must stand somewhere in what was heard; nil for nothing. It tells a
	// profile from one of the same driver that takes the same records.
	Pattern *regexp.Regexp
	// Lines are the settings of a serial line that are worth trying, as in "19200 8O1", the
	// likeliest first, where link can't say it since it isn't certain.
	Lines []string
	// Variants are other settings of the driver with which instruments of this profile
	// are met: they are tried too.
	Variants []Variant
	// Like is a profile of the same instrument by another link, or of an older one that
	// sends less: of the two the one that fits better is told, and not that both fit.
	Like string
	// Note says how to decide when another profile fits as well, or what to look out for.
	Note string
	// Ask is a page to ask for over HTTP, without a login.
	Ask Ask
}

// Ask is a page of a camera, and what in its answer names the maker.
type Ask struct {
	// Path is the page; "" for none.
	Path string
	// Answer is what the first line, the headers or the first bytes of the body must have.
	Answer *regexp.Regexp
}

// Variant is a set of settings beside the profile's.
type Variant struct {
	// Text is as a configuration has it after "settings: ".
	Text string
	// Proof is what one record proves with these settings.
	Proof string

	node ast.Node
}

// lineForm is how the trade writes the settings of a line.
var lineForm = regexp.MustCompile(`^[1-9][0-9]{1,6} [5-8][NOEMS][12]$`)

func parseIdentify(d *yamlfile.Document, n ast.Node) Identify {
	id := Identify{Records: defaultProofRecords}
	d.Mapping(n, "identify",
		yamlfile.Key{Name: "proof", Required: true, Read: func(n ast.Node) { id.Proof = parseProof(d, n) }},
		yamlfile.Key{Name: "records", Read: func(n ast.Node) { id.Records, _ = d.Whole(n, "records", 1, maxProofRecords) }},
		yamlfile.Key{Name: "pattern", Read: func(n ast.Node) { id.Pattern = parsePattern(d, n, "pattern") }},
		yamlfile.Key{Name: "lines", Read: func(n ast.Node) {
			d.Sequence(n, "lines", maxList, func(n ast.Node) {
				text, ok := d.Text(n, "a line")
				if ok && !lineForm.MatchString(text) {
					d.At(n, fmt.Sprintf("%q are no settings of a serial line", text), `write them as in "19200 8O1": baud, data bits, N, O or E for the parity, stop bits`)
				}
				id.Lines = append(id.Lines, text)
			})
		}},
		yamlfile.Key{Name: "variants", Read: func(n ast.Node) {
			d.Sequence(n, "variants", maxList, func(n ast.Node) {
				v := Variant{Proof: id.Proof}
				d.Mapping(n, "a variant",
					yamlfile.Key{Name: "settings", Required: true, Read: func(n ast.Node) {
						v.Text, v.node = strings.TrimSpace(n.String()), n
						if _, isMap := d.Any(n).(map[string]any); !isMap || strings.Contains(v.Text, "\n") {
							d.At(n, "settings must be a set of settings on one line", "for example {checksum: hex}")
						}
					}},
					yamlfile.Key{Name: "proof", Read: func(n ast.Node) { v.Proof = parseProof(d, n) }},
				)
				id.Variants = append(id.Variants, v)
			})
		}},
		yamlfile.Key{Name: "like", Read: func(n ast.Node) {
			if id.Like, _ = d.Text(n, "like"); !ValidName(id.Like) {
				d.At(n, fmt.Sprintf("profile name %q", id.Like), NameRule)
			}
		}},
		yamlfile.Key{Name: "note", Read: func(n ast.Node) { id.Note, _ = d.Text(n, "note") }},
		yamlfile.Key{Name: "ask", Read: func(n ast.Node) {
			d.Mapping(n, "ask",
				yamlfile.Key{Name: "path", Required: true, Read: func(n ast.Node) {
					if id.Ask.Path, _ = d.Text(n, "path"); !strings.HasPrefix(id.Ask.Path, "/") {
						d.At(n, fmt.Sprintf("path is %q", id.Ask.Path), "it must begin with /")
					}
				}},
				yamlfile.Key{Name: "answer", Required: true, Read: func(n ast.Node) { id.Ask.Answer = parsePattern(d, n, "answer") }},
			)
		}},
	)
	return id
}

func parseProof(d *yamlfile.Document, n ast.Node) string {
	proof, _ := d.Text(n, "proof")
	if !slices.Contains(Proofs, proof) {
		d.At(n, fmt.Sprintf("proof is %q", proof), "want one of "+strings.Join(Proofs, ", "))
	}
	return proof
}

func parsePattern(d *yamlfile.Document, n ast.Node, what string) *regexp.Regexp {
	text, ok := d.Text(n, what)
	if !ok {
		return nil
	}
	if text == "" || len(text) > maxPattern {
		d.At(n, fmt.Sprintf("%s has %d bytes", what, len(text)), fmt.Sprintf("take 1 to %d", maxPattern))
		return nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		d.At(n, err.Error(), "")
	}
	return re
}

// DecodeVariant fills the driver's settings from the profile, and then from a variant of
// it. The error is a yamlfile.Problems.
func (p *Profile) DecodeVariant(v Variant, settings any) error {
	if err := p.Decode(settings); err != nil {
		return err
	}
	return p.decode(v.node, settings)
}
