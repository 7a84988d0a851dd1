"""HELLO read and answered."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import AuthenticationError, MalformedPayload
from meshrelay.model import User
from meshrelay.session.auth import OpenAuthenticator, ReservingAuthenticator
from meshrelay.session.handshake import NodeFacts, read_hello, welcome_of
from meshrelay.session.registry import Resume, SignIn
from meshrelay.session.session import Session


def hello(**members: object) -> bytes:
    """The payload of a HELLO."""
    return json.dumps({"protocol": 1, "user": "ann", **members}).encode()


class ReadHelloTests(SynchronousTestCase):
    """What the client says."""

    def test_resume(self) -> None:
        """Who it is and what it goes on with."""
        identity, resume = read_hello(hello(resume="ab", acks=True, received=7), OpenAuthenticator())
        self.assertEqual(identity.user_id, "ann")
        self.assertEqual(resume, Resume("ab", True, 7))

    def test_plain(self) -> None:
        """Without these members there is nothing to go on with."""
        self.assertEqual(read_hello(hello(), OpenAuthenticator())[1], Resume("", False, None))

    def test_other_protocol(self) -> None:
        """Another protocol is named, and the one that is spoken."""
        with self.assertRaises(MalformedPayload) as refused:
            read_hello(hello(protocol=2), OpenAuthenticator())
        self.assertIn("protocol 2 is not known, this node speaks 1", refused.exception.text)

    def test_nobody(self) -> None:
        """A HELLO without user and token says nothing."""
        with self.assertRaises(MalformedPayload):
            read_hello(b'{"protocol":1}', OpenAuthenticator())
        with self.assertRaises(AuthenticationError):
            read_hello(b'{"protocol":1,"token":"x"}', OpenAuthenticator())

    def test_reserved(self) -> None:
        """A user ID that nobody may have is told to the client in so many words."""
        with self.assertRaises(MalformedPayload) as refused:
            read_hello(hello(user="peer:x"), ReservingAuthenticator(OpenAuthenticator(), "peer:", "peers"))
        self.assertIn("belong to peers", refused.exception.text)


class WelcomeTests(SynchronousTestCase):
    """What the client is told."""

    def test_members(self) -> None:
        """Every member of the published answer is there."""
        session = Session(User("ann", "0" * 32), 1000, False)
        payload = welcome_of(SignIn(session, True, False, []), NodeFacts("one", 25.0, 65536))
        expected = {
            "protocol": 1,
            "sid": "0" * 32,
            "node": "one",
            "user": "ann",
            "resumed": True,
            "recovered": False,
            "heartbeat_seconds": 25.0,
            "max_payload_bytes": 65536,
        }
        self.assertEqual(json.loads(payload), expected)

    def test_whole_heartbeat(self) -> None:
        """A whole number of seconds is an integer, which clients with strict types want; a fraction stays one."""
        session = Session(User("ann", "0" * 32), 1000, False)
        for seconds, text in ((25.0, "25"), (0.5, "0.5")):
            payload = welcome_of(SignIn(session, True, False, []), NodeFacts("one", seconds, 65536))
            self.assertIn(f'"heartbeat_seconds":{text},', payload.decode())
