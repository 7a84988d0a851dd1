"""What a peer may make banana build: bytes in, the same bytes out, or an error. Pure.

Twisted's banana (26.10, ``twisted/spread/banana.py``) bounds a string and the length of a list to 640 Ki and nothing
else: 10 MB of nested list heads pin 700 MB. This walks over the heads of the tokens before banana sees them; the
contents of strings are passed over, so an honest batch costs some twenty steps.

A token is up to 64 bytes of digits (base 128, least first) and a type byte with the high bit set.
"""

from __future__ import annotations

import re

from meshrelay.errors import RemoteProtocolError

__all__ = ["MAX_ITEMS", "MAX_NESTING", "MAX_STRING_BYTES", "MAX_UNPARSED_BYTES", "BananaGuard"]

#: Lists inside lists.
MAX_NESTING = 32

#: Bytes of one expression, which banana keeps until it is whole.
MAX_UNPARSED_BYTES = 2 * 1024 * 1024

#: Bytes of one string; banana's own bound.
MAX_STRING_BYTES = 640 * 1024

#: Tokens of one expression; a call needs less than twenty.
MAX_ITEMS = 256

#: Digits of a number: 63 bits. Request numbers and lengths are all that nodes send.
MAX_DIGITS = 9

_LIST, _INT, _STRING, _NEG, _FLOAT, _LONGINT, _LONGNEG, _VOCAB = range(0x80, 0x88)

_TYPE_BYTE = re.compile(rb"[\x80-\xff]")


class BananaGuard:
    """Looks at all that one peer sends, in order.

    :ivar nesting: lists that are open now.
    """

    def __init__(self) -> None:
        self._digits = b""
        #: Bytes of a string that are still to come.
        self._skip = 0
        #: Items that each open list still waits for, innermost last.
        self._open: list[int] = []
        self._bytes = 0
        self._items = 0

    @property
    def nesting(self) -> int:
        """Lists that are open now."""
        return len(self._open)

    def check(self, data: bytes) -> None:
        """Look at the next bytes.

        :raises RemoteProtocolError: they would make banana build what no node sends; close the connection.
        """
        size, offset = len(data), 0
        while offset < size:
            if self._skip:
                step = min(self._skip, size - offset)
                self._skip -= step
                offset += step
                self._count_bytes(step)
                if self._skip == 0:
                    self._item_done()
                continue
            found = _TYPE_BYTE.search(data, offset, offset + MAX_DIGITS + 1)
            end = size if found is None else found.start()
            digits = self._digits + data[offset:end]
            if len(digits) > MAX_DIGITS:
                raise RemoteProtocolError("a number of too many digits")
            self._count_bytes(end - offset + 1)
            if found is None:
                self._digits = digits
                return
            self._digits = b""
            offset = end + 1
            self._token(data[end], sum(digit << 7 * place for place, digit in enumerate(digits)))

    def _count_bytes(self, count: int) -> None:
        self._bytes += count
        if self._bytes > MAX_UNPARSED_BYTES:
            raise RemoteProtocolError(f"an expression of more than {MAX_UNPARSED_BYTES} bytes")

    def _token(self, kind: int, value: int) -> None:
        self._items += 1
        if self._items > MAX_ITEMS:
            raise RemoteProtocolError(f"an expression of more than {MAX_ITEMS} items")
        if kind == _LIST:
            if len(self._open) >= MAX_NESTING or value > MAX_ITEMS:
                raise RemoteProtocolError(f"a list of {value} items inside {len(self._open)} others")
            self._open.append(value)
            if value == 0:
                self._open.pop()
                self._item_done()
        elif kind == _STRING:
            if value > MAX_STRING_BYTES:
                raise RemoteProtocolError(f"a string of {value} bytes")
            self._skip = value
            if value == 0:
                self._item_done()
        elif kind == _FLOAT:
            self._skip = 8
        elif kind in (_INT, _NEG, _LONGINT, _LONGNEG, _VOCAB):
            self._item_done()
        else:
            raise RemoteProtocolError(f"a token of type {kind}")

    def _item_done(self) -> None:
        while self._open:
            self._open[-1] -= 1
            if self._open[-1]:
                return
            self._open.pop()
        self._bytes = self._items = 0
