"""Tests of `meshrelay.client.events`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.events import (
    DirectCleared,
    DirectMessageReceived,
    DirectPeerGone,
    Event,
    GroupLogged,
    GroupMemberBack,
    GroupMemberJoined,
    GroupMemberLeft,
    GroupMemberLost,
    GroupMessageReceived,
    GroupPresenceChanged,
    PushReceived,
    RoomMemberJoined,
    RoomMemberLeft,
    RoomMemberLost,
    RoomMessageReceived,
    RoomOwnerChanged,
    decode_push,
)
from meshrelay.errors import MalformedPayload
from meshrelay.wire.commands import encode_direct, encode_pushed_message
from meshrelay.wire.history_commands import LoggedPush, encode_logged_push, encode_presence_push
from meshrelay.wire.room_commands import encode_pushed_owner

GID = "g" * 52


class DecodePushTests(SynchronousTestCase):
    """Pushes become events."""

    def test_group_pushes(self) -> None:
        """Each push of the group table has its class, with group, user and message."""
        payload = encode_pushed_message(GID, "bob", b"hi")
        for cmd, event_class in {
            111: GroupMemberJoined,
            112: GroupMemberLeft,
            113: GroupMessageReceived,
            116: GroupMemberLost,
            117: GroupMemberBack,
        }.items():
            event = decode_push(1, cmd, payload)
            self.assertEqual(event, event_class(GID, "bob", b"hi"), cmd)

    def test_room_pushes(self) -> None:
        """Each push of the room table has its class, with room, user and message, or the owner."""
        payload = encode_pushed_message(GID, "bob", b"hi")
        for cmd, event_class in {
            101: RoomMemberJoined,
            102: RoomMemberLeft,
            103: RoomMessageReceived,
            106: RoomMemberLost,
        }.items():
            event = decode_push(1, cmd, payload)
            self.assertEqual(event, event_class(GID, "bob", b"hi"), cmd)
        self.assertEqual(decode_push(1, 105, encode_pushed_owner(GID, "bob")), RoomOwnerChanged(GID, "bob"))

    def test_direct_pushes(self) -> None:
        """Each push of the table of direct messages has its class, with the other user and the message."""
        for cmd, event_class in {120: DirectMessageReceived, 121: DirectCleared, 122: DirectPeerGone}.items():
            for user_id in ("bob", ""):
                event = decode_push(1, cmd, encode_direct(user_id, b"hi"))
                self.assertEqual(event, event_class(user_id, b"hi"), (cmd, user_id))

    def test_direct_and_group_pushes_differ(self) -> None:
        """Who listens for direct messages does not hear those of groups, and the other way round."""
        direct = decode_push(1, 120, encode_direct("bob", b"hi"))
        self.assertNotIsInstance(direct, GroupMessageReceived)
        group = decode_push(1, 113, encode_pushed_message(GID, "bob", b"hi"))
        self.assertNotIsInstance(group, DirectMessageReceived)

    def test_history_pushes(self) -> None:
        """A push with its place, and one of who came and went, have classes of their own."""
        logged = encode_logged_push(GID.encode(), 7, 3, ("bob", 1, 113, b"hi"))
        self.assertEqual(decode_push(1, 118, logged), GroupLogged(LoggedPush(GID, 7, 3, "bob", 1, 113, b"hi")))
        changed = encode_presence_push(GID.encode(), 2, [(1, "bob"), (3, "cid"), (9, "later")])
        self.assertEqual(decode_push(1, 140, changed), GroupPresenceChanged(GID, 2, ("bob",), (), ("cid",)))

    def test_application_push(self) -> None:
        """A push of the application comes as it is."""
        self.assertEqual(decode_push(2, 113, b"raw"), PushReceived(2, 113, b"raw"))

    def test_push_of_a_newer_node(self) -> None:
        """A built-in push that this version does not know is not lost."""
        self.assertEqual(decode_push(1, 999, b"raw"), PushReceived(1, 999, b"raw"))

    def test_bad_push(self) -> None:
        """A push that cannot be read is the node's fault and says which field."""
        error = self.assertRaises(MalformedPayload, decode_push, 1, 113, b"short")
        self.assertIn("group ID", str(error))
        error = self.assertRaises(MalformedPayload, decode_push, 1, 120, b"\x05bob")
        self.assertIn("user", str(error))

    def test_frozen(self) -> None:
        """Events can be shared: they do not change."""
        event: Event = PushReceived(2, 1, b"")
        self.assertRaises(AttributeError, setattr, event, "ver", 3)
