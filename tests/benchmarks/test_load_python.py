"""Tests for benchmarks.load_python."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.load_job import DIGITS, CastJob
from benchmarks.load_python import Cast, Pairs
from meshrelay.wire.websocket import encode_message


def _delivery(number: int) -> bytes:
    return b"MSG %016x end" % number


class CastTests(SynchronousTestCase):
    """A publisher and one member at the ends of two socket pairs; the test is the server."""

    def make(self, is_websocket: bool = False) -> Cast:
        """A load that has had message 0."""
        pairs = [socket.socketpair() for _ in range(2)]
        for pair in pairs:
            for end in pair:
                self.addCleanup(end.close)
        (publisher, self.from_publisher), (member, self.to_member) = pairs
        job = CastJob(
            publisher=publisher.fileno(),
            members=[member.fileno()],
            check_every=1,
            message=b"PUB " + bytes(DIGITS),
            digits_at=4,
            digit_mask=bytes(DIGITS),
            delivery=_delivery(0),
            delivery_digits_at=4,
            is_websocket=is_websocket,
            ignored=b"" if is_websocket else b"PING",
        )
        cast = Cast(job)
        self.addCleanup(cast.close)
        return cast

    def test_publishes_within_window(self) -> None:
        """As many messages are sent as the window allows, numbered one after the other."""
        cast = self.make()
        cast.run(0.01, window=3)
        self.assertEqual(self.from_publisher.recv(1000), b"".join(b"PUB %016x" % number for number in (1, 2, 3)))
        self.assertEqual(cast.figures[0], 4)

    def test_counts_all(self) -> None:
        """Deliveries that come in order are right, however they are cut, and whatever else the server says between."""
        cast = self.make()
        cast.run(0.01, window=3)
        data = _delivery(1) + b"PING" + _delivery(2) + _delivery(3)
        for cut in range(0, len(data), 7):
            self.to_member.send(data[cut : cut + 7])
            cast.run(0.001)
        self.assertEqual(cast.figures, (4, 4 * len(_delivery(0)), 0, 0))

    def test_finds_wrong(self) -> None:
        """A message that is missing, doubled or changed is found."""
        for numbers in ((1, 3), (1, 1)):
            cast = self.make()
            cast.run(0.01, window=3)
            self.to_member.send(b"".join(map(_delivery, numbers)))
            cast.run(0.01)
            self.assertEqual(cast.figures[2], 1, numbers)
        cast = self.make()
        cast.run(0.01, window=3)
        self.to_member.send(_delivery(1).replace(b"end", b"eNd"))
        cast.run(0.01)
        self.assertEqual(cast.figures[2], 1)

    def test_strips_websocket(self) -> None:
        """Headers of WebSocket messages and control messages do not count, several deliveries in one message do."""
        cast = self.make(is_websocket=True)
        cast.run(0.01, window=8)
        many = b"".join(map(_delivery, range(1, 8)))
        data = encode_message(many) + b"\x89\x02hi" + encode_message(_delivery(8))
        for cut in range(0, len(data), 5):
            self.to_member.send(data[cut : cut + 5])
            cast.run(0.001)
        self.assertEqual(cast.figures, (9, 9 * len(_delivery(0)), 0, 0))

    def test_closed(self) -> None:
        """A connection that the server closes is counted."""
        cast = self.make()
        cast.run(0.01, window=1)
        self.to_member.close()
        cast.run(0.01)
        self.assertEqual(cast.figures[3], 1)


class PairsTests(SynchronousTestCase):
    """Two pairs; the test is the server."""

    def setUp(self) -> None:
        """A load whose pairs have had message 0; the second receiver counts only."""
        self.senders: list[socket.socket] = []
        self.receivers: list[socket.socket] = []
        jobs = []
        for check_every in (1, 0):
            sender, from_sender = socket.socketpair()
            receiver, to_receiver = socket.socketpair()
            for end in (sender, from_sender, receiver, to_receiver):
                self.addCleanup(end.close)
            from_sender.settimeout(1)
            self.senders.append(from_sender)
            self.receivers.append(to_receiver)
            jobs.append(
                CastJob(
                    publisher=sender.fileno(),
                    members=[receiver.fileno()],
                    check_every=check_every,
                    message=b"PUB " + bytes(DIGITS),
                    digits_at=4,
                    digit_mask=bytes(DIGITS),
                    delivery=_delivery(0),
                    delivery_digits_at=4,
                    is_websocket=False,
                    ignored=b"",
                )
            )
        self.pairs = Pairs(jobs)
        self.addCleanup(self.pairs.close)

    def test_own_window(self) -> None:
        """A sender goes on when its own receiver has what was sent, whatever the others wait for."""
        self.pairs.run(0.01, window=1)
        self.receivers[1].send(_delivery(1))
        self.pairs.run(0.01, window=1)
        sent = [sender.recv(1000) for sender in self.senders]
        self.assertEqual(sent, [b"PUB %016x" % 1, b"PUB %016x" % 1 + b"PUB %016x" % 2])

    def test_counts_each(self) -> None:
        """What one pair has too much does not make up for what another one lacks."""
        self.pairs.run(0.01, window=1)
        self.receivers[1].send(_delivery(1) + _delivery(1))
        self.pairs.run(0.01)
        size = len(_delivery(0))
        self.assertEqual(self.pairs.parts, [(2, size, 0, 0), (2, 3 * size, 0, 0)])

    def test_finds_wrong(self) -> None:
        """A receiver that checks finds a message that it has had."""
        self.pairs.run(0.01, window=4)
        self.receivers[0].send(_delivery(1) + _delivery(1))
        self.pairs.run(0.01)
        self.assertEqual([part[2] for part in self.pairs.parts], [1, 0])

    def test_times(self) -> None:
        """What is sent from the beginning of a timed run on is timed, and nothing that was sent before."""
        self.pairs.run(0.005, window=1)
        self.receivers[0].send(_delivery(1))
        self.pairs.run(0.005, window=1, is_timed=True)
        self.assertEqual(sum(self.pairs.histogram), 0)
        self.receivers[0].send(_delivery(2))
        self.pairs.run(0.005)
        self.assertEqual(sum(self.pairs.histogram), 1)
