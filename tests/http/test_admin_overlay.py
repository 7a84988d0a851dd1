"""The page about the overlay."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.admin import AdminAccess
from meshrelay.http.admin_overlay import MAX_SHOWN, LinkedPeer, OverlayPages, ShownBootstrap
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import CLIENT, NODE, SiteUnderTest, parse_responses

HERE = IPv4Address("TCP", "127.0.0.1", 50000)
PEER = LinkedPeer("ab" * 20, "ws", "127.0.0.1:1", True, True, False, 1.5, 1, 2, 3, 4)


class OverlayPageTests(SynchronousTestCase):
    """GET /admin/overlay."""

    def setUp(self) -> None:
        """Make a site."""
        self.count = 1
        self.pages = OverlayPages(
            "n1",
            "cd" * 20,
            lambda: "ws://n1.example:1",
            lambda: [ShownBootstrap("ws://b.example:2", "linked", 0, "ab" * 20)],
            lambda: (self.count, [PEER] * self.count),
            lambda: {"dials": 3},
        )
        self.start(self.pages)

    def start(self, pages: OverlayPages | None) -> None:
        """Make a site with these pages."""
        self.under_test = SiteUnderTest(OpenAuthenticator(), overlay=pages, admin=AdminAccess(b"a-long-admin-key"))

    def get(self, path: str, client: IAddress = HERE, *headers: str) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        transport = self.under_test.send("\r\n".join(lines).encode(), NODE, client)
        [response] = parse_responses(transport.value())
        return response.status, json.loads(response.body)

    def test_all(self) -> None:
        """Who the node is, whom it knows, and what it counted."""
        status, told = self.get("/admin/overlay")
        self.assertEqual((status, told["node"], told["id"], told["url"]), (200, "n1", "cd" * 20, "ws://n1.example:1"))
        self.assertEqual(
            told["bootstraps"], [{"url": "ws://b.example:2", "state": "linked", "failures": 0, "id": "ab" * 20}]
        )
        [peer] = told["peers"]
        self.assertEqual(peer, PEER._asdict())
        self.assertEqual((told["peers_left_out"], told["counts"]), (0, {"dials": 3}))

    def test_many(self) -> None:
        """Of very many peers some are left out, and it is told how many."""
        self.count = MAX_SHOWN + 5
        _, told = self.get("/admin/overlay")
        self.assertEqual((len(told["peers"]), told["peers_left_out"]), (MAX_SHOWN, 5))

    def test_none(self) -> None:
        """A node that is no peer has no page about it."""
        self.start(None)
        self.assertEqual(self.get("/admin/overlay")[0], 404)

    def test_other_pages(self) -> None:
        """There is nothing else below /admin."""
        for path in ("/admin", "/admin/", "/admin/links"):
            self.assertEqual((path, self.get(path)[0]), (path, 404))

    def test_strangers(self) -> None:
        """Only operators may look."""
        self.assertEqual(self.get("/admin/overlay", CLIENT)[0], 401)
        self.assertEqual(self.get("/admin/overlay", CLIENT, "Authorization: Bearer a-long-admin-key")[0], 200)
