// NetBird's own relay client as a program for tests.
//
// Commands come in on standard input and answers and events go out on standard output, one JSON object a line each;
// commands.go lists them. Commands run side by side: where order matters, wait for the answer before the next one. A
// command on the command line runs first, after connecting. The program ends when its standard input ends, at a
// signal, or when it is told to quit. NetBird's log goes to standard error.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/netbirdio/netbird/shared/relay/client"
	log "github.com/sirupsen/logrus"
)

// A message of 8782 bytes in base64 and its frame; more than that no relay carries.
const maxCommandBytes = 1 << 16

type options struct {
	servers, serverIP, peer    string
	secret, payload, signature string
	transport, logLevel        string
	tokenTime, maxBackoff      time.Duration
	mtu                        uint
	useManager                 bool
}

func main() {
	var o options
	flag.StringVar(&o.servers, "server", "", "`URL` of the relay; the manager takes several, with commas between them")
	flag.StringVar(&o.serverIP, "server-ip", "", "`IP` of the relay, dialled before its name")
	flag.StringVar(&o.peer, "peer", "", "our own `ID`, the text that is hashed")
	flag.StringVar(&o.secret, "secret", "", "the `TEXT` to sign a token with (default: no token)")
	flag.DurationVar(&o.tokenTime, "token-time", time.Hour, "how long that token is valid")
	flag.StringVar(&o.payload, "token-payload", "", "payload of a ready-made token, as `TEXT`")
	flag.StringVar(&o.signature, "token-signature", "", "signature of a ready-made token, in `BASE64`")
	flag.StringVar(&o.transport, "transport", "ws", "auto, quic, ws, prefer-quic or prefer-ws")
	flag.UintVar(&o.mtu, "mtu", 1280, "MTU of the interface that the client believes to serve")
	flag.BoolVar(&o.useManager, "manager", false, "use the manager: home and foreign relays, and reconnecting")
	flag.DurationVar(&o.maxBackoff, "max-backoff", 0, "longest wait of the manager between tries (default: its own)")
	flag.StringVar(&o.logLevel, "log-level", "warn", "`LEVEL` of NetBird's log")
	flag.Usage = usage
	flag.Parse()
	status, err := run(o, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(2)
	}
	os.Exit(status)
}

func usage() {
	fmt.Fprintln(os.Stderr, `client [options] [COMMAND]
  wait                                be connected
  echo PEER                           send back what arrives
  measure PEER COUNT SIZE [WINDOW]    send COUNT messages of SIZE bytes to a peer that echoes, WINDOW on the way
  flood PEER COUNT SIZE               send COUNT messages of SIZE bytes as fast as it goes`)
	flag.PrintDefaults()
}

func run(o options, arguments []string) (int, error) {
	level, err := log.ParseLevel(o.logLevel)
	if err != nil {
		return 0, err
	}
	log.SetLevel(level)
	// The one place where NetBird's client looks for it.
	if err := os.Setenv(client.EnvRelayTransport, o.transport); err != nil {
		return 0, err
	}
	out := &output{encoder: json.NewEncoder(os.Stdout)}
	relay, err := newRelay(o, out)
	if err != nil {
		return 0, err
	}
	peer := newPeer(relay, out)
	status := 0
	if len(arguments) > 0 {
		commands, err := parseArguments(arguments)
		if err != nil {
			return 0, err
		}
		if !peer.runAll(commands) {
			status = 1
		}
	}
	peer.serve()
	return status, relay.disconnect()
}

// serve runs what standard input says, until it ends.
func (p *peer) serve() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(os.Stdin)
		lines.Buffer(make([]byte, 0, maxCommandBytes), maxCommandBytes)
		for lines.Scan() {
			c, err := parseCommand(lines.Bytes())
			if err != nil {
				p.out.answer(c, nil, err)
				continue
			}
			if c.Do == "quit" {
				p.out.answer(c, nil, nil)
				return
			}
			go p.run(c)
		}
	}()
	select {
	case <-ended:
	case <-signals:
	}
}

func parseCommand(line []byte) (command, error) {
	var c command
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&c)
	return c, err
}

type fields map[string]any

// output writes one line at a time.
type output struct {
	mutex   sync.Mutex
	encoder *json.Encoder
}

func (o *output) write(line fields) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	// Nobody reads any more: the end of standard input follows.
	_ = o.encoder.Encode(line)
}

func (o *output) event(name string, line fields) {
	line["event"] = name
	o.write(line)
}

func (o *output) answer(c command, line fields, err error) {
	if line == nil {
		line = fields{}
	}
	line["answer"], line["do"], line["ok"] = c.ID, c.Do, err == nil
	if err != nil {
		line["error"] = strings.TrimSpace(err.Error())
	}
	o.write(line)
}
