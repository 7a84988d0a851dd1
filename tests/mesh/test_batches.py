"""Messages to numbered batches and back."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, RemoteProtocolError
from meshrelay.mesh.batches import BatchLimits, BatchReceiver, BatchSender
from meshrelay.wire.node import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, MAX_MESSAGE_BYTES, Batch, Resume, decode_batch


def numbers(taken: list[tuple[int, bytes]]) -> list[int]:
    """The numbers of taken batches."""
    return [number for number, _ in taken]


def payloads(taken: list[tuple[int, bytes]]) -> list[bytes]:
    """What is in taken batches."""
    return [payload for _, data in taken for _, payload in decode_batch(data, range(256)).messages]


class SenderTests(SynchronousTestCase):
    """Sending."""

    def sender(self, **limits: int) -> BatchSender:
        """A sender of epoch 5."""
        return BatchSender(BatchLimits(**limits), 5)

    def test_one_turn(self) -> None:
        """All messages of a turn leave in one batch, in order."""
        sender = self.sender()
        for number in range(10):
            self.assertTrue(sender.push(1, b"%d" % number))
        self.assertTrue(sender.can_take)
        taken = sender.take()
        self.assertEqual((numbers(taken), payloads(taken)), ([1], [b"%d" % number for number in range(10)]))
        self.assertEqual((sender.queued_bytes, sender.queued_messages, sender.unacknowledged_batches), (0, 0, 1))
        self.assertFalse(sender.can_take)
        self.assertEqual(sender.take(), [])

    def test_batch_bounds(self) -> None:
        """A batch ends at 400 messages or 128 KiB; a larger message travels alone."""
        sender = self.sender()
        for _ in range(MAX_BATCH_MESSAGES + 1):
            sender.push(1, b"")
        self.assertEqual([len(decode_batch(data, {1}).messages) for _, data in sender.take()], [400, 1])
        for size in (MAX_BATCH_BYTES // 2, MAX_BATCH_BYTES // 2, MAX_MESSAGE_BYTES, 1):
            sender.push(1, b"x" * size)
        self.assertEqual([len(decode_batch(data, {1}).messages) for _, data in sender.take()], [1, 1, 1, 1])
        self.assertEqual(sender.queued_bytes, 0)

    def test_window(self) -> None:
        """No more batches are on their way than the window allows; acknowledging one makes room for one."""
        sender = self.sender(window_batches=2)
        for _ in range(5 * MAX_BATCH_MESSAGES):
            sender.push(1, b"")
        self.assertEqual(numbers(sender.take()), [1, 2])
        self.assertFalse(sender.can_take)
        sender.acknowledge(1)
        self.assertEqual(numbers(sender.take()), [3])
        sender.acknowledge(3)
        self.assertEqual(numbers(sender.take()), [4, 5])

    def test_acknowledged_never_sent(self) -> None:
        """An acknowledgement of what was never sent is the peer's fault; an old one changes nothing."""
        sender = self.sender()
        sender.push(1, b"")
        sender.take()
        self.assertRaises(RemoteProtocolError, sender.acknowledge, 2)
        sender.acknowledge(1)
        sender.acknowledge(0)
        self.assertEqual(sender.acknowledged, 1)

    def test_own_mistakes(self) -> None:
        """Kinds that are no byte and payloads over 512 KiB are refused at once."""
        sender = self.sender()
        self.assertRaises(LocalProtocolError, sender.push, 256, b"")
        self.assertRaises(LocalProtocolError, sender.push, 1, b"x" * (MAX_MESSAGE_BYTES + 1))
        self.assertEqual(sender.queued_messages, 0)

    def test_relinked(self) -> None:
        """After a lost connection what did not arrive is sent again, in order, before anything new."""
        sender = self.sender()
        for number in range(4):
            sender.push(1, b"%d" % number)
            sender.take()
        sender.push(1, b"new")
        sender.relinked(2)
        taken = sender.take()
        self.assertEqual((numbers(taken), payloads(taken)), ([3, 4, 5], [b"2", b"3", b"new"]))
        self.assertEqual((sender.resent_batches, sender.sent_messages), (2, 5))
        self.assertRaises(RemoteProtocolError, sender.relinked, 6)
        self.assertRaises(RemoteProtocolError, sender.relinked, 1)

    def test_acknowledged_while_resending(self) -> None:
        """What is acknowledged between the new connection and the next turn is not sent again."""
        sender = self.sender()
        for _ in range(3):
            sender.push(1, b"")
            sender.take()
        sender.relinked(0)
        sender.acknowledge(2)
        self.assertEqual(numbers(sender.take()), [3])

    def test_queue_bounds(self) -> None:
        """A full queue takes no more, and counts what it refuses."""
        for limits in ({"queue_messages": 3}, {"queue_bytes": 3 * 15}):
            sender = self.sender(**limits)
            self.assertEqual([sender.push(1, b"0123456789") for _ in range(5)], [True, True, True, False, False])
            self.assertEqual((sender.dropped_messages, sender.queued_messages, sender.queued_bytes), (2, 3, 45))

    def test_unreliable_first(self) -> None:
        """The oldest unreliable messages make room; reliable ones stay, in order."""
        sender = self.sender(queue_messages=8)
        for number in range(8):
            sender.push(1, b"%d" % number, is_reliable=number % 2 == 0)
        self.assertTrue(sender.push(1, b"8"))
        self.assertEqual(sender.dropped_messages, 2)
        self.assertTrue(sender.push(1, b"9", is_reliable=False))
        self.assertEqual(payloads(sender.take()), [b"0", b"2", b"4", b"5", b"6", b"7", b"8", b"9"])
        self.assertEqual(sender.queued_bytes, 0)

    def test_no_room_to_make(self) -> None:
        """One message larger than the queue drops nothing but itself."""
        sender = self.sender(queue_bytes=100)
        sender.push(1, b"small", is_reliable=False)
        self.assertFalse(sender.push(1, b"x" * 200))
        self.assertEqual((sender.queued_messages, sender.dropped_messages), (1, 1))


class ResumeTests(SynchronousTestCase):
    """Where the other end says that it stands."""

    def setUp(self) -> None:
        """Three batches were sent, one was acknowledged, one message waits."""
        self.sender = BatchSender(BatchLimits(), 5)
        for number in range(3):
            self.sender.push(1, b"%d" % number)
            self.sender.take()
        self.sender.acknowledge(1)
        self.sender.push(1, b"waits")

    def test_same(self) -> None:
        """The same numbering goes on."""
        self.assertEqual(self.sender.resume(Resume(9, 5, 2), is_new_peer=False), 0)
        self.assertEqual(numbers(self.sender.take()), [3, 4])

    def test_new_incarnation(self) -> None:
        """A node that began anew gets nothing of the old one's, and it is told how much was dropped."""
        self.assertEqual(self.sender.resume(Resume(9, 0, 0), is_new_peer=True), 3)
        self.assertEqual((self.sender.dropped_messages, self.sender.queued_bytes), (3, 0))
        self.sender.push(1, b"for the new one")
        taken = self.sender.take()
        self.assertEqual((numbers(taken), payloads(taken)), ([1], [b"for the new one"]))

    def test_forgotten(self) -> None:
        """The same node that has forgotten the numbering begins anew as well."""
        self.assertEqual(self.sender.resume(Resume(9, 0, 0), is_new_peer=False), 3)

    def test_lost_welcome(self) -> None:
        """Who never heard of a numbering, as its welcome was lost, gets all of it."""
        sender = BatchSender(BatchLimits(), 5)
        sender.push(1, b"first")
        sender.take()
        self.assertEqual(sender.resume(Resume(9, 0, 0), is_new_peer=False), 0)
        self.assertEqual(payloads(sender.take()), [b"first"])

    def test_first_contact(self) -> None:
        """What waits before the first contact is for whoever comes."""
        sender = BatchSender(BatchLimits(), 5)
        sender.push(1, b"first")
        self.assertEqual(sender.resume(Resume(9, 0, 0), is_new_peer=False), 0)
        self.assertEqual(payloads(sender.take()), [b"first"])

    def test_ahead(self) -> None:
        """A peer that has more than was ever sent is wrong."""
        self.assertRaises(RemoteProtocolError, self.sender.resume, Resume(9, 5, 4), False)


class ReceiverTests(SynchronousTestCase):
    """Receiving."""

    def test_order(self) -> None:
        """Batches come in order, doubled ones are dropped and counted, a gap is the peer's fault."""
        receiver = BatchReceiver()
        self.assertEqual(receiver.receive(Batch(1, [(1, b"a")], 2)), [(1, b"a")])
        self.assertEqual(receiver.receive(Batch(2, [(1, b"b")])), [(1, b"b")])
        self.assertEqual(receiver.receive(Batch(1, [(1, b"a")])), [])
        self.assertRaises(RemoteProtocolError, receiver.receive, Batch(4, [(1, b"d")]))
        counts = receiver.received, receiver.received_messages, receiver.skipped_messages, receiver.duplicates
        self.assertEqual(counts, (2, 2, 2, 1))

    def test_follow(self) -> None:
        """Another numbering begins with 1, the same one goes on."""
        receiver = BatchReceiver()
        receiver.follow(7)
        receiver.receive(Batch(1, []))
        receiver.follow(7)
        self.assertEqual(receiver.received, 1)
        receiver.follow(8)
        self.assertEqual(receiver.receive(Batch(1, [(1, b"new")])), [(1, b"new")])


class TwoEndsTests(SynchronousTestCase):
    """Both ends over a line that breaks."""

    def test_random_cuts(self) -> None:
        """Whatever is lost with the connections, everything arrives once and in order."""
        random = Random(3)
        sender, receiver = BatchSender(BatchLimits(window_batches=4), 5), BatchReceiver()
        sent, came = 0, []
        for _ in range(3000):
            for _ in range(random.randrange(3)):
                sender.push(1, b"%d" % sent)
                sent += 1
            for _, data in sender.take():
                if random.random() < 0.2:
                    sender.resume(Resume(1, 5, receiver.received), is_new_peer=False)
                    break
                came += receiver.receive(decode_batch(data, {1}))
                if random.random() < 0.7:
                    sender.acknowledge(receiver.received)
        sender.relinked(receiver.received)
        while sender.can_take:
            for _, data in sender.take():
                came += receiver.receive(decode_batch(data, {1}))
            sender.acknowledge(receiver.received)
        self.assertEqual(came, [(1, b"%d" % number) for number in range(sent)])
