"""Which way messages of another peer come."""

from __future__ import annotations

from meshrelay.overlay.errors import NotDelivered, PeerDestroyed, TooMuchWaiting, UnusableData
from meshrelay.overlay.traces import MAX_TRACES, TRACE_SECONDS, Trace
from meshrelay.wire.overlay import DataType
from tests.overlay.peer_kit import PeerCase

NOBODY = b"\x55" * 20


class TraceTests(PeerCase):
    """See `Traces`."""

    def test_neighbour(self) -> None:
        """A neighbour answers itself."""
        leaf = self.network.add(bootstrap=[self.url])
        self.run_on(1)
        results = self.results(self.hub.peer.trace(leaf.peer_id))
        self.run_on(1)
        self.assertEqual([trace.path for trace in results], [(leaf.peer_id,)])
        self.assertTrue(0 < results[0].seconds < 0.1)

    def test_behind_a_javascript_peer(self) -> None:
        """The path of one further away has its neighbours in it."""
        end = self.raw().linked(self.url)
        results = self.results(self.hub.peer.trace(NOBODY))
        self.run_on(0.1)
        (asked,) = [one for one in end.envelopes(DataType.FIND_PEERS) if one.to == NOBODY]
        end.find_peers(NOBODY)
        answer = end.write(self.hub.peer_id, DataType.FOUND_PEERS, b"[]", sender=NOBODY)
        self.run_on(0.1)
        self.assertEqual(asked.sender, self.hub.peer_id)
        self.assertEqual(results[0].path, (end.peer.peer_id,))
        self.assertEqual((answer.sender, self.dropped("unasked_peers")), (NOBODY, 0))

    def test_nobody(self) -> None:
        """Who does not answer was asked four times, and not more; then it is told."""
        end = self.raw().linked(self.url)
        results = self.results(self.hub.peer.trace(NOBODY))
        self.run_on(TRACE_SECONDS - 0.5)
        self.assertEqual(results, [])
        self.run_on(1)
        self.assertEqual(results, [NotDelivered])
        self.run_on(10)
        self.assertEqual(len([one for one in end.envelopes(DataType.FIND_PEERS) if one.to == NOBODY]), 4)
        self.assertEqual(self.hub.statistics["traces"], 0)

    def test_together(self) -> None:
        """Two who want to know the same are told by one answer."""
        leaf = self.network.add(bootstrap=[self.url])
        self.run_on(1)
        results = self.results(self.hub.peer.trace(leaf.peer_id), self.hub.peer.trace(leaf.peer_id))
        self.assertEqual(self.hub.statistics["traces"], 1)
        self.run_on(1)
        self.assertEqual(len(results), 2)

    def test_too_many(self) -> None:
        """So many peers are traced at a time."""
        waiting = [self.hub.peer.trace(number.to_bytes(20, "big")) for number in range(MAX_TRACES)]
        results = self.results(self.hub.peer.trace(NOBODY))
        self.assertEqual(results, [TooMuchWaiting])
        ended = self.results(*waiting)
        self.run_on(TRACE_SECONDS + 1)
        self.assertEqual(ended, [NotDelivered] * MAX_TRACES)

    def test_itself(self) -> None:
        """The way to oneself is no way."""
        self.assertEqual(self.successResultOf(self.hub.peer.trace(self.hub.peer_id)), Trace((), 0.0))

    def test_no_id(self) -> None:
        """What is no ID is refused at once."""
        self.assertEqual(self.results(self.hub.peer.trace(b"short")), [UnusableData])

    def test_destroyed(self) -> None:
        """The end of the peer ends its traces, and nothing is sent any more."""
        results = self.results(self.hub.peer.trace(NOBODY))
        self.hub.peer.stop()
        self.assertEqual(results, [PeerDestroyed])
        self.assertEqual(self.results(self.hub.peer.trace(NOBODY)), [PeerDestroyed])
        self.run_on(TRACE_SECONDS)
