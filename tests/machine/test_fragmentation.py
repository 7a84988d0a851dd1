from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.fragmentation import OutgoingQueue
from meshrelay.machine.packets import decode_dat


class OutgoingQueueTests(SynchronousTestCase):
    def test_small_messages_share_a_packet(self) -> None:
        """Messages that wait together leave together, as far as 1,350 bytes go."""
        queue = OutgoingQueue(7)
        for letter in (b"a", b"b", b"c"):
            queue.push(letter * 600)
        first, second = queue.pop(), queue.pop()
        self.assertEqual(decode_dat(first.content), (7, 0, 1, b"a" * 600 + b"b" * 600))
        self.assertEqual(decode_dat(second.content), (8, 0, 1, b"c" * 600))
        self.assertEqual(queue.merged_messages, 1)

    def test_exact_fit(self) -> None:
        """Two messages of together 1,350 bytes fit, one more byte makes two packets."""
        for extra, packets in ((0, 1), (1, 2)):
            queue = OutgoingQueue(1)
            queue.push(bytes(675))
            queue.push(bytes(675 + extra))
            queue.pop()
            self.assertEqual(queue.end, 1 + 1)
            self.assertEqual(bool(queue), packets == 2)

    def test_long_message_is_cut(self) -> None:
        """A long message becomes numbered fragments that add up to it, across the wrap of the sequence."""
        queue = OutgoingQueue(0xFFFFFFFF)
        data = bytes(range(256)) * 11
        queue.push(data)
        queue.push(b"next")
        packets = [queue.pop() for _ in range(3)]
        fragments = [decode_dat(packet.content) for packet in packets]
        self.assertEqual([fragment[:3] for fragment in fragments], [(0xFFFFFFFF, 0, 3), (0, 1, 3), (1, 2, 3)])
        self.assertEqual(b"".join(fragment.payload for fragment in fragments), data)
        self.assertEqual({packet.message_last for packet in packets}, {0xFFFFFFFF + 2})
        self.assertEqual(decode_dat(queue.pop().content).payload, b"next")

    def test_what_is_left(self) -> None:
        """The queue tells what of it was never sent, whole messages apart from a begun one."""
        queue = OutgoingQueue(1)
        queue.push(bytes(2000))
        queue.push(b"whole")
        self.assertEqual(queue.messages(), [bytes(2000), b"whole"])
        queue.pop()
        self.assertEqual([packet.sequence for packet in queue.fragments()], [2])
        self.assertEqual(queue.messages(), [b"whole"])
        self.assertEqual(queue.pending_bytes, 650 + 5)
        self.assertEqual(queue.next_sequence, 2)
