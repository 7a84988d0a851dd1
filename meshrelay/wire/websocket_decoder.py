"""What a client sends after the opening handshake becomes pieces of messages (RFC 6455, sections 5 and 7.4).

======  =====  ========  ===============================================================================
offset  bytes  field     meaning
======  =====  ========  ===============================================================================
0       1      first     FIN in bit 7, then three bits that must be 0, then the opcode
1       1      second    MASK in bit 7, which must be 1, then the length, or 126, or 127
2       0 2 8  length    after 126 and 127 only; no longer than it needs to be
...     4      mask      the payload is XORed with it, over and over
...     ...    payload   at most 125 bytes and never in parts where the opcode is 8 or more
======  =====  ========  ===============================================================================

`transport.websocket` takes the bytes from the socket and gives the pieces of binary messages to the frame decoder as
they come: a message is never gathered. There is no compression, so no extension could use the three bits.

Python has no XOR of bytes; that of integers is the fastest way to it. It costs half a microsecond for a hundred bytes,
and two for each thousand: whoever has compiled code for long payloads hands it in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import ClassVar

from meshrelay.errors import MalformedFrame
from meshrelay.wire.websocket import Opcode

__all__ = [
    "INVALID_PAYLOAD",
    "LONG_BYTES",
    "MAX_HELD_BYTES",
    "OVERSIZED",
    "PROTOCOL_VIOLATION",
    "BrokenWebSocket",
    "WebSocketDecoder",
    "close_code_and_reason",
    "unmask",
]

#: Close codes (RFC 6455, section 7.4.1) of a peer that broke the rules.
PROTOCOL_VIOLATION = 1002
INVALID_PAYLOAD = 1007

#: Kind of a piece, no opcode: the message has just announced more than it may hold.
OVERSIZED = 16

#: A payload from here on is unmasked by the function that was handed in.
LONG_BYTES = 192

#: The most that is kept from one read to the next: a control frame of which one byte is missing.
MAX_HELD_BYTES = 6 + 125 - 1

_BINARY = Opcode.BINARY.value
_CLOSE = Opcode.CLOSE.value

_MASKED = 0x80
_FIN = 0x80
_RESERVED = 0x70
_FIN_BINARY = _FIN | _BINARY
_MAX_CONTROL_BYTES = 125

#: Looked up once: to find it each time takes a tenth of what unmasking a hundred bytes does.
_number = int.from_bytes

_MEDIUM = Struct("!H")
_LONG = Struct("!Q")


class BrokenWebSocket(MalformedFrame):
    """Bytes that no client may send: nothing can be read after them.

    :param problem: at most 123 bytes of UTF-8, the room in a close frame.
    :param code: to close with: `PROTOCOL_VIOLATION` or `INVALID_PAYLOAD`.
    """

    def __init__(self, problem: str, code: int = PROTOCOL_VIOLATION) -> None:
        super().__init__(problem)
        self.code = code


def unmask(data: bytes, mask: bytes) -> bytes:
    """Return `data` XORed with the four bytes of `mask` over and over."""
    size = len(data)
    return (_number(data) ^ _number((mask * ((size + 3) >> 2))[:size])).to_bytes(size)


def close_code_and_reason(payload: bytes) -> tuple[int | None, bytes | None]:
    """Read the payload of a close frame; either part may be missing.

    :raises BrokenWebSocket: a code that must not be sent, or a reason that is not UTF-8; the peer's fault.
    """
    if not payload:
        return None, None
    if len(payload) == 1:
        raise BrokenWebSocket("a close frame with half a code")
    code: int = _MEDIUM.unpack_from(payload)[0]
    # 1004 to 1006 are never sent, and what is registered above 1013 is not for endpoints (section 7.4.2).
    if not (1000 <= code <= 1003 or 1007 <= code <= 1013 or 3000 <= code <= 4999):
        raise BrokenWebSocket(f"close code {code} must not be sent")
    reason = payload[2:]
    try:
        reason.decode("utf-8")
    except UnicodeDecodeError:
        raise BrokenWebSocket("the reason of a close frame is not UTF-8", INVALID_PAYLOAD) from None
    return code, reason or None


class WebSocketDecoder:
    """Takes the byte stream of a client, cut anywhere, apart.

    Holds at most `MAX_HELD_BYTES`. After a close frame, and after an error, everything is passed over.

    :param max_message_bytes: a message may be that long, all its parts together; a longer one is told, not refused:
        what to do about it is for the owner to say.
    :param unmask_long: does what `unmask` does to payloads of `LONG_BYTES` and more.
    """

    __slots__ = (
        "_held",
        "_is_last",
        "_is_over",
        "_left",
        "_mask",
        "_opcode",
        "_unmask_long",
        "max_message_bytes",
        "message_bytes",
    )

    #: What every frame has of a mask: the bit beside its length, and the mask itself.
    _mask_bit: ClassVar[int] = _MASKED
    _mask_bytes: ClassVar[int] = 4

    def __init__(self, max_message_bytes: int, unmask_long: Callable[[bytes, bytes], bytes] = unmask) -> None:
        self.max_message_bytes = max_message_bytes
        self._unmask_long = unmask_long
        #: The beginning of a header, or of a control frame.
        self._held = b""
        self._is_over = False
        #: Of the message that is not over; 0: there is none.
        self._opcode = 0
        #: Announced by all parts so far of the message that is not over.
        self.message_bytes = 0
        #: Of the frame whose payload has not come altogether: bytes to come, the mask of the next one, FIN.
        self._left = 0
        self._mask = b""
        self._is_last = False

    @property
    def held_bytes(self) -> int:
        """Bytes kept until more come."""
        return len(self._held)

    def pieces(self, data: bytes) -> Iterator[tuple[int, bytes, bool]]:
        """Take `data` and yield ``(kind, payload, is_end)``: each piece by itself; see `runs`."""
        for kind, payloads, is_end in self.runs(data):
            for payload in payloads:
                yield kind, payload, is_end

    def runs(self, data: bytes) -> Iterable[tuple[int, list[bytes], bool]]:
        """Take `data` and give ``(kind, payloads, is_end)``: the kind is the opcode of a message, or `OVERSIZED`.

        Whole BINARY messages that came together make one run; everything else comes piece by piece. A piece of a TEXT
        or BINARY message may be empty; the first one comes with the header, before any payload. The last piece of each
        message has `is_end`, control frames are one piece.

        Take all of them, or close the connection: what an abandoned iterator did not yield is lost.

        :raises BrokenWebSocket: the peer's fault; comes after all pieces in front of the mistake.
        """
        if self._is_over:
            return ()
        messages: list[bytes] = []
        start = 0
        if not self._opcode and not self._held:
            messages, start = self._whole_messages(data, 0)
            if messages and start == len(data):
                return ((_BINARY, messages, True),)
        return self._runs(data, messages, start)

    def _runs(self, data: bytes, messages: list[bytes], start: int) -> Iterator[tuple[int, list[bytes], bool]]:
        """The same for whatever there is besides whole messages, which have been read up to `start`."""
        if messages:
            yield _BINARY, messages, True
        if self._held:
            data, self._held = self._held + data, b""
        end = len(data)
        if self._left and data:
            start = min(self._left, end)
            yield self._take(data[:start])
        while end - start >= 2:
            if not self._opcode:
                # Almost every frame is a whole binary message, and nothing but these is in most reads.
                messages, start = self._whole_messages(data, start)
                if messages:
                    yield _BINARY, messages, True
                if end - start < 2:
                    break
            first = data[start]
            size = data[start + 1] - self._mask_bit
            self._check_header(first, size)
            body = start + 2 + self._mask_bytes
            if size > 125:
                body += 2 if size == 126 else 8
                if body > end:
                    break
                size = self._long_size(data, start, size)
            stop = body + size
            if body > end or (first & 8 and stop > end):
                break
            start = min(stop, end)
            yield from self._frame(first, size, data[body - self._mask_bytes : body], data[body:start])
            if self._is_over:
                return
        self._held = data[start:]

    def _whole_messages(self, data: bytes, start: int) -> tuple[list[bytes], int]:
        """Read binary messages of one frame from `start` on, as long as they are whole.

        :returns: their payloads, and where the first frame begins that is something else, or not quite plain.
        """
        bodies: list[int] = []
        stops: list[int] = []
        end, limit = len(data), self.max_message_bytes
        # So much is enough to read the lengths of less than 64 KiB.
        while end - start >= 6 and data[start] == _FIN_BINARY:
            size = data[start + 1] - _MASKED
            body = start + 6
            if size == 126:
                size = data[start + 2] << 8 | data[start + 3]
                body += 2
                if size < 126:
                    break
            elif not 0 <= size < 126:
                break
            stop = body + size
            if stop > end or size > limit:
                break
            bodies.append(body)
            stops.append(stop)
            start = stop
        if len(stops) > 1:
            return self._unmask_all(data, bodies, stops), start
        if not stops:
            return [], start
        body = bodies[0]
        return [self._unmask(data[body:start], data[body - 4 : body])], start

    def _unmask(self, data: bytes, mask: bytes) -> bytes:
        return unmask(data, mask) if len(data) < LONG_BYTES else self._unmask_long(data, mask)

    def _unmask_all(self, data: bytes, bodies: list[int], stops: list[int]) -> list[bytes]:
        """Unmask many payloads, short ones in one go: to make an integer of each costs more than to XOR it."""
        ends = list(zip(bodies, stops, strict=True))
        if stops[-1] - bodies[0] >= LONG_BYTES * len(ends):
            one = self._unmask_long
            return [one(data[body:stop], data[body - 4 : body]) for body, stop in ends]
        masked = b"".join([data[body:stop] for body, stop in ends])
        keys = b"".join([(data[body - 4 : body] * ((stop - body + 3) >> 2))[: stop - body] for body, stop in ends])
        plain = (_number(masked) ^ _number(keys)).to_bytes(len(masked))
        payloads: list[bytes] = []
        place = 0
        for body, stop in ends:
            after = place + stop - body
            payloads.append(plain[place:after])
            place = after
        return payloads

    def _frame(self, first: int, size: int, mask: bytes, data: bytes) -> list[tuple[int, list[bytes], bool]]:
        """Read a frame of any kind, of whose payload `data` has come: the pieces that it gives so far."""
        opcode = first & 15
        if opcode & 8:
            return [self._control(opcode, unmask(data, mask))]
        if opcode:
            self._opcode = opcode
            self.message_bytes = 0
        before = self.message_bytes
        self.message_bytes = before + size
        self._left = size
        self._mask = mask
        self._is_last = first >= _FIN
        taken = self._take(data)
        return [(OVERSIZED, [b""], False), taken] if before <= self.max_message_bytes < self.message_bytes else [taken]

    def _check_header(self, first: int, size: int) -> None:
        """Check the first two bytes; a `size` below 0 is one without a mask."""
        opcode = first & 15
        if first & _RESERVED:
            problem = "a reserved bit is set, and no extension was agreed on"
        elif size < 0:
            problem = "a frame of a client is not masked"
        elif opcode & 8:
            problem = _problem_of_control(opcode, first, size)
        elif opcode > _BINARY:
            problem = f"there are no data frames of opcode {opcode}"
        elif opcode and self._opcode:
            problem = "a message begins inside another one"
        elif not opcode and not self._opcode:
            problem = "a part of a message that has not begun"
        else:
            problem = ""
        if problem:
            raise self._broken(problem)

    def _broken(self, problem: str) -> BrokenWebSocket:
        self._is_over = True
        return BrokenWebSocket(problem)

    def _long_size(self, data: bytes, start: int, size: int) -> int:
        """Read the longer fields of the length."""
        form, shortest = (_MEDIUM, 126) if size == 126 else (_LONG, 65536)
        length: int = form.unpack_from(data, start + 2)[0]
        if length < shortest:
            raise self._broken("the length of a frame takes more bytes than it needs")
        if length >> 63:
            raise self._broken("the length of a frame is over 2^63 - 1")
        return length

    def _take(self, data: bytes) -> tuple[int, list[bytes], bool]:
        """Take a part, perhaps the rest, of the payload of the frame that has begun."""
        size = len(data)
        mask, opcode = self._mask, self._opcode
        self._left -= size
        turned = size & 3
        if turned:
            self._mask = mask[turned:] + mask[:turned]
        is_end = self._is_last and not self._left
        if is_end:
            self._opcode = 0
        return opcode, [self._unmask(data, mask)], is_end

    def _control(self, opcode: int, payload: bytes) -> tuple[int, list[bytes], bool]:
        if opcode == _CLOSE:
            self._is_over = True
            close_code_and_reason(payload)
        return opcode, [payload], True


def _problem_of_control(opcode: int, first: int, size: int) -> str:
    if opcode > Opcode.PONG:
        return f"there are no control frames of opcode {opcode}"
    if first < _FIN:
        return "a control frame in parts"
    if size > _MAX_CONTROL_BYTES:
        return "a control frame of more than 125 bytes"
    return ""
