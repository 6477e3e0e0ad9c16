package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func told(t *testing.T, teller *Teller) (v Told) {
	t.Helper()
	w := httptest.NewRecorder()
	teller.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	return v
}

// A fault stands as long as it lasts on the clock of the wall, and the oldest ones go.
func TestTeller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teller := &Teller{Scenario: "demo", Speed: 5}
		require.Equal(t, Told{Scenario: "demo", Speed: 5, Faults: []ToldFault{}}, told(t, teller))
		began := time.Now().UTC()
		teller.Take(&VehicleTruth{})
		teller.Take(&StateTruth{})
		teller.Take(&FaultTruth{Lane: "entry-1", Device: "rpm-1", Fault: "tamper", Effect: "the cabinet is open", AtS: 45, UntilS: 60})
		teller.Take(&FaultTruth{Lane: "entry-1", Fault: "tailgate", AtS: 46, UntilS: 46})
		want := []ToldFault{
			{Device: "entry-1/rpm-1", Fault: "tamper", Effect: "the cabinet is open", At: began, Until: began.Add(3 * time.Second), Standing: true},
			{Device: "entry-1", Fault: "tailgate", At: began, Until: began},
		}
		got := told(t, teller)
		require.Equal(t, 1, got.Vehicles)
		require.Equal(t, want, got.Faults)
		time.Sleep(3*time.Second - 1)
		require.True(t, told(t, teller).Faults[0].Standing)
		time.Sleep(time.Nanosecond)
		require.False(t, told(t, teller).Faults[0].Standing)

		for i := range toldFaults {
			teller.Take(&FaultTruth{Fault: fmt.Sprint(i)})
		}
		got = told(t, teller)
		require.Len(t, got.Faults, toldFaults)
		require.Equal(t, "0", got.Faults[0].Fault)
		require.Equal(t, fmt.Sprint(toldFaults-1), got.Faults[toldFaults-1].Fault)
	})
	w := httptest.NewRecorder()
	(&Teller{}).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
	w = httptest.NewRecorder()
	(&Teller{}).ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/", nil))
	require.Equal(t, http.StatusOK, w.Code)
}
