package uplink

import (
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// benchSize is the payload of the benchmarks' events.
const benchSize = 600

// BenchmarkUplink drains a spool into mosquitto, with the default window.
// BenchmarkBarePaho is what it is measured against: a paho client with the same
// window and nothing on disk.
func BenchmarkUplink(b *testing.B) {
	m := startMosquitto(b, "allow_anonymous true")
	s := newSpool(b)
	record(b, s, event.Routine, b.N, benchSize)
	o := (&agent{}).options(b, "tcp://"+m.addr)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	b.ResetTimer()
	u, _ := start(b, s, o)
	for u.Status().Acked < uint64(b.N) {
		time.Sleep(100 * time.Microsecond) // between two looks
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkBarePaho(b *testing.B) {
	m := startMosquitto(b, "allow_anonymous true")
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + m.addr).SetClientID("bare").
		SetAutoReconnect(false).SetOrderMatters(false).SetWriteTimeout(10 * time.Second))
	token := client.Connect()
	require.True(b, token.WaitTimeout(patience))
	require.NoError(b, token.Error())
	defer client.Disconnect(100)
	payload := body(event.Routine, 1, benchSize)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	b.ResetTimer()
	var flying []mqtt.Token
	for range b.N {
		if len(flying) == defaultWindow {
			<-flying[0].Done()
			flying = flying[1:]
		}
		flying = append(flying, client.Publish(eventTopic, 1, false, payload))
	}
	for _, f := range flying {
		<-f.Done()
		require.NoError(b, f.Error())
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
