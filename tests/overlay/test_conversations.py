"""What is known of each peer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.conversations import Conversation, Conversations, Outgoing

RUN, OLD_RUN = b"r" * 16, b"o" * 16


class ConversationTests(SynchronousTestCase):
    """One peer."""

    def setUp(self) -> None:
        self.conversation = Conversation(b"p" * 20, 1)

    def test_timeout(self) -> None:
        """The wait for an acknowledgement follows the round trip: a second at first, a quarter at least."""
        self.assertEqual(self.conversation.timeout_seconds, 1.0)
        self.conversation.round_trip.add_sample(0.01)
        self.assertEqual(self.conversation.timeout_seconds, 0.25)
        self.conversation.round_trip.reset()
        self.conversation.round_trip.add_sample(0.3)
        self.assertAlmostEqual(self.conversation.timeout_seconds, 0.7)

    def test_owed(self) -> None:
        """What came is acknowledged, and once more with the next ones: the first time may have been lost."""
        self.assertTrue(self.conversation.arrived(RUN, 1, is_new=True))
        self.assertFalse(self.conversation.arrived(RUN, 2, is_new=True))
        self.assertEqual(self.conversation.take_owed(), [1, 2])
        self.assertTrue(self.conversation.arrived(RUN, 3, is_new=True))
        self.assertEqual(self.conversation.take_owed(), [3, 1, 2])

    def test_repeated_is_bounded(self) -> None:
        """No more than 32 are acknowledged once more."""
        for number in range(1, 101):
            self.conversation.arrived(RUN, number, is_new=True)
        self.conversation.take_owed()
        self.assertEqual(self.conversation.take_owed(), list(range(69, 101)))

    def test_restart(self) -> None:
        """A peer that starts again is acknowledged its new messages only."""
        self.conversation.arrived(OLD_RUN, 1, is_new=True)
        self.assertTrue(self.conversation.arrived(RUN, 5, is_new=True))
        self.assertEqual((self.conversation.run, self.conversation.take_owed()), (RUN, [5]))

    def test_replay_of_an_old_run(self) -> None:
        """A replay from before a restart makes us forget nothing of what is owed now."""
        self.conversation.arrived(RUN, 5, is_new=True)
        self.assertFalse(self.conversation.arrived(OLD_RUN, 1, is_new=False))
        self.assertEqual((self.conversation.run, self.conversation.take_owed()), (RUN, [5]))


class ConversationsTests(SynchronousTestCase):
    """All peers."""

    def setUp(self) -> None:
        self.conversations = Conversations(max_peers=3)

    def open(self, name: bytes) -> Conversation:
        conversation = self.conversations.open(name)
        assert conversation is not None
        return conversation

    def test_found(self) -> None:
        """A peer is remembered, and nobody is by asking."""
        self.assertIsNone(self.conversations.find(b"a"))
        self.assertIs(self.open(b"a"), self.open(b"a"))
        self.assertIs(self.conversations.find(b"a"), self.open(b"a"))
        self.assertEqual(len(self.conversations), 1)

    def test_bound(self) -> None:
        """There are no more than allowed: the one used longest ago goes, and is counted."""
        for name in (b"a", b"b", b"c", b"a", b"d"):
            self.open(name)
        self.assertIsNotNone(self.conversations.find(b"a"))
        self.assertIsNone(self.conversations.find(b"b"))
        self.assertEqual((len(self.conversations), self.conversations.forgotten), (3, 1))

    def test_waiting(self) -> None:
        """A peer that messages wait for is not forgotten; if they wait for all, there is no room."""
        for name in (b"a", b"b", b"c"):
            self.open(name).outgoing[1] = Outgoing(name, 1, b"0", 0.0, None)
        self.assertIsNone(self.conversations.open(b"d"))
        self.open(b"b").outgoing.clear()
        self.open(b"d")
        self.assertIsNone(self.conversations.find(b"b"))

    def test_numbers_go_on(self) -> None:
        """A number never names two messages, although peers are forgotten and come back."""
        self.open(b"a").next_number = 50
        for name in (b"b", b"c", b"d"):
            self.open(name)
        self.assertEqual(self.open(b"a").next_number, 50)
