"""Parts of a node that come straight from its configuration and know no other part."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module

from twisted.plugin import getPlugins

from meshrelay.background import Alarms
from meshrelay.config.files import read_secret, short_secret_warning
from meshrelay.config.listening import parse_stream_place, parse_udp_place
from meshrelay.config.schema import Config, SessionConfig
from meshrelay.counters import NodeCounters
from meshrelay.errors import ConfigError, ConfigProblem
from meshrelay.fanout.turn import Turn
from meshrelay.http.admin import AdminAccess
from meshrelay.http.admin_keys import WrongKeys
from meshrelay.interfaces import IMeshRelay, IMeshRelayApp
from meshrelay.machine.reliability import ReliabilityOptions
from meshrelay.open_files import raise_open_files_limit
from meshrelay.session.auth import (
    Authenticator,
    OpenAuthenticator,
    ReservingAuthenticator,
    TokenAuthenticator,
    TokenRules,
)
from meshrelay.session.rules import ConnectionRules
from meshrelay.transport.udp_link import UdpParts
from meshrelay.transport.websocket import WebSocketRules
from meshrelay.wire.frame import HEADER_BYTES
from meshrelay.wire.overlay_bridge import PEER_PREFIX

__all__ = [
    "admin_access",
    "application_setups",
    "connection_rules",
    "listen_as",
    "make_authenticator",
    "new_sid",
    "node_id_of",
    "udp_parts",
    "warnings_of",
    "websocket_rules",
]

#: Open files that are left for everything but clients: logs, HTTP, links, the reactor's own.
SPARE_FILES = 100

#: Deadline of a WebSocket's opening handshake.
HANDSHAKE_SECONDS = 5.0


def node_id_of(config: Config) -> str:
    """Return the configured ID, or a new one: the host name and four random hex digits."""
    return config.node.id or f"{socket.gethostname()}-{secrets.token_hex(2)}"


def make_authenticator(config: Config) -> Authenticator:
    """Return what decides who may sign in.

    :raises ConfigError: a key cannot be read.
    """
    users = _authenticator_of_users(config)
    return ReservingAuthenticator(users, PEER_PREFIX, "peers of the overlay") if config.overlay.bridge else users


def _authenticator_of_users(config: Config) -> Authenticator:
    auth = config.auth
    if auth.mode == "open":
        return OpenAuthenticator()
    is_symmetric = auth.algorithms[0].startswith("HS")
    key = read_secret(auth.secret_file if is_symmetric else auth.public_key_file)
    return TokenAuthenticator(TokenRules(key, tuple(auth.algorithms), auth.audience, auth.issuer))


def connection_rules(session: SessionConfig) -> ConnectionRules:
    """Return the rules of connections; as many as there may be open files, where [session] does not say."""
    return ConnectionRules.of(session, max(1, raise_open_files_limit() - SPARE_FILES))


def websocket_rules(config: Config) -> WebSocketRules:
    """Return the rules of opening handshakes."""
    handshake_seconds = min(HANDSHAKE_SECONDS, config.session.hello_timeout_seconds)
    return WebSocketRules(tuple(config.auth.allowed_origins), handshake_seconds)


def udp_parts(session: SessionConfig, turn: Turn, alarms: Alarms, pacer: Alarms, counters: NodeCounters) -> UdpParts:
    """Return what UDP sessions are made of."""
    reliability = ReliabilityOptions(
        max_message_bytes=session.max_payload_bytes + HEADER_BYTES,
        send_buffer_bytes=session.outbox_bytes,
        receive_window_packets=session.receive_window_packets,
        rto_floor_seconds=session.retransmit_floor_seconds,
        max_tries=session.retransmit_tries,
    )
    return UdpParts(
        turn,
        alarms,
        pacer,
        counters,
        secrets.token_bytes,
        session.max_payload_bytes,
        session.hello_timeout_seconds,
        reliability,
        session.slow_consumer,
    )


def admin_access(config: Config, wrong_keys: WrongKeys | None = None) -> AdminAccess:
    """Return who may see the inside of the cluster.

    :param wrong_keys: who guessed the key; None = nobody counts.
    :raises ConfigError: the key cannot be read.
    """
    key = read_secret(config.http.admin_key_file) if config.http.admin_key_file else b""
    return AdminAccess(key, not config.listen.http.lower().startswith("haproxy"), wrong_keys)


def new_sid() -> str:
    """Return 32 random hex digits."""
    return secrets.token_hex(16)


def application_setups(module_name: str) -> Iterable[Callable[[IMeshRelay], object]]:
    """The ``setup`` of each installed application, and of the module that the configuration names, last.

    :raises ConfigError: the module cannot be imported or has no ``setup``.
    """
    setups: list[Callable[[IMeshRelay], object]] = [plugin.setup for plugin in getPlugins(IMeshRelayApp)]
    if module_name:
        try:
            module = import_module(module_name)
        except ImportError as error:
            raise ConfigError([ConfigProblem("app.module", f"cannot import {module_name}: {error}")]) from error
        if not callable(getattr(module, "setup", None)):
            raise ConfigError([ConfigProblem("app.module", f"{module_name} has no setup(relay)")])
        setups.append(module.setup)
    return setups


def listen_as(key: str, listen: Callable[[], None]) -> None:
    """Open a listening place that is not one of [listen].

    :raises ConfigError: as `listen`, but the problem names `key`.
    """
    try:
        listen()
    except ConfigError as error:
        raise ConfigError([ConfigProblem(key, problem.problem) for problem in error.problems]) from error


def warnings_of(config: Config) -> Iterator[str]:
    """Yield what the operator should think over before others can connect.

    :raises ConfigError: the key of tokens cannot be read.
    """
    if config.auth.mode == "open":
        yield "auth.mode is open: everybody is who they say; set it to token before others can connect"
    if warning := short_secret_warning(config.auth):
        yield warning
    http, udp = config.listen.http, config.listen.udp
    if http and udp and not parse_udp_place(udp).is_loopback:
        place = parse_stream_place(http)
        if place.kind in ("tcp", "tcp6") and not place.is_loopback:
            yield "listen.http is plain: it hands out the keys of UDP clients, use tls: or a TLS proxy"
