package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// The largest message that a relay carries.
	maxMessageBytes = 8820
	// For what another peer does: to come back before it is lost, to arrive before it is counted.
	defaultWait = 2 * time.Second
	countPoll   = time.Millisecond
)

// link is one open connection to another peer, and what becomes of the messages that arrive on it.
type link struct {
	peer       string
	connection net.Conn
	out        *output
	// Called with each message, from the one reader; the message is valid until it returns.
	handler    atomic.Pointer[func(message []byte)]
	received   atomic.Int64
	writeFails atomic.Int64

	mutex       sync.Mutex
	count       int
	bytes       int
	first, last time.Time
}

// use chooses by name what becomes of messages.
func (l *link) use(name string) bool {
	handlers := map[string]func([]byte){"": l.report, "report": l.report, "echo": l.echo, "count": l.tally}
	handler, ok := handlers[name]
	if ok {
		l.handler.Store(&handler)
	}
	return ok
}

// read hands on messages until the connection ends.
func (l *link) read() error {
	buffer := make([]byte, maxMessageBytes)
	for {
		n, err := l.connection.Read(buffer)
		if err != nil {
			return err
		}
		l.received.Add(1)
		(*l.handler.Load())(buffer[:n])
	}
}

func (l *link) report(message []byte) {
	l.out.event("message", fields{"peer": l.peer, "data": message})
}

func (l *link) echo(message []byte) {
	if _, err := l.connection.Write(message); err != nil {
		l.writeFails.Add(1)
	}
}

func (l *link) tally(message []byte) {
	now := time.Now()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.count == 0 {
		l.first = now
	}
	l.last = now
	l.count++
	l.bytes += len(message)
}

// counted says what tally has seen since the last time; the time is that between the first and the last message.
func counted(l *link, c command) (fields, error) {
	wait := c.duration()
	if wait <= 0 {
		wait = defaultWait
	}
	for end := time.Now().Add(wait); l.counted() < c.Count && time.Now().Before(end); {
		time.Sleep(countPoll)
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	line := fields{"received": l.count, "bytes": l.bytes, "seconds": l.last.Sub(l.first).Seconds()}
	l.count, l.bytes = 0, 0
	l.first, l.last = time.Time{}, time.Time{}
	return line, nil
}

func (l *link) counted() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.count
}

func (l *link) state() fields {
	return fields{"peer": l.peer, "received": l.received.Load(), "write_fails": l.writeFails.Load()}
}
