package identify

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
)

// Bounds of looking through a network.
const (
	// maxAddresses is how many addresses a range may have.
	maxAddresses = 256
	// connectsAtOnce, connectEvery and connectTimeout keep it gentle.
	connectsAtOnce = 8
	connectEvery   = 10 * time.Millisecond
	connectTimeout = time.Second
	// lookTimeout bounds the look-up of a name, before the connection does it again.
	lookTimeout = 2 * time.Second
	// listensAtOnce is how many devices are listened to at the same time, and listenEach
	// for how long unless Options say otherwise.
	listensAtOnce = 4
	listenEach    = 15 * time.Second
)

// Bounds of what is read in /proc.
const (
	maxSockets   = 1 << 16
	maxProcesses = 1 << 15
)

// morePorts are looked at beside those that profiles name: what serial servers, Modbus, OPC
// UA, LLRP and cameras usually have.
var morePorts = []int{80, 502, 4001, 4840, 5084}

// ParseRange reads an address or a range of them, as in 10.0.3.0/28.
func ParseRange(text string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return []netip.Addr{a}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no address and no range; write for example 10.0.3.21 or 10.0.3.0/28", text)
	}
	p = p.Masked()
	if p.Addr().BitLen()-p.Bits() > 8 {
		return nil, fmt.Errorf("%s has more than %d addresses; take a smaller range, for example %s/24", text, maxAddresses, p.Addr())
	}
	var all []netip.Addr
	for a := p.Addr(); p.Contains(a) && len(all) < maxAddresses; a = a.Next() {
		all = append(all, a)
	}
	// The first and the last of a network are nobody's.
	if p.Addr().Is4() && len(all) > 2 {
		all = all[1 : len(all)-1]
	}
	return all, nil
}

// Ports are those that are looked at in a range.
func (r *Recogniser) Ports() []int {
	ports := slices.Clone(morePorts)
	for _, c := range r.candidates {
		if n, err := strconv.Atoi(c.profile.Link["port"]); err == nil && !slices.Contains(ports, n) {
			ports = append(ports, n)
		}
	}
	slices.Sort(ports)
	return ports
}

// Range looks which of the addresses answer at which of the ports, and identifies those
// that do. It is in the order of the addresses.
func (r *Recogniser) Range(ctx context.Context, addresses []netip.Addr, ports []int, o Options) []Report {
	open := r.sweep(ctx, addresses, ports, o)
	reports := make([]Report, len(open))
	places := make(chan int)
	var group sync.WaitGroup
	each := o
	each.Progress = nil // several at once
	each.For = cmp.Or(o.For, listenEach)
	var mu sync.Mutex
	done := 0
	for range listensAtOnce {
		group.Go(func() {
			for i := range places {
				reports[i] = r.Address(ctx, open[i], each)
				mu.Lock()
				done++
				o.tell("%d of %d that answer were listened to", done, len(open))
				mu.Unlock()
			}
		})
	}
	for i := range open {
		places <- i
	}
	close(places)
	group.Wait()
	return reports
}

// sweep opens and closes a connection to each place, and gives those that took it. Those to
// which a program of this machine has a connection are not touched, and given too.
func (r *Recogniser) sweep(ctx context.Context, addresses []netip.Addr, ports []int, o Options) []string {
	var places []string
	for _, a := range addresses {
		for _, p := range ports {
			places = append(places, netip.AddrPortFrom(a, uint16(p)).String()) //nolint:gosec // a port
		}
	}
	takes := make([]bool, len(places))
	gate := make(chan struct{}, connectsAtOnce)
	var group sync.WaitGroup
	pace := time.NewTicker(connectEvery)
	defer pace.Stop()
	for i, place := range places {
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		o.tell("looking at %s, %d of %d", place, i+1, len(places))
		gate <- struct{}{}
		group.Go(func() {
			defer func() { <-gate }()
			if usedBy(ctx, place) != "" {
				takes[i] = true
				return
			}
			dialer := net.Dialer{Timeout: connectTimeout}
			conn, err := dialer.DialContext(ctx, "tcp", place)
			if err != nil {
				return
			}
			takes[i] = true
			_ = conn.Close() // nothing was sent
		})
	}
	group.Wait()
	var open []string
	for i, place := range places {
		if takes[i] {
			open = append(open, place)
		}
	}
	return open
}

// InUse says that a program of this machine has a connection to the instrument of a tcp:
// link, and what to do about it: a second client would take the first one's place, or get
// nothing. The error is nil if none has, or for another link.
func InUse(ctx context.Context, e link.Endpoint) (hint string, err error) {
	u, err := url.Parse(e.String())
	if err != nil || e.Scheme() != "tcp" {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	who := usedBy(ctx, u.Host)
	if who == "" {
		return "", nil
	}
	return "stop that program first, the agent with systemctl stop lanepost; or see what the agent makes of the device with lanepost check",
		fmt.Errorf("%s has a connection to %s, and most instruments serve one client only: it is left alone", who, u.Host)
}

// usedBy names the program of this machine that has a connection to an address: most
// instruments serve one client, and a second one may take the first one's place. It is ""
// if there is none, or the system does not tell.
func usedBy(ctx context.Context, address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return ""
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "" // the connection will tell
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		inode := connectedTo(f, ips, n)
		_ = f.Close() // it was only read
		if inode != "" {
			return holder(inode)
		}
	}
	return ""
}

// connectedTo looks in a table of the kernel's for a connection that is established, and
// gives its inode; "" for none.
func connectedTo(table io.Reader, ips []netip.Addr, port int) string {
	lines := bufio.NewScanner(table)
	const established = "01"
	for n := 0; lines.Scan() && n < maxSockets; n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != established {
			continue
		}
		ip, p, ok := kernelAddress(fields[2])
		if ok && p == port && slices.ContainsFunc(ips, func(a netip.Addr) bool { return a.Unmap().WithZone("") == ip }) {
			return fields[9]
		}
	}
	return ""
}

// kernelAddress reads 0100007F:0640, words of four bytes in the machine's order, which is
// little-endian on all that this program is built for.
func kernelAddress(text string) (netip.Addr, int, bool) {
	address, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(address)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || (len(b) != 4 && len(b) != 16) {
		return netip.Addr{}, 0, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	ip, ok := netip.AddrFromSlice(b)
	return ip.Unmap(), int(n), ok
}

// holder names the process that has a socket.
func holder(inode string) string {
	const other = "another program of this machine"
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return other
	}
	want := "socket:[" + inode + "]"
	for n, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil || n > maxProcesses {
			continue
		}
		folder := filepath.Join("/proc", process.Name(), "fd")
		fds, err := os.ReadDir(folder)
		if err != nil {
			continue // another user's
		}
		for _, fd := range fds {
			if target, err := os.Readlink(filepath.Join(folder, fd.Name())); err != nil || target != want {
				continue
			}
			name, err := os.ReadFile(filepath.Join("/proc", process.Name(), "comm"))
			if err != nil {
				return other
			}
			return fmt.Sprintf("%s (pid %d)", clean(strings.TrimSpace(string(name))), pid)
		}
	}
	return other
}
