"""What the nodes say of themselves -> in which order a new client is offered them; pure but for a count.

Every node tells the directory where it listens and how loaded it is, from 0 to 1. That is read by all nodes and is up
to a few seconds old: to send everybody to the node that was the emptiest then would be a stampede. So what was handed
out since a node last spoke counts as load, as if a node could take `CLIENTS_OF_A_NODE` clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from meshrelay.config.listening import is_all_addresses
from meshrelay.directory.records import NodeRecord

__all__ = ["CLIENTS_OF_A_NODE", "HANDED_OUT_SECONDS", "SERVER_TYPES", "Offer", "Place", "Placement", "offers_of"]

SERVER_TYPES = ("UDP", "TCP", "WS", "WSS")

#: One client handed out weighs 1 / this.
CLIENTS_OF_A_NODE = 10_000

#: Clients that were handed out so long ago are in the load that the node tells, or never came.
HANDED_OUT_SECONDS = 10.0

#: Asked type -> (kind of place in a record, type that is told). A place of a later row counts only where no node has
#: one of an earlier row: a plain WebSocket port may be meant for a proxy that adds TLS in front of it.
_KINDS: Mapping[str, tuple[tuple[tuple[str, str], ...], ...]] = {
    "UDP": ((("udp", "UDP"),),),
    "TCP": ((("tcp", "TCP"),),),
    "WS": ((("websocket", "WS"), ("wss", "WSS")),),
    "WSS": ((("wss", "WSS"),), (("websocket", "WSS"),)),
}


class Place(NamedTuple):
    """Where a server listens, as it stands in the answer.

    :ivar server_type: one of `SERVER_TYPES`.
    :ivar host: without brackets; "" = the address that the client used to ask.
    """

    server_type: str
    host: str
    port: int


class Offer(NamedTuple):
    """A node that listens on the asked type.

    :ivar load: 0 = idle, 1 = takes no more.
    :ivar said: changes when the node has spoken anew.
    """

    node_id: str
    place: Place
    load: float
    said: object


def _read_place(server_type: str, text: str) -> Place | None:
    """Read ``host:port``; None where it is none, such as the path of a Unix socket."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536 or "/" in host:
        return None
    return Place(server_type, "" if is_all_addresses(host) else host, int(port))


def offers_of(records: Iterable[NodeRecord], server_type: str) -> list[Offer]:
    """Return the nodes that listen on a type, by their records.

    :param server_type: one of `SERVER_TYPES`.
    """
    records = list(records)
    for kinds in _KINDS[server_type]:
        offers = list(_offers(records, kinds))
        if offers:
            return offers
    return []


def _offers(records: Iterable[NodeRecord], kinds: Iterable[tuple[str, str]]) -> Iterator[Offer]:
    for record in records:
        for kind, told_type in kinds:
            place = _read_place(told_type, record.places.get(kind, ""))
            if place is not None:
                yield Offer(record.node_id, place, record.load, (record.incarnation, record.load))
                break


class _HandedOut(NamedTuple):
    said: object
    since: float
    clients: int


class Placement:
    """Puts offers in order, and remembers what was handed out.

    :param node_id: of this node: it is first among equals, and comes last, instead of not at all, when it is full.
    :param seconds: a clock.
    """

    def __init__(self, node_id: str, seconds: Callable[[], float]) -> None:
        self._node_id = node_id
        self._seconds = seconds
        #: Of nodes that were given a client lately.
        self._handed_out: dict[str, _HandedOut] = {}

    def ranked(self, offers: Iterable[Offer], preferred: str | None) -> list[Offer]:
        """Return the offers that are open, the best one first.

        :param preferred: the node that has the client's session; first unless it takes no more.
        """
        self._forget_old()
        is_open = [offer for offer in offers if offer.load < 1.0 or offer.node_id == self._node_id]
        return sorted(is_open, key=lambda offer: self._order(offer, preferred))

    def _forget_old(self) -> None:
        now = self._seconds()
        # A clock that was set back must not keep a count for ever.
        self._handed_out = {
            node_id: given for node_id, given in self._handed_out.items() if 0 <= now - given.since < HANDED_OUT_SECONDS
        }

    def _count(self, offer: Offer) -> int:
        given = self._handed_out.get(offer.node_id)
        return given.clients if given is not None and given.said == offer.said else 0

    def _order(self, offer: Offer, preferred: str | None) -> tuple[bool, bool, float, bool, str]:
        weight = offer.load + self._count(offer) / CLIENTS_OF_A_NODE
        is_other = offer.node_id != self._node_id
        return offer.load >= 1.0, offer.node_id != preferred, weight, is_other, offer.node_id

    def handed_out(self, offer: Offer) -> None:
        """Count a client that was sent there."""
        count = self._count(offer)
        since = self._handed_out[offer.node_id].since if count else self._seconds()
        self._handed_out[offer.node_id] = _HandedOut(offer.said, since, count + 1)
