package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/xray"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// dicosWant is what the last revision of a scan must say, by what is true.
func dicosWant(s simulator.ScanTruth) (mode, decision string) {
	mode = event.ScanOperational
	if s.Mode != "" {
		mode = s.Mode
	}
	word := s.Operator
	if word == "" {
		word = s.Machine
	}
	switch {
	case word == "ALARM":
		return mode, event.DecisionSuspicious
	case s.Operator == "":
		return mode, event.DecisionPending
	case s.Incomplete || s.Mode != "":
		return mode, event.DecisionUnknown
	}
	return mode, event.DecisionNothingFound
}

func dicosSettings(into any) error {
	s := into.(*xray.FolderSettings)
	s.Dialect, s.Sidecars = "dicos", []string{"*.dcm"}
	return nil
}

// dicosFile is a file that the simulated scanner wrote, and what is true of its scan.
type dicosFile struct {
	fault, name, kind string
	content           []byte
	truth             simulator.ScanTruth
}

// dicosFiles plays a scenario without a clock and gives the files, in the order in which a
// scanner writes them.
func dicosFiles(t *testing.T, fault string, switches ...string) []dicosFile {
	t.Helper()
	camera := simulator.CameraSettings{Options: map[string]string{"dialect": "dicos", "dense": "0.5"}, Switches: switches}
	scenario := cameraScenario("xray-scanner", 3*time.Minute, camera)
	scenario.Lanes[0].Traffic.Random.PerHour = 90
	sim := simulator.Start(t, scenario, simulator.Options{})
	require.NoError(t, sim.Wait())
	dir := strings.TrimPrefix(sim.Devices()[0].Connect, "folder:")
	kinds := []string{"image", "machine", "operator"}
	if slices.Contains(switches, "report-first") {
		kinds = []string{"machine", "image", "operator"}
	}
	var files []dicosFile
	finished := 0
	for _, s := range sim.Truth().Scans {
		if s.What != "finished" || finished == 3 {
			continue
		}
		finished++
		found := map[string]string{}
		require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path.Dir(p), "/"+s.ScanID) {
				found[strings.TrimSuffix(p[strings.LastIndex(p, "-")+1:], ".dcm")] = p
			}
			return err
		}))
		for _, kind := range kinds {
			if p := found[kind]; p != "" {
				content, err := os.ReadFile(p)
				require.NoError(t, err)
				name, err := filepath.Rel(dir, p)
				require.NoError(t, err)
				files = append(files, dicosFile{fault, filepath.ToSlash(name), kind, content, s})
			}
		}
	}
	require.Equal(t, 3, finished, "each third one is different with some switches")
	return files
}

// dicosFaults are what DICOS files do, each by its name.
var dicosFaults = map[string][]string{
	"explicit-little-endian": {}, "implicit-little-endian": {"implicit"}, "jpeg-lossless": {"jpeg-lossless"}, "rle": {"rle"}, "ct": {"ct"},
	"unknown-tags": {"unknown-tags"}, "unknown-tags-implicit": {"unknown-tags", "implicit"},
	"report-before-image": {"report-first"}, "report-without-image": {"no-image"}, "report-inside-image": {"report-in-image"},
	"operator-after-machine": {"overrule"}, "nobody-looks": {"no-analysis"}, "abort": {"abort"}, "abort-nobody-looks": {"abort", "no-analysis"}, "empty-roi": {"empty-roi"},
	"non-operational-scan": {"non-operational"}, "test-article": {"test-article"}, "incomplete-scan": {"incomplete-scan"},
	"huge-pixel-data": {"huge-pixels"}, "bad-uid": {"bad-uid"}, "truncated-file": {"cut-off"}, "wrong-group-length": {"wrong-group-length"},
	"all-together": {"report-first", "overrule", "unknown-tags", "rle", "bad-uid", "wrong-group-length", "non-operational"},
}

// Each fault of DICOS files: the driver tells every scan as it really was, in revisions as
// the files come, and dcmdump and pydicom read the same in all files that are not broken on
// purpose.
func TestDICOSFaults(t *testing.T) {
	withoutRace(t)
	var written []dicosFile
	for name, switches := range dicosFaults {
		t.Run(name, func(t *testing.T) {
			files := dicosFiles(t, name, switches...)
			written = append(written, files...)
			last := map[string]event.XrayScan{}
			var script []drivers.Dropped
			for i, f := range files {
				script = append(script, drivers.Dropped{At: time.Duration(i) * 4 * time.Minute, Name: f.name, Content: f.content})
			}
			d, err := xray.Folder().New(func(into any) error {
				into.(*xray.FolderSettings).Every = time.Minute
				return dicosSettings(into)
			})
			require.NoError(t, err)
			played, err := drivers.PlayFolder(t.Context(), d, script)
			require.NoError(t, err)
			require.Empty(t, played.Unparsed)
			require.Len(t, played.Observations, len(files), "each file is news")
			for i, o := range played.Observations {
				e, f := o.Data.(event.XrayScan), files[i]
				before, known := last[e.ScanID]
				require.Equal(t, f.truth.ScanID, e.ScanID)
				require.Equal(t, before.Revision+1, e.Revision)
				require.Equal(t, known, e.Supersedes != "")
				require.Len(t, e.Files, e.Revision)
				if f.kind == "machine" || slices.Contains(switches, "report-in-image") && f.kind == "image" {
					a := e.Analyses[0]
					require.Equal(t, "machine", a.By)
					require.Equal(t, f.truth.Machine == "ABORT", a.Status == "failed")
					require.Equal(t, f.truth.Machine == "ALARM", a.Decision == event.DecisionSuspicious)
					require.Equal(t, f.truth.Machine == "ALARM", e.Decision == event.DecisionSuspicious, "an alarm does not wait")
					require.NotEqual(t, event.DecisionNothingFound, e.Decision, "no machine clears")
					if f.truth.Machine == "ALARM" {
						require.Len(t, e.Threats, 1)
						require.Equal(t, "THREAT", e.Threats[0].Assessments[0].Flag)
						require.InDelta(t, 0.875, *e.Threats[0].Assessments[0].Probability, 0)
						require.Equal(t, [3]float64{36, 24, 1}, *e.Threats[0].Regions[0].Extents)
						require.Equal(t, slices.Contains(switches, "empty-roi"), e.Threats[0].Regions[0].Set == nil)
					}
				}
				last[e.ScanID] = e
			}
			for _, f := range files {
				e := last[f.truth.ScanID]
				mode, decision := dicosWant(f.truth)
				require.Equal(t, mode+" "+decision, e.Mode+" "+e.Decision, "%+v", f.truth)
				require.Equal(t, mode == event.ScanOperational && decision == event.DecisionSuspicious, e.Class() == event.Urgent)
				partial := f.truth.Incomplete && e.AcquisitionStatus == "SUCCESSFUL"
				require.Equal(t, partial, e.Completeness == "partial", "%v", e.Missing)
				require.NotNil(t, e.Private.Object)
				if !f.truth.Incomplete {
					require.True(t, slices.ContainsFunc(e.Attachments, func(a event.Attachment) bool { return a.Name == "thumbnail.jpg" }), "a small picture")
				}
			}
		})
	}
	t.Run("read by others", func(t *testing.T) { othersReadDICOS(t, written) })
}

// othersReadDICOS has dcmdump and pydicom read the files.
func othersReadDICOS(t *testing.T, written []dicosFile) {
	dir := t.TempDir()
	names := []string{}
	want := map[string]map[string]string{}
	for i, f := range written {
		if slices.Contains([]string{"huge-pixel-data", "truncated-file", "wrong-group-length", "all-together"}, f.fault) {
			continue
		}
		name := filepath.Join(dir, f.fault+"-"+string(rune('a'+i%26))+"-"+filepath.Base(f.name))
		require.NoError(t, os.WriteFile(name, f.content, 0o600))
		names = append(names, name)
		tells := map[string]string{"StudyInstanceUID": f.truth.ScanID}
		word := f.truth.Machine
		switch {
		case f.kind == "operator":
			tells["TDRType"], word = "OPERATOR", f.truth.Operator
		case f.kind == "machine" || f.fault == "report-inside-image":
			tells["TDRType"] = "MACHINE"
		}
		if tells["TDRType"] != "" {
			tells["AbortFlag"], tells["AlarmDecision"], tells["Flags"] = "SUCCESS", word, ""
			switch word {
			case "ALARM":
				tells["Flags"] = "THREAT"
			case "ABORT":
				tells["AbortFlag"], tells["AlarmDecision"] = "ABORT", "UNKNOWN"
			}
		}
		want[name] = tells
	}
	require.Greater(t, len(names), 50)
	t.Run("dcmdump", func(t *testing.T) {
		dump, err := exec.LookPath("dcmdump")
		if err != nil {
			t.Skip("dcmdump is not here; .ci/install-test-tools fetches it")
		}
		value := regexp.MustCompile(`(?m)^ *\((....,....)\) .. \[?([^\]\s]*)\]? .* (\w+)$`)
		for _, name := range names {
			out, err := exec.Command(dump, "-q", "+L", "+P", "StudyInstanceUID", "+P", "TDRType", "+P", "AbortFlag", "+P", "AlarmDecision", "+P", "4010,1015", name).CombinedOutput()
			require.NoError(t, err, "%s: %s", name, out)
			require.NotRegexp(t, `(?m)^[WEF]:`, string(out), name)
			got := map[string]string{}
			for _, m := range value.FindAllStringSubmatch(string(out), -1) {
				if m[1] == "4010,1015" {
					got["Flags"] += m[2]
					continue
				}
				got[m[3]] = m[2]
			}
			for k, v := range want[name] {
				require.Equal(t, v, got[k], "%s: %s", name, k)
			}
		}
	})
	t.Run("pydicom", func(t *testing.T) {
		python := ""
		for _, p := range []string{"/usr/bin/python3", "python3"} {
			if exec.Command(p, "-c", "import pydicom").Run() == nil {
				python = p
				break
			}
		}
		if python == "" {
			t.Skip("python3-pydicom is not here; .ci/install-test-tools fetches it")
		}
		out, err := exec.Command(python, append([]string{"-W", "ignore", "-c", `
import sys, json, pydicom
all = {}
for f in sys.argv[1:]:
    d = pydicom.dcmread(f)
    e = {k: str(d.get(k, "")) for k in ("StudyInstanceUID", "TDRType", "AbortFlag", "AlarmDecision")}
    e["Flags"] = "".join(x.value for x in d.iterall() if x.tag == 0x40101015)
    all[f] = e
print(json.dumps(all))`}, names...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		var got map[string]map[string]string
		require.NoError(t, json.Unmarshal(out, &got), "%s", out)
		for _, name := range names {
			require.Subset(t, got[name], want[name], name)
		}
	})
}

// A scanner that writes DICOS files while it is watched: slowly, under other names first,
// twice, cut off and completed later.
func TestDICOSScanner(t *testing.T) {
	t.Parallel()
	for name, switches := range map[string][]string{
		"plain":        nil,
		"all together": {"slow-write", "temp-rename", "truncated", "twice", "rewrites", "report-first", "overrule", "unknown-tags", "jpeg-lossless", "clock-ahead"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "plain" {
				withoutRace(t)
			}
			camera := simulator.CameraSettings{Options: map[string]string{"dialect": "dicos", "dense": "0.5"}, Switches: switches}
			scenario := cameraScenario("xray-scanner", 4*time.Minute, camera)
			scenario.Lanes[0].Traffic.Random.PerHour = 90
			sim := simulator.Start(t, scenario, simulator.Options{Speed: 40})
			h := newRecordingHost()
			runDriver(t, xray.Folder(), sim.Devices()[0].Connect, func(into any) error {
				s := into.(*xray.FolderSettings)
				s.Every, s.Quiet, s.Deadline = 200*time.Millisecond, 100*time.Millisecond, 20*time.Second
				return dicosSettings(into)
			}, h)
			require.NoError(t, sim.Wait())
			truth := map[string]simulator.ScanTruth{}
			for _, s := range sim.Truth().Scans {
				if s.What == "finished" {
					truth[s.ScanID] = s
				}
			}
			require.Greater(t, len(truth), 2)
			h.wait(t, "every scan as it is", func() bool {
				last := map[string]event.XrayScan{}
				for _, o := range h.events() {
					e := o.Data.(event.XrayScan)
					last[e.ScanID] = e
				}
				for id, s := range truth {
					mode, decision := dicosWant(s)
					if e := last[id]; e.Mode != mode || e.Decision != decision || e.Completeness != "complete" || len(e.Analyses) != 2 {
						return false
					}
				}
				return len(last) == len(truth)
			})
			previous := map[string]drivers.Observation{}
			for _, o := range h.events() {
				e := o.Data.(event.XrayScan)
				require.Equal(t, previous[e.ScanID].ID, e.Supersedes)
				require.LessOrEqual(t, len(e.Files), 3, "what comes twice is no news")
				require.Len(t, o.Attachments, len(e.Attachments))
				previous[e.ScanID] = o
			}
			require.Empty(t, h.problems())
		})
	}
}
