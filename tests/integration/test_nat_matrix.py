"""P2P links between processes behind the NATs of the laboratory.

``MESHRELAY_NAT_RUNS`` says how often symmetric against port-restricted is tried (10).
"""

from __future__ import annotations

import os
import statistics
import time
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.nat_lab import Lab, LabNode, Nat, missing
from tests.integration.nat_matrix import KINDS, is_possible, measure_matrix, measure_symmetric, peers_behind
from tests.integration.nat_peers import NatPeer

MISSING = missing()

RUNS = int(os.environ.get("MESHRELAY_NAT_RUNS", "10"))

#: From LINK_START to the first data of most pairs; far more than is needed here, where the node is near.
FIRST_DATA_SECONDS = 0.3

#: The same of all pairs, on a machine that does other things as well. Who waits for a direct path waits longer where
#: there is none.
LAST_DATA_SECONDS = 5.0


class LabCase(SynchronousTestCase):
    """A laboratory with a node."""

    skip = MISSING or None

    def setUp(self) -> None:
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.lab: Lab = self.stack.enter_context(Lab())
        self.node: LabNode = self.stack.enter_context(self.lab.node())

    def direct(self, one: NatPeer, other: NatPeer, seconds: float = 60.0) -> list[str]:
        """Start links for two in a room, and return at which addresses they reach each other; "" = by the relay."""
        room_id = one.room(other)
        one.ask("start", room_id, 2)
        found = []
        for end, peer in ((one, other), (other, one)):
            said = end.wait("state", seconds, room=room_id, peer=peer.name, state="DIRECT")
            found.append(said["address"].rpartition(":")[0] if said is not None else "")
        return found


class MatrixTests(LabCase):
    """Each kind of NAT against each other."""

    def test_matrix(self) -> None:
        """Every pair is direct where theory allows it and relayed elsewhere; first data come in time everywhere."""
        results = measure_matrix(self.lab, self.node)
        self.assertEqual(len(results), len(KINDS) ** 2)
        for result in results:
            name = f"{result.first.value} against {result.second.value}: {result}"
            self.assertEqual(result.is_direct, is_possible(result.first, result.second), name)
            self.assertEqual([reason == "" for reason in result.reasons], [result.is_direct] * 2, name)
            self.assertLess(result.first_data_seconds, LAST_DATA_SECONDS, name)
        self.assertLess(statistics.median(result.first_data_seconds for result in results), FIRST_DATA_SECONDS)

    def test_symmetric(self) -> None:
        """Symmetric by lot against port-restricted works nearly always."""
        results = measure_symmetric(self.lab, self.node, RUNS)
        self.assertGreaterEqual(sum(result.is_direct for result in results), 0.9 * RUNS)


class PathTests(LabCase):
    """What paths are found, and what they carry."""

    def test_one_home(self) -> None:
        """Two behind one NAT reach each other by local addresses; where those are cut off, by a hairpin or not."""
        for nat, is_isolated, expected in (
            (Nat.PORT_RESTRICTED, False, True),
            (Nat.SYMMETRIC, False, True),
            (Nat.FULL_CONE, True, True),
            (Nat.PORT_RESTRICTED, True, False),
        ):
            router = self.lab.router(nat, isolated=is_isolated)
            names = [f"{side} {nat.value} {is_isolated}" for side in "ab"]
            one, other = (NatPeer(self.lab.client(name, router), self.node) for name in names)
            for peer in (one, other):
                peer.ready()
            found = self.direct(one, other, 60.0 if expected else 8.0)
            addresses = ["", ""]
            if expected:
                ends = [other.client, one.client]
                addresses = [end.public_address if is_isolated else end.local_address for end in ends]
            self.assertEqual(found, addresses, (nat, is_isolated))

    def test_loss(self) -> None:
        """At 5 % loss, directly and by the relay, everything arrives once and in order."""
        kinds = {"a": Nat.PORT_RESTRICTED, "b": Nat.FULL_CONE, "c": Nat.UDP_BLOCKED}
        peers = {peer.name: peer for peer in peers_behind(self.lab, self.node, kinds.items())}
        room_id = peers["a"].room(peers["b"], peers["c"])
        peers["a"].ask("start", room_id, 3)
        peers["b"].expect("state", peer="a", state="DIRECT")
        for peer in peers.values():
            peer.client.set_loss(0.05)
        pairs = [(one, other) for one in peers for other in peers if one != other]
        for one, other in pairs:
            peers[one].order("send", room_id, other, 1000, 900)
        for one, other in pairs:
            done = peers[other].wait("complete", 120.0, peer=one)
            self.assertIsNotNone(done, (one, other))
            self.assertEqual(done["count"], 1000)
            self.assertEqual(peers[other].find("disorder"), [])

    def test_death(self) -> None:
        """When the direct path dies the relay takes over soon and nothing is lost; it comes back later."""
        one, other = peers_behind(self.lab, self.node, [("a", Nat.PORT_RESTRICTED), ("b", Nat.ADDRESS_RESTRICTED)])
        self.assertNotIn("", self.direct(one, other))
        room_id = one.find("started")[0]["room"]
        self.lab.cut(one.client, other.client)
        cut_at = time.monotonic()
        one.order("send", room_id, "b", 500, 500)
        relayed = one.wait("state", since=cut_at, state="RELAYED")
        self.assertIsNotNone(relayed)
        # Half of it is promised.
        self.assertLess(relayed["at"] - cut_at, 10.0)
        done = other.wait("complete", peer="a")
        self.assertEqual((done and done["count"], other.find("disorder")), (500, []))
        # From before it: mending takes a moment, and a probe may get through within it.
        mended_from = time.monotonic()
        self.lab.mend(one.client, other.client)
        self.assertIsNotNone(one.wait("state", 120.0, since=mended_from, state="DIRECT"))

    def test_move(self) -> None:
        """A client that goes on from another socket is reached directly again, and loses nothing."""
        one, other = peers_behind(self.lab, self.node, [("a", Nat.PORT_RESTRICTED), ("b", Nat.PORT_RESTRICTED)])
        self.assertNotIn("", self.direct(one, other))
        room_id = one.find("started")[0]["room"]
        self.assertTrue(one.ask("rebind")[0])
        for end, peer in ((one, "b"), (other, "a")):
            end.order("send", room_id, peer, 200, 500)
        for end, peer in ((one, "b"), (other, "a")):
            done = end.wait("complete", peer=peer)
            self.assertEqual((done and done["count"], end.find("disorder")), (200, []))


class RelayTests(LabCase):
    """Messages to all link groups."""

    def test_sixteen(self) -> None:
        """In a room of 16 behind all kinds of NATs, in 4 link groups, everybody hears each message exactly once."""
        peers = peers_behind(self.lab, self.node, [(f"{kind.value} {side}", kind) for kind in KINDS for side in "ab"])
        self.assertEqual(len(peers), 16)
        room_id = peers[0].room(*peers[1:])
        peers[0].ask("start", room_id, 4)
        for peer in peers:
            peer.expect("started", room=room_id)
        for peer in peers:
            self.assertTrue(peer.ask("relay", room_id, f"of {peer.name}"))
        for peer in peers:
            for other in peers:
                if other is not peer:
                    peer.expect("relay", peer=other.name)
        # What comes twice comes soon.
        time.sleep(1.0)
        for peer in peers:
            heard = sorted(said["peer"] for said in peer.find("relay"))
            self.assertEqual(heard, sorted(other.name for other in peers if other is not peer))
