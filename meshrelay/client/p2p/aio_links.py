"""P2P links for asyncio programs: `meshrelay.client.aio.Client.links`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred

from meshrelay.client.p2p.links import P2PLinks, PeerView
from meshrelay.client.p2p.whereabouts import NetworkView
from meshrelay.errors import DeliveryError
from meshrelay.wire.addresses import UdpAddress

__all__ = ["AioLinks"]


class AioLinks:
    """See `P2PLinks` for what the methods do and raise; here all that wait are coroutines.

    :param wait: makes an awaitable of asyncio of a Deferred.
    """

    def __init__(self, links: P2PLinks, wait: Callable[[Deferred[Any]], Awaitable[Any]]) -> None:
        self._links = links
        self._wait = wait

    async def addresses(self) -> UdpAddress | None:
        """Tell the node where this client is; return where it sees it."""
        address: UdpAddress | None = await self._wait(self._links.addresses())
        return address

    async def start(self, room_id: str, max_link_members: int = 0) -> None:
        """Start links in a room."""
        await self._wait(self._links.start(room_id, max_link_members))

    def send(
        self, user_id: str, ver: int, cmd: int, payload: bytes = b"", *, reliable: bool = True, room_id: str = ""
    ) -> None:
        """Send one frame to a peer."""
        self._links.send(user_id, ver, cmd, payload, reliable=reliable, room_id=room_id)

    def send_all(
        self, ver: int, cmd: int, payload: bytes = b"", *, reliable: bool = True, room_id: str = ""
    ) -> dict[str, DeliveryError]:
        """Send one frame to all members of our link group; return to whom it was not sent."""
        return self._links.send_all(ver, cmd, payload, reliable=reliable, room_id=room_id)

    async def relay(self, room_id: str, message: bytes) -> bool:
        """Send to all link groups of a room; return whether the node has sent it."""
        sent: bool = await self._wait(self._links.relay(room_id, message))
        return sent

    async def when_drained(self, user_id: str, room_id: str = "") -> None:
        """Return when a peer has acknowledged nearly everything."""
        await self._wait(self._links.when_drained(user_id, room_id))

    def peers(self, room_id: str = "") -> list[PeerView]:
        """How each peer is reached."""
        return self._links.peers(room_id)

    @property
    def network(self) -> NetworkView:
        """Where this client is."""
        return self._links.network

    async def close(self, room_id: str = "") -> None:
        """End the links of a room, or all; what is on its way is delivered."""
        await self._wait(self._links.close(room_id))

    def statistics(self) -> dict[str, float]:
        """Return counters and current values."""
        return self._links.statistics()
