package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// BenchmarkAlarmBesidePictures measures how long an urgent event of a portal takes to a
// subscriber: with nothing else to do, beside a camera that posts two pictures of 4 MB a
// second, and beside one that posts them as fast as they are taken. Compare those of one
// run.
func BenchmarkAlarmBesidePictures(b *testing.B) {
	const lines = 400
	agent := program(b)
	picture := append([]byte{0xff, 0xd8, 0xff, 0xe0}, bytes.Repeat([]byte("0123456789abcdef"), 4<<16)...)
	for _, c := range []struct {
		name  string
		pause time.Duration // between two pictures; below zero for none at all
	}{{"alone", -1}, {"two-4MB-pictures-a-second", 500 * time.Millisecond}, {"4MB-pictures-without-end", 0}} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				port, camera := freePort(b), freePort(b)
				mosquitto(b, port, "max_queued_messages 0", "max_inflight_messages 0", "set_tcp_nodelay true")
				talker := newTalkers(b, 1)[0]
				const path = "/camera/c2VjcmV0LXBhdGg"
				config := writeConfig(b, deviceYAML(speedDevice(0), "rapiscan-tsa", "tcp://"+talker.listener.Addr().String(), "silence: 10m")+
					deviceYAML("anpr-1", "hikvision-push", fmt.Sprintf("http-listen://127.0.0.1:%d%s", camera, path)),
					fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n", port))
				a := watchArrivals(b, port, event.TopicRoot+"/#")
				m := startMeasured(b, exec.Command(agent, "run", "--config", config))
				talker.accept(b)
				require.NoError(b, talker.flood(1))
				a.wait(b, "the first line", &a.total, 1)
				var stop atomic.Bool
				posted := make(chan int)
				go func() {
					n := 0
					for i := 0; c.pause >= 0 && !stop.Load(); i++ {
						if post(fmt.Sprintf("http://127.0.0.1:%d%s", camera, path), picture, i) {
							n++
							time.Sleep(c.pause)
						} else {
							time.Sleep(50 * time.Millisecond) // it may ask for that
						}
					}
					posted <- n
				}()
				require.NoError(b, talker.tick(lines, 25*time.Millisecond, func() bool { return false }))
				stop.Store(true)
				pictures := <-posted
				a.wait(b, "the lines", &a.total, lines+1)
				l := a.latencies(b, 0, talker.sent, 1)
				b.ReportMetric(ms(quantile(l, .5)), "p50-ms")
				b.ReportMetric(ms(quantile(l, .99)), "p99-ms")
				b.ReportMetric(ms(l[len(l)-1]), "max-ms")
				b.ReportMetric(float64(pictures), "pictures")
				b.ReportMetric(m.peak(b), "peak-MB")
				m.stop(b)
			}
		})
	}
}

// post posts one vehicle with its picture as a Hikvision camera does.
func post(url string, picture []byte, i int) bool {
	alert := fmt.Sprintf(`<EventNotificationAlert version="2.0"><channelID>1</channelID><dateTime>2026-01-05T06:00:00Z</dateTime><eventType>ANPR</eventType><eventState>active</eventState>`+
		`<ANPR><licensePlate>AA%04dBB</licensePlate><confidenceLevel>90</confidenceLevel></ANPR><UUID>u-%d</UUID><picNum>1</picNum></EventNotificationAlert>`, i, i)
	var body bytes.Buffer
	fmt.Fprintf(&body, "--b\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s\r\n", len(alert), alert)
	picture = append(picture[:len(picture):len(picture)], fmt.Sprint(i)...) // no two are alike
	fmt.Fprintf(&body, "--b\r\nContent-Disposition: form-data; name=\"detectionPicture.jpg\"\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n", len(picture))
	body.Write(picture)
	body.WriteString("\r\n--b--\r\n")
	resp, err := http.Post(url, "multipart/form-data; boundary=b", &body)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // the status is all that counts
	return resp.StatusCode == http.StatusOK
}
