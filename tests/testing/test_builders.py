"""Users and sessions in one call."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing.builders import make_group_id, make_session, make_sid, make_user
from meshrelay.testing.link import MemoryLink


class BuilderTests(SynchronousTestCase):
    """What the builders make."""

    def test_user(self) -> None:
        """A user has the sid of its name, and the claims it was given."""
        user = make_user("bob", "udp", team="red")
        self.assertEqual((user.user_id, user.transport, user.claims), ("bob", "udp", {"team": "red"}))
        self.assertEqual(user.sid, make_sid("bob"))
        self.assertRegex(user.sid, r"\A[0-9a-f]{32}\Z")
        self.assertNotEqual(make_sid("ann"), make_sid("bob"))

    def test_group_id(self) -> None:
        """A group ID has 52 characters and begins with its name."""
        self.assertEqual(make_group_id("lobby"), "lobby" + "-" * 47)

    def test_session(self) -> None:
        """A session is attached to the link it was given, or to one of its own."""
        link = MemoryLink()
        session = make_session("ann", link, acks=True)
        session.push(2, 1, b"hi", True)
        self.assertEqual(link.received[0].payload, b"hi")
        self.assertTrue(session.has_acks)
        self.assertIsNot(make_session("ann").link, link)
