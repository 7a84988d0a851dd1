"""Plain integers of one peer, read by the metrics page; see `meshrelay.counters` for why they are plain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

__all__ = ["OverlayCounters"]


class OverlayCounters:
    """All counters of one peer."""

    __slots__ = (
        "bad_frames",
        "deliveries",
        "dials",
        "dials_failed",
        "dropped",
        "frames_received",
        "frames_sent",
        "handshakes",
        "links_closed",
        "links_opened",
        "messages_delivered",
        "messages_relayed",
        "messages_sent",
        "received_bytes",
        "sent_bytes",
    )

    def __init__(self) -> None:
        #: Whole frames of all links, hellos too.
        self.frames_received = 0
        self.frames_sent = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        #: What was wrong with a frame -> how often; the labels are those of `meshrelay.wire.overlay.Fault`.
        self.bad_frames: Counter[str] = Counter()
        #: Why an envelope went no further -> how often.
        self.dropped: Counter[str] = Counter()
        #: What became of messages from peer to peer -> how often; see `meshrelay.overlay.deliveries`, which counts.
        self.deliveries: Counter[str] = Counter()
        #: User messages of this peer, for this peer, and envelopes of others that were passed on.
        self.messages_sent = 0
        self.messages_delivered = 0
        self.messages_relayed = 0
        self.links_opened = 0
        #: Why a link ended -> how often.
        self.links_closed: Counter[str] = Counter()
        #: What became of offers and answers -> how often; see `meshrelay.overlay.handshakes.Handshakes.counts`.
        self.handshakes: Counter[str] = Counter()
        self.dials = 0
        self.dials_failed = 0

    def totals(self) -> Mapping[str, int]:
        """All counters that have no label; the same keys at each call."""
        return {name: value for name in self.__slots__ if isinstance(value := getattr(self, name), int)}
