package uplink

import (
	"context"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// Probe logs in to the first of the brokers, has a message confirmed, and
// leaves. The message is not retained; its topic is, behind the prefix,
// "lanepost/v1/{site}/agent/{client id}/lanepost.agent.probe".
func Probe(ctx context.Context, o Options, site string) error {
	brokers, err := o.complete()
	if err != nil {
		return err
	}
	s := &session{prefix: o.prefix()}
	if err := s.connect(ctx, brokers[0], &o, Message{}, func() {}); err != nil {
		return err
	}
	defer s.down()
	topic := event.Topic(event.Source(site, event.AgentLane, o.ClientID), "lanepost.agent.probe.v1")
	err = s.sendAndWait(ctx, Message{topic, []byte(`{"probe":"lanepost check"}`)}, false, o.AckTimeout)
	if err != nil && ctx.Err() != nil {
		err = errNoAck
	}
	if cause := s.conn.reason(); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return explain(running, err, brokers[0], o.ClientID)
	}
	s.client.Disconnect(uint(byeTimeout / time.Millisecond))
	return nil
}
