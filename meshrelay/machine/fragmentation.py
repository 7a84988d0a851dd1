"""Whole messages in, numbered DAT packets out: the queue in front of `machine.sending`.

A packet is made only when it may leave. So small messages that wait for the window meet in the queue and go out as one
packet: a message is whole frames, and whole frames after whole frames are whole frames again.
"""

from __future__ import annotations

from collections import deque

from meshrelay.machine.in_flight import SentPacket
from meshrelay.machine.packets import DAT_HEADER_BYTES, MAX_FRAGMENT_BYTES, encode_dat_header

__all__ = ["OutgoingQueue"]


class OutgoingQueue:
    """Messages, or the rest of one, that were never sent. The owner bounds the bytes.

    :param first_sequence: of the first packet.
    """

    def __init__(self, first_sequence: int) -> None:
        self._messages: deque[bytes] = deque()
        # The unsent fragments of one message at most.
        self._fragments: deque[SentPacket] = deque()
        #: The sequence number behind the last packet made.
        self.end = first_sequence
        self.pending_bytes = 0
        #: Messages that travelled in the packet of an earlier one.
        self.merged_messages = 0

    def __bool__(self) -> bool:
        return bool(self._fragments or self._messages)

    @property
    def next_sequence(self) -> int:
        """The sequence number that the next packet has or will have."""
        return self._fragments[0].sequence if self._fragments else self.end

    def push(self, data: bytes) -> None:
        self._messages.append(data)
        self.pending_bytes += len(data)

    def pop(self) -> SentPacket:
        """Return the next packet. Only while there is something in the queue."""
        if not self._fragments:
            self._make_packets()
        packet = self._fragments.popleft()
        self.pending_bytes -= len(packet.content) - DAT_HEADER_BYTES
        return packet

    def fragments(self) -> list[SentPacket]:
        """Return the rest of the message whose beginning was sent."""
        return list(self._fragments)

    def messages(self) -> list[bytes]:
        """Return the messages of which nothing was sent."""
        return list(self._messages)

    def _make_packets(self) -> None:
        """Make the next message into fragments, or as many small ones as fit into one packet."""
        messages = self._messages
        data = messages.popleft()
        size = len(data)
        if size > MAX_FRAGMENT_BYTES:
            count = -(-size // MAX_FRAGMENT_BYTES)
            last = self.end + count - 1
            for index in range(count):
                begin = index * MAX_FRAGMENT_BYTES
                self._add_packet(index, count, last, data[begin : begin + MAX_FRAGMENT_BYTES])
            return
        parts = [data]
        while messages and size + len(messages[0]) <= MAX_FRAGMENT_BYTES:
            size += len(messages[0])
            parts.append(messages.popleft())
        self.merged_messages += len(parts) - 1
        self._add_packet(0, 1, self.end, b"".join(parts))

    def _add_packet(self, index: int, count: int, last: int, payload: bytes) -> None:
        content = encode_dat_header(self.end, index, count) + payload
        self._fragments.append(SentPacket(self.end, last, content))
        self.end += 1
