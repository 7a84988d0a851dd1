"""The npm package peer-relay against itself: what the programs of the interop tests can show, they show."""

from __future__ import annotations

from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.malformed_frames import DELIVERED, FORWARDED, HELLOS, NON_PACKETS, REPLIED, SIGNALS, Frame
from tests.interop.peer_relay_programs import JsPeers, Peer, Refused, install_packages, missing_reason, packages
from tests.interop.raw_overlay_peer import RawPeer


class InstallTests(SynchronousTestCase):
    """Where the package comes from."""

    def test_no_node(self) -> None:
        """Where Node is missing, the reason for skipping says so in the words that fail in CI."""
        self.assertTrue(missing_reason(path="/nonexistent").startswith("missing: Node.js"))

    def test_installed_once(self) -> None:
        """The second installation is the first one's files."""
        installed = packages()
        changed = installed.stat().st_mtime_ns
        self.assertEqual(install_packages(installed.parent.parent), installed)
        self.assertEqual(installed.stat().st_mtime_ns, changed)


class CrashTests(SynchronousTestCase):
    """Every frame that our peers are tested with does kill a process of the package."""

    def setUp(self) -> None:
        packages()
        self.running = ExitStack()
        self.addCleanup(self.running.close)
        self.js = self.running.enter_context(JsPeers(may_crash=True))

    def dial(self, peer: Peer, peer_id: str = "") -> RawPeer:
        """A raw link to a peer."""
        return self.running.enter_context(RawPeer.dial(peer.url, peer_id))

    def check_crash(self, name: str) -> None:
        """Something has crashed, or will in a moment; that is then forgotten."""
        try:
            self.js.wait_event("crashed", lambda event: True)
        except AssertionError:
            self.fail(f"survived: {name}")
        self.js.crashes.clear()

    def test_hello(self) -> None:
        """Five hellos kill."""
        victim = self.js.make("victim", port=0)
        for name, frame in HELLOS.items():
            self.dial(victim).send_json(frame("", ""))
            self.check_crash(name)

    def check(self, frames: dict[str, Frame]) -> None:
        """Each of the frames kills the neighbour to whom it is addressed."""
        victim = self.js.make("victim", port=0)
        for name, frame in frames.items():
            raw = self.dial(victim).hello()
            raw.send_json(frame(victim.peer_id, raw.peer_id))
            self.check_crash(name)

    def test_delivered(self) -> None:
        """Frames of a wrong shape kill the neighbour."""
        self.check(DELIVERED)

    def test_signal(self) -> None:
        """A WebRTC signal kills a peer that has no WebRTC."""
        self.check(SIGNALS)

    def test_forwarded(self) -> None:
        """Frames that pass by kill the relay."""
        relay = self.js.make("relay", port=0)
        target = self.dial(relay).hello()
        for name, frame in FORWARDED.items():
            raw = self.dial(relay).hello()
            raw.send_json(frame(target.peer_id, raw.peer_id))
            self.check_crash(name)

    def test_replied(self) -> None:
        """A path that is no path kills whoever answers."""
        victim = self.js.make("victim", port=0)
        for name, frame in REPLIED.items():
            raw = self.dial(victim).hello()
            raw.send_json(frame(victim.peer_id, raw.peer_id))
            victim.next_message()
            with self.assertRaises(Refused, msg=name) as caught:
                victim.send(raw.peer_id, "answer")
            self.assertIn("TypeError", str(caught.exception))

    def test_socket(self) -> None:
        """Data of another form kill a Socket."""
        victim = self.js.make_socket("victim", port=0)
        for name, data in NON_PACKETS.items():
            self.dial(victim).hello().send(victim.peer_id, "user", data)
            self.check_crash(name)
