"""What a node tells of itself."""

from __future__ import annotations

from random import Random

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedFrame
from meshrelay.http import node_status
from meshrelay.http.node_status import (
    NO_ANSWER,
    LinkStatus,
    NodeStatus,
    StatusSources,
    answer_status,
    decode_status,
    encode_question,
    own_status,
    unanswered_status,
)
from meshrelay.testing.memory_mesh import MemoryMesh
from tests.http.exchange import make_record


class NodeStatusTests(SynchronousTestCase):
    """The own status, here and on its way to another node."""

    def setUp(self) -> None:
        """Link a node to three others, of which one dies."""
        self.mesh = MemoryMesh()
        self.node = self.mesh.add_node("n1")
        for other in ("n2", "n3", "n4"):
            self.mesh.add_node(other)
            self.mesh.keep("n1", other)
        self.mesh.run(3.0)
        self.mesh.kill("n4")
        self.mesh.run(10.0)
        self.sources = StatusSources(
            record=lambda: make_record("n1", 0.25, tcp="h:7200"),
            phase=lambda: "ready",
            version="1.2",
            users=lambda: 7,
            groups=lambda: 3,
            uptime_seconds=lambda: 12.34,
            links=self.node.links,
        )

    def test_own(self) -> None:
        """Users, groups, places, load and age of the node are there."""
        status = own_status(self.sources, 10)
        self.assertEqual((status.id, status.state, status.version), ("n1", "ready", "1.2"))
        self.assertEqual((status.users, status.groups, status.load, status.uptime_seconds), (7, 3, 0.25, 12.3))
        self.assertEqual((status.places, status.mesh_endpoint), ({"tcp": "h:7200"}, "tcp:n1.example:6779"))

    def test_links(self) -> None:
        """Each link tells whether it is up, how long a round trip takes, and what waits; those that are down first."""
        self.node.link("n4").send(1, b"hello")
        links = own_status(self.sources, 10).links
        self.assertEqual([link.to for link in links], ["n4", "n2", "n3"])
        self.assertNotEqual(links[0].state, "up")
        self.assertEqual((links[0].queued_messages, links[0].rtt_ms), (1, None))
        self.assertEqual(links[1].state, "up")
        assert links[1].rtt_ms is not None
        self.assertTrue(1 < links[1].rtt_ms < 30, links[1].rtt_ms)

    def test_room(self) -> None:
        """Where there is no room for all links those that are up are left out and counted."""
        status = own_status(self.sources, 1)
        self.assertEqual(([link.to for link in status.links], status.links_left_out), (["n4"], 2))

    def test_bound(self) -> None:
        """However many links are asked for, a node tells no more than fit a call."""
        self.patch(node_status, "_MAX_LINKS_OF_A_NODE", 2)
        status = own_status(self.sources, 10)
        self.assertEqual((len(status.links), status.links_left_out), (2, 1))

    def test_call(self) -> None:
        """Another node reads what was told, as much as it asked for."""
        answer = answer_status(self.sources)
        for max_links in (0, 1, 10):
            status = decode_status("n1", answer("n9", encode_question(max_links)))
            self.assertEqual(status, own_status(self.sources, max_links))

    def test_fits_a_call(self) -> None:
        """The longest status is smaller than a call may be."""
        link = LinkStatus(
            to="x" * 64,
            state="dialing",
            rtt_ms=0.1,
            queued_bytes=1 << 40,
            queued_messages=1 << 40,
            dropped_messages=1 << 40,
            resent_batches=1 << 40,
        )
        status = NodeStatus(id="x" * 64, state="draining", links=(link,) * 2000)
        self.assertLess(len(msgspec.msgpack.encode(status)), 512 * 1024)

    def test_unanswered(self) -> None:
        """Of a node that does not answer the directory's word is told, and nothing is made up."""
        status = unanswered_status("b", make_record("b", 0.5, tcp="h:7200"))
        self.assertEqual((status.state, status.places, status.load), (NO_ANSWER, {"tcp": "h:7200"}, 0.5))
        self.assertEqual((status.users, status.version), (None, None))
        self.assertEqual(unanswered_status("b", None).load, None)

    def test_other_version(self) -> None:
        """What a later version adds is passed over; what an older one does not tell is not known."""
        payload = msgspec.msgpack.encode({"id": "n1", "state": "ready", "new": 1})
        self.assertEqual(decode_status("n1", payload), NodeStatus(id="n1", state="ready"))

    def test_another_node(self) -> None:
        """A node cannot answer for another one."""
        payload = msgspec.msgpack.encode(NodeStatus(id="n2", state="ready"))
        self.assertRaises(MalformedFrame, decode_status, "n1", payload)

    def test_garbage(self) -> None:
        """Garbage is refused cleanly, as a question and as an answer."""
        random = Random(5)
        answer = answer_status(self.sources)
        good = answer("n9", encode_question(3))
        payloads = [random.randbytes(random.randrange(40)) for _ in range(300)] + [b"\x91" * 100_000]
        for payload in payloads:
            self.assertRaises(MalformedFrame, decode_status, "n1", payload)
            try:
                answer("n9", payload)
            except MalformedFrame:
                pass
        for cut in range(len(good)):
            self.assertRaises(MalformedFrame, decode_status, "n1", good[:cut])
        self.assertRaises(MalformedFrame, answer, "n9", msgspec.msgpack.encode({"max_links": 10_001}))
