"""Parts of a node that come straight from its configuration and know no other part."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from inspect import iscoroutine
from traceback import extract_tb
from typing import Protocol

from twisted.plugin import getPlugins

from meshrelay.background import Alarms
from meshrelay.components.hooks import Command
from meshrelay.config.files import read_secret, short_secret_warning
from meshrelay.config.listening import is_all_addresses, parse_stream_place, parse_udp_place
from meshrelay.config.schema import Config, SessionConfig
from meshrelay.counters import NodeCounters
from meshrelay.errors import ConfigError, ConfigProblem
from meshrelay.fanout.turn import Turn
from meshrelay.http.admin import AdminAccess
from meshrelay.http.admin_keys import WrongKeys
from meshrelay.http.console import Place
from meshrelay.interfaces import IMeshRelay, IMeshRelayApp
from meshrelay.machine.packets import MAX_FRAGMENT_BYTES
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
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.transport.stream_link import shown_address
from meshrelay.transport.udp_link import UdpParts
from meshrelay.transport.websocket import WebSocketRules
from meshrelay.wire.frame import HEADER_BYTES
from meshrelay.wire.overlay_bridge import PEER_PREFIX

__all__ = [
    "admin_access",
    "advertised_places",
    "application_setups",
    "connection_rules",
    "expose_commands",
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
        # The node's own words, such as the answer to a sign-in, must fit however small max_payload_bytes is.
        max_message_bytes=max(session.max_payload_bytes + HEADER_BYTES, MAX_FRAGMENT_BYTES),
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


def advertised_places(places: ListeningPlaces, place: Place, own_host: str) -> dict[str, str]:
    """Return where clients connect, as the endpoint API of another node tells them: kind of place -> host:port.

    :param place: see `meshrelay.http.endpoint.Endpoints.place`.
    :param own_host: where a port that is open on all addresses is found.
    """
    kinds = {"tcp": "TCP", "udp": "UDP", "websocket": "WS"}
    told = {}
    for kind, server_type in kinds.items():
        host = getattr(places.host(kind), "host", "")
        own = place(server_type, own_host if is_all_addresses(host) else host)
        if own is not None:
            told_type, shown_host, port = own
            told["wss" if told_type == "WSS" else kind] = shown_address(shown_host, port)
    return told


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
        except Exception as error:  # whatever the module does when it is imported: a typo is a SyntaxError
            raise _application_error(f"cannot import {module_name}: {error}", error) from error
        if not callable(getattr(module, "setup", None)):
            raise ConfigError([ConfigProblem("app.module", f"{module_name} has no setup(relay)")])
        setups.append(_named_setup(module_name, module.setup))
    return setups


def _named_setup(module_name: str, setup: Callable[[IMeshRelay], object]) -> Callable[[IMeshRelay], object]:
    """Return what calls `setup`, and turns what it raises into a problem of the key that names it."""

    def call(relay: IMeshRelay) -> object:
        try:
            result = setup(relay)
        except ConfigError:
            raise
        except Exception as error:  # the operator's code
            problem = f"setup of {module_name} raised {type(error).__name__}: {error}"
            raise _application_error(problem, error) from error
        if iscoroutine(result):
            # Nothing can be waited for before the node listens; left alone it would just never run.
            result.close()
            raise ConfigError([ConfigProblem("app.module", f"setup of {module_name} must not be a coroutine function")])
        return result

    return call


def _application_error(problem: str, error: Exception) -> ConfigError:
    """Say where in the operator's code it was, in place of a traceback: innermost last, at most five lines of it."""
    machinery = ("<frozen importlib", import_module.__code__.co_filename)
    frames = [frame for frame in extract_tb(error.__traceback__)[1:] if not frame.filename.startswith(machinery)]
    places = [f"{frame.filename}:{frame.lineno}" for frame in frames[-5:]]
    where = f" (at {', '.join(places)})" if places else ""
    return ConfigError([ConfigProblem("app.module", problem + where)])


class Exposable(Protocol):
    """A component with commands that clients may use or not."""

    def command_table(self) -> Mapping[tuple[int, int], Command]:
        """Empty unless the commands are exposed."""

    def expose_commands(self) -> None:
        """Expose them; once."""


def expose_commands(
    exposed: Iterable[tuple[Exposable, bool]], register: Callable[[Mapping[tuple[int, int], Command]], None]
) -> None:
    """Let clients use the built-in commands, now that the application was set up.

    :param exposed: with each, whether the configuration says so; an application may have exposed them itself.
    """
    for component, is_exposed in exposed:
        if is_exposed and not component.command_table():
            component.expose_commands()
        register(component.command_table())


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
