"""Tests of `meshrelay.relay_client.conn`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.relay.client_machine import MAX_CONN_MESSAGES
from meshrelay.relay.errors import ConnClosed, PayloadTooLarge, RelayError
from meshrelay.relay_client.conn import RelayPeerAddress
from meshrelay.relay_client.errors import DeadlinePassed, SendQueueFull, TooManyWaiting
from meshrelay.relay_client.options import RelayOptions
from meshrelay.relay_client.waiting import MAX_WAITING
from meshrelay.wire.relay import HEALTH_CHECK_MESSAGE, MAX_PAYLOAD_BYTES
from tests.relay_client.memory_relay import HOME, MemoryRelays


class RelayConnTests(SynchronousTestCase):
    """Connections of alice to bob and back."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.relays.add_server()
        self.alice, self.bob = self.relays.pair()

    def pause(self) -> None:
        """Let alice's link be behind."""
        receiver = self.relays.links[0].receiver
        assert receiver is not None
        receiver.writing_paused()

    def resume(self) -> None:
        """Let alice's link catch up."""
        receiver = self.relays.links[0].receiver
        assert receiver is not None
        receiver.writing_resumed()
        self.relays.settle()

    def test_messages(self) -> None:
        """Messages arrive whole and in order, read before or after they came; an empty one is one."""
        first = self.bob.read()
        for payload in (b"one", b"", bytes(MAX_PAYLOAD_BYTES)):
            self.successResultOf(self.alice.write(payload))
        self.relays.settle()
        self.assertEqual(self.successResultOf(first), b"one")
        self.assertEqual(self.successResultOf(self.bob.read()), b"")
        self.assertEqual(len(self.successResultOf(self.bob.read())), MAX_PAYLOAD_BYTES)

    def test_addresses(self) -> None:
        """A connection says where its two ends are."""
        self.assertEqual(self.alice.local_addr.host, "192.0.2.1")
        self.assertEqual(self.alice.remote_addr, RelayPeerAddress(HOME, "bob"))
        self.assertEqual(len({self.alice.remote_addr, RelayPeerAddress(HOME, "bob")}), 1)
        self.assertNotEqual(self.alice.remote_addr, self.bob.remote_addr)
        self.assertIn("bob", repr(self.alice.remote_addr))
        verifyObject(IAddress, self.alice.remote_addr)

    def test_too_large(self) -> None:
        """A payload that does not fit is refused here; a NetBird server would drop the connection."""
        self.assertEqual(self.alice.max_payload_bytes, MAX_PAYLOAD_BYTES)
        self.failureResultOf(self.alice.write(bytes(MAX_PAYLOAD_BYTES + 1)), PayloadTooLarge)
        self.assertRaises(PayloadTooLarge, self.alice.write_nowait, bytes(MAX_PAYLOAD_BYTES + 1))

    def test_full_queue(self) -> None:
        """Messages that nobody reads are dropped from the hundredth on, the newest ones, and counted."""
        for number in range(MAX_CONN_MESSAGES + 5):
            self.alice.write_nowait(b"%d" % number)
        self.relays.settle()
        self.assertEqual(self.bob.dropped_count, 5)
        self.assertEqual(self.successResultOf(self.bob.read()), b"0")

    def test_read_deadline(self) -> None:
        """A read fails at its deadline, and so do later ones, also when there is something, until it is moved."""
        now = self.relays.clock.seconds()
        waiting = self.alice.read()
        self.alice.set_read_deadline(now + 5)
        self.alice.set_read_deadline(now + 10)
        self.relays.advance(9)
        self.assertNoResult(waiting)
        self.relays.advance(1)
        self.failureResultOf(waiting, DeadlinePassed)
        self.bob.write_nowait(b"late")
        self.relays.settle()
        failed = self.failureResultOf(self.alice.read(), DeadlinePassed)
        self.assertIsInstance(failed.value, TimeoutError)
        self.alice.set_deadline(None)
        self.assertEqual(self.successResultOf(self.alice.read()), b"late")

    def test_write_deadline(self) -> None:
        """A write that waits for the transport fails at its deadline, and is not sent after it."""
        self.pause()
        self.alice.set_write_deadline(self.relays.clock.seconds() + 1)
        waiting = self.alice.write(b"late")
        self.relays.advance(1)
        self.failureResultOf(waiting, DeadlinePassed)
        self.failureResultOf(self.alice.write(b"later"), DeadlinePassed)
        self.resume()
        self.alice.set_deadline(self.relays.clock.seconds() + 1)
        self.successResultOf(self.alice.write(b"in time"))
        self.relays.settle()
        self.assertEqual(self.successResultOf(self.bob.read()), b"in time")
        self.alice.close()
        self.assertEqual(self.relays.clock.seconds(), 1)

    def test_write_waits(self) -> None:
        """Writes wait while the transport is behind, keep their order, and go on with it; cancelled ones do not."""
        self.pause()
        waiting = [self.alice.write(b"%d" % number) for number in range(3)]
        waiting[1].cancel()
        self.failureResultOf(waiting[1], CancelledError)
        self.relays.settle()
        self.assertNoResult(waiting[0])
        self.resume()
        self.assertEqual([self.successResultOf(self.bob.read()) for _ in range(2)], [b"0", b"2"])
        self.assertIsNone(self.successResultOf(waiting[2]))

    def test_too_many_wait(self) -> None:
        """Reads and writes that wait are bounded."""
        self.pause()
        for call in (self.alice.read, lambda: self.alice.write(b"")):
            waiting: list[Deferred[bytes] | Deferred[None]] = [call() for _ in range(MAX_WAITING)]
            self.failureResultOf(call(), TooManyWaiting)
            self.assertNoResult(waiting[-1])
            for done in waiting:
                done.addErrback(lambda failure: failure.trap(ConnClosed))
        self.alice.close()

    def test_nowait_is_bounded(self) -> None:
        """What is written without waiting stops at the limit while the transport is behind."""
        self.pause()
        with self.assertRaises(SendQueueFull) as caught:
            while True:
                self.alice.write_nowait(bytes(8000))
        self.assertLess(caught.exception.unsent_bytes, 1048577)
        self.resume()
        self.alice.write_nowait(b"again")

    def test_deaf_server(self) -> None:
        """A server that asks and does not read is given up at twice the limit."""
        self.relays.connected("carol", options=RelayOptions(max_unsent_bytes=100))
        receiver = self.relays.links[2].receiver
        assert receiver is not None
        receiver.writing_paused()
        for _ in range(100):
            receiver.message_received(HEALTH_CHECK_MESSAGE)
        self.assertEqual(self.relays.links[2].ended, "")
        receiver.message_received(HEALTH_CHECK_MESSAGE)
        self.assertEqual(self.relays.links[2].ended, "abort")

    def test_close(self) -> None:
        """After closing nothing can be read or written, what waited is gone, and a second close is an error."""
        reasons: list[RelayError] = []
        self.alice.on_closed(reasons.append)
        self.bob.write_nowait(b"unread")
        self.relays.settle()
        waiting = self.bob.read()
        self.alice.close()
        self.bob.close()
        for failed in (waiting, self.alice.read(), self.alice.write(b"")):
            self.failureResultOf(failed, ConnClosed)
        for call in (self.alice.close, lambda: self.alice.write_nowait(b""), lambda: self.alice.set_deadline(1)):
            self.assertRaises(ConnClosed, call)
        self.alice.on_closed(reasons.append)
        self.assertEqual([type(reason) for reason in reasons], [ConnClosed, ConnClosed])
        self.assertTrue(self.alice.is_closed)

    def test_peer_goes(self) -> None:
        """When the peer leaves the relay its connections end; a new one can be opened when it is back."""
        self.relays.links[1].cut()
        self.relays.settle()
        self.assertTrue(self.alice.is_closed)
        bob = self.relays.connected("bob")
        self.assertTrue(bob.is_connected)

    def test_early_message(self) -> None:
        """What came a moment before the connection was opened is read first."""
        carol, dave = self.relays.connected("carol"), self.relays.connected("dave")
        self.relays.conn(carol, "dave").write_nowait(b"early")
        self.relays.settle()
        self.relays.advance(4)
        self.assertEqual(self.successResultOf(self.relays.conn(dave, "carol").read()), b"early")
