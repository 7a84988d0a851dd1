"""One connection: greeting, heartbeat, deadlines."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.mesh.errors import CallFailed, LinkLost, TooManyCalls
from meshrelay.mesh.link import LinkState
from meshrelay.mesh.links import LinkOptions
from meshrelay.mesh.strand import StrandOptions
from meshrelay.testing.memory_mesh import MemoryConnection, MemoryMesh
from meshrelay.wire.node import CallStatus, Refusal, encode_ack, encode_batch, encode_call, encode_refusal


class StrandTestCase(SynchronousTestCase):
    """Nodes a and b, linked."""

    def setUp(self) -> None:
        """Link them."""
        self.mesh = MemoryMesh()
        options = LinkOptions(StrandOptions(max_calls=3))
        self.a = self.mesh.add_node("a", options=options)
        self.b = self.mesh.add_node("b", options=options)
        self.link = self.mesh.keep("a", "b")
        self.mesh.run(1)
        self.ours, self.theirs = self.mesh.connections[0]


class HostileTests(StrandTestCase):
    """A peer that does not follow the protocol."""

    def expect_refusal(self, method: str, data: bytes) -> None:
        """Let b hear this from a's end, and expect that it closes and says why."""
        self.ours.call(method, data).addErrback(lambda _: None)
        self.mesh.run(0.1)
        self.assertFalse(self.theirs.is_open)
        self.assertEqual(self.b.links.refused["PROTOCOL"], 1, method)
        self.assertEqual(self.a.links.refused["PROTOCOL"], 1, method)

    def test_gap(self) -> None:
        """A missing batch."""
        self.expect_refusal("batch", encode_batch(2, [(1, b"")]))

    def test_garbage_batch(self) -> None:
        """A batch that cannot be read."""
        self.expect_refusal("batch", b"rubbish")

    def test_garbage_call(self) -> None:
        """A call that cannot be read."""
        self.expect_refusal("call", b"")

    def test_second_hello(self) -> None:
        """A Hello on a link that is up is answered with the end of it."""
        self.ours.call("hello", b"rubbish").addErrback(lambda _: None)
        self.mesh.run(0.1)
        self.assertEqual((self.theirs.is_open, self.b.links.refused["PROTOCOL"]), (False, 1))

    def test_wrong_acknowledgement(self) -> None:
        """An acknowledgement of what was never sent."""
        self.b.link("a").strand._owner.batch_received = lambda *_: encode_ack(99)  # type: ignore[union-attr, method-assign]
        self.link.send(1, b"x")
        self.mesh.run(0.1)
        self.assertEqual(self.a.links.refused["PROTOCOL"], 1)

    def test_before_greeting(self) -> None:
        """Nothing is taken before the greeting."""
        for method, data in (("batch", encode_batch(1, [(1, b"x")])), ("call", encode_call("x", b"")), ("ping", b"")):
            here, there = MemoryConnection(self.mesh, "b", None), MemoryConnection(self.mesh, "?", None)
            here.other, there.other = there, here
            self.b.links.accepted(there)
            here.call(method, data).addErrback(lambda _: None)
            self.mesh.run(0.1)
            self.assertFalse(there.is_open, method)
        self.assertEqual((self.b.observer.messages, self.b.observer.calls), ({}, []))
        self.assertEqual(self.b.links.refused["PROTOCOL"], 3)

    def test_bye(self) -> None:
        """What the other end says at the end is the reason that the observer is told."""
        self.theirs.call("bye", encode_refusal(Refusal.CLOSED, "off for tea")).addErrback(lambda _: None)
        self.mesh.run(0.05)
        self.assertIn("off for tea", self.a.observer.reasons[0])


class DeadlineTests(StrandTestCase):
    """Answers that do not come."""

    def test_too_many_calls(self) -> None:
        """Over max_calls nothing is sent; answers make room."""
        waiting: list[Deferred[bytes]] = []

        def wait(_: str, __: bytes) -> Deferred[bytes]:
            waiting.append(Deferred())
            return waiting[-1]

        self.b.observer.answer = wait
        calls = [self.link.call("x", b"") for _ in range(4)]
        self.failureResultOf(calls[3], TooManyCalls)
        self.mesh.run(0.1)
        self.assertEqual(len(waiting), 3)
        for answer in waiting:
            answer.callback(b"done")
        self.mesh.run(0.1)
        self.assertEqual([self.successResultOf(call) for call in calls[:3]], [b"done"] * 3)
        self.b.observer.answer = lambda _, payload: succeed(payload)
        again = self.link.call("x", b"again")
        self.mesh.run(0.1)
        self.assertEqual(self.successResultOf(again), b"again")

    def test_busy(self) -> None:
        """A peer that asks too much at once is told, and nothing of it is begun."""
        self.b.observer.answer = lambda *_: Deferred()
        answers = [self.ours.call("call", encode_call("x", b"")) for _ in range(5)]
        self.mesh.run(0.1)
        self.assertEqual(len(self.b.observer.calls), 3)
        self.assertEqual([self.successResultOf(each)[0] for each in answers[3:]], [CallStatus.BUSY] * 2)

    def test_slow_call(self) -> None:
        """A call that takes too long at the other end is answered as such, and costs no link."""
        self.b.observer.answer = lambda *_: Deferred()
        call = self.link.call("x", b"")
        self.mesh.run(4.9)
        self.assertNoResult(call)
        self.mesh.run(0.2)
        self.assertEqual(self.failureResultOf(call, CallFailed).value.status, CallStatus.TIMED_OUT)
        self.assertEqual(self.link.state, LinkState.UP)

    def test_no_answer_at_all(self) -> None:
        """A peer that beats and does not answer calls is broken: the call fails and the link is closed."""
        strand = self.b.link("a").strand
        assert strand is not None
        strand._call_received = lambda data: Deferred()  # type: ignore[method-assign]
        call = self.link.call("x", b"")
        self.mesh.run(9.5)
        self.assertNoResult(call)
        self.mesh.run(1)
        self.assertIn("did not come in time", self.failureResultOf(call, LinkLost).value.reason)

    def test_no_acknowledgement(self) -> None:
        """A peer that beats and does not acknowledge batches is broken; on the next connection they go again."""
        strand = self.b.link("a").strand
        assert strand is not None
        owner, real = strand._owner, strand._owner.batch_received
        owner.batch_received = lambda *_: Deferred()  # type: ignore[method-assign, assignment]
        self.link.send(1, b"x")
        self.mesh.run(4.5)
        self.assertEqual(self.a.observer.events, [("up", "b")])
        owner.batch_received = real  # type: ignore[method-assign]
        self.mesh.run(3)
        self.assertEqual(self.a.observer.events, [("up", "b"), ("down", "b"), ("up", "b")])
        self.assertEqual(self.b.observer.messages, {"a": [(1, b"x")]})

    def test_no_timer_left(self) -> None:
        """When all links are closed nothing is left on the clock."""
        for node in (self.a, self.b):
            node.links.stop()
        self.mesh.run(6)
        self.assertEqual(self.mesh.clock.getDelayedCalls(), [])
