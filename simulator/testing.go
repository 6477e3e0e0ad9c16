package simulator

import "context"

// TB is what Start needs of a *testing.T; the package does not import testing.
type TB interface {
	Helper()
	Cleanup(f func())
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Start plays a scenario for a test and ends it with the test. Devices on TCP
// listen on free ports of 127.0.0.1 and pseudo-terminals have no symbolic link,
// whatever the scenario says, unless the options do. Without options the speed
// is 0: as fast as the clients read, each device starting with its first
// client. Where the bytes of a device go is in Devices, and what really
// happened is in Truth.
func Start(t TB, s *Scenario, opts ...Options) *Simulation {
	t.Helper()
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	if err := s.Validate(); err != nil {
		t.Fatalf("simulator: %v", err)
	}
	listen := map[string]string{}
	for _, lane := range s.Lanes {
		for _, d := range lane.Devices {
			listen[deviceKey(lane.ID, d.ID)] = "tcp://127.0.0.1:0"
			if a, err := parseListen(d.Listen); err == nil && a.scheme == "pty" {
				listen[deviceKey(lane.ID, d.ID)] = "pty:"
			}
		}
	}
	for key, l := range o.Listen {
		listen[key] = l
	}
	o.Listen = listen
	sim, err := New(s, o)
	if err != nil {
		t.Fatalf("simulator: %v", err)
	}
	if err := sim.Start(context.Background()); err != nil {
		t.Fatalf("simulator: %v", err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Logf("simulator: %v", err)
		}
	})
	return sim
}

// MustLoad is Load for a test.
func MustLoad(t TB, nameOrPath string) *Scenario {
	t.Helper()
	s, err := Load(nameOrPath)
	if err != nil {
		t.Fatalf("simulator: %v", err)
	}
	return s
}

// MustParse is Parse for a test.
func MustParse(t TB, yaml string) *Scenario {
	t.Helper()
	s, err := Parse("scenario", []byte(yaml))
	if err != nil {
		t.Fatalf("simulator: %v", err)
	}
	return s
}
