"""What this node knows of its sessions, as far as peers may be told: where they are, and how far from the node.

The public address is the one that packets of the UDP session come from, once the client has proved to be there; nobody
can say it of themselves. Local addresses are what the client says (LINK_ADDRESSES), with all checked that could lead
to places where nobody should send to.
"""

from __future__ import annotations

from meshrelay.components.link_parts import LinkRules
from meshrelay.components.rooms import Rooms
from meshrelay.interfaces import ISession
from meshrelay.wire.addresses import UdpAddress, make_address, usable_addresses
from meshrelay.wire.link_commands import decode_addresses
from meshrelay.wire.link_node import LinkFact
from meshrelay.wire.sync_bytes import MAX_ADDRESSES

__all__ = ["LinkFacts"]


class LinkFacts:
    """See the module."""

    def __init__(self, node_id: str, rooms: Rooms, rules: LinkRules) -> None:
        self._node_id = node_id
        self._rooms = rooms
        self._rules = rules
        self._local: dict[ISession, tuple[UdpAddress, ...]] = {}

    def __len__(self) -> int:
        return len(self._local)

    def tell(self, session: ISession, payload: bytes) -> UdpAddress | None:
        """Take the local addresses of a client, in the place of all earlier ones.

        :returns: its public address; None: it does not speak UDP to the node, and what it says means nothing.
        :raises MalformedPayload: one of them is no address, or none that peers may be sent to.
        """
        local = decode_addresses(payload, self._rules.allow_loopback)
        if session.latency_seconds is None:
            session.measure_latency()
        if session.user.transport != "udp":
            return None
        if local:
            self._local[session] = tuple(local)
        else:
            self.forget(session)
        return _public_address(session)

    def forget(self, session: ISession) -> None:
        """The session is over here, or has said that it has no addresses."""
        self._local.pop(session, None)

    def of(self, session: ISession) -> LinkFact:
        """What peers may be told of a session."""
        user = session.user
        latency = session.latency_seconds
        return LinkFact(user.user_id, user.sid, self._node_id, user.transport, latency, self._addresses(session))

    def _addresses(self, session: ISession) -> tuple[UdpAddress, ...]:
        public = _public_address(session)
        if public is None:
            return ()
        rules = self._rules
        addresses = (public, *self._local.get(session, ()))
        usable = usable_addresses(addresses, rules.allow_private, rules.allow_loopback)
        # The first one is taken for the public one by everybody.
        return tuple(usable[:MAX_ADDRESSES]) if usable[:1] == [public] else ()

    def in_room(self, room_id: str) -> list[LinkFact]:
        """Of all sessions here that are in a room."""
        return [self.of(session) for session in self._rooms.sessions_in(room_id)]


def _public_address(session: ISession) -> UdpAddress | None:
    address = session.udp_address
    if address is None:
        return None
    try:
        return make_address(*address)
    except ValueError:
        # With a zone: link-local, which means nothing to anybody else.
        return None
