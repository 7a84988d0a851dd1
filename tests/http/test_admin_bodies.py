"""What goes into the admin API."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.admin_bodies import DEFAULT_SENDER, Announcement, GroupMessage, NewMessage
from meshrelay.http.admin_problems import Problem


class NewMessageTests(SynchronousTestCase):
    """The message of the server."""

    def test_message(self) -> None:
        """It is a text, or any bytes in base64."""
        for document, message in (
            (b'{"text":"\xc3\xa9"}', b"\xc3\xa9"),
            (b'{"body":"AP8="}', b"\x00\xff"),
            (b'{"text":""}', b""),
            (b'{"text":"x","ver":2,"cmd":0}', b"x"),
        ):
            self.assertEqual(msgspec.json.decode(document, type=NewMessage).message(), message)

    def test_one_of_two(self) -> None:
        """There is one message, and ver goes with cmd."""
        for document, field in (
            (b"{}", "text"),
            (b'{"text":"x","body":"eA=="}', "text"),
            (b'{"text":"x","ver":2}', "cmd"),
            (b'{"text":"x","cmd":2}', "ver"),
        ):
            problem = self.assertRaises(Problem, msgspec.json.decode(document, type=NewMessage).message)
            self.assertEqual((problem.code, problem.field), ("invalid_body", field))

    def test_sender(self) -> None:
        """A message in a group comes from a user ID, in bytes as short as all of them."""
        self.assertEqual(GroupMessage(text="x").checked_sender(), DEFAULT_SENDER)
        self.assertEqual(GroupMessage(text="x", sender="\u00e9" * 64).checked_sender(), "\u00e9" * 64)
        for sender in ("", "\u00e9" * 65):
            problem = self.assertRaises(Problem, GroupMessage(text="x", sender=sender).checked_sender)
            self.assertEqual((problem.code, problem.field), ("invalid_body", "sender"))

    def test_refused(self) -> None:
        """What is none of it is refused: unknown keys, the node's own versions, numbers that fit no push."""
        for document in (
            b'{"text":"x","colour":1}',
            b'{"text":1}',
            b'{"body":"?"}',
            b'{"text":"x","ver":1,"cmd":1}',
            b'{"text":"x","ver":256,"cmd":1}',
            b'{"text":"x","ver":2,"cmd":65536}',
            b'{"text":"x","ver":2,"cmd":-1}',
            b'{"text":"x","reliable":"yes"}',
            b'{"text":"\\ud800"}',
            b"[]",
        ):
            self.assertRaises(msgspec.DecodeError, msgspec.json.decode, document, type=Announcement)
