"""Clusters in memory for tests of links: clients with addresses, starts, and what clients are told, short."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from meshrelay.components.links import PeerLinks
from meshrelay.config.schema import Config, GroupConfig, LinkConfig, ListenConfig, RoomConfig, SessionConfig
from meshrelay.errors import CommandError
from meshrelay.model import Status
from meshrelay.testing.node import MemoryClient
from meshrelay.wire.addresses import UdpAddress, parse_address
from meshrelay.wire.commands import Command, decode_error, encode_gid_message
from meshrelay.wire.frame import Frame
from meshrelay.wire.link_commands import (
    Forwarded,
    LinkReport,
    LinkStart,
    LinkState,
    decode_forward,
    decode_public_address,
    encode_addresses,
    encode_forward,
    encode_link_start,
    encode_report,
)
from meshrelay.wire.sync_bytes import SyncBytes, decode_sync_bytes
from tests.components.room_kit import RESUME_SECONDS, RoomTestCase

__all__ = ["LinkTestCase", "link_config"]


def link_config(
    link: LinkConfig = LinkConfig(),  # noqa: B008  (frozen)
    udp: str = "udp:0:interface=0.0.0.0",
    max_payload_bytes: int = 4096,
    room: RoomConfig = RoomConfig(),  # noqa: B008
) -> Config:
    """The configuration of a node of the kit."""
    return Config(
        group=GroupConfig(send_interval_ms=0),
        session=SessionConfig(
            resume_seconds=RESUME_SECONDS, max_payload_bytes=max_payload_bytes, outbox_bytes=64 * 1024
        ),
        listen=ListenConfig(udp=udp),
        link=link,
        room=room,
    )


class LinkTestCase(RoomTestCase):
    """Nodes "a", "b" and "c"."""

    config = link_config()

    def setUp(self) -> None:
        """Start the nodes."""
        super().setUp()
        self._numbers = iter(range(1, 250))

    def links(self, node_id: str = "a") -> PeerLinks:
        """The component of a node."""
        return self.cluster[node_id].links

    def count(self, name: str, node_id: str = "a") -> int:
        """One of its counts."""
        return self.links(node_id).statistics()[f"peer_link_{name}"]

    def client(self, user_id: str, node_id: str = "a", transport: str = "udp", address: str = "") -> MemoryClient:
        """A client; one by UDP has an address of its own, unless it is given one."""
        client = self.cluster[node_id].sign_in(user_id, transport)
        if transport == "udp":
            host, _, port = (address or f"198.51.100.{next(self._numbers)}:4000").rpartition(":")
            client.link.udp_address = (host, int(port))
        return client

    def room_of(self, *clients: MemoryClient) -> str:
        """A room with these members; all that they were told of it is forgotten."""
        room_id = self.create(clients[0])
        for client in clients[1:]:
            self.join(client, room_id)
        self.quiet(*clients)
        return room_id

    def set_latency(self, client: MemoryClient, seconds: float | None) -> None:
        """Let the node have measured this."""
        session = client.connection.session
        assert session is not None
        session.latency_seconds = seconds

    def tell(self, client: MemoryClient, *addresses: str) -> UdpAddress | None:
        """LINK_ADDRESSES; returns the public one."""
        payload = encode_addresses(map(parse_address, addresses))
        answer = self.cluster.request(client, Command.LINK_ADDRESSES, payload)
        self.assertEqual(answer.status, Status.OK, answer)
        return decode_public_address(answer.payload)

    def try_start(self, client: MemoryClient, room_id: str, size: int = 0) -> Frame:
        """LINK_START, and its answer."""
        return self.cluster.request(client, Command.LINK_START, encode_link_start(LinkStart(room_id, size)))

    def start(self, client: MemoryClient, room_id: str, size: int = 0) -> None:
        """LINK_START."""
        answer = self.try_start(client, room_id, size)
        self.assertEqual((answer.status, answer.payload), (Status.OK, b""))
        self.cluster.run(0.2)

    def code_of(self, answer: Frame) -> int:
        """The code of a refusal."""
        self.assertNotEqual(answer.status, Status.OK)
        return decode_error(answer.payload)[0]

    def pushes(self, client: MemoryClient, cmd: Command) -> list[bytes]:
        """What was pushed under this command since the last call; anything else is forgotten."""
        return [frame.payload for frame in client.pushes() if frame.ver == 1 and frame.cmd == cmd]

    def synced(self, client: MemoryClient) -> SyncBytes:
        """The one start that a client was told of."""
        [sync_bytes] = self.pushes(client, Command.LINK_START)
        return decode_sync_bytes(sync_bytes)

    def group(self, client: MemoryClient) -> list[str]:
        """Users of the link group that a client was told of."""
        return [user.user_id for user in self.synced(client).users]

    def forward(self, client: MemoryClient, room_id: str, peer_id: str, *packets: bytes) -> None:
        """LINK_FORWARD, without waiting for anything."""
        for packet in packets:
            client.send(Command.LINK_FORWARD, encode_forward(Forwarded(room_id, peer_id, packet)))

    def refusal_of_forward(self, client: MemoryClient, room_id: str, peer_id: str, packet: bytes = b"x") -> int:
        """The code that a LINK_FORWARD is answered, 0 = it is not."""
        request_id = client.ask(Command.LINK_FORWARD, encode_forward(Forwarded(room_id, peer_id, packet)))
        self.cluster.run(0.2)
        answer = client.answer_to(request_id)
        return 0 if answer is None else self.code_of(answer)

    def packets(self, client: MemoryClient) -> list[tuple[str, bytes]]:
        """Sender and packet of all that was forwarded to a client since the last call, when it has arrived."""
        self.cluster.run(0.2)
        return [decode_forward(each)[1:] for each in self.pushes(client, Command.LINK_FORWARD)]

    def report(self, client: MemoryClient, room_id: str, *states: tuple[str, LinkState]) -> Frame:
        """LINK_STATE."""
        answer = self.cluster.request(client, Command.LINK_STATE, encode_report(LinkReport(room_id, states)))
        self.cluster.run(0.2)
        return answer

    def relay(self, client: MemoryClient, room_id: str, message: bytes) -> bytes:
        """LINK_RELAY, and what it is answered."""
        answer = self.cluster.request(client, Command.LINK_RELAY, encode_gid_message(room_id, message))
        self.assertEqual(answer.status, Status.OK, answer)
        self.cluster.run(0.2)
        return answer.payload

    def result(self, coroutine: Any, seconds: float = 0.5) -> Any:
        """What a coroutine returns, after a while."""
        done = Deferred.fromCoroutine(coroutine)
        self.cluster.run(seconds)
        return self.successResultOf(done)

    def error(self, coroutine: Any, seconds: float = 0.5) -> CommandError:
        """What a coroutine raises, after a while."""
        done = Deferred.fromCoroutine(coroutine)
        self.cluster.run(seconds)
        error = self.failureResultOf(done, CommandError).value
        assert isinstance(error, CommandError)
        return error

    def names(self, clients: Iterable[MemoryClient]) -> list[str]:
        """User IDs."""
        return [client.welcome.user if client.welcome is not None else "" for client in clients]
