package simulator

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/simonvetter/modbus"
)

// Bounds of a server of Modbus TCP.
const (
	modbusIdle    = 10 * time.Minute
	modbusClients = 16
	startTries    = 20
)

// modbusFront serves a device over Modbus TCP. Clients come to a gateway, which is a
// listener of this program, and from there to the library's server.
type modbusFront struct {
	front      net.Listener
	tell       func(what string)
	server     *modbus.ModbusServer
	behind     string
	side       sync.WaitGroup
	connection sync.Mutex // of what follows
	conns      map[net.Conn]bool
	closed     bool
}

func newModbusFront(env cameraEnv) (*modbusFront, error) {
	if env.Listener == nil {
		return nil, errors.New("what is read over Modbus is reached over tcp")
	}
	return &modbusFront{front: env.Listener, tell: env.Event, conns: map[net.Conn]bool{}}, nil
}

// serve lets clients in, whom the handler answers.
func (f *modbusFront) serve(handler modbus.RequestHandler) error {
	if err := f.start(handler); err != nil {
		return err
	}
	f.side.Go(f.accept)
	return nil
}

// start starts the library's server, which wants to know its port before.
func (f *modbusFront) start(handler modbus.RequestHandler) error {
	var failed error
	for range startTries {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("find a port: %w", err)
		}
		f.behind = l.Addr().String()
		if err := l.Close(); err != nil {
			return fmt.Errorf("find a port: %w", err)
		}
		f.server, err = modbus.NewServer(&modbus.ServerConfiguration{
			URL: "tcp://" + f.behind, Timeout: modbusIdle, MaxClients: modbusClients, Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		}, handler)
		if err == nil {
			err = f.server.Start()
		}
		if failed = err; failed == nil {
			return nil
		}
	}
	return fmt.Errorf("serve Modbus: %w", failed)
}

// accept is the gateway.
func (f *modbusFront) accept() {
	for {
		client, err := f.front.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause) // too many files are open, perhaps
			continue
		}
		device, err := net.Dial("tcp", f.behind)
		if err != nil {
			_ = client.Close() // the device is off
			continue
		}
		if !f.hold(client, device) {
			_, _ = client.Close(), device.Close() // it is over
			return
		}
		f.tell("connected")
		f.side.Go(func() {
			carry(device, client)
			f.release(client, device)
			f.tell("disconnected")
		})
		f.side.Go(func() { carry(client, device) })
	}
}

// carry copies until one side ends, and ends both.
func carry(to, from net.Conn) {
	_, _ = io.Copy(to, from) // however it ends
	_, _ = to.Close(), from.Close()
}

func (f *modbusFront) hold(conns ...net.Conn) bool {
	f.connection.Lock()
	defer f.connection.Unlock()
	for _, c := range conns {
		f.conns[c] = true
	}
	return !f.closed
}

func (f *modbusFront) release(conns ...net.Conn) {
	f.connection.Lock()
	defer f.connection.Unlock()
	for _, c := range conns {
		delete(f.conns, c)
	}
}

// drop ends every connection.
func (f *modbusFront) drop(forGood bool) {
	f.connection.Lock()
	defer f.connection.Unlock()
	f.closed = f.closed || forGood
	for c := range f.conns {
		_ = c.Close() // that is the fault
	}
}

// Close ends the device.
func (f *modbusFront) Close() error {
	err := f.front.Close()
	f.drop(true)
	f.side.Wait()
	return errors.Join(err, f.server.Stop())
}
