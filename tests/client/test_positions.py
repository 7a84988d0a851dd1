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
