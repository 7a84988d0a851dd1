"""``GET /admin/overlay``: the node as a peer of the overlay, the peers that it is linked with, and what it counted.

::

    curl http://127.0.0.1:7000/admin/overlay
    {"node": "n1", "id": "1d71...", "url": "", "bootstraps": [...], "peers": [...], "peers_left_out": 0,
     "counts": {...}}

A peer has ``id``, ``transport`` (ws or wrtc), ``address``, ``outgoing`` (this node dialled), ``is_own`` (it says that
it is meshrelay), ``is_proved`` (it has shown that the ID is its own), ``since_seconds``, ``frames_received``,
``frames_sent``, ``bytes_received`` and ``bytes_sent``. A bootstrap has ``url``, ``state`` (waiting, dialling, linked or
own: it leads to the node itself), ``failures`` and ``id`` (of who was found there, or null).

======  ==============================================================================================
status  meaning
======  ==============================================================================================
200     see above
401     the admin key is needed, see `meshrelay.http.admin`
403     the caller may not ask at all
404     the node is no peer of the overlay
======  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from twisted.web import http
from twisted.web.server import Request

from meshrelay.http.admin import AdminAccess
from meshrelay.http.page import Answer, Page, json_answer

__all__ = ["MAX_SHOWN", "LinkedPeer", "OverlayPage", "OverlayPages", "ShownBootstrap"]

#: Peers of one answer.
MAX_SHOWN = 1000


class LinkedPeer(NamedTuple):
    """A peer with a link; the names are those of the answer."""

    id: str
    transport: str
    address: str
    outgoing: bool
    is_own: bool
    is_proved: bool
    since_seconds: float
    frames_received: int
    frames_sent: int
    bytes_received: int
    bytes_sent: int


class ShownBootstrap(NamedTuple):
    """A bootstrap; the names are those of the answer."""

    url: str
    state: str
    failures: int
    id: str | None


class OverlayPages(NamedTuple):
    """What knows for the page; `meshrelay.overlay_parts.OverlayNode` makes one."""

    node_id: str
    #: Hexadecimal.
    peer_id: str
    url: Callable[[], str]
    bootstraps: Callable[[], Iterable[ShownBootstrap]]
    #: How many there are, and each of them, made as they are asked for.
    peers: Callable[[], tuple[int, Iterable[LinkedPeer]]]
    counts: Callable[[], Mapping[str, int]]


class OverlayPage(Page):
    """See the module."""

    def __init__(self, overlay: OverlayPages, admin: AdminAccess) -> None:
        super().__init__()
        self._overlay = overlay
        self._admin = admin

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        refusal = self._admin.refusal(request)
        if refusal is not None:
            return refusal
        overlay = self._overlay
        count, peers = overlay.peers()
        shown = [peer._asdict() for peer in islice(peers, MAX_SHOWN)]
        return json_answer(
            http.OK,
            {
                "node": overlay.node_id,
                "id": overlay.peer_id,
                "url": overlay.url(),
                "bootstraps": [bootstrap._asdict() for bootstrap in overlay.bootstraps()],
                "peers": shown,
                "peers_left_out": count - len(shown),
                "counts": dict(overlay.counts()),
            },
        )
