"""In which order nodes are offered."""

from __future__ import annotations

from collections import Counter

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.placement import CLIENTS_OF_A_NODE, HANDED_OUT_SECONDS, Offer, Place, Placement, offers_of
from tests.http.exchange import make_record


def _offer(node_id: str, load: float = 0.0, said: object = 1) -> Offer:
    return Offer(node_id, Place("TCP", f"{node_id}.example", 7200), load, said)


class OfferTests(SynchronousTestCase):
    """What a record offers."""

    def places(self, server_type: str, **places: str) -> list[Place]:
        """What one node with these places offers."""
        return [offer.place for offer in offers_of([make_record("a", 0.0, "1", **places)], server_type)]

    def test_types(self) -> None:
        """Each type finds its kind of place, with the host and the port that the node told."""
        places = {"tcp": "h:1", "udp": "h:2", "websocket": "h:3", "wss": "h:4"}
        for server_type, port in (("TCP", 1), ("UDP", 2), ("WS", 3), ("WSS", 4)):
            self.assertEqual(self.places(server_type, **places), [Place(server_type, "h", port)])

    def test_websocket_over_tls(self) -> None:
        """Who asks for WS and finds TLS alone is told so."""
        self.assertEqual(self.places("WS", wss="h:4"), [Place("WSS", "h", 4)])

    def test_websocket_behind_a_proxy(self) -> None:
        """Who asks for WSS gets a plain port only where no node has TLS: a proxy may add it."""
        self.assertEqual(self.places("WSS", websocket="h:3"), [Place("WSS", "h", 3)])
        records = [make_record("a", websocket="h:3"), make_record("b", wss="h:4")]
        self.assertEqual([offer.node_id for offer in offers_of(records, "WSS")], ["b"])

    def test_hosts(self) -> None:
        """IPv6 loses its brackets; an address that means all addresses is the one that was asked."""
        cases = {
            "[2001:db8::1]:7": "2001:db8::1",
            "h.example:7": "h.example",
            ":7": "",
            "0.0.0.0:7": "",
            "[::]:7": "",
        }
        for text, host in cases.items():
            self.assertEqual((text, self.places("TCP", tcp=text)), (text, [Place("TCP", host, 7)]))

    def test_no_place(self) -> None:
        """What is no host and port is no offer, nor is a node that does not listen on the type."""
        for text in ("/run/meshrelay", "h", "h:", "h:x", "h:0", "h:65536", "/run/a:7", "h:-1"):
            self.assertEqual((text, self.places("TCP", tcp=text)), (text, []))
        self.assertEqual(self.places("TCP", udp="h:2"), [])


class PlacementTests(SynchronousTestCase):
    """Which node comes first."""

    def setUp(self) -> None:
        """Make the placement of node own."""
        self.clock = Clock()
        self.placement = Placement("own", self.clock.seconds)

    def order(self, *offers: Offer, preferred: str | None = None) -> list[str]:
        """IDs of the nodes in the order in which they are offered."""
        return [offer.node_id for offer in self.placement.ranked(offers, preferred)]

    def test_least_loaded(self) -> None:
        """The least loaded node comes first."""
        self.assertEqual(self.order(_offer("own", 0.3), _offer("b", 0.2), _offer("a", 0.1)), ["a", "b", "own"])

    def test_equal(self) -> None:
        """Among equals it is this node."""
        self.assertEqual(self.order(_offer("a"), _offer("own"), _offer("z")), ["own", "a", "z"])

    def test_full(self) -> None:
        """A node that takes no more is left out; this one comes last."""
        self.assertEqual(self.order(_offer("own", 1.0), _offer("a", 1.0), _offer("b", 0.99)), ["b", "own"])

    def test_preferred(self) -> None:
        """The node that has the client's session comes first, unless it takes no more."""
        offers = (_offer("own"), _offer("a", 0.1), _offer("b", 0.9))
        self.assertEqual(self.order(*offers, preferred="b"), ["b", "own", "a"])
        self.assertEqual(self.order(*offers, preferred="gone"), ["own", "a", "b"])
        self.assertEqual(self.order(_offer("own"), _offer("b", 1.0), preferred="b"), ["own"])
        self.assertEqual(self.order(_offer("own", 1.0), _offer("a"), preferred="own"), ["a", "own"])

    def test_no_stampede(self) -> None:
        """A thousand clients between two words of the nodes do not all go to one of them."""
        offers = [_offer("own", 0.02), _offer("a", 0.0), _offer("b", 0.01)]
        counts: Counter[str] = Counter()
        for _ in range(1000):
            first = self.placement.ranked(offers, None)[0]
            self.placement.handed_out(first)
            counts[first.node_id] += 1
        after = {offer.node_id: offer.load + counts[offer.node_id] / CLIENTS_OF_A_NODE for offer in offers}
        self.assertEqual(sum(counts.values()), 1000)
        self.assertLessEqual(max(after.values()) - min(after.values()), 1.5 / CLIENTS_OF_A_NODE)

    def test_spoke_anew(self) -> None:
        """What a node says anew holds all that came before."""
        self.placement.handed_out(_offer("own"))
        self.assertEqual(self.order(_offer("own"), _offer("a")), ["a", "own"])
        self.assertEqual(self.order(_offer("own", said=2), _offer("a")), ["own", "a"])

    def test_silent(self) -> None:
        """A node whose word does not change is not held to clients of long ago, nor after the clock was set back."""
        for seconds in (HANDED_OUT_SECONDS, -1.0):
            self.placement.handed_out(_offer("own"))
            self.assertEqual(self.order(_offer("own"), _offer("a")), ["a", "own"])
            self.clock.rightNow += seconds
            self.assertEqual(self.order(_offer("own"), _offer("a")), ["own", "a"])

    def test_other_types(self) -> None:
        """What was handed out counts whatever type is asked for next."""
        self.placement.handed_out(_offer("a"))
        self.order(_offer("own"))
        self.assertEqual(self.order(_offer("b"), _offer("a")), ["b", "a"])

    def test_bound(self) -> None:
        """Nodes that come and go leave nothing behind."""
        for number in range(1000):
            self.placement.handed_out(_offer(f"n{number}"))
            self.clock.advance(1.0)
            self.order(_offer("own"))
        self.assertLessEqual(len(self.placement._handed_out), HANDED_OUT_SECONDS)
