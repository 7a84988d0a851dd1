package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/netbirdio/netbird/shared/relay/auth/hmac"
)

// command is one line of standard input. Its answer carries "answer" (the id), "do", "ok", "error" if not ok, and more:
//
//	connect                                          instance_url, transport, server_ip, ready
//	open PEER [on_message] [seconds] [server [server_ip]]   address; on_message is report (the default), echo or count
//	send PEER data                                   bytes
//	measure PEER count size [window] [seconds]       what measurement says; seconds is the wait until one is lost
//	flood PEER size count or seconds [per_second]    sent, seconds, messages_per_second, bytes_per_second
//	counted PEER [count] [seconds]                   received, bytes, seconds, of on_message count since the last time;
//	                                                 waits until there are as many, at most for that long
//	close PEER, disconnect, quit                     nothing
//	token payload signature                          nothing; the next connection uses it
//	state                                            ready, instance_url, transport, server_ip, links, relays
//
// Events come unasked: message (peer, data), closed (peer, error), disconnected (server), reconnected. Data is base64.
type command struct {
	ID        int     `json:"id"`
	Do        string  `json:"do"`
	Peer      string  `json:"peer"`
	Server    string  `json:"server"`
	ServerIP  string  `json:"server_ip"`
	OnMessage string  `json:"on_message"`
	Data      []byte  `json:"data"`
	Count     int     `json:"count"`
	Size      int     `json:"size"`
	Window    int     `json:"window"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	Payload   string  `json:"payload"`
	Signature string  `json:"signature"`
}

func (c command) duration() time.Duration {
	return time.Duration(c.Seconds * float64(time.Second))
}

// parseArguments turns the words of the command line into what a test would send.
func parseArguments(words []string) ([]command, error) {
	connect := command{Do: "connect"}
	do, words := words[0], words[1:]
	if do == "wait" && len(words) == 0 {
		return []command{connect}, nil
	}
	if do == "echo" && len(words) == 1 {
		return []command{connect, {Do: "open", Peer: words[0], OnMessage: "echo"}}, nil
	}
	isMeasure := do == "measure" && (len(words) == 3 || len(words) == 4)
	if !isMeasure && !(do == "flood" && len(words) == 3) {
		return nil, fmt.Errorf("what is %q with %d words?", do, len(words))
	}
	var numbers [3]int
	for i, word := range words[1:] {
		number, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		numbers[i] = number
	}
	last := command{Do: do, Peer: words[0], Count: numbers[0], Size: numbers[1], Window: numbers[2]}
	return []command{connect, {Do: "open", Peer: words[0]}, last}, nil
}

// peer is ourselves: a relay, and the links to others through it.
type peer struct {
	relay relay
	out   *output
	mutex sync.Mutex
	links map[string]*link
}

func newPeer(r relay, out *output) *peer {
	return &peer{relay: r, out: out, links: map[string]*link{}}
}

// runAll runs commands one after the other, and stops at the first that fails.
func (p *peer) runAll(commands []command) bool {
	for _, c := range commands {
		if !p.run(c) {
			return false
		}
	}
	return true
}

func (p *peer) run(c command) bool {
	line, err := p.do(c)
	p.out.answer(c, line, err)
	return err == nil
}

func (p *peer) do(c command) (fields, error) {
	switch c.Do {
	case "connect":
		if err := p.relay.connect(); err != nil {
			return nil, err
		}
		return p.relay.state(), nil
	case "disconnect":
		return nil, p.relay.disconnect()
	case "token":
		return nil, p.relay.updateToken(&hmac.Token{Payload: c.Payload, Signature: c.Signature})
	case "state":
		return p.state(), nil
	case "open":
		return p.open(c)
	}
	onLink, ok := linkCommands[c.Do]
	if !ok {
		return nil, fmt.Errorf("no such command: %q", c.Do)
	}
	l, err := p.link(c.Peer)
	if err != nil {
		return nil, err
	}
	return onLink(l, c)
}

var linkCommands = map[string]func(*link, command) (fields, error){
	"send":    send,
	"measure": measure,
	"flood":   flood,
	"counted": counted,
	"close":   closeLink,
}

func send(l *link, c command) (fields, error) {
	n, err := l.connection.Write(c.Data)
	return fields{"bytes": n}, err
}

func closeLink(l *link, _ command) (fields, error) {
	return nil, l.connection.Close()
}

func (p *peer) link(name string) (*link, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	l, ok := p.links[name]
	if !ok {
		return nil, fmt.Errorf("no link to %q", name)
	}
	return l, nil
}

func (p *peer) open(c command) (fields, error) {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if c.Seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.duration())
	}
	defer cancel()
	var serverIP netip.Addr
	if c.ServerIP != "" {
		parsed, err := netip.ParseAddr(c.ServerIP)
		if err != nil {
			return nil, err
		}
		serverIP = parsed
	}
	l := &link{peer: c.Peer, out: p.out}
	if !l.use(c.OnMessage) {
		return nil, errors.New("on_message is report, echo or count")
	}
	connection, err := p.relay.open(ctx, c.Peer, c.Server, serverIP)
	if err != nil {
		return nil, err
	}
	l.connection = connection
	p.mutex.Lock()
	p.links[c.Peer] = l
	p.mutex.Unlock()
	go func() {
		err := l.read()
		p.forget(l)
		p.out.event("closed", fields{"peer": l.peer, "error": errorText(err)})
	}()
	return fields{"address": connection.RemoteAddr().String()}, nil
}

// forget keeps a newer link to the same peer.
func (p *peer) forget(l *link) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.links[l.peer] == l {
		delete(p.links, l.peer)
	}
}

func (p *peer) state() fields {
	line := p.relay.state()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	links := []fields{}
	for _, l := range p.links {
		links = append(links, l.state())
	}
	line["links"] = links
	return line
}
