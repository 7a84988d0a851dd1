"""HTTP requests to a site, in memory: no ports, no files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from meshrelay.counters import NodeCounters
from meshrelay.directory.records import NodeRecord
from meshrelay.errors import AuthenticationError
from meshrelay.http.chooser import Question
from meshrelay.http.placement import Place
from meshrelay.http.site import HttpPages, RelaySite, make_site
from meshrelay.session.auth import Authenticator, Identity
from meshrelay.transport.udp import UdpCredentials

__all__ = [
    "CREDENTIALS",
    "FakeCluster",
    "FakeEndpoints",
    "Response",
    "SiteUnderTest",
    "TokenIsUser",
    "make_record",
    "parse_responses",
]

CREDENTIALS = UdpCredentials(b"\x01" * 16, b"\x02" * 16, b"\x03" * 16, b"\x04" * 16)

CLIENT = IPv4Address("TCP", "192.0.2.7", 50000)
NODE = IPv4Address("TCP", "192.0.2.1", 7000)


class Response(NamedTuple):
    """One answer as a client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


def parse_responses(data: bytes, is_head: bool = False) -> list[Response]:
    """Cut what a server wrote into answers; each must say its length."""
    responses = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = 0 if is_head else int(headers.get("Content-Length", "0"))
        body, data = data[:length], data[length:]
        responses.append(Response(int(status_line.split()[1]), headers, body))
    return responses


class FakeEndpoints:
    """Places that listen, and every reservation that was made."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {"UDP": 7100, "TCP": 7200, "WS": 7300}
        self.reserved: list[tuple[str, str]] = []

    def place(self, server_type: str, asked_host: str) -> tuple[str, str, int] | None:
        """See `meshrelay.http.endpoint.Endpoints`."""
        port = self.places.get(server_type)
        return (server_type, asked_host, port) if port is not None else None

    def reserve_udp(self, identity: Identity, resume: str, received: int | None) -> UdpCredentials:
        """See `meshrelay.http.endpoint.Endpoints`."""
        self.reserved.append((identity.user_id, resume))
        self.received = received
        return CREDENTIALS


def make_record(node_id: str, load: float = 0.0, incarnation: str = "1", **places: str) -> NodeRecord:
    """Return what a node tells the directory."""
    return NodeRecord(
        node_id=node_id,
        incarnation=incarnation,
        mesh_endpoint=f"tcp:{node_id}.example:6779",
        places=places,
        load=load,
        protocol=1,
    )


class FakeCluster:
    """Other nodes: what the directory says of them, and what they answer.

    :ivar answers: node ID -> what comes of a call there; nodes that are not named answer at once.
    """

    def __init__(self, *records: NodeRecord) -> None:
        self.nodes = list(records)
        self.load = 0.0
        self.lost: set[str] = set()
        self.where: Deferred[str | None] = succeed(None)
        self.asked_where: list[str] = []
        self.reserved: list[tuple[str, Question]] = []
        self.answers: dict[str, Callable[[], Deferred[Any]]] = {}

    def own_load(self) -> float:
        """See `meshrelay.http.chooser.Cluster`."""
        return self.load

    def records(self) -> Iterable[NodeRecord]:
        """See `meshrelay.http.chooser.Cluster`."""
        return self.nodes

    def is_lost(self, node_id: str) -> bool:
        """See `meshrelay.http.chooser.Cluster`."""
        return node_id in self.lost

    def whereabouts(self, user_id: str) -> Deferred[str | None]:
        """See `meshrelay.http.chooser.Cluster`."""
        self.asked_where.append(user_id)
        return self.where

    def reserve_at(self, node_id: str, question: Question) -> Deferred[tuple[Place, UdpCredentials]]:
        """See `meshrelay.http.chooser.Cluster`."""
        self.reserved.append((node_id, question))
        answer = self.answers.get(node_id)
        return answer() if answer is not None else succeed((Place("UDP", "192.0.2.9", 7109), CREDENTIALS))


class TokenIsUser(Authenticator):
    """Takes the user ID itself as the token."""

    def authenticate(self, user_id: str | None, token: str | None) -> Identity:
        """See `Authenticator`."""
        if token is None or token != user_id:
            raise AuthenticationError("the very secret reason")
        return Identity(token, {})


class SiteUnderTest:
    """A site, and what stands behind it."""

    def __init__(
        self,
        authenticator: Authenticator,
        allowed_origins: tuple[str, ...] = (),
        registry: CollectorRegistry | None = None,
        clock: Clock | None = None,
        **pages: Any,
    ) -> None:
        self.clock = clock if clock is not None else Clock()
        self.endpoints = FakeEndpoints()
        self.counters = NodeCounters()
        self.is_ready = True
        self.pages = HttpPages(
            endpoints=self.endpoints,
            authenticator=authenticator,
            is_ready=lambda: self.is_ready,
            node_id="node-1",
            allowed_origins=allowed_origins,
            registry=registry if registry is not None else CollectorRegistry(),
            counters=self.counters,
            **pages,
        )
        self.site: RelaySite = make_site(self.pages, self.clock)

    def connect(self, host: IAddress = NODE, client: IAddress = CLIENT) -> tuple[Any, StringTransport]:
        """Return a new connection and its transport."""
        transport = StringTransport(hostAddress=host, peerAddress=client)
        channel: Any = self.site.buildProtocol(client)
        channel.makeConnection(transport)
        return channel, transport

    def send(self, data: bytes, host: IAddress = NODE, client: IAddress = CLIENT) -> StringTransport:
        """Return the transport of a new connection that received `data`."""
        channel, transport = self.connect(host, client)
        channel.dataReceived(data)
        return transport

    def begin(
        self,
        path: str,
        *headers: str,
        method: str = "GET",
        host: IAddress = NODE,
        client: IAddress = CLIENT,
        name: str = "relay.example:7000",
    ) -> StringTransport:
        """Return the transport of one request; what is answered later comes there."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {name}", *headers, "", ""]
        return self.send("\r\n".join(lines).encode("utf-8"), host, client)

    def ask(self, path: str, *headers: str, method: str = "GET", **options: Any) -> Response:
        """Return the answer to one request on a connection of its own, as `begin`; it must be there at once."""
        transport = self.begin(path, *headers, method=method, **options)
        (response,) = parse_responses(transport.value(), method == "HEAD")
        return response
