"""Any number of our own peers in one process, told what to do by the lines of ``peer_relay/peers.js``.

``python -m tests.interop.own_peers [--asyncio]``. Beyond what that file lists: ``make`` takes ``addresses``, the local
ones that WebRTC is to use; ``counts`` tells all counters of all peers; the event ``failed`` tells of a message that its
sender was told not to have been delivered.
"""

from __future__ import annotations

import base64
import json
import math
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import asyncioreactor, stdio
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher, textFileLogObserver
from twisted.protocols.basic import LineReceiver

from meshrelay.garbage import freeze_start
from meshrelay.peer_relay import PeerRelay, PeerRelaySocket
from meshrelay.transport.overlay_webrtc_link import WrtcOptions

__all__ = ["Host"]

#: Between two looks at what has no event.
_LOOK_SECONDS = 0.005


class Load:
    """Messages that are counted instead of told."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.duplicates = 0
        self.buckets: Counter[int] = Counter()

    def received(self, data: list[int]) -> None:
        """Take one message: its number, and the microsecond in which it was sent."""
        number, sent = data
        if number in self.numbers:
            self.duplicates += 1
            return
        self.numbers.add(number)
        # Each bucket is 2 % wider than the one before.
        late = max(1.0, time.monotonic() * 1e6 - sent)
        self.buckets[math.floor(math.log(late) / math.log(1.02))] += 1


class Host(LineReceiver):
    """The peers, and who tells them what to do."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 24

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.peers: dict[str, PeerRelay] = {}
        self.sockets: dict[str, PeerRelaySocket] = {}
        self._load: Load | None = None

    def connectionMade(self) -> None:
        self.say(event="ready")

    def connectionLost(self, reason: Any = None) -> None:
        if self._reactor.running:
            self._reactor.stop()

    def lineReceived(self, line: bytes) -> None:
        options = json.loads(line)
        number, name = options.pop("id"), options.pop("do")
        self.begin(self.obey(number, getattr(self, f"do_{name}"), options))

    def begin(self, coroutine: Any) -> None:
        """Run it, and say what it did not expect."""
        Deferred.fromCoroutine(coroutine).addErrback(lambda failure: self.crashed(failure.getTraceback()))

    async def obey(self, number: int, command: Callable[..., Any], options: dict[str, Any]) -> None:
        """Carry out one command and answer."""
        try:
            answer = command(**options)
            answer = await answer if hasattr(answer, "__await__") else answer
        except Exception as error:  # noqa: BLE001
            self.say(answer=number, ok=False, error=f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        else:
            self.say(answer=number, ok=True, **(answer or {}))

    def say(self, **line: Any) -> None:
        """Write one line."""
        self.sendLine(json.dumps(line).encode())

    def logged(self, event: dict[str, Any]) -> None:
        """Tell of a failure that came to nothing but the log."""
        if event["log_level"] >= LogLevel.critical:
            failure = event.get("log_failure")
            self.crashed("" if failure is None else failure.getTraceback())

    def crashed(self, text: str) -> None:
        """Tell of an exception that nobody caught."""
        self.say(event="crashed", error=text)

    async def do_make(
        self,
        peer: str,
        port: int | None = None,
        bootstrap: tuple[str, ...] = (),
        wrtc: bool = False,
        addresses: tuple[str, ...] = (),
    ) -> Any:
        """Make a peer."""
        webrtc = WrtcOptions(addresses=tuple(addresses)) if wrtc else False
        made = PeerRelay(self._reactor, port=port, bootstrap=bootstrap, webrtc=webrtc)
        self._watch(peer, made)
        made.on("message", lambda data, sender: self.message_came(peer, data, sender))
        return {"peer_id": made.id.hex(), "port": await made.listening()}

    def _watch(self, name: str, peer: Any) -> None:
        self.peers[name] = peer
        peer.on("peer", lambda peer_id: self.say(event="linked", peer=name, peer_id=peer_id.hex()))

    def message_came(self, name: str, data: Any, sender: bytes) -> None:
        """A peer has a message."""
        if self._load is None:
            self.say(event="message", peer=name, data=data, **{"from": sender.hex()})
        else:
            self._load.received(data)

    async def do_make_socket(
        self, peer: str, port: int | None = None, bootstrap: tuple[str, ...] = (), wrtc: bool = False
    ) -> Any:
        """Make a Socket."""
        made = PeerRelaySocket(self._reactor, port=port, bootstrap=bootstrap, webrtc=wrtc)
        self.sockets[peer] = made
        self._watch(peer, made.peer)
        made.on("message", lambda data, sender: self.packet_came(peer, data, sender))
        made.on("listening", lambda: self.say(event="listening", peer=peer))
        made.on("close", lambda: self.say(event="closed", peer=peer))
        return {"peer_id": made.peer.id.hex(), "port": made.peer.port}

    def packet_came(self, name: str, data: bytes, sender: Any) -> None:
        """A Socket has a packet."""
        text = base64.b64encode(data).decode()
        self.say(event="packet", peer=name, data=text, port=sender.port, **{"from": sender.address})

    def do_connect(self, peer: str, peer_id: str) -> None:
        """Ask for a link."""
        self._ignore(self.peers[peer].connect(bytes.fromhex(peer_id)))

    def do_disconnect(self, peer: str, peer_id: str) -> None:
        """Close a link."""
        self.peers[peer].disconnect(bytes.fromhex(peer_id))

    def do_send(self, peer: str, to: str, data: Any) -> None:
        """Send a message."""
        self._ignore(self.peers[peer].send(bytes.fromhex(to), data))

    def _ignore(self, deferred: Deferred[None]) -> None:
        # That it came is for the test to say.
        deferred.addErrback(lambda failure: self.say(event="failed", error=failure.getErrorMessage()))

    def do_links(self, peer: str) -> Any:
        """Tell whom a peer is linked to."""
        return {"links": self._links(peer)}

    def _links(self, peer: str) -> list[str]:
        return [peer_id.hex() for peer_id in self.peers[peer].peers]

    async def do_until(
        self, peer: str, seconds: float, linked: tuple[str, ...] = (), unlinked: tuple[str, ...] = (), least: int = 0
    ) -> Any:
        """Wait for links."""
        deadline = self._reactor.seconds() + seconds
        while True:
            found = self._links(peer)
            if set(linked) <= set(found) and not set(unlinked) & set(found) and len(found) >= least:
                return {"links": found}
            if self._reactor.seconds() > deadline:
                raise TimeoutError(f"links: {found}")
            await deferLater(self._reactor, _LOOK_SECONDS)

    async def do_destroy(self, peer: str) -> None:
        """End a peer or a Socket."""
        made = self.peers.pop(peer)
        socket = self.sockets.pop(peer, None)
        await (made.destroy() if socket is None else socket.close())

    def do_bind(self, peer: str, port: int = 0) -> None:
        """Bind a Socket."""
        self.sockets[peer].bind(port)

    def do_address(self, peer: str) -> Any:
        """Tell the address of a Socket."""
        address = self.sockets[peer].address()
        return {"address": address.address, "port": address.port, "family": address.family}

    def do_send_packet(
        self, peer: str, to: str, data: str, offset: int = 0, length: int | None = None, port: int = 0
    ) -> None:
        """Send a packet from a Socket."""
        packet = base64.b64decode(data)
        length = len(packet) - offset if length is None else length
        self._ignore(self.sockets[peer].send(packet, offset, length, port, to))

    def do_counts(self) -> Any:
        """Tell all counters, those of all peers together."""
        counts: Counter[str] = Counter()
        for peer in self.peers.values():
            counts.update(peer.statistics())
            # What has a label is for the metrics page, not for programs.
            inner = peer._peer.counters
            for name in ("bad_frames", "dropped", "links_closed"):
                counts.update({f"{name} {label}": value for label, value in getattr(inner, name).items()})
            counts.update({f"closes {label}": value for label, value in peer._assembled.counters.closes.items()})
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        return {**counts, "rss": pages * 4096}

    def do_count(self) -> None:
        """From now on messages are counted."""
        # As the daemon does it once it is up.
        freeze_start()
        self._load = Load()

    def do_counted(self) -> Any:
        """Tell what was counted."""
        assert self._load is not None
        found = self._load
        return {"received": len(found.numbers), "duplicates": found.duplicates, "buckets": found.buckets}

    async def do_send_many(
        self, pairs: list[list[str]], per_second: float, count: int, first: int, at: float | None = None
    ) -> Any:
        """Send numbered messages to the pairs in turn, at an even pace that does not wait.

        :param at: when to begin, by the monotonic clock, which all processes of a machine share.
        """
        targets = [(self.peers[name], bytes.fromhex(other)) for name, other in pairs]
        start = time.monotonic() if at is None else at
        sent = 0

        def go() -> None:
            nonlocal sent
            due = min(count, math.floor((time.monotonic() - start) * per_second) + 1)
            while sent < due:
                peer, other = targets[sent % len(targets)]
                self._ignore(peer.send(other, [first + sent, round(time.monotonic() * 1e6)]))
                sent += 1
            if sent >= count:
                loop.stop()

        loop = LoopingCall(go)
        loop.clock = self._reactor
        await loop.start(0.001)
        return {"sent": sent, "seconds": time.monotonic() - start}


def main() -> None:
    """Run until the input ends."""
    if "--asyncio" in sys.argv:
        asyncioreactor.install()
    from twisted.internet import reactor

    host = Host(reactor)
    globalLogPublisher.addObserver(textFileLogObserver(sys.stderr))
    globalLogPublisher.addObserver(cast(ILogObserver, host.logged))
    stdio.StandardIO(host, reactor=reactor)
    reactor.run()


if __name__ == "__main__":
    main()
