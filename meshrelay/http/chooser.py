"""A client that may sign in -> the place where it connects, on the least loaded node of the cluster.

::

    endpoint page --Question--> Chooser --> placement (order) --> this node, or another one by a call (UDP secrets)

For TCP and WebSocket a place is all there is to tell. A UDP session begins with secrets that only the node which will
hold it can make, so that node is asked; when it does not answer the next best is, and at last this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from meshrelay.directory.records import NodeRecord
from meshrelay.errors import MeshRelayError
from meshrelay.http.placement import SERVER_TYPES, Offer, Place, Placement, offers_of
from meshrelay.session.auth import Identity

if TYPE_CHECKING:  # annotations only: who chooses need not load the UDP transport
    from meshrelay.transport.udp import UdpCredentials

__all__ = [
    "Chooser",
    "Chosen",
    "Cluster",
    "Endpoints",
    "NoCluster",
    "NoPlaceNow",
    "Question",
    "TypeNotServed",
]

#: For the node that has an earlier session. Without it the client is served as well, only less gently.
WHEREABOUTS_SECONDS = 0.5

#: For the secrets of a session on another node.
RESERVE_SECONDS = 2.0

#: Other nodes that are asked for secrets, one after the other, within the time of a page.
MAX_REMOTE_TRIES = 2


class Question(NamedTuple):
    """Who asks for what.

    :ivar server_type: one of `meshrelay.http.placement.SERVER_TYPES`.
    :ivar resume: sid of an earlier session, 32 lower-case hex digits; "" = none.
    :ivar received: reliable pushes that the client has received in it, mod 2^32; None = it does not say.
    :ivar asked_host: the address on which the client reached this node.
    :ivar wants_secrets: False: nothing may be changed, the place is enough.
    """

    server_type: str
    identity: Identity
    resume: str
    received: int | None
    asked_host: str
    wants_secrets: bool = True


class Chosen(NamedTuple):
    """The answer.

    :ivar secrets: of a UDP session that was asked for; None otherwise.
    """

    place: Place
    secrets: UdpCredentials | None


class Endpoints(Protocol):
    """The listening places of this node, and the UDP sessions that wait for their first packet."""

    def place(self, server_type: str, asked_host: str) -> tuple[str, str, int] | None:
        """Where a client of this type is to connect.

        :param server_type: one of `meshrelay.http.placement.SERVER_TYPES`.
        :param asked_host: the address on which the client reached this page; taken when no other is configured.
        :returns: server type, host and port; None when nothing of this type listens.
        """

    def reserve_udp(self, identity: Identity, resume: str, received: int | None) -> UdpCredentials:
        """Make the secrets of a UDP session; its first packet makes it live.

        :param resume: sid of an earlier session, 32 lower-case hex digits; "" = none.
        :param received: reliable pushes that the client has received in it, mod 2^32; None = it does not say.
        """


class Cluster(Protocol):
    """What choosing needs of the other nodes; `meshrelay.http.neighbours.Neighbours` is one."""

    def own_load(self) -> float:
        """Load of this node, 0 to 1, as in its record."""

    def records(self) -> Iterable[NodeRecord]:
        """The living nodes as the directory last told; this one among them or not."""

    def is_lost(self, node_id: str) -> bool:
        """Whether nobody reaches the node, whatever the directory says."""

    def whereabouts(self, user_id: str) -> Deferred[str | None]:
        """The node where the user is signed in; None = on none. May fail with a MeshRelayError."""

    def reserve_at(self, node_id: str, question: Question) -> Deferred[tuple[Place, UdpCredentials]]:
        """Make the secrets of a UDP session on another node. May fail with a MeshRelayError."""


class NoCluster:
    """`Cluster` of a node that is alone."""

    def own_load(self) -> float:
        """See `Cluster`. With nobody to compare it to it does not matter."""
        return 0.0

    def records(self) -> Iterable[NodeRecord]:
        """See `Cluster`."""
        return ()

    def is_lost(self, node_id: str) -> bool:
        """See `Cluster`."""
        return False

    def whereabouts(self, user_id: str) -> Deferred[str | None]:
        """See `Cluster`."""
        return succeed(None)

    def reserve_at(self, node_id: str, question: Question) -> Deferred[tuple[Place, UdpCredentials]]:
        """See `Cluster`."""
        return fail(NoPlaceNow())


class TypeNotServed(MeshRelayError):
    """No node listens on this type: the client's fault, or the operator's.

    :param server_type: what was asked for.
    """

    def __init__(self, server_type: str) -> None:
        self.server_type = server_type
        super().__init__(f"type {server_type} does not listen on this node, nor on another one")


class NoPlaceNow(MeshRelayError):
    """Nobody can take the client now; a little later it may be different."""

    def __init__(self) -> None:
        super().__init__("no node takes clients of this type now")


class Chooser:
    """Chooses for the clients that ask this node; see the module.

    :param endpoints: of this node, which may have none.
    """

    _log = Logger()

    def __init__(self, node_id: str, endpoints: Endpoints, cluster: Cluster, clock: IReactorTime) -> None:
        self._node_id = node_id
        self._endpoints = endpoints
        self._cluster = cluster
        self._clock = clock
        self._placement = Placement(node_id, clock.seconds)

    async def choose(self, question: Question) -> Chosen:
        """Return where the client is to connect, within 4.5 seconds.

        :raises TypeNotServed: no node listens on this type.
        :raises NoPlaceNow: those that do are lost, full or do not answer, or this node does not know any other yet.
        """
        preferred = await self._preferred(question)
        ranked = self._ranked(question, preferred)
        if question.server_type != "UDP" or not question.wants_secrets:
            return self._chosen(ranked[0], question, ranked[0].place, None)
        return await self._with_secrets(ranked, question)

    async def _preferred(self, question: Question) -> str | None:
        if not question.resume or not self._others():
            return None
        where = self._cluster.whereabouts(question.identity.user_id)
        try:
            return await where.addTimeout(WHEREABOUTS_SECONDS, self._clock)
        except (MeshRelayError, DeferredTimeoutError) as error:
            self._log.debug("a client that resumes is sent anywhere: {why}", why=error)
            return None

    def _others(self) -> list[NodeRecord]:
        return [record for record in self._cluster.records() if record.node_id != self._node_id]

    def _ranked(self, question: Question, preferred: str | None) -> list[Offer]:
        """The open offers, at least one.

        :raises TypeNotServed: as `choose`.
        :raises NoPlaceNow: as `choose`.
        """
        others = self._others()
        offers = offers_of(others, question.server_type)
        own = self._endpoints.place(question.server_type, question.asked_host)
        if own is None and not offers:
            raise TypeNotServed(question.server_type) if others or self._has_places() else NoPlaceNow()
        reached = [offer for offer in offers if not self._cluster.is_lost(offer.node_id)]
        if own is not None:
            load = self._cluster.own_load()
            reached.append(Offer(self._node_id, Place(*own), load, load))
        ranked = self._placement.ranked(reached, preferred)
        if not ranked:
            raise NoPlaceNow
        return ranked

    def _has_places(self) -> bool:
        return any(self._endpoints.place(server_type, "") is not None for server_type in SERVER_TYPES)

    async def _with_secrets(self, ranked: list[Offer], question: Question) -> Chosen:
        tries = 0
        for offer in ranked:
            if offer.node_id == self._node_id:
                secrets = self._endpoints.reserve_udp(question.identity, question.resume, question.received)
                return self._chosen(offer, question, offer.place, secrets)
            if tries < MAX_REMOTE_TRIES:
                tries += 1
                reserved = await self._reserved_at(offer.node_id, question)
                if reserved is not None:
                    place, secrets = reserved
                    place = place._replace(host=place.host or offer.place.host)
                    return self._chosen(offer, question, place, secrets)
        raise NoPlaceNow

    async def _reserved_at(self, node_id: str, question: Question) -> tuple[Place, UdpCredentials] | None:
        coming = self._cluster.reserve_at(node_id, question)
        try:
            return await coming.addTimeout(RESERVE_SECONDS, self._clock)
        except (MeshRelayError, DeferredTimeoutError) as error:
            self._log.info("{node} gave no UDP session: {why}", node=node_id, why=str(error) or "no answer in time")
            return None

    def _chosen(self, offer: Offer, question: Question, place: Place, secrets: UdpCredentials | None) -> Chosen:
        if question.wants_secrets:
            self._placement.handed_out(offer)
        return Chosen(place._replace(host=place.host or question.asked_host), secrets)
