package link

import (
	"context"
	"fmt"
	"time"

	"github.com/lanepost/lanepost/protocol/opcua"
)

// learnLimit reads how many nodes the server takes in one request. A server that
// does not tell has no limit.
func (c *opcuaConn) learnLimit() error {
	results, err := c.read([]opcua.NodeID{{Kind: 'i', Number: nodeMaxRead}})
	if err != nil {
		return fmt.Errorf("read how many nodes a request may have: %w", err)
	}
	if n, err := results[0].Value.Number(); err == nil && results[0].Status.IsGood() && n >= 1 && n < opcua.MaxRead {
		c.most = int(n)
	}
	return nil
}

// Sample implements Bus: all points by one request, or as many as the server wants.
func (c *opcuaConn) Sample(ctx context.Context, points []Point) ([]Sample, error) {
	if len(points) > MaxPoints {
		return nil, fmt.Errorf("%d points of one bus, at most %d are read", len(points), MaxPoints)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := context.Cause(c.over); err != nil {
		return nil, err
	}
	if c.broken != nil {
		return nil, c.broken
	}
	defer c.interrupt(ctx)()
	var samples []Sample
	err := c.guarded(func() (err error) {
		if err = c.renew(ctx); err == nil {
			samples, err = c.sample(ctx, points)
		}
		return err
	})
	switch {
	case err == nil:
		return samples, nil
	case context.Cause(c.over) != nil:
		err = context.Cause(c.over)
	case ctx.Err() != nil:
		err = fmt.Errorf("reading from %s: %w", c.e.place(), context.Cause(ctx))
	}
	// An answer that came too late would be taken for that of the next request.
	c.broken = err
	return nil, err
}

// bound gives the server its time for one answer.
func (c *opcuaConn) bound(ctx context.Context) error {
	if err := c.conn.SetDeadline(time.Now().Add(c.e.answerTimeout)); err != nil {
		return c.failed(err)
	}
	// What ended before the deadline was set did not see it.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return context.Cause(c.over)
}

// renew renews the keys of the channel before they are too old.
func (c *opcuaConn) renew(ctx context.Context) error {
	if time.Now().Before(c.renewAt) {
		return nil
	}
	if err := c.bound(ctx); err != nil {
		return err
	}
	return c.openChannel(1)
}

func (c *opcuaConn) sample(ctx context.Context, points []Point) ([]Sample, error) {
	samples := make([]Sample, len(points))
	var nodes []opcua.NodeID
	where := map[opcua.NodeID]int{}
	of := make([]int, len(points))
	for i, p := range points {
		id, err := opcua.ParseNodeID(p.At)
		if err == nil {
			err = checkNode(p)
		}
		if err != nil {
			samples[i].Err = err
			continue
		}
		if _, known := where[id]; !known {
			where[id] = len(nodes)
			nodes = append(nodes, id)
		}
		of[i] = where[id]
	}
	var results []opcua.DataValue
	for n := 0; n < len(nodes); n += c.most {
		if err := c.bound(ctx); err != nil {
			return nil, err
		}
		part, err := c.read(nodes[n:min(n+c.most, len(nodes))])
		if err != nil {
			return nil, fmt.Errorf("reading from %s: %w", c.e.place(), err)
		}
		results = append(results, part...)
	}
	for i, p := range points {
		if samples[i].Err == nil {
			samples[i] = sampleOf(p, results[of[i]])
		}
	}
	return samples, nil
}

// read reads the values of nodes by one request.
func (c *opcuaConn) read(nodes []opcua.NodeID) ([]opcua.DataValue, error) {
	m := &opcua.ReadRequest{Timestamps: opcua.TimestampsSource}
	for _, id := range nodes {
		m.Nodes = append(m.Nodes, opcua.ReadNode{ID: id, Attribute: opcua.AttributeValue})
	}
	answer, err := request[*opcua.ReadResponse](c, m)
	if err != nil {
		return nil, err
	}
	if len(answer.Results) != len(nodes) {
		return nil, c.fail(fmt.Errorf("%w: %d values for %d nodes", errNotOPCUA, len(answer.Results), len(nodes)))
	}
	return answer.Results, nil
}

// nodeTroubles say what to do about the status of a single node.
var nodeTroubles = map[opcua.Status]string{
	opcua.BadNodeIDUnknown:      "check the node id in the settings against the server's own tool; the number after ns= may differ from server to server",
	opcua.BadNodeIDInvalid:      "check the node id in the settings: the server cannot read it",
	opcua.BadAttributeIDInvalid: "the node is a folder or an object: name the variable in it",
	opcua.BadNotReadable:        "the server lets nobody read this node: have it released, or take another",
	opcua.BadUserAccessDenied:   "the server does not let this user read the node: have it released for the user",
}

// sampleOf is the value of one node. What the server doubts is no value, nor is what somebody
// has put in the place of the input.
func sampleOf(p Point, d opcua.DataValue) Sample {
	if !d.Status.IsLive() {
		err := error(d.Status)
		switch hint := nodeTroubles[d.Status.Code()]; {
		case d.Status.Code() == opcua.BadNodeIDUnknown:
			err = fmt.Errorf("%s: %w (%w): %s", echo(p.At), errNoNode, err, hint)
		case hint != "":
			err = fmt.Errorf("%s: %w: %s", echo(p.At), err, hint)
		case d.Status.IsGood():
			err = fmt.Errorf("%s: the value is not what the input shows now: %w: take the override off at the controller", echo(p.At), err)
		case d.Status.IsUncertain():
			err = fmt.Errorf("%s: the server doubts the value: %w", echo(p.At), err)
		default:
			err = fmt.Errorf("%s: the server has no good value: %w", echo(p.At), err)
		}
		return Sample{Err: err, At: d.Source}
	}
	s := Sample{At: d.Source}
	if p.Bit != nil && !d.Value.Array {
		var on bool
		if on, s.Err = d.Value.Bit(*p.Bit); on {
			s.Value = 1
		}
	} else {
		s.Value, s.Err = d.Value.Number()
	}
	if s.Err != nil {
		s.Value, s.Err = 0, fmt.Errorf("%s: %w", echo(p.At), s.Err)
	}
	return s
}

var _ Bus = (*opcuaConn)(nil)
