"""P2P sync bytes: the keys of one start of links, and where each user of a link group is (client protocol, section 4).

::

    16 bytes encryption key, 16 bytes encryption IV, 16 bytes encryption MAC key
    for each user:
      u32 size, user ID
      u32 size, standard base64 (padded) of, for each address:
        u32 size, "ip:port"          the first one is the public address, the others are local

The node writes them, each member of the link group reads them. Here an address only has to be one; whether it may be
used is decided by `meshrelay.wire.addresses.check_address`.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from meshrelay.errors import MalformedPayload
from meshrelay.model import MAX_USER_ID_BYTES, check_user_id
from meshrelay.wire.addresses import MAX_ADDRESS_BYTES, UdpAddress, parse_address

__all__ = [
    "KEY_BYTES",
    "MAX_ADDRESSES",
    "MAX_LINK_USERS",
    "SECRET_BYTES",
    "SyncBytes",
    "SyncUser",
    "decode_sync_bytes",
    "encode_sync_bytes",
]

#: Of each of the three keys.
KEY_BYTES = 16

#: Of the three together.
SECRET_BYTES = 3 * KEY_BYTES

#: Users of one link group; what a u8 of LINK_START can ask for.
MAX_LINK_USERS = 255

#: Addresses of one user: the public one and 15 local ones.
MAX_ADDRESSES = 16

_U32 = Struct("!I")
_MAX_LIST_BYTES = MAX_ADDRESSES * (_U32.size + MAX_ADDRESS_BYTES)
_MAX_BASE64_BYTES = (_MAX_LIST_BYTES + 2) // 3 * 4


class SyncUser(NamedTuple):
    """One user of the link group; the first of `addresses` is the public one. None at all: relayed only."""

    user_id: str
    addresses: tuple[UdpAddress, ...]


class SyncBytes(NamedTuple):
    """`secret`: encryption key, IV and MAC key, 16 bytes each; and the users in the order of the link group."""

    secret: bytes
    users: tuple[SyncUser, ...]


def encode_sync_bytes(secret: bytes, users: Sequence[SyncUser]) -> bytes:
    """Return the sync bytes.

    :param secret: 48 random bytes, new ones for each start.
    :raises ValueError: the secret has another size, or there are more users or addresses than allowed.
    """
    if len(secret) != SECRET_BYTES or len(users) > MAX_LINK_USERS:
        raise ValueError(f"{len(secret)} bytes of keys and {len(users)} users do not fit sync bytes")
    parts = [secret]
    for user in users:
        if len(user.addresses) > MAX_ADDRESSES:
            raise ValueError(f"{len(user.addresses)} addresses of {user.user_id}, at most {MAX_ADDRESSES} fit")
        addresses = b"".join(_sized(str(address).encode("ascii")) for address in user.addresses)
        parts.append(_sized(user.user_id.encode("utf-8")) + _sized(b64encode(addresses)))
    return b"".join(parts)


def decode_sync_bytes(payload: bytes) -> SyncBytes:
    """Read sync bytes.

    :raises MalformedPayload: the writer's fault; the text names the field. Each size is checked before anything of
        that size is taken.
    """
    if len(payload) < SECRET_BYTES:
        raise MalformedPayload(f"keys: {SECRET_BYTES} bytes needed, {len(payload)} left")
    users: list[SyncUser] = []
    seen: set[str] = set()
    fields = _fields(payload, SECRET_BYTES, ("user ID", MAX_USER_ID_BYTES), ("address list", _MAX_BASE64_BYTES))
    for field in fields:
        user_id = _read_user_id(field)
        if user_id in seen:
            raise MalformedPayload(f"user ID: {user_id!r} is there twice")
        if len(users) == MAX_LINK_USERS:
            raise MalformedPayload(f"user ID: more than {MAX_LINK_USERS} users")
        encoded = next(fields, None)
        if encoded is None:
            raise MalformedPayload("address list size: 4 bytes needed, 0 left")
        seen.add(user_id)
        users.append(SyncUser(user_id, _read_addresses(encoded)))
    return SyncBytes(payload[:SECRET_BYTES], tuple(users))


def _sized(field: bytes) -> bytes:
    return _U32.pack(len(field)) + field


def _fields(payload: bytes, start: int, *kinds: tuple[str, int]) -> Iterator[bytes]:
    """Yield the sized fields of `payload` from `start` on; their names and limits are `kinds`, over and over."""
    count = 0
    while start < len(payload):
        name, limit = kinds[count % len(kinds)]
        left = len(payload) - start
        if left < _U32.size:
            raise MalformedPayload(f"{name} size: {_U32.size} bytes needed, {left} left")
        size: int = _U32.unpack_from(payload, start)[0]
        start += _U32.size
        if size > limit:
            raise MalformedPayload(f"{name} size: {size} is over {limit}")
        if size > left - _U32.size:
            raise MalformedPayload(f"{name}: {size} bytes needed, {left - _U32.size} left")
        yield payload[start : start + size]
        start += size
        count += 1


def _read_user_id(field: bytes) -> str:
    try:
        return check_user_id(str(field, "utf-8"))
    except UnicodeDecodeError:
        raise MalformedPayload("user ID: not UTF-8") from None
    except ValueError as error:
        raise MalformedPayload(f"user ID: {error}") from None


def _read_addresses(field: bytes) -> tuple[UdpAddress, ...]:
    try:
        decoded = a2b_base64(field, strict_mode=True) if field else b""
    except Base64Error as error:
        raise MalformedPayload(f"address list: not base64: {error}") from None
    addresses: list[UdpAddress] = []
    for text in _fields(decoded, 0, ("address", MAX_ADDRESS_BYTES)):
        if len(addresses) == MAX_ADDRESSES:
            raise MalformedPayload(f"address: more than {MAX_ADDRESSES} of one user")
        try:
            addresses.append(parse_address(str(text, "ascii")))
        except UnicodeDecodeError:
            raise MalformedPayload("address: not ASCII") from None
        except ValueError as error:
            raise MalformedPayload(f"address: {error}") from None
    return tuple(addresses)
