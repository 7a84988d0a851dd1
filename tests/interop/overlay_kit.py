"""What tests of the overlay with peers of both kinds share."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.nat_lab import Namespace
from tests.interop.peer_relay_programs import EVENT_SECONDS, JsPeers, OwnPeers, Peer, PeerProcess, packages
from tests.interop.raw_overlay_peer import RawPeer

__all__ = ["OverlayTests", "QUIET_SECONDS"]

#: On one machine, longer than whatever is on its way.
QUIET_SECONDS = 0.3

#: Longest wait for links to settle.
SETTLED_SECONDS = 20.0


class OverlayTests(SynchronousTestCase):
    """Runs processes of peers until the end of the test; the first of each kind is started when it is wanted."""

    #: None: the network of the machine.
    namespace: Namespace | None = None
    has_asyncio = False

    def setUp(self) -> None:
        packages()
        self.running = ExitStack()
        self.addCleanup(self.running.close)
        self._processes: dict[str, PeerProcess] = {}

    def start_js(self, *, may_crash: bool = False) -> JsPeers:
        """One more process of Node."""
        return self.running.enter_context(JsPeers(self.namespace, may_crash=may_crash))

    def start_own(self) -> OwnPeers:
        """One more process of ours."""
        return self.running.enter_context(OwnPeers(self.namespace, has_asyncio=self.has_asyncio))

    def process(self, kind: str) -> PeerProcess:
        """The process for all peers of a kind: "js" or "own"."""
        if kind not in self._processes:
            self._processes[kind] = self.start_js() if kind == "js" else self.start_own()
        return self._processes[kind]

    @property
    def js(self) -> PeerProcess:
        """The process of the package's peers."""
        return self.process("js")

    @property
    def own(self) -> PeerProcess:
        """The process of our peers."""
        return self.process("own")

    def dial(self, peer: Peer, peer_id: str = "", *, receive_bytes: int = 0) -> RawPeer:
        """A WebSocket to a peer, without a hello."""
        dial = partial(RawPeer.dial, peer.url, peer_id, receive_bytes=receive_bytes)
        return self.running.enter_context(dial() if self.namespace is None else self.namespace.call(dial))

    def settle(self, peers: list[Peer]) -> None:
        """Wait until no more links come to be: the package loses messages that pass while they do."""
        deadline = time.monotonic() + SETTLED_SECONDS
        before: list[set[str]] = []
        while (links := [peer.links() for peer in peers]) != before and time.monotonic() < deadline:
            before = links
            time.sleep(1.0)

    def wait_quiet(self) -> None:
        """Wait until no peer sends anything: a list of peers that comes late makes a closed link anew."""
        deadline = time.monotonic() + SETTLED_SECONDS
        before: list[dict[str, int]] = []
        while (sent := [_without_memory(process) for process in self._processes.values()]) != before:
            assert time.monotonic() < deadline, f"the peers do not come to rest: {before} and then {sent}"
            before = sent
            time.sleep(QUIET_SECONDS)

    def assert_all_reach_all(self, peers: list[Peer]) -> None:
        """Each peer sends one message to each other, and each of them arrives once."""
        pairs = [(sender, target) for sender in peers for target in peers if sender is not target]
        for sender, target in pairs:
            sender.send(target, f"{sender.name} to {target.name}")
        lost = []
        deadline = time.monotonic() + EVENT_SECONDS
        for sender, target in pairs:
            wanted = f"{sender.name} to {target.name}"
            left = max(0.1, deadline - time.monotonic())
            try:
                target.process.wait_event("message", _tells(target, sender, wanted), left)
            except AssertionError:
                lost.append(wanted)
        self.assertEqual(lost, [])
        twice = [event for peer in peers for event in peer.events("message")]
        self.assertEqual(twice, [])


def _without_memory(process: PeerProcess) -> dict[str, int]:
    return {name: value for name, value in process.counts().items() if name != "rss"}


def _tells(target: Peer, sender: Peer, data: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: target.has_got(event, sender, data)
