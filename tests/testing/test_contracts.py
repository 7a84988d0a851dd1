"""The checks find what they are for: each is shown something broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from meshrelay.errors import MalformedPayload
from meshrelay.interfaces import ISubscriber
from meshrelay.model import CloseReason
from meshrelay.testing.contracts import (
    DownlinkUnderTest,
    check_codec,
    check_downlink,
    check_stream_decoder,
    check_subscriber,
)
from meshrelay.testing.link import MemoryLink
from meshrelay.wire.frame import Frame, FrameDecoder, encode_push
from meshrelay.wire.prepared import Batch


def encode_pair(value: tuple[int, int]) -> bytes:
    """Two bytes."""
    return bytes(value)


def decode_pair(payload: bytes) -> tuple[int, int]:
    """Two bytes and nothing else."""
    if len(payload) != 2:
        raise MalformedPayload
    return payload[0], payload[1]


VECTORS = {b"\x01\x02": (1, 2)}


class CodecCheckTests(SynchronousTestCase):
    """`check_codec`."""

    def broken(
        self, decode: Callable[[bytes], object], encode: Callable[[tuple[int, int]], bytes] = encode_pair
    ) -> str:
        """Return what the check says about a broken codec."""
        error = self.assertRaises(AssertionError, check_codec, encode, decode, VECTORS, MalformedPayload)
        return str(error)

    def test_good(self) -> None:
        """A good codec passes, with or without an encoder."""
        check_codec(encode_pair, decode_pair, VECTORS, MalformedPayload)
        check_codec(None, decode_pair, VECTORS, MalformedPayload)

    def test_wrong_value(self) -> None:
        """Swapped fields are found in both directions."""
        self.assertIn("0102 gave (2, 1)", self.broken(lambda payload: decode_pair(payload)[::-1]))
        self.assertIn("(1, 2) gave 0201", self.broken(decode_pair, lambda value: encode_pair(value)[::-1]))

    def test_wrong_error(self) -> None:
        """An exception of another kind is found."""
        self.assertIn("IndexError", self.broken(lambda payload: (payload[0], payload[1])))

    def test_truncation(self) -> None:
        """A codec that makes up what is missing is found."""
        self.assertIn(
            "cut to 1 bytes", self.broken(lambda payload: (1, 2) if len(payload) == 1 else decode_pair(payload))
        )

    def test_trailing_bytes(self) -> None:
        """A codec whose garbage does not survive a round trip is found."""

        def decode(payload: bytes) -> tuple[int, int]:
            first, second = decode_pair(payload[:2])
            return first, second + len(payload) - 2

        self.assertRaises((AssertionError, ValueError), check_codec, encode_pair, decode, VECTORS, MalformedPayload)


class StreamCheckTests(SynchronousTestCase):
    """`check_stream_decoder`."""

    stream = encode_push(1, 1, b"a") + encode_push(1, 2, b"")
    ends = ((13, Frame(1, 255, 1, 0, b"a")), (25, Frame(1, 255, 2, 0, b"")))

    def broken(self, make: Callable[[], Callable[[bytes], Iterable[object]]]) -> str:
        """Return what the check says about a broken decoder."""
        return str(self.assertRaises(AssertionError, check_stream_decoder, make, self.stream, self.ends))

    def test_good(self) -> None:
        """A good decoder passes."""
        check_stream_decoder(lambda: FrameDecoder(16).frames, self.stream, self.ends)

    def test_forgetful(self) -> None:
        """A decoder that forgets the beginning of a frame is found."""

        def make() -> Callable[[bytes], Iterable[object]]:
            return lambda data: FrameDecoder(1 << 30).frames(data) if len(data) >= 12 else []

        self.assertIn("cut at", self.broken(make))

    def test_late(self) -> None:
        """A decoder that holds back what is whole is found."""

        def make() -> Callable[[bytes], Iterable[object]]:
            held: list[object] = []
            decoder = FrameDecoder(16)

            def decode(data: bytes) -> Iterable[object]:
                held.extend(decoder.frames(data))
                return [held.pop(0) for _ in range(len(held) - 1)]

            return decode

        self.assertIn("cut at 0", self.broken(make))


class SilentLink(MemoryLink):
    """Closes without a word."""

    def close(self, reason: CloseReason | None, text: str) -> None:
        """See `IDownlink`."""
        super().close(None, text)


class TalkativeLink(MemoryLink):
    """Goes on after the end."""

    def send_frame(self, frame: bytes, count: int = 1) -> None:
        """See `IDownlink`."""
        self.is_closed = False
        super().send_frame(frame, count)


class HastyLink(MemoryLink):
    """Lets answers overtake pushes."""

    def send_frame(self, frame: bytes, count: int = 1) -> None:
        """See `IDownlink`."""
        super().send_frame(frame, count)
        self.received.insert(0, self.received.pop())


class DownlinkCheckTests(SynchronousTestCase):
    """`check_downlink`."""

    def broken(self, link_class: type[MemoryLink]) -> str:
        """Return what the check says about a broken link."""

        def make() -> DownlinkUnderTest:
            link = link_class()
            return DownlinkUnderTest(link, lambda: list(link.received))

        return str(self.assertRaises(AssertionError, check_downlink, make))

    def test_broken(self) -> None:
        """Lost order, a missing GOODBYE and words after the end are found."""
        self.assertIn("out of order", self.broken(HastyLink))
        self.assertIn("DRAINING", self.broken(SilentLink))
        self.assertIn("DRAINING", self.broken(TalkativeLink))


@implementer(ISubscriber)
class Vandal:
    """Changes what all share."""

    def deliver(self, batch: Batch) -> None:
        """See `ISubscriber`."""
        batch.count += 1


@implementer(ISubscriber)
class Twin(Vandal):
    """Is equal to every other."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Twin)

    def __hash__(self) -> int:
        return 1


class SubscriberCheckTests(SynchronousTestCase):
    """`check_subscriber`."""

    def test_broken(self) -> None:
        """Who changes a shared batch, and who cannot be told from another, is found."""
        self.assertIn("changed", str(self.assertRaises(AssertionError, check_subscriber, Vandal)))
        self.assertIn("are one", str(self.assertRaises(AssertionError, check_subscriber, Twin)))
