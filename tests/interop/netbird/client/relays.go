package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/netbirdio/netbird/shared/relay/auth/hmac"
	v2 "github.com/netbirdio/netbird/shared/relay/auth/hmac/v2"
	"github.com/netbirdio/netbird/shared/relay/client"
)

// relay is what a peer does with one relay, or with a manager of many.
type relay interface {
	connect() error
	open(ctx context.Context, peer, server string, serverIP netip.Addr) (net.Conn, error)
	disconnect() error
	updateToken(token *hmac.Token) error
	state() fields
}

func newRelay(o options, out *output) (relay, error) {
	var serverIP netip.Addr
	if o.serverIP != "" {
		parsed, err := netip.ParseAddr(o.serverIP)
		if err != nil {
			return nil, err
		}
		serverIP = parsed
	}
	token, err := newToken(o)
	if err != nil {
		return nil, err
	}
	if o.useManager {
		return newManagedRelays(o, token, out)
	}
	return newOneRelay(o, serverIP, token, out)
}

// newToken makes what NetBird's management would send; nil is no token.
func newToken(o options) (*hmac.Token, error) {
	if o.payload != "" || o.signature != "" {
		return &hmac.Token{Payload: o.payload, Signature: o.signature}, nil
	}
	if o.secret == "" {
		return nil, nil
	}
	key := sha256.Sum256([]byte(o.secret))
	generator, err := v2.NewGenerator(v2.AuthAlgoHMACSHA256, key[:], o.tokenTime)
	if err != nil {
		return nil, err
	}
	token, err := generator.GenerateToken()
	if err != nil {
		return nil, err
	}
	signature := base64.StdEncoding.EncodeToString(token.Signature)
	return &hmac.Token{Payload: string(token.Payload), Signature: signature}, nil
}

type oneRelay struct {
	client *client.Client
	tokens *hmac.TokenStore
}

func newOneRelay(o options, serverIP netip.Addr, token *hmac.Token, out *output) (*oneRelay, error) {
	tokens := &hmac.TokenStore{}
	if err := tokens.UpdateToken(token); err != nil {
		return nil, err
	}
	r := &oneRelay{
		client: client.NewClientWithServerIP(o.servers, serverIP, tokens, o.peer, uint16(o.mtu)),
		tokens: tokens,
	}
	r.client.SetOnDisconnectListener(func(server string) { out.event("disconnected", fields{"server": server}) })
	return r, nil
}

// connect has no time limit of its own: the client's context ends the connection as well.
func (r *oneRelay) connect() error {
	return r.client.Connect(context.Background())
}

func (r *oneRelay) open(ctx context.Context, peer, server string, serverIP netip.Addr) (net.Conn, error) {
	if server != "" || serverIP.IsValid() {
		return nil, errors.New("another server needs the manager")
	}
	return r.client.OpenConn(ctx, peer)
}

func (r *oneRelay) disconnect() error {
	return r.client.Close()
}

func (r *oneRelay) updateToken(token *hmac.Token) error {
	return r.tokens.UpdateToken(token)
}

func (r *oneRelay) state() fields {
	// An error is no instance URL, which is what the empty one says.
	url, _ := r.client.ServerInstanceURL()
	return fields{
		"ready":           r.client.Ready(),
		"has_connections": r.client.HasConns(),
		"instance_url":    url,
		"server_ip":       ipText(r.client.ConnectedIP()),
		"transport":       r.client.Transport(),
	}
}

type managedRelays struct {
	manager *client.Manager
	cancel  context.CancelFunc
	out     *output
}

func newManagedRelays(o options, token *hmac.Token, out *output) (*managedRelays, error) {
	var servers []string
	if o.servers != "" {
		servers = strings.Split(o.servers, ",")
	}
	ctx, cancel := context.WithCancel(context.Background())
	manager := client.NewManager(ctx, servers, o.peer, uint16(o.mtu), client.WithMaxBackoffInterval(o.maxBackoff))
	manager.SetOnReconnectedListener(func() { out.event("reconnected", fields{}) })
	if err := manager.UpdateToken(token); err != nil {
		cancel()
		return nil, err
	}
	return &managedRelays{manager: manager, cancel: cancel, out: out}, nil
}

func (r *managedRelays) connect() error {
	return r.manager.Serve()
}

func (r *managedRelays) open(ctx context.Context, peer, server string, serverIP netip.Addr) (net.Conn, error) {
	if server == "" {
		home, _, err := r.manager.RelayInstanceAddress()
		if err != nil {
			return nil, err
		}
		server = home
	}
	connection, err := r.manager.OpenConn(ctx, server, peer, serverIP)
	if err != nil {
		return nil, err
	}
	closed := func() { r.out.event("disconnected", fields{"server": server}) }
	if err := r.manager.AddCloseListener(server, closed); err != nil {
		_ = connection.Close()
		return nil, err
	}
	return connection, nil
}

func (r *managedRelays) disconnect() error {
	r.cancel()
	return nil
}

func (r *managedRelays) updateToken(token *hmac.Token) error {
	return r.manager.UpdateToken(token)
}

func (r *managedRelays) state() fields {
	url, ip, _ := r.manager.RelayInstanceAddress()
	relays := []fields{}
	for _, s := range r.manager.RelayStates() {
		relays = append(relays, fields{"url": s.URL, "transport": s.Transport, "error": errorText(s.Err)})
	}
	return fields{
		"ready":        r.manager.Ready(),
		"instance_url": url,
		"server_ip":    ipText(ip),
		"relays":       relays,
		"last_error":   errorText(r.manager.RelayConnectError()),
	}
}

func ipText(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.String()
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
