"""What every codec, downlink and subscriber must promise, as checks that run on any of them.

The same check runs on a fake and on the real thing, so that a test with the fake says something about the real one.
Each raises AssertionError with the case that broke, and needs no test framework.

=====================  =====================================================================================
check_codec            there and back; every truncation and seeded garbage gives a value or the one error
check_stream_decoder   however a stream is cut, the same comes out; nothing comes too early
check_downlink         order, GOODBYE last, silence after the end
check_subscriber       takes a batch that others take as well, and leaves it as it is
=====================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from zope.interface.verify import verifyObject

from meshrelay.errors import MeshRelayError
from meshrelay.interfaces import IDownlink, ISubscriber
from meshrelay.model import CloseReason
from meshrelay.wire.commands import CORE_VER, CoreCommand, decode_goodbye
from meshrelay.wire.frame import Frame, encode_frame, encode_push
from meshrelay.wire.prepared import Batch

__all__ = ["DownlinkUnderTest", "check_codec", "check_downlink", "check_stream_decoder", "check_subscriber"]


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def check_codec(
    encode: Callable[[Any], bytes] | None,
    decode: Callable[[bytes], Any],
    vectors: Mapping[bytes, Any],
    error: type[MeshRelayError],
    garbage_count: int = 200,
) -> None:
    """Check a codec of whole payloads against `vectors`.

    :param encode: None = this codec reads only.
    :param vectors: bytes -> the value that they are.
    :param error: the only exception that `decode` may raise.
    :param garbage_count: random and mutated payloads to try; the same at each call.
    """
    for payload, value in vectors.items():
        decoded = decode(payload)
        _expect(decoded == value, f"{payload.hex()} gave {decoded!r}, not {value!r}")
        if encode is not None:
            encoded = encode(value)
            _expect(encoded == payload, f"{value!r} gave {encoded.hex()}, not {payload.hex()}")
        for size in range(len(payload)):
            decoded = _decode_anything(decode, payload[:size], error)
            _expect(decoded != value, f"{payload.hex()} cut to {size} bytes is still {value!r}")
    for garbage in _garbage(list(vectors), garbage_count):
        decoded = _decode_anything(decode, garbage, error)
        if encode is not None and decoded is not None:
            again = decode(encode(decoded))
            _expect(again == decoded, f"{garbage.hex()} gave {decoded!r}, and that {again!r}")


def _decode_anything(decode: Callable[[bytes], Any], payload: bytes, error: type[MeshRelayError]) -> Any:
    try:
        return decode(payload)
    except error:
        return None
    except Exception as other:
        raise AssertionError(f"{payload.hex()} raised {other!r}") from other


def _garbage(vectors: Sequence[bytes], count: int) -> Iterable[bytes]:
    random = Random(20)
    for _ in range(count):
        yield random.randbytes(random.randrange(160))
        payload = bytearray(random.choice(vectors)) if vectors else bytearray()
        if payload:
            payload[random.randrange(len(payload))] = random.randrange(256)
            yield bytes(payload)
            yield bytes(payload) + random.randbytes(random.randrange(8))


def check_stream_decoder(
    make_decode: Callable[[], Callable[[bytes], Iterable[Any]]], stream: bytes, ends: Sequence[tuple[int, Any]]
) -> None:
    """Check that a decoder does not care how a stream is cut.

    :param make_decode: returns a fresh ``decode(data) -> what is now whole``.
    :param stream: some messages back to back, at most a few hundred bytes.
    :param ends: for each message the offset behind its last byte, and its value.
    """
    expected = [value for _, value in ends]
    for offset in range(len(stream) + 1):
        decode = make_decode()
        first = list(decode(stream[:offset]))
        whole = [value for end, value in ends if end <= offset]
        _expect(first == whole, f"the first {offset} bytes gave {first!r}, not {whole!r}")
        rest = list(decode(stream[offset:]))
        _expect(first + rest == expected, f"cut at {offset}: {first + rest!r}, not {expected!r}")
    for size in (1, 2, 3, 5, 7, 13):
        decode = make_decode()
        pieces = [value for start in range(0, len(stream), size) for value in decode(stream[start : start + size])]
        _expect(pieces == expected, f"in pieces of {size}: {pieces!r}, not {expected!r}")
    decode = make_decode()
    twice = list(decode(stream)) + list(decode(stream))
    _expect(twice == expected + expected, f"twice in a row: {twice!r}")


class DownlinkUnderTest(NamedTuple):
    """A fresh link whose client reads everything.

    :ivar received: lets the turn end and returns all frames that the client has got so far.
    """

    link: IDownlink
    received: Callable[[], list[Frame]]


def check_downlink(make: Callable[[], DownlinkUnderTest]) -> None:
    """Check an `IDownlink`; `make` is called several times."""
    _check_downlink_order(make())
    for reason in CloseReason:
        _check_downlink_close(make(), reason)
    _check_downlink_goodbye(make())
    _check_downlink_abort(make())


def _check_downlink_order(case: DownlinkUnderTest) -> None:
    link = case.link
    verifyObject(IDownlink, link)
    _expect(link.transport_name in ("tcp", "websocket", "udp"), f"transport_name is {link.transport_name!r}")
    _expect(isinstance(link.peer, str) and bool(link.peer), f"peer is {link.peer!r}")
    link.send_frame(encode_frame(1, 1, 110, 9, b"answer"))
    link.send_batch(Batch([encode_push(1, 113, b"first"), encode_push(1, 113, b"")], [True, False]))
    link.send_frame(encode_frame(1, 1, 111, 10, b""))
    payloads = [(frame.cmd, frame.payload) for frame in case.received()]
    expected = [(110, b"answer"), (113, b"first"), (113, b""), (111, b"")]
    _expect(payloads == expected, f"out of order: {payloads!r}")
    owed = link.undelivered()
    _expect(owed is None or owed[0] >= len(owed[1]), f"owes more reliable pushes than it was given: {owed!r}")
    _expect(link.queued_bytes == 0, f"{link.queued_bytes} bytes queued although everything was read")
    link.pause_reading()
    link.resume_reading()


def _check_downlink_close(case: DownlinkUnderTest, reason: CloseReason) -> None:
    link = case.link
    link.send_frame(encode_frame(1, 1, 110, 9, b"owed"))
    case.received()
    link.close(reason, reason.text)
    link.close(CloseReason.INTERNAL, "a second time")
    link.send_frame(encode_frame(1, 1, 110, 10, b"too late"))
    link.send_batch(Batch([encode_push(1, 113, b"too late")]))
    frames = case.received()
    _expect(len(frames) == 2, f"{reason}: {frames!r}")
    _expect(frames[0].payload == b"owed", f"{reason}: the answer was lost")
    last = frames[1]
    _expect((last.ver, last.status, last.cmd) == (CORE_VER, 255, CoreCommand.GOODBYE), f"{reason}: no GOODBYE")
    _expect(decode_goodbye(last.payload) == (reason.code, reason.text), f"{reason}: {last.payload!r}")


def _check_downlink_goodbye(case: DownlinkUnderTest) -> None:
    case.link.send_frame(encode_frame(1, 1, 110, 9, b"owed"))
    case.link.close(None, "")
    payloads = [frame.payload for frame in case.received()]
    _expect(payloads == [b"owed"], f"after the client's own GOODBYE: {payloads!r}")


def _check_downlink_abort(case: DownlinkUnderTest) -> None:
    case.link.abort()
    case.link.send_frame(encode_frame(1, 1, 110, 9, b"too late"))
    case.link.close(CloseReason.KICKED, "too late")
    case.link.abort()
    _expect(case.received() == [], "something came after the abort")


def check_subscriber(make: Callable[[], ISubscriber]) -> None:
    """Check an `ISubscriber`: it may be in a channel with others, and twice is not the same as once."""
    subscriber, other = make(), make()
    verifyObject(ISubscriber, subscriber)
    _expect(subscriber != other and len({subscriber, other, subscriber}) == 2, "two subscribers are one")
    frames = [encode_push(1, 113, b"one"), encode_push(2, 7, b"two")]
    batch = Batch(frames, [True, False])
    for each in (subscriber, other, subscriber):
        each.deliver(batch)
    _expect(list(batch.frames) == frames and batch.count == 2, "the batch was changed")
    _expect(batch.stream == b"".join(frames), "the bytes that all share were changed")
