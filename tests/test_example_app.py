"""The example of the documentation, run in a node without ports."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import ErrorCode
from meshrelay.model import Status
from meshrelay.testing.node import MemoryClient, make_node
from meshrelay.wire.commands import CORE_VER, Command, CoreCommand, encode_gid_message

EXAMPLE = Path(__file__).parent.parent / "etc" / "example_app.py"


def load_example() -> Any:
    """Import the example, which is in no package."""
    spec = spec_from_file_location("example_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ExampleAppTests(SynchronousTestCase):
    """What the example promises in its own words."""

    def setUp(self) -> None:
        """Start a node with the example in it."""
        self.app = load_example()
        self.node = make_node(set_up=self.app.setup)

    def sign_in(self, user_id: str) -> tuple[MemoryClient, str]:
        """Return a client and the lobby that it was told of."""
        client = self.node.sign_in(user_id)
        self.node.settle()
        (push,) = client.pushes()
        self.assertEqual((push.ver, push.cmd), (2, self.app.LOBBY))
        return client, push.payload.decode("ascii")

    def test_greeting(self) -> None:
        """Everybody who signs in is told of the same lobby, and can join it."""
        ann, lobby = self.sign_in("ann")
        self.assertEqual(self.sign_in("bob")[1], lobby)
        self.assertEqual(ann.join(lobby).status, Status.OK)

    def test_server_time(self) -> None:
        """The time is told in milliseconds."""
        ann, _ = self.sign_in("ann")
        self.node.advance(2.5)
        answer = ann.request(self.app.SERVER_TIME, ver=2)
        self.assertEqual(int.from_bytes(answer.payload, "big"), 2500)

    def test_dice(self) -> None:
        """As many dice as asked for come, each with the sides that were asked for."""
        ann, _ = self.sign_in("ann")
        dice = ann.request(self.app.ROLL_DICE, bytes((20, 6)), ver=2).payload
        self.assertEqual(len(dice), 20)
        self.assertLessEqual(set(dice), set(range(1, 7)))

    def test_dice_that_cannot_be(self) -> None:
        """A wrong number of dice or sides is the caller's fault, and the answer says what is right."""
        ann, _ = self.sign_in("ann")
        for payload in (b"", b"\x01", bytes((0, 6)), bytes((21, 6)), bytes((1, 1)), bytes((1, 6, 0))):
            status, code, _ = ann.refusal(self.app.ROLL_DICE, payload, ver=2)
            self.assertEqual((payload, status, code), (payload, Status.BAD, ErrorCode.MALFORMED_PAYLOAD))

    def test_reminder(self) -> None:
        """A reminder comes after its time, not before."""
        ann, _ = self.sign_in("ann")
        answer = ann.request(self.app.REMIND, (30).to_bytes(2, "big") + b"tea", ver=2)
        self.assertEqual(answer.status, Status.OK)
        self.node.advance(29)
        self.assertEqual(ann.pushes(), [])
        self.node.advance(2)
        self.assertEqual([(push.cmd, push.payload) for push in ann.pushes()], [(self.app.REMINDER, b"tea")])

    def test_too_many_reminders(self) -> None:
        """The example holds no more reminders than it says."""
        ann, _ = self.sign_in("ann")
        payload = (60).to_bytes(2, "big") + b"x"
        for _ in range(self.app.MAX_REMINDERS):
            ann.send(self.app.REMIND, payload, ver=2)
        self.assertEqual(ann.refusal(self.app.REMIND, payload, ver=2)[1], ErrorCode.RATE_LIMITED)
        self.node.advance(61, 5)
        self.assertEqual(ann.request(self.app.REMIND, payload, ver=2).status, Status.OK)

    def test_banned_word(self) -> None:
        """A broadcast with the word is refused and reaches nobody; others are passed on."""
        ann, lobby = self.sign_in("ann")
        bob, _ = self.sign_in("bob")
        for client in (ann, bob):
            client.join(lobby)
            client.pushes()
        refusal = ann.refusal(Command.GROUP_BROADCAST, encode_gid_message(lobby, b"say SHIBboleth"))
        self.assertEqual(refusal, (Status.BAD, ErrorCode.REFUSED, "that word is not said here"))
        ann.broadcast(lobby, b"hello")
        self.node.settle()
        self.assertEqual([message.message for message in bob.messages()], [b"hello"])

    def test_who_is_here(self) -> None:
        """Who joins is told who is there."""
        ann, lobby = self.sign_in("ann")
        bob, _ = self.sign_in("bob")
        ann.join(lobby)
        bob.join(lobby)
        pushes = [(push.cmd, push.payload) for push in (*ann.pushes(), *bob.pushes())]
        self.assertEqual(pushes, [(self.app.WHO_IS_HERE, b""), (self.app.WHO_IS_HERE, b"ann")])

    def test_count(self) -> None:
        """The lobby is told once a minute how many are in it."""
        ann, lobby = self.sign_in("ann")
        ann.join(lobby)
        ann.pushes()
        for _ in range(2):
            self.node.advance(65, 1)
            ann.request(CoreCommand.PING, ver=CORE_VER)
        counts = [push.payload for push in ann.pushes() if push.cmd == self.app.COUNT]
        self.assertEqual(counts, [b"\x00\x00\x00\x01"] * 2)

    def test_lost_and_back(self) -> None:
        """The others are told when a member's connection breaks, and when it is back."""
        ann, lobby = self.sign_in("ann")
        bob, _ = self.sign_in("bob")
        for client in (ann, bob):
            client.join(lobby)
            client.pushes()
        bob.lose()
        self.node.sign_in("bob", resume=bob.sid)
        self.node.settle()
        news = [(push.cmd, push.payload[53:]) for push in ann.pushes()]
        expected = [(Command.GROUP_LOST, b"boblost the connection"), (Command.GROUP_BACK, b"bobis back")]
        self.assertEqual(news, expected)
