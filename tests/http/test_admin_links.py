"""The pages about P2P links."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import CommandError, RoomNotFound, RoomTimeout
from meshrelay.http.admin import AdminAccess
from meshrelay.http.admin_links import LinkPages
from meshrelay.model import LinkPair
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import CLIENT, NODE, SiteUnderTest, parse_responses

HERE = IPv4Address("TCP", "127.0.0.1", 50000)
ROOM = "r" * 52


class LinksPageTests(SynchronousTestCase):
    """GET /links."""

    def setUp(self) -> None:
        """Make a site."""
        self.error: CommandError | None = None
        links = LinkPages("n1", lambda: (3, [(ROOM, 2, 9)]), lambda: {"peer_link_rooms": 3}, self.pairs)
        self.under_test = SiteUnderTest(OpenAuthenticator(), links=links, admin=AdminAccess(b"a-long-admin-key"))

    async def pairs(self, room_id: str) -> tuple[int, list[LinkPair]]:
        """Do as the component."""
        if self.error is not None:
            raise self.error
        assert room_id == ROOM
        return 6, [LinkPair("ann", "bob", "relayed", "no_udp")]

    def get(self, path: str, client: IAddress = HERE, *headers: str) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        transport = self.under_test.send("\r\n".join(lines).encode(), NODE, client)
        [response] = parse_responses(transport.value())
        return response.status, json.loads(response.body)

    def test_rooms(self) -> None:
        """The rooms of the node, how many are left out, and all counts."""
        expected = {
            "node": "n1",
            "rooms": [{"room": ROOM, "groups": 2, "members": 9}],
            "rooms_left_out": 2,
            "counts": {"peer_link_rooms": 3},
        }
        self.assertEqual(self.get("/links"), (200, expected))
        self.assertEqual(self.get("/links/"), (200, expected))

    def test_pairs(self) -> None:
        """How each pair of a room is reached, and why."""
        pair = {"user": "ann", "peer": "bob", "state": "relayed", "reason": "no_udp"}
        self.assertEqual(self.get(f"/links/{ROOM}"), (200, {"room": ROOM, "pairs": [pair], "pairs_left_out": 5}))

    def test_errors(self) -> None:
        """What cannot be answered says why."""
        for path in ("/links/short", f"/links/{ROOM}/more", "/links/" + "%FF" * 52):
            self.assertEqual(self.get(path)[0], 400, path)
        for error, status in ((RoomNotFound(), 404), (RoomTimeout(), 503)):
            self.error = error
            self.assertEqual(self.get(f"/links/{ROOM}"), (status, {"error": error.text}))

    def test_strangers(self) -> None:
        """Only operators may look."""
        self.assertEqual(self.get("/links", CLIENT)[0], 401)
        self.assertEqual(self.get("/links", CLIENT, "Authorization: Bearer a-long-admin-key")[0], 200)
