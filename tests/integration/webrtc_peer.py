"""One end of a WebRTC link of ours as a program: ``python -m tests.integration.webrtc_peer '{"initiator": true}'``.

Standard input and output are lines of JSON, the same as those of ``tests/interop/peer_relay/rtc_peer.js``:
``{"signal": {...}}``, ``{"send": text}``, ``{"send_size": 1000}``, ``{"close": true}`` in; ``{"signal": {...}}``,
``{"event": "open" | "message" | "lost" | "failed" | "sent", ...}`` out. When its input ends it stops everything
and goes; its exit status is the number of tasks that were left in the loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from twisted.internet import asyncioreactor, stdio
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.protocols.basic import LineReceiver

from meshrelay.overlay.interfaces import ILinkReceiver, IOverlayLink
from meshrelay.transport.overlay_webrtc import WrtcMaker, wrtc_maker
from meshrelay.transport.overlay_webrtc_link import WrtcOptions


class Program(LineReceiver):
    """The end, and who tells it what to do."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 22

    def __init__(self, reactor: Any, maker: WrtcMaker, is_initiator: bool) -> None:
        self._reactor = reactor
        self._maker = maker
        self._is_initiator = is_initiator
        self._link: IOverlayLink | None = None
        #: In the loop, when all was stopped.
        self.tasks_left = -1

    def connectionMade(self) -> None:
        """See `LineReceiver`."""
        self._attempt = self._maker.attempt(self._is_initiator, self._signal, self._opened, self._failed)

    def lineReceived(self, line: bytes) -> None:
        """See `LineReceiver`."""
        self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if "signal" in order:
            self._attempt.signal(json.dumps(order["signal"]).encode())
        if "raw_signal" in order:
            self._attempt.signal(order["raw_signal"].encode())
        link = self._link
        if "cancel" in order:
            self._attempt.cancel()
        if link is None:
            return
        if "send" in order:
            self._say(event="sent", ok=link.send(order["send"].encode()))
        if "send_size" in order:
            self._say(event="sent", ok=link.send(b"x" * order["send_size"]), waiting=link.waiting_bytes)
        if "close" in order:
            link.close()
        if "abort" in order:
            link.abort()

    def connectionLost(self, reason: Any = None) -> None:
        """See `LineReceiver`."""
        self._maker.stop().addCallback(lambda _: self._reactor.callLater(0.05, self._end))

    def _end(self) -> None:
        self.tasks_left = len(asyncio.all_tasks(self._reactor._asyncioEventloop))
        self._reactor.stop()

    def _say(self, **line: Any) -> None:
        self.sendLine(json.dumps(line).encode())

    def _signal(self, data: bytes) -> None:
        self._say(signal=json.loads(data))

    def _failed(self, why: str) -> None:
        self._say(event="failed", why=why)

    def _opened(self, link: IOverlayLink) -> ILinkReceiver:
        self._link = link
        self._say(event="open", outgoing=link.is_outgoing, address=link.remote_address, max=link.max_frame_bytes)
        return self

    def frame_received(self, frame: bytes) -> None:
        """See `ILinkReceiver`."""
        self._say(event="message", size=len(frame), text=frame.decode() if len(frame) <= 1000 else "")

    def link_lost(self, why: str) -> None:
        """See `ILinkReceiver`."""
        counters = self._maker.counters
        self._say(event="lost", why=why, counters={name: getattr(counters, name) for name in counters.__slots__})


def main() -> None:
    """Run until the input ends."""
    options = json.loads(sys.argv[1])
    loop = asyncio.SelectorEventLoop()
    # It would be complained of on standard error, where nothing is expected, and is no fault of the program.
    loop.slow_callback_duration = 60.0
    asyncioreactor.install(loop)
    from twisted.internet import reactor

    if "consent_seconds" in options:
        import aioice.ice

        aioice.ice.CONSENT_INTERVAL = options["consent_seconds"]
    observer = textFileLogObserver(sys.stderr)
    warnings = FilteringLogObserver(observer, [LogLevelFilterPredicate(LogLevel.warn)])
    globalLogPublisher.addObserver(warnings)
    chosen = WrtcOptions(
        addresses=tuple(options.get("addresses", ("127.0.0.1",))),
        attempt_seconds=options.get("attempt_seconds", 15.0),
        stall_seconds=options.get("stall_seconds", 30.0),
    )
    maker = wrtc_maker(reactor, chosen, os.urandom)
    assert maker is not None
    program = Program(reactor, maker, options["initiator"])
    stdio.StandardIO(program)
    reactor.run()
    loop.close()
    sys.exit(program.tasks_left)


if __name__ == "__main__":
    main()
