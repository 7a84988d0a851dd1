"""The SYN exchange of one end: who begins, what is repeated, what the first round trip took.

The client repeats its SYN until the node's SYN answers. The node repeats nothing by itself; it answers each SYN of the
client again, so a client that never speaks costs the node no timer.
"""

from __future__ import annotations

from meshrelay.errors import PacketRejected
from meshrelay.machine.packets import Synchronisation, decode_syn, encode_syn
from meshrelay.machine.repeat import Repeat

__all__ = ["Handshake"]

#: DAT packets that a client keeps while the node's SYN, sent before them, is still on its way.
MAX_OVERTAKING_PACKETS = 16


class Handshake:
    """The SYNs of one end.

    :param first_sequence: of the first DAT of this end.
    :param timeout_seconds: before the first repetition.
    """

    def __init__(self, is_client: bool, first_sequence: int, timeout_seconds: float) -> None:
        self._is_client = is_client
        self._first_sequence = first_sequence
        self._timeout_seconds = timeout_seconds
        self.repeat = Repeat()
        self._answer_is_owed = False
        self._answers = 0
        self._answered_at = 0.0
        self._peer: Synchronisation | None = None
        self._kept: list[bytes] = []

    def begin(self, now: float) -> None:
        """Let the client's first SYN be due."""
        self.repeat.at = now

    def keep(self, content: bytes) -> None:
        """Keep a DAT that came before the SYN.

        :raises PacketRejected: ``not_open``: 16 are kept already; it will be sent again.
        """
        if len(self._kept) >= MAX_OVERTAKING_PACKETS:
            raise PacketRejected("not_open")
        self._kept.append(content)

    def take_kept(self) -> list[bytes]:
        """Return what was kept, in order of arrival."""
        kept, self._kept = self._kept, []
        return kept

    def receive(self, content: bytes) -> Synchronisation | None:
        """Take a SYN.

        :returns: the one that opens the session; None when it was received before.
        :raises PacketRejected: ``bad_length`` or ``unexpected_syn``; nothing was changed.
        """
        syn = decode_syn(content)
        is_answer = syn.acknowledged is not None
        if is_answer is not self._is_client or (self._peer is not None and self._peer.first != syn.first):
            raise PacketRejected("unexpected_syn")
        if self._peer is None and is_answer and syn.acknowledged != self._first_sequence:
            raise PacketRejected("unexpected_syn")
        self._answer_is_owed = not self._is_client
        if self._peer is not None:
            return None
        self._peer = syn
        self.repeat.at = None
        return syn

    def question(self, window: int, now: float) -> bytes | None:
        """Return the client's SYN if it is due.

        :param window: room of this end, in packets.
        """
        if self.repeat.at is None or now < self.repeat.at:
            return None
        self.repeat.sent(now, self._timeout_seconds)
        return encode_syn(self._first_sequence, window)

    def answer(self, window: int, expected: int, now: float) -> bytes | None:
        """Return the node's SYN if the client asked; `expected` is what it acknowledges."""
        if not self._answer_is_owed:
            return None
        self._answer_is_owed = False
        self._answers += 1
        self._answered_at = now
        return encode_syn(self._first_sequence, window, expected)

    def round_trip_seconds(self, now: float) -> float | None:
        """Return what the exchange took if our SYN is answered at `now`; None if it was sent more than once."""
        if self._is_client:
            return now - self.repeat.first_sent_at if self.repeat.tries == 1 else None
        return now - self._answered_at if self._answers == 1 else None
