"""The load in Python, for machines without a C compiler: the same classes as `load_native`.

What it costs bounds what it can measure. Figures that were taken with it say so.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence

from benchmarks.load_job import DIGITS, HISTOGRAM_BITS, CastJob, TalkJob

__all__ = ["Cast", "Pairs", "Talk", "slot_of"]

READ_BYTES = 1 << 20
BLOCK_BYTES = 1 << 16


def slot_of(nanoseconds: int) -> int:
    """Where the histogram counts a time; load.c has the same."""
    if nanoseconds < 1 << HISTOGRAM_BITS:
        return nanoseconds
    shift = nanoseconds.bit_length() - 1 - HISTOGRAM_BITS
    return ((shift + 1) << HISTOGRAM_BITS) + ((nanoseconds >> shift) & ((1 << HISTOGRAM_BITS) - 1))


class _Member:
    """Strips WebSocket headers and control messages, and cuts deliveries."""

    def __init__(self, job: CastJob, number: int) -> None:
        self.socket = socket.socket(fileno=job.members[number])
        self.socket.setblocking(False)
        self.next = 1
        self._checks = bool(job.check_every) and number % job.check_every == 0
        self._job = job
        self._raw = b""
        self._held = b""

    def take(self, data: bytes, delivered: Callable[[bytes], None]) -> int:
        """Return how many bytes of deliveries there were."""
        if self._job.is_websocket:
            data = self._strip(data)
        if not self._checks:
            return len(data)
        came, size, ignored = len(data), len(self._job.delivery), self._job.ignored
        held, at = self._held + data, 0
        while True:
            if ignored and held.startswith(ignored, at):
                at += len(ignored)
                came -= len(ignored)
            elif len(held) - at < size:
                break
            else:
                delivered(held[at : at + size])
                at += size
        self._held = held[at:]
        return came

    def _strip(self, data: bytes) -> bytes:
        raw, at, payloads = self._raw + data, 0, []
        while len(raw) - at >= 2:
            length = raw[at + 1] & 127
            extra = {126: 2, 127: 8}.get(length, 0)
            begin = at + 2 + extra
            if len(raw) < begin:
                break
            if extra:
                length = int.from_bytes(raw[at + 2 : begin])
            if len(raw) < begin + length:
                break
            if raw[at] & 15 < 8:
                payloads.append(raw[begin : begin + length])
            at = begin + length
        self._raw = raw[at:]
        return b"".join(payloads)


class Cast:
    """One publisher and its members, see `CastJob`.

    :param poll: of several casts in one loop.
    """

    def __init__(self, job: CastJob, poll: select.epoll | None = None) -> None:
        self._job = job
        self._publisher = socket.socket(fileno=job.publisher)
        self._publisher.setblocking(False)
        self._members = {number: _Member(job, index) for index, number in enumerate(job.members)}
        self._poll = poll or select.epoll()
        for number in (*job.members, job.publisher):
            self._poll.register(number, select.EPOLLIN)
        self._sent, self._wrong, self._closed = 1, 0, 0
        self._bytes = len(job.members) * len(job.delivery)
        self._rest = memoryview(b"")
        self._due: dict[int, int] = {}
        self._is_timed = False
        self.histogram = [0] * (64 << HISTOGRAM_BITS)

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Messages sent, bytes of deliveries that came, wrong deliveries, closed connections."""
        return self._sent, self._bytes, self._wrong, self._closed

    @property
    def parts(self) -> list[tuple[int, int, int, int]]:
        """The figures, as `Pairs` has them."""
        return [self.figures]

    def run(self, seconds: float, window: int = 0, per_second: float = 0, is_timed: bool = False) -> None:
        """Publish for a time: at full speed within a window, or at a rate; with neither, read until all has come."""
        self._is_timed = is_timed
        start = now = time.monotonic_ns()
        end, paced = start + int(seconds * 1e9), 0
        while now < end:
            if not window and not per_second and self.has_all:
                return
            wait = 0.02
            if not self._rest:
                count = self._room(window)
                if per_second:
                    paced, count = self._pace(start, paced, per_second, now)
                    wait = min(wait, max(0.0, (start + paced * 1e9 / per_second - now) / 1e9))
                self._publish(count)
                if count and not self._rest:
                    wait = 0.0
            for number, events in self._poll.poll(min(wait, (end - now) / 1e9)):
                if not self.serve(number, events):
                    return
            now = time.monotonic_ns()

    def serve(self, number: int, events: int) -> bool:
        """Do what epoll has told of a socket.

        :returns: whether the publisher is still connected.
        """
        if number != self._job.publisher:
            self._read(self._members[number])
            return True
        self._write()
        if events & ~select.EPOLLOUT and not self._publisher.recv(READ_BYTES):
            self._closed += 1
            self._poll.unregister(number)
            return False
        return True

    def send_within(self, window: int, is_timed: bool) -> None:
        """Send what the window has room for; when timed, what is sent from now on counts in the histogram."""
        count = 0 if self._rest else self._room(window)
        if count:
            if is_timed:
                self._due.update(dict.fromkeys(range(self._sent, self._sent + count), time.monotonic_ns()))
            self._publish(count)

    @property
    def has_all(self) -> bool:
        """Everything that was to be sent has been sent and has come."""
        return not self._rest and self._bytes >= self._sent * len(self._members) * len(self._job.delivery)

    def _room(self, window: int) -> int:
        came = self._bytes // (len(self._members) * len(self._job.delivery))
        room = max(0, window - max(0, self._sent - came))
        # At full speed a quarter of the window at a time, as fewer would be written one by one.
        return room if room >= (window + 3) // 4 else 0

    def _pace(self, start: int, paced: int, per_second: float, now: int) -> tuple[int, int]:
        count = 0
        while (due := start + int(paced * 1e9 / per_second)) <= now and count < BLOCK_BYTES // len(self._job.message):
            if self._is_timed:
                self._due[self._sent + count] = due
            paced += 1
            count += 1
        return paced, count

    def _publish(self, count: int) -> None:
        job = self._job
        end = job.digits_at + DIGITS
        block = []
        for _ in range(min(count, BLOCK_BYTES // len(job.message))):
            digits = bytes(a ^ b for a, b in zip(b"%016x" % self._sent, job.digit_mask, strict=True))
            block += [job.message[: job.digits_at], digits, job.message[end:]]
            self._sent += 1
        self._rest = memoryview(b"".join(block))
        self._write()

    def _write(self) -> None:
        if self._rest:
            try:
                self._rest = self._rest[self._publisher.send(self._rest) :]
            except BlockingIOError:
                pass
            self._poll.modify(self._job.publisher, select.EPOLLIN | (select.EPOLLOUT if self._rest else 0))

    def _read(self, member: _Member) -> None:
        data = member.socket.recv(READ_BYTES)
        if not data:
            self._closed += 1
            self._poll.unregister(member.socket.fileno())
            return
        now = time.monotonic_ns()

        def delivered(delivery: bytes) -> None:
            begin = self._job.delivery_digits_at
            number = int(delivery[begin : begin + DIGITS], 16)
            rest = begin + DIGITS
            expected = self._job.delivery
            at, size = self._job.varying
            parts = (slice(at), slice(at + size, begin), slice(rest, None))
            if number != member.next or any(delivery[part] != expected[part] for part in parts):
                self._wrong += 1
            member.next = number + 1
            if number in self._due:
                self.histogram[slot_of(now - self._due[number])] += 1

        self._bytes += member.take(data, delivered)

    def close(self) -> None:
        """Free what it has; the sockets stay."""
        self._poll.close()
        self._publisher.detach()
        for member in self._members.values():
            member.socket.detach()


class Pairs:
    """Senders, each with one receiver: casts of one member each, in one loop."""

    def __init__(self, jobs: Sequence[CastJob]) -> None:
        self._poll = select.epoll()
        self._casts = [Cast(job, self._poll) for job in jobs]
        self._of = {
            number: cast
            for job, cast in zip(jobs, self._casts, strict=True)
            for number in (job.publisher, *job.members)
        }

    def run(self, seconds: float, window: int = 0, is_timed: bool = False) -> None:
        """Send for a time, each pair within its window; without one read until all has come."""
        end = time.monotonic() + seconds
        for cast in self._casts:
            cast.send_within(window, is_timed)
        while (left := end - time.monotonic()) > 0 and (window or not all(cast.has_all for cast in self._casts)):
            for number, events in self._poll.poll(min(0.02, left)):
                cast = self._of[number]
                cast.serve(number, events)
                cast.send_within(window, is_timed)

    @property
    def parts(self) -> list[tuple[int, int, int, int]]:
        """Of each pair: messages sent, bytes of deliveries that came, wrong deliveries, closed connections."""
        return [cast.figures for cast in self._casts]

    @property
    def histogram(self) -> list[int]:
        """Times from written to read of all pairs that check, for `percentile`."""
        return [sum(slot) for slot in zip(*(cast.histogram for cast in self._casts), strict=True)]

    def close(self) -> None:
        """Free what it has; the sockets stay."""
        for cast in self._casts:
            cast.close()


class _Line:
    def __init__(self, job: TalkJob, number: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", job.port), 10, (f"127.0.0.{2 + number % 64}", 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = number
        self.step = 0
        self.answer = b""


class Talk:
    """Connections in conversation, see `TalkJob`."""

    def __init__(self, job: TalkJob) -> None:
        self._job = job
        self._lines: list[_Line] = []
        self._talking: dict[int, _Line] = {}
        self._poll = select.epoll()
        self._started = self._completed = self._failed = 0
        for _ in range(min(job.at_once, job.count)):
            self._start()

    def _start(self) -> None:
        line = _Line(self._job, self._started)
        self._started += 1
        if self._job.again_from < 0:
            self._lines.append(line)
        self._talking[line.socket.fileno()] = line
        self._poll.register(line.socket.fileno(), select.EPOLLIN)
        self._say(line)

    def _say(self, line: _Line) -> None:
        variants = self._job.steps[line.step].variants
        line.answer = b""
        line.socket.sendall(variants[line.number % len(variants)])

    def run(self, seconds: float) -> None:
        """Until the time is over, a connection fails, or all are open that stay open."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._failed:
            if self._job.again_from < 0 and self._completed == self._job.count:
                return
            for number, _ in self._poll.poll(0.02):
                self._read(self._talking[number])

    def _read(self, line: _Line) -> None:
        data = line.socket.recv(READ_BYTES)
        self._failed += not data
        line.answer += data
        step = self._job.steps[line.step]
        if len(line.answer) < step.answer_bytes or not line.answer.endswith(step.tail):
            return
        line.step += 1
        if line.step < len(self._job.steps):
            self._say(line)
            return
        self._completed += 1
        if self._job.again_from > 0:
            line.step = self._job.again_from
            self._say(line)
            return
        self._poll.unregister(line.socket.fileno())
        del self._talking[line.socket.fileno()]
        if self._job.again_from == 0:
            line.socket.sendall(self._job.farewell)
            line.socket.close()
            self._start()
        elif self._started < self._job.count:
            self._start()

    @property
    def figures(self) -> tuple[int, int]:
        """Conversations completed, connections failed."""
        return self._completed, self._failed

    def sockets(self) -> list[int]:
        """Descriptors of those that stay open; they are the caller's."""
        return [line.socket.detach() for line in self._lines]

    def close(self) -> None:
        """Free what it has, and close what does not stay open."""
        self._poll.close()
        if self._job.again_from >= 0:
            for line in self._talking.values():
                line.socket.close()
