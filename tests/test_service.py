"""The composition root: one configuration becomes one node."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.application.service import MultiService
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay import node_parts
from meshrelay.config.keys import keys_by_section
from meshrelay.config.schema import (
    AppConfig,
    AuthConfig,
    Config,
    GroupConfig,
    ListenConfig,
    NodeConfig,
    RelayConfig,
    SessionConfig,
    StaticGroup,
)
from meshrelay.errors import AuthenticationError, ConfigError, ErrorCode
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import CloseReason, Status
from meshrelay.service import Node, make_service
from meshrelay.testing.builders import make_group_id
from meshrelay.testing.link import MemoryLink
from meshrelay.wire.commands import Command, CoreCommand, NewGroup, decode_error, encode_new_group
from meshrelay.wire.frame import Frame
from meshrelay.wire.hello import Hello, encode_hello
from tests.transport.port_reactor import PortReactor
from tests.transport.quic_kit import write_certificate

SECRET = b"0123456789abcdef0123456789abcdef"


class NodeKit(SynchronousTestCase):
    """Starts nodes whose ports are open in memory only."""

    def setUp(self) -> None:
        """No node yet, and 1,000 open files."""
        self.patch(node_parts, "raise_open_files_limit", lambda: 1000)
        self.patch(node_parts, "getPlugins", lambda interface: [])
        self.errors = StringIO()
        self.patch(sys, "__stderr__", self.errors)
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.reactor = PortReactor()

    def make(self, config: Config | None = None) -> Node:
        """Return a node that was not started."""
        self.top: MultiService = make_service(config or Config(), self.reactor)
        node: Any = self.top.getServiceNamed("node")
        assert isinstance(node, Node)
        return node

    def start(self, config: Config | None = None) -> Node:
        """Return a node that runs."""
        node = self.make(config)
        self.top.startService()
        self.reactor.run()
        return node

    def refused(self, config: Config) -> str:
        """Start a node that cannot start; return what whoever started it reads."""
        self.make(config)
        stop = self.assertRaises(SystemExit, self.top.startService)
        self.assertEqual(stop.code, 1)
        return self.errors.getvalue()

    def log(self, level: Any = None) -> list[str]:
        """What was logged, of one level or of all."""
        return [formatEvent(event) for event in self.observer if level in (None, event["log_level"])]

    def sign_in(self, node: Node, user_id: str = "ann", token: str | None = None) -> MemoryLink:
        """Return the link of a client that has said HELLO."""
        link = MemoryLink()
        link.uplink = node.reception.accept(link)
        hello = encode_hello(Hello(protocol=1, user=user_id, token=token))
        link.frame_sent(Frame(0, 0, CoreCommand.HELLO, 1, hello))
        return link


class StartTests(NodeKit):
    """From a configuration to open ports."""

    def test_nothing_runs_yet(self) -> None:
        """Building a node opens nothing and starts no timer."""
        node = self.make()
        self.assertEqual((self.reactor.opened, self.reactor.getDelayedCalls(), node.is_ready), ([], [], False))

    def test_ports(self) -> None:
        """All listening places are opened where the configuration says."""
        self.start()
        opened = [(kind, port, interface) for kind, port, interface, _ in self.reactor.opened]
        expected = [("tcp", 7200), ("udp", 7100), ("tcp", 7300), ("tcp", 7000)]
        self.assertEqual(opened, [(kind, port, "127.0.0.1") for kind, port in expected])

    def test_ready_line(self) -> None:
        """When everything is open one line says so, with the node and each place; a supervisor may wait for it."""
        node = self.start(Config(node=NodeConfig(id="one"), listen=ListenConfig(tcp="tcp:0:interface=127.0.0.1")))
        (line,) = [text for text in self.log(LogLevel.info) if text.startswith("ready ")]
        expected = "ready node=one tcp=127.0.0.1:40000 udp=127.0.0.1:7100 websocket=127.0.0.1:7300 http=127.0.0.1:7000"
        self.assertEqual(line, expected)
        self.assertTrue(node.is_ready)

    def test_not_ready_before_the_reactor(self) -> None:
        """A node is ready when the reactor runs, for only then is anybody served."""
        node = self.make()
        self.top.startService()
        self.assertFalse(node.is_ready)

    def test_not_ready_when_stopped_first(self) -> None:
        """A node that is stopped before the reactor runs never says ready."""
        node = self.make()
        self.top.startService()
        self.successResultOf(node.stopService())
        self.reactor.run()
        self.assertFalse(node.is_ready)
        self.assertEqual([text for text in self.log() if text.startswith("ready ")], [])

    def test_off(self) -> None:
        """An empty place opens nothing, and clients are told of none there."""
        node = self.start(Config(listen=ListenConfig(websocket="", udp="")))
        self.assertEqual(set(node.places.addresses()), {"tcp", "http"})
        self.assertIsNone(node.place("WS", "relay.example"))
        self.assertIsNone(node.place("UDP", "relay.example"))

    def test_node_id(self) -> None:
        """Without a name a node makes one that no other has."""
        first, second = self.make(), self.make()
        self.assertNotEqual(first.node_id, second.node_id)
        self.assertRegex(first.node_id, r"-[0-9a-f]{4}\Z")
        self.assertEqual(self.make(Config(node=NodeConfig(id="one"))).node_id, "one")

    def test_two_nodes(self) -> None:
        """Two nodes in one process know nothing of each other."""
        first = self.start()
        second = self.make()
        self.sign_in(first)
        self.assertEqual((len(first.registry), len(second.registry)), (1, 0))

    def test_connections(self) -> None:
        """Without a limit of its own a node takes as many clients as it may open files, and keeps some for itself."""
        self.assertEqual(self.make().reception.rules.max_connections, 900)
        config = Config(session=SessionConfig(max_connections=7))
        self.assertEqual(self.make(config).reception.rules.max_connections, 7)

    def test_port_taken(self) -> None:
        """A port that somebody else has ends the start with its key on standard error, and with status 1."""
        self.reactor.taken = 7300
        self.assertTrue(self.refused(Config()).startswith("listen.websocket: "))

    def test_places(self) -> None:
        """Clients are told the port that is really open, on the host they asked or the advertised one."""
        node = self.start(Config(listen=ListenConfig(tcp="tcp:0:interface=127.0.0.1")))
        self.assertEqual(node.place("TCP", "relay.example"), ("TCP", "relay.example", 40000))
        self.assertEqual(node.place("WS", "relay.example"), ("WS", "relay.example", 7300))
        advertised = self.make(Config(listen=ListenConfig(advertised_host="game.example")))
        self.top.startService()
        self.assertEqual(advertised.place("UDP", "relay.example"), ("UDP", "game.example", 7100))

    def test_unix_place(self) -> None:
        """A Unix socket is no place that a client could be sent to."""
        node = self.start(Config(listen=ListenConfig(tcp="unix:/run/meshrelay")))
        self.assertIsNone(node.place("TCP", "relay.example"))

    def test_reserve(self) -> None:
        """The endpoint page gets secrets of the UDP port."""
        node = self.start()
        secrets = node.reserve_udp(node.authenticator.authenticate("ann", None), "", None)
        self.assertEqual([len(secret) for secret in secrets], [16] * 4)


class WarningTests(NodeKit):
    """What an operator should know before others connect."""

    def warnings(self, config: Config) -> str:
        """Start a node and return its warnings."""
        self.start(config)
        return "\n".join(self.log(LogLevel.warn))

    def token_config(self, secret: bytes = SECRET, **listen: str) -> Config:
        """A configuration with tokens."""
        path = Path(self.mktemp())
        path.write_bytes(secret)
        return Config(auth=AuthConfig(mode="token", secret_file=str(path)), listen=ListenConfig(**listen))

    def test_open(self) -> None:
        """Mode "open" is told."""
        self.assertIn("auth.mode is open", self.warnings(Config()))

    def test_quiet(self) -> None:
        """With tokens on loopback there is nothing to warn of."""
        self.assertEqual(self.warnings(self.token_config()), "")

    def test_short_secret(self) -> None:
        """A secret that can be guessed is told, without being shown."""
        text = self.warnings(self.token_config(b"short!"))
        self.assertIn("auth.secret_file", text)
        self.assertNotIn("short!", text)

    def test_plain_keys(self) -> None:
        """Keys of UDP clients that leave over plain HTTP are told."""
        config = self.token_config(http="tcp:7000", udp="udp:7100")
        self.assertIn("listen.http is plain", self.warnings(config))


class ApplicationTests(NodeKit):
    """Code of the operator inside the node."""

    def install(self, name: str, **contents: object) -> Config:
        """Make a module that can be imported; return a configuration that names it."""
        module = ModuleType(name)
        vars(module).update(contents)
        self.patch(sys, "modules", {**sys.modules, name: module})
        return Config(app=AppConfig(module=name))

    def test_setup(self) -> None:
        """setup gets the relay before any port is open, and the node's own ID is known to it."""
        seen: list[tuple[str, int]] = []

        def setup(relay: IMeshRelay) -> None:
            seen.append((relay.node_id, len(self.reactor.opened)))

        node = self.start(self.install("operators_app", setup=setup))
        self.assertEqual(seen, [(node.node_id, 0)])

    def test_plugins_first(self) -> None:
        """Installed applications are set up before the one that the configuration names."""
        order: list[str] = []

        class Plugin:
            """An installed application."""

            def setup(self, relay: IMeshRelay) -> None:
                """See `IMeshRelayApp`."""
                order.append("plugin")

        self.patch(node_parts, "getPlugins", lambda interface: [Plugin()])
        self.start(self.install("operators_app", setup=lambda relay: order.append("module")))
        self.assertEqual(order, ["plugin", "module"])

    def test_not_there(self) -> None:
        """A module that cannot be imported ends the start with the key and the reason; nothing was opened."""
        text = self.refused(Config(app=AppConfig(module="no_such_module_of_ours")))
        self.assertTrue(text.startswith("app.module: cannot import no_such_module_of_ours"))
        self.assertEqual(self.reactor.opened, [])

    def test_without_setup(self) -> None:
        """So does one without setup."""
        text = self.refused(self.install("operators_app", setup="not a function"))
        self.assertEqual(text, "app.module: operators_app has no setup(relay)\n")

    def test_setup_fails(self) -> None:
        """What setup raises keeps the node from starting, and is told with its place under the key."""

        def setup(relay: IMeshRelay) -> None:
            raise ZeroDivisionError("nothing to share")

        text = self.refused(self.install("operators_app", setup=setup))
        self.assertIn("app.module: setup of operators_app raised ZeroDivisionError: nothing to share (at ", text)
        self.assertIn("test_service.py:", text)
        self.assertEqual(self.reactor.opened, [])

    def test_hooks_are_in_time(self) -> None:
        """Hooks of setup see the first command of the first client."""
        seen: list[bytes] = []

        def setup(relay: IMeshRelay) -> None:
            relay.groups.before_create(lambda ver, cmd, payload, user: seen.append(payload))

        link = self.sign_in(self.start(self.install("operators_app", setup=setup)))
        payload = encode_new_group(NewGroup(True, True, 60, 0))
        link.frame_sent(Frame(1, 0, Command.GROUP_CREATE, 2, payload))
        self.assertEqual((seen, link.received[-1].status), ([payload], Status.OK))


class GroupTests(NodeKit):
    """The section [group]."""

    def test_static_groups(self) -> None:
        """Groups of the configuration exist from the start."""
        group_id = make_group_id("lobby")
        config = Config(group=GroupConfig(static_groups=(StaticGroup(group_id=group_id, interval_ms=200),)))
        group = self.start(config).groups.get_group(group_id)
        assert group is not None
        self.assertEqual((group.is_static, group.interval_ms), (True, 200))

    def test_not_exposed(self) -> None:
        """With expose_commands = false clients have no group commands; the application's groups work."""
        node = self.start(Config(group=GroupConfig(expose_commands=False)))
        link = self.sign_in(node)
        link.frame_sent(Frame(1, 0, Command.GROUP_CREATE, 2, encode_new_group(NewGroup(True, True, 60, 0))))
        self.assertEqual(decode_error(link.received[-1].payload)[0], ErrorCode.UNKNOWN_COMMAND)
        group_id = node.groups.create_group(None, True, False, 60, 0)
        self.assertIsNotNone(node.groups.get_group(group_id))


class ReloadTests(NodeKit):
    """A configuration that changes while the node runs."""

    def test_session_keys(self) -> None:
        """Every key of [session] that the reference marks as reloadable is applied, with its new value."""
        node = self.start()
        rules = {"hello_timeout_seconds", "heartbeat_seconds", "tcp_ttl_seconds", "udp_ttl_seconds"}
        rules |= {"commands_per_second", "max_connections", "pending_commands"}
        limits = {"resume_seconds", "replay_bytes"}
        marked = {key.name for key in keys_by_section()["session"].values() if key.reload}
        self.assertEqual(marked, rules | limits)
        new = {name: 50 + number for number, name in enumerate(sorted(marked))}
        node.reload(Config(session=msgspec.structs.replace(SessionConfig(), **new)))
        applied = {name: getattr(node.reception.rules, name) for name in rules}
        applied |= {name: getattr(node.registry._limits, name) for name in limits}
        self.assertEqual(applied, new)

    def auth(self, **keys: Any) -> Config:
        """A configuration with tokens and a secret in a file of its own."""
        path = Path(self.mktemp())
        path.write_bytes(keys.pop("secret", SECRET))
        return Config(auth=AuthConfig(mode="token", secret_file=str(path), **keys))

    def test_auth_keys(self) -> None:
        """The keys of [auth] that are marked as reloadable are the ones tried below."""
        marked = {key.name for key in keys_by_section()["auth"].values() if key.reload}
        tried = {"algorithms", "secret_file", "public_key_file", "audience", "issuer"}
        self.assertEqual(marked - {"allowed_origins"}, tried)

    def check_tokens(self, new: Config, old_token: str, new_token: str) -> None:
        """Reload: what was good is refused from then on, and what is good now is taken."""
        self.reactor = PortReactor()
        node = self.start(self.auth())
        self.assertEqual(node.authenticator.authenticate(None, old_token).user_id, "ann")
        node.reload(new)
        for authenticator in (node.authenticator, node.reception.authenticator):
            self.assertRaises(AuthenticationError, authenticator.authenticate, None, old_token)
            self.assertEqual(authenticator.authenticate(None, new_token).user_id, "ann")

    def test_secret(self) -> None:
        """A new secret counts from then on."""
        other = SECRET[::-1]
        old, new = (jwt.encode({"sub": "ann"}, secret, "HS256") for secret in (SECRET, other))
        self.check_tokens(self.auth(secret=other), old, new)

    def test_algorithms(self) -> None:
        """New algorithms count from then on."""
        secret = SECRET * 2
        node = self.start(self.auth(secret=secret))
        token = jwt.encode({"sub": "ann"}, secret, "HS512")
        self.assertRaises(AuthenticationError, node.authenticator.authenticate, None, token)
        node.reload(self.auth(secret=secret, algorithms=("HS512",)))
        self.assertEqual(node.authenticator.authenticate(None, token).user_id, "ann")

    def test_public_key(self) -> None:
        """A public key may take the place of a secret."""
        key = Ed25519PrivateKey.generate()
        path = Path(self.mktemp())
        path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        new = Config(auth=AuthConfig(mode="token", algorithms=("EdDSA",), public_key_file=str(path)))
        old = jwt.encode({"sub": "ann"}, SECRET, "HS256")
        self.check_tokens(new, old, jwt.encode({"sub": "ann"}, key, "EdDSA"))

    def test_audience(self) -> None:
        """A new audience counts from then on."""
        old, new = ({"sub": "ann"}, {"sub": "ann", "aud": "game"})
        tokens = (jwt.encode(old, SECRET, "HS256"), jwt.encode(new, SECRET, "HS256"))
        self.check_tokens(self.auth(audience="game"), *tokens)

    def test_issuer(self) -> None:
        """A new issuer counts from then on."""
        old, new = ({"sub": "ann"}, {"sub": "ann", "iss": "game"})
        tokens = (jwt.encode(old, SECRET, "HS256"), jwt.encode(new, SECRET, "HS256"))
        self.check_tokens(self.auth(issuer="game"), *tokens)

    def test_running_sessions_stay(self) -> None:
        """Nobody who is signed in is thrown out, and they keep what they were told."""
        node = self.start()
        link = self.sign_in(node)
        node.reload(Config(session=SessionConfig(max_connections=1, heartbeat_seconds=1.0)))
        self.assertFalse(link.is_closed)
        late = self.sign_in(node, "bob")
        self.assertTrue(late.is_aborted)

    def test_certificate_of_quic(self) -> None:
        """A renewed certificate of the relay is read again; one that is of no use changes nothing at all."""
        certificate, key = write_certificate(Path(self.mktemp()))
        place = "udp:0:interface=127.0.0.1"
        relay = RelayConfig(quic=place, certificate_file=certificate, key_file=key)
        node = self.start(Config(relay=relay))
        health = node.relay.health()
        assert health is not None
        end = datetime(2099, 1, 1, tzinfo=UTC)
        write_certificate(Path(certificate).parent, end)
        node.reload(Config(relay=relay))
        self.assertEqual(health.certificate_ends_at(), end.timestamp())
        Path(key).write_bytes(b"nothing")
        changed = Config(relay=relay, session=SessionConfig(heartbeat_seconds=1.0))
        self.assertRaises(ConfigError, node.reload, changed)
        self.assertNotEqual(node.reception.rules.heartbeat_seconds, 1.0)

    def test_needs_a_restart(self) -> None:
        """What a running node cannot change stays as it is, and the log says so."""
        node = self.start(self.auth())
        node.reload(Config(session=SessionConfig(max_payload_bytes=64)))
        self.assertIn("need a restart", "\n".join(self.log(LogLevel.warn)))
        self.assertEqual(node.reception.rules.max_payload_bytes, 65_536)
        self.assertRaises(AuthenticationError, node.authenticator.authenticate, "ann", None)

    def test_unreadable_secret(self) -> None:
        """A secret that cannot be read changes nothing, not even what was right beside it."""
        node = self.start(self.auth())
        before = node.reception.rules, node.authenticator
        wrong = Config(
            auth=AuthConfig(mode="token", secret_file=self.mktemp()), session=SessionConfig(heartbeat_seconds=1.0)
        )
        self.assertRaises(ConfigError, node.reload, wrong)
        self.assertEqual((node.reception.rules, node.authenticator), before)

    def test_before_the_start(self) -> None:
        """A reload that comes before the ports are open does no harm."""
        node = self.make()
        node.reload(Config(session=SessionConfig(heartbeat_seconds=7.0)))
        self.assertEqual(node.reception.rules.heartbeat_seconds, 7.0)


class StopTests(NodeKit):
    """Going down."""

    def closed(self) -> list[bool]:
        """Which ports are closed: tcp, udp, websocket, http."""
        return [port.is_closed for port in self.reactor.ports]

    def let_links_go(self, *links: MemoryLink) -> None:
        """Let clients close their ends."""
        for link in links:
            link.lose("closed")

    def test_empty(self) -> None:
        """A node without clients stops at once, closes all ports and leaves no timer behind."""
        node = self.start()
        self.successResultOf(self.top.stopService())
        self.assertEqual(self.closed(), [True] * 4)
        self.assertFalse(node.is_ready)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.log()[-1], "stopped")

    def test_clients(self) -> None:
        """Clients are told DRAINING, and nobody new is let in; HTTP and UDP stay open until they are gone."""
        node = self.start()
        link = self.sign_in(node)
        stopped = self.top.stopService()
        self.assertNoResult(stopped)
        self.assertIs(link.close_reason, CloseReason.DRAINING)
        self.assertEqual(self.closed(), [True, False, True, False])
        self.assertFalse(node.is_ready)
        self.let_links_go(link)
        self.reactor.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(self.closed(), [True] * 4)

    def test_last_words(self) -> None:
        """What was broadcast before the stop arrives before GOODBYE, merging interval or not."""
        node = self.start()
        link = self.sign_in(node)
        group_id = node.groups.create_group(node.registry.find_user("ann").user, True, True, 60, 500)  # type: ignore[union-attr]
        node.groups.announce(group_id, 2, 1, b"last words", True)
        self.top.stopService()
        commands = [(frame.ver, frame.cmd) for frame in link.received[-2:]]
        self.assertEqual(commands, [(2, 1), (0, CoreCommand.GOODBYE)])

    def test_client_that_stays(self) -> None:
        """A client that does not close is not waited for longer than drain_seconds and a bit."""
        node = self.start(Config(node=NodeConfig(drain_seconds=2.0)))
        self.sign_in(node)
        stopped = self.top.stopService()
        for _ in range(74):
            self.reactor.advance(0.1)
        self.assertNoResult(stopped)
        for _ in range(4):
            self.reactor.advance(0.1)
        self.successResultOf(stopped)

    def test_cut(self) -> None:
        """Whoever is in a hurry need not wait."""
        node = self.start()
        self.sign_in(node)
        node.cut_drain()
        stopped = self.top.stopService()
        node.cut_drain()
        self.successResultOf(stopped)

    def test_factories(self) -> None:
        """The ports serve what their names say."""
        self.start()
        kinds: list[Callable[..., object]] = [type(factory) for factory in self.reactor.factories]
        names = [kind.__name__ for kind in kinds]
        self.assertEqual(names, ["TcpFactory", "UdpListener", "NodeWebSocketFactory", "RelaySite"])
