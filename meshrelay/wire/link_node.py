"""P2P links between nodes: bytes to values and back.

============  ====================================================================================================
LINK_PLAN     gid, u64 number of the start, u16 count of all link groups of the room, u16 index of this one, u8 ver,
              u16 cmd, u32 length and sync bytes for its members on the receiving node (none: nothing is pushed), then
              to the end its members: str8 user, str8 sid, str8 node. No members: there is no such group any more
LINK_PACKETS  gid, str8 sender, str8 peer, str8 sid of the peer, pushes to the end
LINK_RELAY    gid, str8 sender, str8 sid, u8 flags (1 = reliable), u8 ver, u16 cmd, message to the end
LINK_REPORT   gid, str8 user, str8 sid, then to the end: str8 peer, u8 state
============  ====================================================================================================

And the calls, to the home of a room but for the first one:

============  =======================================  ===============================================================
link.facts    gid, u32 offset                          u32 next offset (0 = the end), then facts of members there
link.members  gid, u32 offset                          the same of all members, in join order; or an error
link.start    gid, str8 user, str8 sid, u8 max members, nothing; or an error
              u8 ver, u16 cmd
link.pairs    gid                                      u32 count of all pairs, then the first ones: str8 user, str8
                                                       peer, str8 state, str8 reason; or an error
============  =======================================  ===============================================================

An answer that may be an error begins with u16 code; unless that is 0 a text follows, to the end. Facts are str8 user,
str8 sid, str8 node, u8 transport, u32 latency in microseconds (all bits set = not measured), u8 count and str8
"ip:port" each.

Integers are big-endian; a str8 is a u8 length and that many bytes of UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from struct import Struct
from typing import NamedTuple, TypeVar

from meshrelay.errors import MalformedFrame, MalformedPayload
from meshrelay.model import LinkPair
from meshrelay.wire.addresses import UdpAddress, parse_address
from meshrelay.wire.buffer import PayloadReader, encode_gid, encode_str8
from meshrelay.wire.link_commands import LinkState

__all__ = [
    "MAX_PAGE_BYTES",
    "LinkAsk",
    "LinkFact",
    "LinkPackets",
    "LinkPlan",
    "LinkRelayed",
    "LinkReported",
    "PlanMember",
    "decode_answer",
    "decode_facts",
    "decode_page",
    "decode_packets",
    "decode_pairs",
    "decode_plan",
    "decode_relay",
    "decode_reported",
    "decode_start",
    "encode_error_answer",
    "encode_facts",
    "encode_packets",
    "encode_page",
    "encode_pairs",
    "encode_plan",
    "encode_relay",
    "encode_reported",
    "encode_start",
]

#: Facts of one answer; what is longer is asked for again with an offset.
MAX_PAGE_BYTES = 256 * 1024

_PLAN = Struct("!QHHBHI")
_FACT = Struct("!BIB")
_START = Struct("!BBH")
_RELAY = Struct("!BBH")
_U16 = Struct("!H")
_U32 = Struct("!I")

_RELIABLE = 1
_NOT_MEASURED = 0xFFFFFFFF
_TRANSPORTS = ("", "tcp", "websocket", "udp")

_T = TypeVar("_T")


class PlanMember(NamedTuple):
    """One member of a link group."""

    user_id: str
    sid: str
    node_id: str


class LinkPlan(NamedTuple):
    """One link group of a room, as it is now."""

    room_id: str
    #: Greater for each start in the room.
    number: int
    #: Link groups of the room.
    group_count: int
    group_index: int
    ver: int
    cmd: int
    #: b"" = the members have them.
    sync_bytes: bytes
    #: The one of lowest latency first.
    members: tuple[PlanMember, ...]


class LinkPackets(NamedTuple):
    """Pushes for one user; to be lost rather than late."""

    room_id: str
    sender_id: str
    peer_id: str
    peer_sid: str
    frames: bytes


class LinkRelayed(NamedTuple):
    """A message for one member of each link group but the sender's."""

    room_id: str
    user_id: str
    sid: str
    reliable: bool
    ver: int
    cmd: int
    message: bytes


class LinkReported(NamedTuple):
    """How a user reaches others."""

    room_id: str
    user_id: str
    sid: str
    states: tuple[tuple[str, LinkState], ...]


class LinkAsk(NamedTuple):
    """Who wants links to be started, and how."""

    room_id: str
    user_id: str
    sid: str
    max_link_members: int
    ver: int
    cmd: int


class LinkFact(NamedTuple):
    """What a node knows of a member. No addresses: others are told none, and it is relayed."""

    user_id: str
    sid: str
    node_id: str
    transport: str
    latency_seconds: float | None
    #: The public one first.
    addresses: tuple[UdpAddress, ...]


class _Reader(PayloadReader):
    """What nodes say; names are never empty."""

    __slots__ = ()

    def fields(self, fields: Struct) -> tuple[int, ...]:
        return fields.unpack_from(self._payload, self._take(fields.size, "numbers"))

    def bytes_of(self, size: int) -> bytes:
        start = self._take(size, "bytes")
        return self._payload[start : start + size]

    def text(self) -> str:
        size = self.u8("text size")
        try:
            return str(self.bytes_of(size), "utf-8")
        except UnicodeDecodeError:
            raise MalformedPayload("text: not UTF-8") from None

    def state(self) -> LinkState:
        value = self.u8("state")
        try:
            return LinkState(value)
        except ValueError:
            raise MalformedPayload(f"state: {value}") from None


def _of_a_node(decode: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
    """What cannot be read is the fault of a node here, and of no client."""

    @wraps(decode)
    def read(data: bytes) -> _T:
        try:
            return decode(data)
        except MalformedPayload as error:
            raise MalformedFrame(f"{decode.__name__}: {error.text}") from None

    return read


def encode_plan(plan: LinkPlan) -> bytes:
    """Return the payload of a LINK_PLAN."""
    numbers = _PLAN.pack(plan.number, plan.group_count, plan.group_index, plan.ver, plan.cmd, len(plan.sync_bytes))
    names = [encode_str8(name) for member in plan.members for name in member]
    return b"".join((encode_gid(plan.room_id), numbers, plan.sync_bytes, *names))


@_of_a_node
def decode_plan(data: bytes) -> LinkPlan:
    """The reverse of `encode_plan`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader(data)
    room_id = reader.gid("room ID")
    number, group_count, index, ver, cmd, size = reader.fields(_PLAN)
    sync_bytes = reader.bytes_of(size)
    members = []
    while not reader.is_empty:
        members.append(PlanMember(reader.user_id("user"), reader.user_id("sid"), reader.user_id("node")))
    return LinkPlan(room_id, number, group_count, index, ver, cmd, sync_bytes, tuple(members))


def encode_packets(packets: LinkPackets) -> bytes:
    """Return the payload of a LINK_PACKETS."""
    names = map(encode_str8, packets[1:4])
    return b"".join((encode_gid(packets.room_id), *names, packets.frames))


@_of_a_node
def decode_packets(data: bytes) -> LinkPackets:
    """The reverse of `encode_packets`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader(data)
    room_id = reader.gid("room ID")
    names = reader.user_id("sender"), reader.user_id("peer"), reader.user_id("sid")
    return LinkPackets(room_id, *names, reader.rest())


def encode_relay(relayed: LinkRelayed) -> bytes:
    """Return the payload of a LINK_RELAY."""
    numbers = _RELAY.pack(_RELIABLE if relayed.reliable else 0, relayed.ver, relayed.cmd)
    names = encode_str8(relayed.user_id), encode_str8(relayed.sid)
    return b"".join((encode_gid(relayed.room_id), *names, numbers, relayed.message))


@_of_a_node
def decode_relay(data: bytes) -> LinkRelayed:
    """The reverse of `encode_relay`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader(data)
    room_id, user_id, sid = reader.gid("room ID"), reader.user_id("sender"), reader.user_id("sid")
    flags, ver, cmd = reader.fields(_RELAY)
    return LinkRelayed(room_id, user_id, sid, bool(flags & _RELIABLE), ver, cmd, reader.rest())


def encode_reported(reported: LinkReported) -> bytes:
    """Return the payload of a LINK_REPORT."""
    states = (encode_str8(peer_id) + bytes((state,)) for peer_id, state in reported.states)
    return b"".join((encode_gid(reported.room_id), *map(encode_str8, reported[1:3]), *states))


@_of_a_node
def decode_reported(data: bytes) -> LinkReported:
    """The reverse of `encode_reported`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader(data)
    room_id, user_id, sid = reader.gid("room ID"), reader.user_id("user"), reader.user_id("sid")
    states = []
    while not reader.is_empty:
        states.append((reader.user_id("peer"), reader.state()))
    return LinkReported(room_id, user_id, sid, tuple(states))


def encode_start(ask: LinkAsk) -> bytes:
    """Return the payload of a call ``link.start``."""
    names = encode_str8(ask.user_id), encode_str8(ask.sid)
    return b"".join((encode_gid(ask.room_id), *names, _START.pack(ask.max_link_members, ask.ver, ask.cmd)))


@_of_a_node
def decode_start(data: bytes) -> LinkAsk:
    """The reverse of `encode_start`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader(data)
    room_id, user_id, sid = reader.gid("room ID"), reader.user_id("user"), reader.user_id("sid")
    max_link_members, ver, cmd = reader.fields(_START)
    return LinkAsk(room_id, user_id, sid, max_link_members, ver, cmd)


def encode_page(room_id: str, offset: int) -> bytes:
    """Return the payload of a call that is answered with facts."""
    return encode_gid(room_id) + _U32.pack(offset)


@_of_a_node
def decode_page(data: bytes) -> tuple[str, int]:
    """The reverse of `encode_page`. For ``link.pairs`` the offset may be left out.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader(data)
    room_id = reader.gid("room ID")
    return room_id, 0 if reader.is_empty else reader.u32("offset")


def encode_facts(facts: Sequence[LinkFact], offset: int) -> bytes:
    """Return one page of facts, from the one at `offset` on, `MAX_PAGE_BYTES` or a little more."""
    parts: list[bytes] = []
    size = 0
    for fact in facts[offset:]:
        if size >= MAX_PAGE_BYTES:
            break
        encoded = _encode_fact(fact)
        size += len(encoded)
        parts.append(encoded)
    end = offset + len(parts)
    return _U32.pack(end if end < len(facts) else 0) + b"".join(parts)


def _encode_fact(fact: LinkFact) -> bytes:
    latency = _NOT_MEASURED
    if fact.latency_seconds is not None:
        latency = min(round(fact.latency_seconds * 1_000_000), _NOT_MEASURED - 1)
    transport = _TRANSPORTS.index(fact.transport) if fact.transport in _TRANSPORTS else 0
    numbers = _FACT.pack(transport, latency, len(fact.addresses))
    return b"".join((*map(encode_str8, fact[:3]), numbers, *(encode_str8(str(each)) for each in fact.addresses)))


@_of_a_node
def decode_facts(data: bytes) -> tuple[int, list[LinkFact]]:
    """The reverse of `encode_facts`.

    :returns: the offset of the next page, 0 = there is none; and the facts.
    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader(data)
    offset = reader.u32("offset")
    facts = []
    while not reader.is_empty:
        names = reader.user_id("user"), reader.user_id("sid"), reader.user_id("node")
        transport, latency, count = reader.fields(_FACT)
        latency_seconds = None if latency == _NOT_MEASURED else latency / 1_000_000
        name = _TRANSPORTS[transport] if transport < len(_TRANSPORTS) else ""
        try:
            addresses = tuple([parse_address(reader.text()) for _ in range(count)])
        except ValueError as error:
            raise MalformedPayload(f"address: {error}") from None
        facts.append(LinkFact(*names, name, latency_seconds, addresses))
    return offset, facts


def encode_pairs(pairs: Iterable[LinkPair], count: int) -> bytes:
    """Return the answer to ``link.pairs``.

    :param count: of all, of which `pairs` are the first ones.
    """
    names = (encode_str8(name) for each in pairs for name in (each.user_id, each.peer_id, each.state, each.reason))
    return _U32.pack(count) + b"".join(names)


@_of_a_node
def decode_pairs(data: bytes) -> tuple[int, list[LinkPair]]:
    """The reverse of `encode_pairs`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader(data)
    count = reader.u32("count")
    pairs = []
    while not reader.is_empty:
        pairs.append(LinkPair(reader.text(), reader.text(), reader.text(), reader.text()))
    return count, pairs


def encode_error_answer(code: int, text: str) -> bytes:
    """Return the answer to a call that was refused."""
    return _U16.pack(code) + text.encode("utf-8", "replace")


@_of_a_node
def decode_answer(data: bytes) -> tuple[int, bytes]:
    """Read an answer that may be an error.

    :returns: code, 0 = done; and the text of the error, or what was asked for.
    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader(data)
    return reader.u16("code"), reader.rest()
