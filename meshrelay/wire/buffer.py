"""A cursor over one payload, and the small fields that payloads are made of.

Every reader names the field in its error, so that the sender of a bad payload can mend it. All integers are
big-endian, text is UTF-8 (client protocol, head).
"""

from __future__ import annotations

from struct import Struct

from meshrelay.errors import MalformedPayload
from meshrelay.model import check_user_id

__all__ = ["GROUP_ID_BYTES", "PayloadReader", "encode_gid", "encode_str8"]

#: A group or room ID on the wire: exactly 52 ASCII bytes.
GROUP_ID_BYTES = 52

_U16 = Struct("!H")
_U32 = Struct("!I")


class PayloadReader:
    """Reads one payload from front to back.

    Each method takes the name of the field and raises MalformedPayload (the sender's fault) when the payload
    is too short for it or the value is not allowed.
    """

    __slots__ = ("_offset", "_payload")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._offset = 0

    def _take(self, size: int, field: str) -> int:
        start = self._offset
        if start + size > len(self._payload):
            left = len(self._payload) - start
            raise MalformedPayload(f"{field}: {size} bytes needed, {left} left")
        self._offset = start + size
        return start

    def u8(self, field: str) -> int:
        """One byte, 0 to 255."""
        return self._payload[self._take(1, field)]

    def u16(self, field: str) -> int:
        """Two bytes, 0 to 65,535."""
        value: int = _U16.unpack_from(self._payload, self._take(2, field))[0]
        return value

    def u32(self, field: str) -> int:
        """Four bytes, 0 to 2^32 - 1."""
        value: int = _U32.unpack_from(self._payload, self._take(4, field))[0]
        return value

    def gid(self, field: str) -> str:
        """A group ID: exactly 52 ASCII bytes."""
        start = self._take(GROUP_ID_BYTES, field)
        try:
            return str(self._payload[start : self._offset], "ascii")
        except UnicodeDecodeError:
            raise MalformedPayload(f"{field}: not ASCII") from None

    def user_id(self, field: str) -> str:
        """A str8 that holds a user ID: 1 to 128 bytes of UTF-8."""
        size = self.u8(field)
        start = self._take(size, field)
        try:
            return check_user_id(str(self._payload[start : self._offset], "utf-8"))
        except UnicodeDecodeError:
            raise MalformedPayload(f"{field}: not UTF-8") from None
        except ValueError as error:
            raise MalformedPayload(f"{field}: {error}") from None

    def rest(self) -> bytes:
        """All that is left; may be empty."""
        start, self._offset = self._offset, len(self._payload)
        return self._payload[start:]

    @property
    def is_empty(self) -> bool:
        """True when everything was read."""
        return self._offset == len(self._payload)

    def end(self, field: str) -> None:
        """Expect that nothing is left after `field`."""
        left = len(self._payload) - self._offset
        if left:
            raise MalformedPayload(f"{left} bytes too many after {field}")


def encode_str8(text: str) -> bytes:
    """u8 length and that many bytes of UTF-8.

    :raises ValueError: more than 255 bytes.
    """
    encoded = text.encode("utf-8")
    return bytes((len(encoded),)) + encoded


def encode_gid(group_id: str) -> bytes:
    """The 52 ASCII bytes of a group ID.

    :raises ValueError: not 52 ASCII characters.
    """
    encoded = group_id.encode("ascii")
    if len(encoded) != GROUP_ID_BYTES:
        raise ValueError(f"group ID has {len(encoded)} characters, it must have {GROUP_ID_BYTES}")
    return encoded
