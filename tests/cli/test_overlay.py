"""Tests of `meshrelay.cli.overlay`; the commands as processes are in `tests.integration.test_overlay_command`."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.overlay import JOIN_SECONDS, command, join, print_messages, print_peers, print_trace
from meshrelay.peer_relay import NotDelivered, NotLinked, PeerRelay
from tests.peer_relay.memory_sockets import SocketReactor

NOBODY = b"\x55" * 20


class OptionTests(SynchronousTestCase):
    """What is asked on the command line."""

    def test_refused(self) -> None:
        """What cannot work is refused before anybody is dialled, with a word on what to do."""
        good = ("--bootstrap", "ws://127.0.0.1:1")
        for options, text in (
            (("peers",), "--bootstrap"),
            (("send", *good, "12", "hello"), "40 hex digits"),
            (("send", *good, "x" * 40, "hello"), "40 hex digits"),
            (("send", *good, "--json", NOBODY.hex(), "{"), "no JSON"),
            (("send", *good, "--json", NOBODY.hex(), "[" * 100_000), "no JSON"),
            (("trace", *good), "ID"),
            (("listen", *good, "--count", "-1"), "count"),
            (("peers", *good, "--seconds", "601"), "seconds"),
        ):
            result = CliRunner().invoke(command, options)
            self.assertEqual((options, result.exit_code, result.stdout), (options, 2, ""))
            self.assertIn(text, result.stderr)

    def test_key_file(self) -> None:
        """A key file that others may read is refused, with its name and what to do."""
        path = Path(self.mktemp())
        path.write_text("")
        os.chmod(path, 0o644)
        result = CliRunner().invoke(command, ["peers", "--bootstrap", "ws://127.0.0.1:1", "--key-file", str(path)])
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertIn(str(path), result.stderr)
        self.assertIn("chmod 600", result.stderr)


class BodyTests(SynchronousTestCase):
    """What the commands do once there is a peer."""

    def setUp(self) -> None:
        """A hub, and a peer that only knows it."""
        self.reactor = SocketReactor()
        self.hub = self.make(port=0)
        self.peer = self.make(self.hub.url)
        self.out, self.err = io.StringIO(), io.StringIO()

    def make(self, *bootstrap: str, port: int | None = None) -> PeerRelay:
        """A peer on connections in memory."""
        peer = PeerRelay(self.reactor, port=port, bootstrap=bootstrap, webrtc=False)
        self.reactor.pass_time(0.5)
        return peer

    def begin(self, coroutine: Any, seconds: float = 0.0) -> Deferred[None]:
        """Run a body for some time."""
        with contextlib.redirect_stdout(self.out), contextlib.redirect_stderr(self.err):
            done = Deferred.fromCoroutine(coroutine)
            self.reactor.pass_time(seconds)
        return done

    def printed(self) -> list[str]:
        """Lines of standard output."""
        return self.out.getvalue().splitlines()

    def test_join(self) -> None:
        """It waits for the first link, or has it already."""
        peer = PeerRelay(self.reactor, bootstrap=[self.hub.url], webrtc=False)
        joined = self.begin(join(self.reactor, peer))
        self.assertNoResult(joined)
        self.reactor.pass_time(0.5)
        self.successResultOf(joined)
        self.successResultOf(self.begin(join(self.reactor, peer)))
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if "timeItOut" in str(call)], [])

    def test_nobody_to_join(self) -> None:
        """A bootstrap that is not there is an error, after a while."""
        joined = self.begin(join(self.reactor, self.make("ws://127.0.0.1:1")), JOIN_SECONDS - 0.5)
        self.assertNoResult(joined)
        self.reactor.pass_time(1)
        self.assertIn("10 seconds", str(self.failureResultOf(joined, NotLinked).value))

    def test_peers(self) -> None:
        """Those that are linked come first, with how; then those that were only heard of."""
        other = self.make(self.hub.url)
        self.reactor.pass_time(1)
        done = self.begin(print_peers(self.reactor, other, 2.0, False), 1)
        self.assertEqual(self.printed(), [])
        self.reactor.pass_time(0.9)
        with contextlib.redirect_stdout(self.out):
            self.reactor.pass_time(0.2)
        self.successResultOf(done)
        lines = [
            f"{self.hub.id.hex()}  ws    meshrelay  127.0.0.1:{self.hub.port}",
            f"{self.peer.id.hex()}  -     -          -",
        ]
        self.assertEqual(self.printed(), lines)

    def test_peers_as_json(self) -> None:
        """For programs the same is one JSON object a line."""
        self.successResultOf(self.begin(print_peers(self.reactor, self.peer, 0.0, True), 0.1))
        [line] = self.printed()
        address = f"127.0.0.1:{self.hub.port}"
        self.assertEqual(
            json.loads(line), {"id": self.hub.id.hex(), "transport": "ws", "address": address, "is_proved": True}
        )

    def test_listen(self) -> None:
        """Each message is one line of ASCII that says from whom it is, and it ends after as many as were asked for."""
        done = self.begin(print_messages(self.reactor, self.peer, 2))
        self.assertIn(self.peer.id.hex(), self.err.getvalue())
        for data in ("a\nü\x1b[0m", None, "three"):
            self.hub.send_nowait(self.peer.id, data)
        with contextlib.redirect_stdout(self.out):
            self.reactor.pass_time(0.5)
        self.successResultOf(done)
        lines = self.printed()
        fields = {"from": self.hub.id.hex(), "is_verified": True}
        self.assertEqual(
            [json.loads(line) for line in lines], [{**fields, "data": "a\nü\x1b[0m"}, {**fields, "data": None}]
        )
        self.assertTrue("".join(lines).isascii())
        self.assertTrue("".join(lines).isprintable())

    def test_last_message(self) -> None:
        """Who sends the last message hears that it came, though the listener leaves."""
        done = self.begin(print_messages(self.reactor, self.peer, 1))
        done.addCallback(lambda _: self.peer.destroy())
        sent = self.hub.send(self.peer.id, "x")
        with contextlib.redirect_stdout(self.out):
            self.reactor.pass_time(0.5)
        self.successResultOf(sent)

    def test_listen_for_ever(self) -> None:
        """Without a count it goes on until it is interrupted, and then prints no more."""
        done = self.begin(print_messages(self.reactor, self.peer, 0))
        for expected in (1, 2, 2):
            if expected == len(self.printed()):
                done.cancel()
                self.failureResultOf(done, CancelledError)
            self.hub.send_nowait(self.peer.id, "x")
            with contextlib.redirect_stdout(self.out):
                self.reactor.pass_time(0.5)
            self.assertEqual(len(self.printed()), expected)

    def test_trace(self) -> None:
        """The way is printed from the other peer to this one, with its length."""
        other = self.make(self.hub.url)
        self.reactor.pass_time(1)
        self.successResultOf(self.begin(print_trace(self.peer, other.id), 1))
        *hops, summary = self.printed()
        self.assertEqual(hops, [f" {n}  {peer.id.hex()}" for n, peer in enumerate((other, self.hub, self.peer))])
        self.assertRegex(summary, r"^2 links, \d+\.\d ms there and back$")

    def test_trace_of_neighbour(self) -> None:
        """One link is one link."""
        self.successResultOf(self.begin(print_trace(self.peer, self.hub.id), 1))
        self.assertRegex(self.printed()[-1], r"^1 link, ")

    def test_trace_of_nobody(self) -> None:
        """A peer that does not answer is an error."""
        self.failureResultOf(self.begin(print_trace(self.peer, NOBODY), 11), NotDelivered)
        self.assertEqual(self.printed(), [])
