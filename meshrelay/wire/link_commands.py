"""Payloads of the commands for P2P links, 130 to 134, and of their pushes (client protocol, section 3).

===  ==============  =============================================  =========================================
cmd  name            request                                        answer, or push
===  ==============  =============================================  =========================================
130  LINK_ADDRESSES  str8 "ip:port" for each local address          str8 public "ip:port"; empty: not known
131  LINK_START      gid, u8 max_link_members                       push: `meshrelay.wire.sync_bytes`
132  LINK_RELAY      `meshrelay.wire.commands.encode_gid_message`   u8 sent; push: `encode_pushed_message` there
133  LINK_STATE      gid, then str8 peer + u8 state each            empty
134  LINK_FORWARD    gid, str8 peer, packet                         push: the same with the sender for the peer
===  ==============  =============================================  =========================================
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, unique
from typing import NamedTuple

from meshrelay.errors import MalformedPayload
from meshrelay.wire.addresses import MAX_ADDRESS_BYTES, UdpAddress, check_address, parse_address
from meshrelay.wire.buffer import PayloadReader, encode_gid, encode_str8
from meshrelay.wire.datagram import MAX_DATAGRAM_BYTES
from meshrelay.wire.sync_bytes import MAX_ADDRESSES, MAX_LINK_USERS

__all__ = [
    "MAX_LOCAL_ADDRESSES",
    "Forwarded",
    "LinkReport",
    "LinkStart",
    "LinkState",
    "decode_addresses",
    "decode_forward",
    "decode_link_start",
    "decode_public_address",
    "decode_relayed",
    "decode_report",
    "encode_addresses",
    "encode_forward",
    "encode_link_start",
    "encode_public_address",
    "encode_relayed",
    "encode_report",
]

#: Local addresses of one client; the public one comes before them in the sync bytes.
MAX_LOCAL_ADDRESSES = MAX_ADDRESSES - 1


@unique
class LinkState(IntEnum):
    """How a client reaches a peer, as LINK_STATE says."""

    LOST = 0
    DIRECT = 1
    RELAYED = 2


_STATES = {state.value: state for state in LinkState}


class LinkStart(NamedTuple):
    """What LINK_START asks for; `max_link_members` 0 means the node's default."""

    group_id: str
    max_link_members: int


class LinkReport(NamedTuple):
    """What LINK_STATE says: for each peer how it is reached."""

    group_id: str
    states: tuple[tuple[str, LinkState], ...]


class Forwarded(NamedTuple):
    """LINK_FORWARD: `user_id` is the peer in a request, the sender in a push; the packet has 1 to 1,400 bytes."""

    group_id: str
    user_id: str
    packet: bytes


class _LinkReader(PayloadReader):
    """A payload with addresses in it."""

    __slots__ = ()

    def address(self, field: str) -> UdpAddress | None:
        """A str8 with "ip:port"; None when it is empty."""
        size = self.u8(f"{field} size")
        start = self._take(size, field)
        text = self._payload[start : start + size]
        if not text:
            return None
        if size > MAX_ADDRESS_BYTES or not text.isascii():
            raise MalformedPayload(f"{field}: not ip:port")
        try:
            return parse_address(str(text, "ascii"))
        except ValueError as error:
            raise MalformedPayload(f"{field}: {error}") from None


def encode_addresses(addresses: Iterable[UdpAddress]) -> bytes:
    """LINK_ADDRESSES: the local addresses of the client's UDP socket, `MAX_LOCAL_ADDRESSES` at most."""
    return b"".join(encode_str8(str(address)) for address in addresses)


def decode_addresses(payload: bytes, allow_loopback: bool = False) -> list[UdpAddress]:
    """Read LINK_ADDRESSES.

    :param allow_loopback: for tests.
    :raises MalformedPayload: also when an address is none that a peer may be sent to (`check_address`).
    """
    reader = _LinkReader(payload)
    addresses: list[UdpAddress] = []
    while not reader.is_empty:
        address = reader.address("address")
        if address is None:
            raise MalformedPayload("address: empty")
        if len(addresses) == MAX_LOCAL_ADDRESSES:
            raise MalformedPayload(f"address: more than {MAX_LOCAL_ADDRESSES}")
        try:
            addresses.append(check_address(address, allow_loopback))
        except ValueError as error:
            raise MalformedPayload(f"address: {error}") from None
    return addresses


def encode_public_address(address: UdpAddress | None) -> bytes:
    """The answer to LINK_ADDRESSES; None: the client speaks to the node over TCP, its UDP address is not known."""
    return encode_str8("" if address is None else str(address))


def decode_public_address(payload: bytes) -> UdpAddress | None:
    """The reverse of `encode_public_address`."""
    reader = _LinkReader(payload)
    address = reader.address("public address")
    reader.end("public address")
    return address


def encode_link_start(request: LinkStart) -> bytes:
    """LINK_START: gid, u8 max_link_members.

    :raises ValueError: the gid is not 52 ASCII characters, or the number does not fit.
    """
    return encode_gid(request.group_id) + bytes((request.max_link_members,))


def decode_link_start(payload: bytes) -> LinkStart:
    """The reverse of `encode_link_start`."""
    reader = PayloadReader(payload)
    request = LinkStart(reader.gid("room ID"), reader.u8("max_link_members"))
    reader.end("max_link_members")
    return request


def encode_relayed(is_sent: bool) -> bytes:
    """The answer to LINK_RELAY: u8, 1 sent, 0 not."""
    return bytes((is_sent,))


def decode_relayed(payload: bytes) -> bool:
    """The reverse of `encode_relayed`."""
    reader = PayloadReader(payload)
    sent = reader.u8("sent")
    reader.end("sent")
    if sent > 1:
        raise MalformedPayload(f"sent: {sent} is neither 0 nor 1")
    return bool(sent)


def encode_report(report: LinkReport) -> bytes:
    """LINK_STATE: gid, then str8 peer and u8 state each; at most `MAX_LINK_USERS` of them."""
    states = (encode_str8(user_id) + bytes((state,)) for user_id, state in report.states)
    return encode_gid(report.group_id) + b"".join(states)


def decode_report(payload: bytes) -> LinkReport:
    """The reverse of `encode_report`."""
    reader = PayloadReader(payload)
    group_id = reader.gid("room ID")
    states: list[tuple[str, LinkState]] = []
    while not reader.is_empty:
        user_id = reader.user_id("peer")
        value = reader.u8("state")
        state = _STATES.get(value)
        if state is None:
            raise MalformedPayload(f"state: {value} is none of 0, 1 and 2")
        if len(states) == MAX_LINK_USERS:
            raise MalformedPayload(f"peer: more than {MAX_LINK_USERS}")
        states.append((user_id, state))
    return LinkReport(group_id, tuple(states))


def encode_forward(forwarded: Forwarded) -> bytes:
    """LINK_FORWARD, request and push: gid, str8 user, packet."""
    return encode_gid(forwarded.group_id) + encode_str8(forwarded.user_id) + forwarded.packet


def decode_forward(payload: bytes) -> Forwarded:
    """The reverse of `encode_forward`; the packet is opaque to everybody but the peer."""
    reader = PayloadReader(payload)
    forwarded = Forwarded(reader.gid("room ID"), reader.user_id("peer"), reader.rest())
    if not 1 <= len(forwarded.packet) <= MAX_DATAGRAM_BYTES:
        raise MalformedPayload(f"packet: {len(forwarded.packet)} bytes, allowed are 1 to {MAX_DATAGRAM_BYTES}")
    return forwarded
