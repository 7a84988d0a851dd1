"""Clients, NATs and a node with one or more rooms in memory: what the node does for links is done here, by the codecs.

Each client has a reactor of its own (`MemoryHost`) on one virtual clock. Its "UDP connection" to the node is a
`NodeEnd` that speaks to peers as well; datagrams between clients take the way through `meshrelay.testing.nat`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from meshrelay.client import Client, ClientOptions, Event
from meshrelay.client.address import NodeAddress
from meshrelay.client.identity import LinkTraits
from meshrelay.client.links import Credentials, Link, LinkReceiver, PeerEars
from meshrelay.client.p2p import LinkMessageReceived, LinkRelayReceived, P2POptions
from meshrelay.testing.impairment import Impairment, LossyPath
from meshrelay.testing.nat import Nat, NatNetwork
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.commands import CORE_VER, Command, CoreCommand, decode_gid_message, encode_pushed_message
from meshrelay.wire.frame import Frame
from meshrelay.wire.link_commands import (
    Forwarded,
    LinkReport,
    decode_addresses,
    decode_forward,
    decode_link_start,
    decode_report,
    encode_forward,
    encode_public_address,
    encode_relayed,
)
from meshrelay.wire.room_commands import encode_room_list
from meshrelay.wire.sync_bytes import SyncUser, encode_sync_bytes
from tests.client.node_end import NodeEnd, welcome_payload

__all__ = ["ROOM", "MemoryClient", "MemoryInternet"]

ROOM = "r" * 52

NODE = UdpAddress("198.51.100.250", 7100)

#: Of the connection; the sockets of searches follow.
_FIRST_PORT = 40000


class _Port:
    """A UDP port of a host."""

    def __init__(self, host: MemoryHost, number: int, protocol: Any) -> None:
        self.number = number
        self.protocol = protocol
        self._host = host

    def write(self, datagram: bytes, place: tuple[str, int]) -> None:
        self._host.send(self.number, datagram, UdpAddress(*place))

    def stopListening(self) -> Deferred[None]:
        self._host.ports.pop(self.number, None)
        return succeed(None)


class MemoryHost:
    """The reactor of one client: a clock that it shares with all, and UDP ports behind its NATs.

    :ivar is_full: no more sockets are to be had.
    """

    def __init__(self, internet: MemoryInternet, name: str) -> None:
        self.name = name
        self.ports: dict[int, _Port] = {}
        self.is_full = False
        self.path = LossyPath(internet.direct, internet.random.getrandbits(32))
        self._internet = internet
        self.seconds = internet.clock.seconds
        self.callLater = internet.clock.callLater

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 0) -> _Port:
        """See `IReactorUDP`."""
        if self.is_full:
            raise CannotListenError(interface, port, OSError("too many open files"))
        return self.open(next(number for number in count(_FIRST_PORT) if number not in self.ports), protocol)

    def open(self, number: int, protocol: Any) -> _Port:
        """A port of this number."""
        self.ports[number] = _Port(self, number, protocol)
        return self.ports[number]

    def send(self, number: int, datagram: bytes, to: UdpAddress) -> None:
        """Send from a port."""
        for time in self.path.arrivals(len(datagram), self.seconds()):
            self.callLater(max(0.0, time - self.seconds()), lambda: self._arrive(number, datagram, to))

    def _arrive(self, number: int, datagram: bytes, to: UdpAddress) -> None:
        if self._internet.is_cut:
            return
        arrival = self._internet.nats.send(self.name, number, to, self.seconds())
        host = self._internet.hosts.get(arrival.name) if arrival is not None else None
        if arrival is not None and host is not None and arrival.port in host.ports:
            host.ports[arrival.port].protocol.datagramReceived(datagram, tuple(arrival.source))


class _Ears:
    """A port's protocol that hands on to the client's links."""

    def __init__(self, ears: PeerEars) -> None:
        self._ears = ears

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._ears.datagram_received(datagram, addr)


class _End(NodeEnd):
    """A connection over TCP: what the client writes is answered after the way to the node."""

    def __init__(
        self, internet: MemoryInternet, client: MemoryClient, receiver: LinkReceiver, login: Credentials
    ) -> None:
        super().__init__(receiver, login)
        self.internet = internet
        self.client = client

    def write(self, frames: Sequence[bytes]) -> None:
        before = len(self.frames)
        super().write(frames)
        for frame in self.frames[before:]:
            self.internet.later(lambda frame=frame: self.internet.answer(self.client, self, frame))  # type: ignore[misc]

    def rebind(self) -> bool:
        return False


class _UdpEnd(_End):
    """A connection over UDP; a `PeerSocket`."""

    _port: _Port | None = None
    _ears: PeerEars | None = None

    def share(self, ears: PeerEars) -> bool:
        self._ears = ears
        return self.rebind()

    def rebind(self) -> bool:
        if self._ears is None:
            return False
        if self._port is not None:
            self._port.stopListening()
        self._port = self.client.host.open(_FIRST_PORT + 1000 + self.moves, _Ears(self._ears))
        self.moves += 1
        return True

    def send_to(self, datagram: bytes, place: tuple[str, int]) -> None:
        if self._port is not None:
            self._port.write(datagram, place)

    def node_place(self) -> tuple[str, int]:
        return NODE.host, NODE.port

    def local_port(self) -> int:
        return self._port.number if self._port is not None else 0

    def abort(self) -> None:
        super().abort()
        port, self._port = self._port, None
        if port is not None and self._ears is not None:
            self._ears.socket_left(port)

    def close(self) -> Deferred[None]:
        self.abort()
        return super().close()


class MemoryClient:
    """One user: the client, its host and what it was told.

    :ivar ends: its connections, in order.
    :ivar reports: what it has reported of its links.
    """

    def __init__(
        self, internet: MemoryInternet, name: str, host: MemoryHost, is_udp: bool, options: ClientOptions
    ) -> None:
        self.name = name
        self.host = host
        self.is_udp = is_udp
        self.ends: list[_End] = []
        self.told: list[tuple[float, Event]] = []
        self.addresses: list[UdpAddress] = []
        self.public: UdpAddress | None = None
        self.reports: list[LinkReport] = []
        self._internet = internet
        self.client = Client(host, "tcp://127.0.0.1:7200", name, options=options, opener=self._open)
        self.client.on(Event, lambda event: self.told.append((host.seconds(), event)))

    def _open(
        self,
        reactor: Any,
        address: NodeAddress,
        receiver: LinkReceiver,
        credentials: Credentials,
        options: ClientOptions,
    ) -> Deferred[tuple[Link, LinkTraits]]:
        end = (_UdpEnd if self.is_udp else _End)(self._internet, self, receiver, credentials)
        self.ends.append(end)
        return succeed((end, LinkTraits()))

    @property
    def end(self) -> _End:
        """The newest connection."""
        return self.ends[-1]

    def of_class(self, event_class: type[Any]) -> list[Any]:
        """What it was told of one class."""
        return [event for _, event in self.told if isinstance(event, event_class)]

    @property
    def payloads(self) -> list[bytes]:
        """Payloads of the frames that peers sent."""
        return [event.payload for event in self.of_class(LinkMessageReceived)]

    @property
    def relayed(self) -> list[tuple[str, bytes]]:
        """Who relayed what."""
        return [(event.user_id, event.message) for event in self.of_class(LinkRelayReceived)]


class MemoryInternet:
    """See the module.

    :ivar groups: room ID -> link groups of the last start, as user IDs.
    :ivar secrets: of all starts.
    :ivar refuses: cmd -> code that it is refused with.
    :ivar late: user ID -> seconds by which starts come later.
    :ivar is_cut: no datagram passes between clients.
    :ivar selected: user IDs that LINK_RELAY goes to; None = the first of each link group but the sender's.
    """

    def __init__(
        self, direct: Impairment | None = None, delay_seconds: float = 0.03, seed: int = 0, loss: float = 0.0
    ) -> None:
        self.clock = Clock()
        self.random = Random(seed)
        self.direct = direct or Impairment(delay_seconds=0.02)
        self.nats = NatNetwork()
        self.nats.add_host("node", NODE.host)
        self.hosts: dict[str, MemoryHost] = {}
        self.clients: dict[str, MemoryClient] = {}
        self.rooms: dict[str, list[str]] = {ROOM: []}
        self.groups: dict[str, list[list[str]]] = {}
        self.secrets: list[bytes] = []
        self.refuses: dict[int, int] = {}
        self.is_cut = False
        self.is_resumable = True
        self.selected: list[str] | None = None
        self.late: dict[str, float] = {}
        self.forwarded = 0
        self._loss = loss
        self._delay_seconds = delay_seconds

    def client(
        self, name: str, nats: Sequence[Nat] = (), *, is_udp: bool = True, room: str = ROOM, **options: Any
    ) -> MemoryClient:
        """A client that is signed in, speaks links and is in a room.

        :param options: of `P2POptions`.
        """
        hosts = ["127.0.0.1", self._next_address(nats)]
        p2p = P2POptions(hosts=lambda: hosts, random=Random(name), **options)
        settings = ClientOptions(p2p=p2p, retry_base_seconds=0.2, uniform=lambda low, high: high)
        user = self._add(name, nats, is_udp, settings)
        user.client.connect().addErrback(lambda _: None)
        self.run(0.1)
        user.client.links.addresses().addErrback(lambda _: None)
        if room:
            user.client.join_room(room)
        self.run(0.2)
        return user

    def unconnected(self, name: str, nats: Sequence[Nat], options: ClientOptions) -> Client:
        """A client that does nothing yet."""
        return self._add(name, nats, True, options).client

    def _next_address(self, nats: Sequence[Nat]) -> str:
        number = len(self.clients) + 11
        return f"192.168.1.{number}" if nats else f"198.51.100.{number}"

    def _add(self, name: str, nats: Sequence[Nat], is_udp: bool, options: ClientOptions) -> MemoryClient:
        self.nats.add_host(name, self._next_address(nats), nats)
        host = self.hosts[name] = MemoryHost(self, name)
        user = self.clients[name] = MemoryClient(self, name, host, is_udp, options)
        return user

    def run(self, seconds: float, stop: Callable[[], bool] | None = None) -> bool:
        """Let time pass, until `stop` says True.

        :returns: what `stop` said last.
        """
        end = self.clock.seconds() + seconds
        while stop is None or not stop():
            calls = self.clock.getDelayedCalls()
            next_at = min((call.getTime() for call in calls), default=end)
            if not calls or next_at > end:
                self.clock.advance(max(0.0, end - self.clock.seconds()))
                return False
            self.clock.advance(max(0.0, next_at - self.clock.seconds()))
        return True

    def later(self, action: Callable[[], None]) -> None:
        """Do something after the way to the node, or from it."""
        self.clock.callLater(self._delay_seconds / 2, action)

    def say(self, user: str, cmd: int, payload: bytes) -> None:
        """Push something to a user."""
        client = self.clients[user]
        end = client.end

        def push() -> None:
            if not (end.is_aborted or end.is_closed):
                end.push(1, cmd, payload)

        self.later(push)

    def break_connection(self, client: MemoryClient) -> None:
        """Cut the newest connection of a client; it comes back by itself."""
        client.end.receiver.link_lost(None, "cut")

    def answer(self, client: MemoryClient, end: _End, frame: Frame) -> None:
        """Do what a node does with a frame."""
        if end is not client.end or end.is_closed or end.is_aborted:
            return
        if frame.ver == CORE_VER:
            if frame.cmd == CoreCommand.HELLO:
                resumed = len(client.ends) > 1 and self.is_resumable
                end.answer(frame, welcome_payload(user=client.name, resumed=resumed, recovered=resumed))
            return
        if frame.cmd in self.refuses:
            end.refuse(frame, self.refuses[frame.cmd], "because")
            return
        answer = self._commands[frame.cmd](self, client, frame.payload)
        if frame.request_id:
            self.later(lambda: end.answer(frame, answer) if not end.is_aborted else None)

    def _join(self, client: MemoryClient, payload: bytes) -> bytes:
        room_id, _ = decode_gid_message(payload)
        members = self.rooms.setdefault(room_id, [])
        members.append(client.name)
        return encode_str8(members[0])

    def _create(self, client: MemoryClient, payload: bytes) -> bytes:
        room_id = "".join(self.random.choices("abcdefghijklmnopqrstuvwxyz", k=52))
        self.rooms[room_id] = [client.name]
        return room_id.encode()

    def _leave(self, client: MemoryClient, payload: bytes) -> bytes:
        room_id, message = decode_gid_message(payload)
        self.rooms[room_id].remove(client.name)
        for name in self.rooms[room_id]:
            self.say(name, Command.ROOM_LEAVE, encode_pushed_message(room_id, client.name, message))
        return b""

    def lose(self, client: MemoryClient, room_id: str = ROOM) -> None:
        """The node says that a member is gone."""
        self.rooms[room_id].remove(client.name)
        for name in self.rooms[room_id]:
            self.say(name, Command.ROOM_LOST, encode_pushed_message(room_id, client.name, b""))

    def _members(self, client: MemoryClient, payload: bytes) -> bytes:
        members = self.rooms[decode_gid_message(payload)[0]]
        return encode_room_list(members[0], members)

    def _addresses(self, client: MemoryClient, payload: bytes) -> bytes:
        client.addresses = decode_addresses(payload)
        client.public = None
        if isinstance(client.end, _UdpEnd):
            arrival = self.nats.send(client.name, client.end.local_port(), NODE, self.clock.seconds())
            client.public = arrival.source if arrival is not None else None
        return encode_public_address(client.public)

    def _start(self, client: MemoryClient, payload: bytes) -> bytes:
        room_id, size = decode_link_start(payload)
        self.start(room_id, size or 8)
        return b""

    def start(self, room_id: str = ROOM, size: int = 8) -> None:
        """Start links in a room."""
        secret = self.random.randbytes(48)
        self.secrets.append(secret)
        members = self.rooms[room_id]
        self.groups[room_id] = [members[at : at + size] for at in range(0, len(members), size)]
        for group in self.groups[room_id]:
            clients = [self.clients[name] for name in group]
            users = [
                SyncUser(each.name, () if each.public is None else (each.public, *each.addresses)) for each in clients
            ]
            sync = encode_sync_bytes(secret, users)
            for name in group:
                self.clock.callLater(self.late.get(name, 0.0), self.say, name, Command.LINK_START, sync)

    def _relay(self, client: MemoryClient, payload: bytes) -> bytes:
        room_id, message = decode_gid_message(payload)
        pushed = encode_pushed_message(room_id, client.name, message)
        groups = self.groups.get(room_id, [])
        selected = self.selected
        if selected is None:
            selected = [group[0] for group in groups if client.name not in group]
        for name in selected:
            self.say(name, Command.LINK_RELAY, pushed)
        return encode_relayed(bool(groups))

    def _report(self, client: MemoryClient, payload: bytes) -> bytes:
        client.reports.append(decode_report(payload))
        return b""

    def _forward(self, client: MemoryClient, payload: bytes) -> bytes:
        room_id, peer, packet = decode_forward(payload)
        members = self.rooms.get(room_id, [])
        self.forwarded += 1
        if client.name in members and peer in members and self.random.random() >= self._loss:
            self.say(peer, Command.LINK_FORWARD, encode_forward(Forwarded(room_id, client.name, packet)))
        return b""

    _commands: dict[int, Callable[[MemoryInternet, MemoryClient, bytes], bytes]] = {  # noqa: RUF012
        Command.ROOM_CREATE: _create,
        Command.ROOM_JOIN: _join,
        Command.ROOM_LEAVE: _leave,
        Command.ROOM_MEMBERS: _members,
        Command.LINK_ADDRESSES: _addresses,
        Command.LINK_START: _start,
        Command.LINK_RELAY: _relay,
        Command.LINK_STATE: _report,
        Command.LINK_FORWARD: _forward,
    }
