package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	sequenceBytes = 8
	// The client keeps 100 unread messages of a peer and drops what comes after them.
	defaultWindow = 32
)

// measurement is a number of messages on their way to a peer that echoes, and what has come back.
type measurement struct {
	mutex sync.Mutex
	// When each was sent, since the start; negative once it is back or given up.
	sentAt    []time.Duration
	start     time.Time
	latencies []time.Duration
	// One token for each message that may be on its way.
	slots chan struct{}
}

const settled = time.Duration(-1)

// measure sends messages, at most a window of them on their way, and waits for the last echo. When nothing has come
// back for the time of a lost message, all that are on their way are lost.
func measure(l *link, c command) (fields, error) {
	if c.Count < 1 || c.Size < sequenceBytes {
		return nil, fmt.Errorf("at least one message, of at least %d bytes", sequenceBytes)
	}
	window, wait := c.Window, c.duration()
	if window <= 0 {
		window = defaultWindow
	}
	if wait <= 0 {
		wait = defaultWait
	}
	m := &measurement{
		sentAt:    make([]time.Duration, 0, c.Count),
		latencies: make([]time.Duration, 0, c.Count),
		slots:     make(chan struct{}, window),
		start:     time.Now(),
	}
	for range window {
		m.slots <- struct{}{}
	}
	before := l.handler.Load()
	handler := m.echoed
	l.handler.Store(&handler)
	defer l.handler.Store(before)

	payload := make([]byte, c.Size)
	for sequence := range c.Count {
		m.takeSlot(wait)
		binary.BigEndian.PutUint64(payload, uint64(sequence))
		m.sending()
		if _, err := l.connection.Write(payload); err != nil {
			return nil, fmt.Errorf("message %d: %w", sequence, err)
		}
	}
	for range window {
		m.takeSlot(wait)
	}
	return m.result(c.Size), nil
}

func (m *measurement) sending() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.sentAt = append(m.sentAt, time.Since(m.start))
}

// echoed takes a message that has come back; what was given up meanwhile stays lost.
func (m *measurement) echoed(message []byte) {
	now := time.Since(m.start)
	if len(message) < sequenceBytes {
		return
	}
	sequence := binary.BigEndian.Uint64(message)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if sequence >= uint64(len(m.sentAt)) || m.sentAt[sequence] == settled {
		return
	}
	m.latencies = append(m.latencies, now-m.sentAt[sequence])
	m.sentAt[sequence] = settled
	m.slots <- struct{}{}
}

func (m *measurement) takeSlot(wait time.Duration) {
	select {
	case <-m.slots:
		return
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-m.slots:
		return
	case <-timer.C:
	}
	m.giveUp()
	<-m.slots
}

func (m *measurement) giveUp() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for sequence := range m.sentAt {
		if m.sentAt[sequence] != settled {
			m.sentAt[sequence] = settled
			m.slots <- struct{}{}
		}
	}
}

func (m *measurement) result(size int) fields {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	seconds := time.Since(m.start).Seconds()
	echoed := len(m.latencies)
	slices.Sort(m.latencies)
	return fields{
		"sent":                len(m.sentAt),
		"echoed":              echoed,
		"lost":                len(m.sentAt) - echoed,
		"seconds":             seconds,
		"messages_per_second": float64(echoed) / seconds,
		"bytes_per_second":    float64(echoed*size) / seconds,
		"p50_ms":              quantile(m.latencies, 0.50),
		"p99_ms":              quantile(m.latencies, 0.99),
		"max_ms":              quantile(m.latencies, 1),
	}
}

// quantile is that of sorted times, in milliseconds; 0 if there are none.
func quantile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	place := min(int(share*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[place]) / float64(time.Millisecond)
}

// flood sends messages without waiting for anything, evenly where a rate is asked for.
func flood(l *link, c command) (fields, error) {
	if c.Size < 1 || (c.Count < 1 && c.Seconds <= 0) {
		return nil, errors.New("say the size, and how many or how long")
	}
	payload := make([]byte, c.Size)
	start := time.Now()
	sent := 0
	for c.Count < 1 || sent < c.Count {
		now := time.Since(start)
		if c.Seconds > 0 && now >= c.duration() {
			break
		}
		if c.PerSecond > 0 {
			time.Sleep(time.Duration(float64(sent)/c.PerSecond*float64(time.Second)) - now)
		}
		if _, err := l.connection.Write(payload); err != nil {
			return nil, fmt.Errorf("message %d: %w", sent, err)
		}
		sent++
	}
	seconds := time.Since(start).Seconds()
	return fields{
		"sent":                sent,
		"seconds":             seconds,
		"messages_per_second": float64(sent) / seconds,
		"bytes_per_second":    float64(sent*c.Size) / seconds,
	}, nil
}
