// NetBird's own relay server as a program for tests.
//
// It prints "ready PORT" when it accepts connections, and ends when its standard input ends or a signal says so, so
// that it never outlives the test that started it. Its log goes to standard error.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/netbirdio/netbird/relay/server"
	"github.com/netbirdio/netbird/shared/relay/auth"
	"github.com/netbirdio/netbird/shared/relay/auth/allow"
	log "github.com/sirupsen/logrus"
)

const (
	startTime    = 10 * time.Second
	shutdownTime = 10 * time.Second
	probeWait    = 10 * time.Millisecond
)

type options struct {
	listen, exposed, secret, cert, key, logLevel string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "`HOST:PORT` of WebSocket, and of QUIC; port 0 chooses a free one")
	flag.StringVar(&o.exposed, "exposed", "", "`ADDRESS` that clients are told (default: the listening one)")
	flag.StringVar(&o.secret, "secret", "", "the `TEXT` that tokens are signed with (default: everybody is let in)")
	flag.StringVar(&o.cert, "cert", "", "PEM `FILE` of the certificate: turns TLS on, and QUIC with it")
	flag.StringVar(&o.key, "key", "", "PEM `FILE` of the certificate's key")
	flag.StringVar(&o.logLevel, "log-level", "warn", "`LEVEL` of the log")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	level, err := log.ParseLevel(o.logLevel)
	if err != nil {
		return err
	}
	log.SetLevel(level)
	tlsConfig, err := tlsConfig(o)
	if err != nil {
		return err
	}
	address, err := freeAddress(o.listen)
	if err != nil {
		return err
	}
	exposed := o.exposed
	if exposed == "" {
		exposed = address
	}
	relay, err := server.NewServer(server.Config{
		ExposedAddress: exposed,
		TLSSupport:     tlsConfig != nil,
		AuthValidator:  validator(o.secret),
	})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		failed <- relay.Listen(server.ListenerConfig{Address: address, TLSConfig: tlsConfig})
	}()
	if err := waitUntilReady(address, tlsConfig != nil, failed); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(address)
	fmt.Println("ready", port)

	select {
	case err := <-failed:
		return fmt.Errorf("stopped listening: %w", err)
	case <-untilTheEnd():
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	return relay.Shutdown(ctx)
}

// validator is for the hash of the secret, as in NetBird's own program.
func validator(secret string) server.Validator {
	if secret == "" {
		return &allow.Auth{}
	}
	key := sha256.Sum256([]byte(secret))
	return auth.NewTimedHMACValidator(key[:])
}

func tlsConfig(o options) (*tls.Config, error) {
	if o.cert == "" && o.key == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, nil
}

// freeAddress turns port 0 into one that is free for TCP and UDP: the server listens on both and does not say where.
func freeAddress(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port != "0" {
		return listen, err
	}
	for range 100 {
		tcp, err := net.Listen("tcp", listen)
		if err != nil {
			return "", err
		}
		port := strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port)
		udp, err := net.ListenPacket("udp", net.JoinHostPort(host, port))
		_ = tcp.Close()
		if err != nil {
			continue
		}
		_ = udp.Close()
		return net.JoinHostPort(host, port), nil
	}
	return "", errors.New("no port is free for both TCP and UDP")
}

// waitUntilReady asks for the page of the relay until there is an answer: 426, for a request that is no WebSocket.
func waitUntilReady(address string, withTLS bool, failed <-chan error) error {
	url := "http://" + address + "/relay"
	if withTLS {
		url = "https://" + address + "/relay"
	}
	client := http.Client{
		Timeout: time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		},
	}
	for end := time.Now().Add(startTime); time.Now().Before(end); {
		response, err := client.Get(url)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode != http.StatusUpgradeRequired {
				return fmt.Errorf("somebody else listens on %s", address)
			}
			return nil
		}
		select {
		case err := <-failed:
			return fmt.Errorf("cannot listen: %w", err)
		case <-time.After(probeWait):
		}
	}
	return fmt.Errorf("not ready within %s", startTime)
}

func untilTheEnd() <-chan struct{} {
	end := make(chan struct{}, 2)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		end <- struct{}{}
	}()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end <- struct{}{}
	}()
	return end
}
