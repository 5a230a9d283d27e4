//go:build unix

package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// A wire is a proxy between programs and a PostgreSQL server. It counts the messages of the protocol that pass, in both
// directions, and does something bad at the one that it is told.
type wire struct {
	place    string // through it
	to       string
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	ends   map[net.Conn]bool
	closed bool
	fault  *wireFault
}

// A wireFault is something bad that happens once.
type wireFault struct {
	at   int // of the messages that count, from now on
	only counting
	does harm
	hold time.Duration // of delay and late
	done chan struct{} // closed when it was done
}

// A counting says which messages count.
type counting int

const (
	everyMessage counting = iota
	endsOfGroups          // a client's Sync or Query: a pipeline that commits is done with it
	answers               // a server's ReadyForQuery, which follows the answer to those
)

// A harm is what a wire does to a connection.
type harm int

const (
	cutBefore harm = iota // neither side gets the message, both lose the connection
	cutWithin             // the receiver gets half of it
	cutAfter              // the receiver gets it
	swallow               // the client gets no more answers; a while later it loses the connection
	late                  // the client loses the connection at once, and the server gets the message a while later
	delay                 // the message comes a while later
	harms                 // their number
)

// newWire returns a wire to a database.
func newWire(place string) (*wire, error) {
	u, err := url.Parse(place)
	if err != nil {
		return nil, err
	}
	w := &wire{to: u.Host, ends: map[net.Conn]bool{}}
	if w.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	u.Host = w.listener.Addr().String()
	u.RawQuery = "sslmode=disable" // to be read here
	w.place = u.String()
	w.wg.Go(w.accept)
	return w, nil
}

// next makes a fault happen, instead of one that has not.
func (w *wire) next(f *wireFault) {
	f.done = make(chan struct{})
	w.mu.Lock()
	w.fault = f
	w.mu.Unlock()
}

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.to)
		if err != nil {
			client.Close()
			continue
		}
		l := &link{w: w, client: client, server: server}
		if !w.add(client) || !w.add(server) {
			l.cut()
			return
		}
		w.wg.Go(func() { l.pass(server, client, false) })
		w.wg.Go(func() { l.pass(client, server, true) })
	}
}

func (w *wire) add(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends[c] = true
	return !w.closed
}

func (w *wire) close() {
	w.listener.Close()
	w.mu.Lock()
	w.closed = true
	for c := range w.ends {
		c.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// take returns the fault that happens at a message; nil: none.
func (w *wire) take(kind byte, answer bool) *wireFault {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.fault
	if f == nil {
		return nil
	}
	switch {
	case f.only == endsOfGroups && (answer || kind != 'S' && kind != 'Q'), f.only == answers && (!answer || kind != 'Z'):
		return nil
	}
	if f.at--; f.at > 0 {
		return nil
	}
	w.fault = nil
	return f
}

// A link is a connection through a wire.
type link struct {
	w              *wire
	client, server net.Conn

	mu    sync.Mutex
	quiet bool // the client gets no more answers
}

func (l *link) cut() {
	l.client.Close()
	l.server.Close()
}

// pass forwards messages until a side closes.
func (l *link) pass(to, from net.Conn, answer bool) {
	defer l.cut()
	in := bufio.NewReader(from)
	for first := !answer; ; first = false {
		kind, message, err := readMessage(in, first)
		if err != nil {
			return
		}
		f := l.w.take(kind, answer)
		if f != nil {
			goesOn := l.suffer(f, to, message)
			if !goesOn {
				l.cut()
			}
			close(f.done)
			if !goesOn {
				return
			}
		} else if err := l.forward(to, message); err != nil {
			return
		}
	}
}

func (l *link) forward(to net.Conn, message []byte) error {
	l.mu.Lock()
	quiet := l.quiet
	l.mu.Unlock()
	if quiet && to == l.client {
		return nil
	}
	_, err := to.Write(message)
	return err
}

// suffer does something bad at a message, and reports whether the connection goes on.
func (l *link) suffer(f *wireFault, to net.Conn, message []byte) bool {
	switch f.does {
	case cutWithin:
		l.forward(to, message[:len(message)/2])
	case cutAfter:
		l.forward(to, message)
	case swallow:
		l.mu.Lock()
		l.quiet = true
		l.mu.Unlock()
		l.forward(to, message)
		time.Sleep(f.hold)
	case late:
		l.client.Close()
		time.Sleep(f.hold)
		l.forward(to, message)
		time.Sleep(f.hold)
	case delay:
		time.Sleep(f.hold)
		return l.forward(to, message) == nil
	}
	return false
}

// readMessage reads a message of the protocol; the first of a client has no kind. See "Message Formats" in
// PostgreSQL's documentation.
func readMessage(in *bufio.Reader, first bool) (kind byte, message []byte, err error) {
	head := 5
	if first {
		head = 4
	}
	message = make([]byte, head)
	if _, err := io.ReadFull(in, message); err != nil {
		return 0, nil, err
	}
	if !first {
		kind = message[0]
	}
	rest := int(binary.BigEndian.Uint32(message[head-4:])) - 4
	if rest < 0 || rest > 1<<30 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	message = append(message, make([]byte, rest)...)
	_, err = io.ReadFull(in, message[head:])
	return kind, message, err
}
