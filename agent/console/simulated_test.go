package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the simulator tells is handed on, and nothing else that stands where it should be.
func TestSimulated(t *testing.T) {
	t.Parallel()
	const fault = `{"device":"entry-1/rpm-1","fault":"tamper","effect":"the cabinet is open","at":"2026-03-01T10:00:00Z","until":"2026-03-01T10:00:15Z","standing":true}`
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	t.Cleanup(elsewhere.Close)
	for _, c := range []struct {
		name, answer string
		code         int
		want         string
	}{
		{"a fault", `{"scenario":"demo","speed":5,"vehicles":3,"faults":[` + fault + `],"more":1}`, http.StatusOK, `{"scenario":"demo","speed":5,"vehicles":3,"faults":[` + fault + `]}`},
		{"none", `{"scenario":"demo"}`, http.StatusOK, `{"scenario":"demo","speed":0,"vehicles":0,"faults":[]}`},
		{"no JSON", `hello`, http.StatusBadGateway, "its answer is not understood"},
		{"too much", `{"scenario":"` + strings.Repeat("a", maxSimulated) + `"}`, http.StatusBadGateway, "its answer is not understood"},
		{"elsewhere", "", http.StatusBadGateway, "it answers 302 Found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.answer == "" {
					http.Redirect(w, r, elsewhere.URL, http.StatusFound)
					return
				}
				_, _ = w.Write([]byte(c.answer)) // it is read as far as it is wanted
			}))
			t.Cleanup(s.Close)
			w := httptest.NewRecorder()
			console := &Console{o: Options{Simulator: func() string { return s.URL }}}
			console.simulated(w, httptest.NewRequest(http.MethodGet, "/api/v1/simulator", nil))
			require.Equal(t, c.code, w.Code, w.Body)
			require.Contains(t, w.Body.String(), c.want)
		})
	}
	w := httptest.NewRecorder()
	(&Console{o: Options{Simulator: func() string { return "" }}}).simulated(w, httptest.NewRequest(http.MethodGet, "/api/v1/simulator", nil))
	require.Equal(t, http.StatusNotFound, w.Code)
	require.Contains(t, w.Body.String(), "these instruments are real")
}
