"""Tests of `meshrelay.client.positions`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.events import Event, GroupMessageReceived, GroupRecovered, PushReceived
from meshrelay.client.positions import GroupPositions
from meshrelay.wire.history_commands import LoggedPush, Recovered

GID = "g" * 52


def logged(epoch: int, offset: int, sender: str = "bob", ver: int = 1, cmd: int = 113) -> LoggedPush:
    """A push."""
    return LoggedPush(GID, epoch, offset, sender, ver, cmd, b"hi")


def heard(offset: int) -> GroupMessageReceived:
    """What the program is told of it."""
    return GroupMessageReceived(GID, "bob", b"hi", offset)


class PositionTests(SynchronousTestCase):
    """One group that is followed."""

    def setUp(self) -> None:
        """The node said: epoch 7, offset 3."""
        self.positions = GroupPositions()
        self.positions.follow(GID, 0, 0)
        self.assertEqual(self.positions.asks(GID, False), (0, 0))
        self.assertEqual(self.positions.answered(GID, Recovered(False, 7, 3)), [])

    def push(self, *place: int, sender: str = "bob") -> tuple[list[Event], bool]:
        """Take a push of ann's."""
        return self.positions.pushed(logged(place[0], place[1], sender), "ann")

    def test_in_order(self) -> None:
        """What is next is told, what was told is not told again."""
        self.assertEqual(self.push(7, 4), ([heard(4)], False))
        self.assertEqual(self.push(7, 4), ([], False))
        self.assertEqual(self.push(7, 2), ([], False))
        self.assertEqual(self.positions.of(GID), (7, 4))

    def test_own(self) -> None:
        """One's own words move the position, and are not told."""
        self.assertEqual(self.push(7, 4, sender="ann"), ([], False))
        self.assertEqual(self.push(7, 5), ([heard(5)], False))

    def test_gap(self) -> None:
        """What comes too early is asked for once, with all before it, and not told twice."""
        self.assertEqual(self.push(7, 6), ([], True))
        self.assertEqual(self.positions.asks(GID, True), (7, 3))
        self.assertEqual(self.push(7, 7), ([], False))
        self.assertIsNone(self.positions.asks(GID, True))
        self.assertEqual(self.positions.answered(GID, Recovered(True, 7, 7)), [GroupRecovered(GID, True)])
        self.assertEqual([self.push(7, offset)[0] for offset in (4, 5, 6, 7)], [[heard(each)] for each in (4, 5, 6, 7)])

    def test_not_recovered(self) -> None:
        """When what was missed is gone the program is told, and the group is followed from where it is."""
        self.positions.asks(GID, True)
        self.assertEqual(self.positions.answered(GID, Recovered(False, 8, 50)), [GroupRecovered(GID, False)])
        self.assertEqual(self.push(8, 50), ([], False))
        self.assertEqual(self.push(8, 51), ([heard(51)], False))

    def test_other_epoch(self) -> None:
        """Another epoch in the middle of it all is a warning in front of its first message."""
        self.assertEqual(self.push(9, 1), ([GroupRecovered(GID, False), heard(1)], False))
        self.assertEqual(self.push(9, 2), ([heard(2)], False))

    def test_no_place(self) -> None:
        """A message that is not kept is told, and the position is not known until there is a new one."""
        self.assertEqual(self.push(0, 0), ([heard(0)], False))
        self.assertEqual(self.positions.of(GID), (0, 0))
        self.assertEqual(self.push(9, 4), ([heard(4)], False))

    def test_unanswered(self) -> None:
        """A request that was lost with its connection may be made again."""
        self.positions.asks(GID, True)
        self.positions.unanswered(GID)
        self.assertEqual(self.positions.asks(GID, True), (7, 3))

    def test_plain(self) -> None:
        """Messages without a place are passed over only while they are about to come with it."""
        plain = GroupMessageReceived(GID, "bob", b"hi")
        self.assertFalse(self.positions.is_superfluous(plain))
        self.positions.asks(GID, True)
        self.assertTrue(self.positions.is_superfluous(plain))
        self.assertFalse(self.positions.is_superfluous(PushReceived(2, 1, b"")))
        self.assertFalse(self.positions.is_superfluous(GroupMessageReceived("h" * 52, "bob", b"hi")))

    def test_strayed(self) -> None:
        """What came without its offset while the client asks is not told again: the program is warned instead."""
        for is_told in (True, False):
            self.positions.follow(GID, 7, 3)
            self.positions.asks(GID, is_told)
            self.assertEqual(self.push(0, 0), ([heard(0)], False))
            self.assertEqual(self.positions.answered(GID, Recovered(True, 7, 5)), [GroupRecovered(GID, False)])
            self.assertEqual([self.push(7, offset)[0] for offset in (4, 5, 6)], [[], [], [heard(6)]])

    def test_strayed_before(self) -> None:
        """What came without its offset during an earlier question does not spoil the answer to a later one."""
        self.positions.asks(GID, True)
        self.push(0, 0)
        self.positions.answered(GID, Recovered(True, 7, 5))
        self.assertEqual(self.positions.asks(GID, True), (7, 5))
        self.assertEqual(self.positions.answered(GID, Recovered(True, 7, 6)), [GroupRecovered(GID, True)])
        self.assertEqual(self.push(7, 6), ([heard(6)], False))

    def test_plain_between_questions(self) -> None:
        """That holds until there is an answer, however often the node is asked."""
        plain = GroupMessageReceived(GID, "bob", b"hi")
        self.push(7, 6)
        self.assertTrue(self.positions.is_superfluous(plain))
        self.positions.asks(GID, True)
        self.positions.unanswered(GID)
        self.assertTrue(self.positions.is_superfluous(plain))
        self.positions.asks(GID, True)
        self.positions.answered(GID, Recovered(True, 7, 6))
        self.assertFalse(self.positions.is_superfluous(plain))

    def test_unasked(self) -> None:
        """Groups are to be asked for when they are behind, and are not asked for already nor about to be left."""
        self.assertEqual(self.positions.unasked(), [])
        self.positions.follow("h" * 52, 1, 1)
        self.positions.lost()
        self.assertEqual(self.positions.unasked(), [GID, "h" * 52])
        self.positions.asks(GID, True)
        self.positions.leaves("h" * 52)
        self.assertEqual(self.positions.unasked(), [])
        self.positions.unanswered(GID)
        self.positions.stays("h" * 52)
        self.assertEqual(self.positions.unasked(), [GID, "h" * 52])
        self.assertTrue(self.positions.is_behind(GID))
        self.assertFalse(self.positions.is_behind("i" * 52))

    def test_missed_before_the_question(self) -> None:
        """What another epoch passed over before the node could be asked is told with the answer."""
        self.push(7, 6)
        self.assertEqual(self.push(9, 4), ([heard(4)], False))
        self.assertEqual(self.positions.asks(GID, True), (9, 4))
        self.assertEqual(self.positions.answered(GID, Recovered(True, 9, 5)), [GroupRecovered(GID, False)])
        self.assertEqual(self.push(9, 5), ([heard(5)], False))
        self.positions.asks(GID, True)
        self.assertEqual(self.positions.answered(GID, Recovered(True, 9, 5)), [GroupRecovered(GID, True)])

    def test_followed_anew(self) -> None:
        """A group that is followed anew has another place, the newest."""
        place = self.positions.place_of(GID)
        self.assertIs(self.positions.place_of(GID), place)
        self.positions.follow("h" * 52, 1, 1)
        self.positions.follow(GID, 7, 3)
        self.assertIsNot(self.positions.place_of(GID), place)
        self.assertIsNone(self.positions.place_of("i" * 52))
        self.assertEqual(list(self.positions), ["h" * 52, GID])

    def test_two_questions(self) -> None:
        """A join of the program is asked also while a question is under way; the first answer counts at once."""
        self.positions.asks(GID, True)
        self.assertEqual(self.positions.asks(GID, False, is_join=True), (7, 3))
        self.assertEqual(self.positions.answered(GID, Recovered(True, 7, 4)), [GroupRecovered(GID, True)])
        self.assertEqual(self.push(7, 4), ([heard(4)], False))
        self.positions.unanswered(GID)
        self.assertEqual((self.positions.is_behind(GID), self.positions.unasked()), (False, []))

    def test_strayed_between_two_questions(self) -> None:
        """What came without its offset counts for each question that is under way, and not for the last one only."""
        self.positions.asks(GID, True)
        self.push(0, 0)
        self.positions.asks(GID, True, is_join=True)
        self.assertEqual(self.positions.answered(GID, Recovered(True, 7, 5)), [GroupRecovered(GID, False)])
        self.assertEqual([self.push(7, offset)[0] for offset in (4, 5, 6)], [[], [], [heard(6)]])

    def test_no_history(self) -> None:
        """In a group that has no history nothing is ever passed over."""
        self.positions.follow(GID, 0, 0)
        self.positions.asks(GID, True)
        self.assertFalse(self.positions.is_superfluous(GroupMessageReceived(GID, "bob", b"hi")))

    def test_not_followed(self) -> None:
        """A push of a group that was left on the way is told as it is; other commands come by their numbers."""
        self.positions.forget(GID)
        self.assertEqual(self.push(7, 9), ([heard(9)], False))
        self.assertEqual(self.positions.pushed(logged(7, 9, "", 2, 5), "ann"), ([PushReceived(2, 5, b"hi")], False))
        self.assertEqual(self.positions.answered(GID, Recovered(True, 7, 7)), [])
        self.assertEqual((len(self.positions), GID in self.positions, list(self.positions)), (0, False, []))

    def test_clear(self) -> None:
        """When the client is closed it follows nothing."""
        self.positions.clear()
        self.assertEqual(self.positions.of(GID), (0, 0))
