"""What is told of lost members."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.components.room_home_kit import HomeKit, Sent


class RoomLossesTests(SynchronousTestCase):
    """A room with bob on b, of which ann is lost."""

    def setUp(self) -> None:
        """No callback yet."""
        self.kit = HomeKit()
        self.room = self.kit.create()
        self.kit.join(self.room, "bob@b")
        self.kit.sent()

    def told(self) -> list[Sent]:
        """What bob is told of ann."""
        self.kit.losses.tell(self.room, "ann", "sid of ann")
        return self.kit.sent()

    def test_none(self) -> None:
        """Without a callback the message is empty."""
        self.assertEqual(self.told(), [Sent("b", "ROOM_LOST", "ann", b"")])

    def test_made(self) -> None:
        """The callback is told room, user and session, and its bytes go with the push."""
        asked: list[tuple[str, str, str]] = []

        def make(room_id: str, user_id: str, sid: str) -> bytes:
            asked.append((room_id, user_id, sid))
            return b"gone"

        self.kit.losses.on_discard_message(make)
        self.assertEqual(self.told(), [Sent("b", "ROOM_LOST", "ann", b"gone")])
        self.assertEqual(asked, [(self.room.id, "ann", "sid of ann")])

    def test_wrong(self) -> None:
        """What is no bytes, or too many, is left out and logged; the members are told all the same."""
        for message in ("text", 5, bytes(101)):
            self.kit.losses.on_discard_message(lambda *_, message=message: message)
            self.assertEqual(self.told(), [Sent("b", "ROOM_LOST", "ann", b"")])
        self.kit.losses.on_discard_message(lambda *_: bytes(100))
        self.assertEqual(self.told(), [Sent("b", "ROOM_LOST", "ann", bytes(100))])

    def test_raises(self) -> None:
        """A callback that fails, at once or later, keeps nobody from knowing."""

        def fail(room_id: str, user_id: str, sid: str) -> bytes:
            raise ValueError("a bug")

        async def fail_later(room_id: str, user_id: str, sid: str) -> bytes:
            raise ValueError("a bug")

        for make in (fail, fail_later):
            self.kit.losses.on_discard_message(make)
            self.assertEqual(self.told(), [Sent("b", "ROOM_LOST", "ann", b"")])
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_late(self) -> None:
        """What is made when the user is in again, or the room is gone, is not told."""
        slow: list[Deferred[bytes]] = [Deferred(), Deferred()]
        self.kit.losses.on_discard_message(lambda *_: slow[0])
        self.assertEqual(self.told(), [])
        self.kit.join(self.room, "ann@b")
        self.kit.sent()
        slow.pop(0).callback(b"gone")
        self.assertEqual(self.kit.sent(), [])
        self.kit.losses.tell(self.room, "cat", "sid")
        self.kit.home.close(self.room)
        slow.pop(0).callback(b"gone")
        self.assertEqual(self.kit.sent(), [])
