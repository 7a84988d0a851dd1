"""Tests of `meshrelay.node_parts`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.config.schema import (
    AuthConfig,
    Config,
    HttpConfig,
    ListenConfig,
    NodeConfig,
    OverlayConfig,
    SessionConfig,
)
from meshrelay.counters import NodeCounters
from meshrelay.errors import ConfigError, ConfigProblem, MalformedPayload
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IMeshRelay
from meshrelay.machine.packets import MAX_FRAGMENT_BYTES
from meshrelay.node_parts import (
    admin_access,
    application_setups,
    connection_rules,
    listen_as,
    make_authenticator,
    new_sid,
    node_id_of,
    udp_parts,
    warnings_of,
    websocket_rules,
)
from meshrelay.session.auth import OpenAuthenticator, TokenAuthenticator


class PartTests(SynchronousTestCase):
    """From configuration to parts."""

    def test_node_id(self) -> None:
        """The configured ID, else one that is new each time."""
        self.assertEqual(node_id_of(Config(node=NodeConfig(id="n1"))), "n1")
        first, second = node_id_of(Config()), node_id_of(Config())
        self.assertRegex(first, r"\A.+-[0-9a-f]{4}\Z")
        self.assertEqual(first[:-4], second[:-4])

    def test_sid(self) -> None:
        """32 hex digits that are never the same."""
        self.assertRegex(new_sid(), r"\A[0-9a-f]{32}\Z")
        self.assertNotEqual(new_sid(), new_sid())

    def test_authenticator(self) -> None:
        """By mode; a key that cannot be read is told."""
        no_bridge = OverlayConfig(bridge=False)
        self.assertIsInstance(make_authenticator(Config(overlay=no_bridge)), OpenAuthenticator)
        path = Path(self.mktemp())
        path.write_text("s" * 32)
        config = Config(auth=AuthConfig(mode="token", secret_file=str(path)), overlay=no_bridge)
        self.assertIsInstance(make_authenticator(config), TokenAuthenticator)
        path.unlink()
        self.assertRaises(ConfigError, make_authenticator, config)

    def test_reserved_ids(self) -> None:
        """While users and peers of the overlay can write to each other nobody signs in as a peer."""
        for bridge in (True, False):
            authenticator = make_authenticator(Config(overlay=OverlayConfig(bridge=bridge)))
            self.assertEqual(authenticator.authenticate("ann", None).user_id, "ann")
            if bridge:
                refused = self.assertRaises(MalformedPayload, authenticator.authenticate, "peer:x", None)
                self.assertIn("peers of the overlay", refused.text)
            else:
                self.assertEqual(authenticator.authenticate("peer:x", None).user_id, "peer:x")

    def test_listen_as(self) -> None:
        """A port that cannot be opened is told under the key that names it."""

        def listen() -> None:
            raise ConfigError([ConfigProblem("listen.overlay", "is taken")])

        refused = self.assertRaises(ConfigError, listen_as, "overlay.listen", listen)
        self.assertEqual([str(problem) for problem in refused.problems], ["overlay.listen: is taken"])

    def test_warnings(self) -> None:
        """The operator is warned of open sign-in, guessable secrets and keys in the clear; else of nothing."""
        path = Path(self.mktemp())
        path.write_text("s" * 31)
        auth = AuthConfig(mode="token", secret_file=str(path))
        listen = ListenConfig(http="tcp:1", udp="udp:2")
        told = [*warnings_of(Config(auth=auth, listen=listen)), *warnings_of(Config())]
        self.assertEqual([warning.split(" ")[0] for warning in told], ["auth.secret_file:", "listen.http", "auth.mode"])
        path.write_text("s" * 32)
        self.assertEqual(list(warnings_of(Config(auth=auth))), [])

    def test_rules(self) -> None:
        """What is configured counts, what is not comes from the limit of open files."""
        self.assertEqual(connection_rules(SessionConfig(max_connections=7)).max_connections, 7)
        self.assertGreater(connection_rules(SessionConfig()).max_connections, 0)

    def test_handshake(self) -> None:
        """The opening handshake never takes longer than HELLO may."""
        rules = websocket_rules(Config(session=SessionConfig(hello_timeout_seconds=1.5)))
        self.assertIn(1.5, rules)

    def test_small_payloads(self) -> None:
        """What the node itself says to a UDP client fits, however small messages of users must be."""
        clock = Clock()
        alarms = Alarms(clock)
        parts = udp_parts(SessionConfig(max_payload_bytes=64), Turn(clock), alarms, alarms, NodeCounters())
        self.assertEqual(parts.reliability.max_message_bytes, MAX_FRAGMENT_BYTES)

    def test_admin(self) -> None:
        """A key that cannot be read is told; behind a proxy addresses are not trusted."""
        path = self.mktemp()
        self.assertRaises(ConfigError, admin_access, Config(http=HttpConfig(admin_key_file=path)))
        admin_access(Config(listen=ListenConfig(http="haproxy:tcp:0:interface=127.0.0.1")))

    def test_setups(self) -> None:
        """A module that cannot be imported, or has no setup, is told under its key."""
        for name in ("no.such.module", "json"):
            error = self.assertRaises(ConfigError, application_setups, name)
            self.assertEqual([problem.path for problem in error.problems], ["app.module"])

    def test_broken_module(self) -> None:
        """A module with a typo is told with its place, not as a traceback."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "app_with_typo.py").write_text("def setup(relay:\n")
        (directory / "app_with_fault.py").write_text("\n1 / 0\n")
        self.patch(sys, "path", [str(directory), *sys.path])
        for name, place in (("app_with_typo", "app_with_typo.py, line 1"), ("app_with_fault", "app_with_fault.py:2")):
            error = self.assertRaises(ConfigError, application_setups, name)
            self.assertIn(f"app.module: cannot import {name}", str(error))
            self.assertIn(place, str(error))

    def test_coroutine(self) -> None:
        """A setup that would have to be waited for is refused, since nobody waits for it."""

        async def setup(relay: IMeshRelay) -> None:
            raise AssertionError("never run")

        module = ModuleType("app_that_waits")
        vars(module)["setup"] = setup
        self.patch(sys, "modules", {**sys.modules, module.__name__: module})
        *_, call = application_setups(module.__name__)
        error = self.assertRaises(ConfigError, call, None)
        self.assertIn("must not be a coroutine function", str(error))
