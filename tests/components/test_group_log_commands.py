"""Tests of `meshrelay.components.group_log_commands`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config
from meshrelay.errors import GroupNotFound
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import HistoryMessage, HistoryPage, Presence
from meshrelay.testing.node import make_node
from meshrelay.wire.commands import Command, encode_gid_message
from meshrelay.wire.history_commands import (
    AskHistory,
    AskPresence,
    AskRecover,
    Recovered,
    decode_history_page,
    decode_logged_push,
    decode_presence,
    encode_ask_history,
    encode_ask_presence,
    encode_ask_recover,
)
from tests.components.log_kit import log_config, recover

NOT_MEMBER, GROUP_UNKNOWN, REFUSED, MALFORMED = 22, 21, 8, 1


class LogCommandTests(SynchronousTestCase):
    """The three commands on one node."""

    def setUp(self) -> None:
        """Ann has a group, bob has not."""
        self.hooked: list[tuple[str, bytes]] = []
        self.refuses = False
        self.node = make_node(log_config(), self.set_up)
        self.ann, self.bob = self.node.sign_in("ann"), self.node.sign_in("bob")
        self.lobby = self.ann.create_group()

    def set_up(self, relay: IMeshRelay) -> None:
        """The application looks at joins, and may refuse them."""

        def before(ver: int, cmd: int, payload: bytes, user: object) -> None:
            self.hooked.append(("before", payload))
            if self.refuses:
                raise ValueError("no")

        relay.groups.before_join(before)
        relay.groups.after_join(lambda ver, cmd, payload, user: self.hooked.append(("after", payload)))

    def history(self, after: int = 0, limit: int = 100) -> HistoryPage:
        """GROUP_HISTORY of ann."""
        payload = encode_ask_history(AskHistory(self.lobby, after, limit))
        return decode_history_page(self.ann.request(Command.GROUP_HISTORY, payload).payload)

    def test_recover_joins(self) -> None:
        """Who is no member becomes one, and the others are told its message."""
        payload = encode_ask_recover(AskRecover(self.lobby, 5, 5, b"hello"))
        self.bob.request(Command.GROUP_RECOVER, payload)
        self.assertEqual([each.message for each in self.ann.messages()], [b"hello"])
        group = self.node.table.find(self.lobby)
        assert group is not None
        self.assertEqual(list(group.members), ["ann", "bob"])
        self.bob.request(Command.GROUP_RECOVER, payload)
        self.assertEqual(self.ann.pushes(), [])

    def test_hooks(self) -> None:
        """What guards GROUP_JOIN guards this as well, and sees it as the join that it is; a member joins nothing."""
        joined = encode_gid_message(self.lobby, b"hello")
        payload = encode_ask_recover(AskRecover(self.lobby, 0, 0, b"hello"))
        self.refuses = True
        self.assertEqual(self.bob.refusal(Command.GROUP_RECOVER, payload)[1], REFUSED)
        self.refuses = False
        self.bob.request(Command.GROUP_RECOVER, payload)
        self.bob.request(Command.GROUP_RECOVER, payload)
        self.assertEqual(self.hooked, [("before", joined), ("before", joined), ("after", joined)])

    def test_no_history(self) -> None:
        """In a group without history it is a plain join, and pushes are as ever."""
        node = make_node(Config())
        ann, bob = node.sign_in("ann"), node.sign_in("bob")
        lobby = ann.create_group()
        self.assertEqual(recover(bob, lobby, 1, 1), Recovered(False, 0, 0))
        ann.broadcast(lobby, b"hi")
        node.settle()
        self.assertEqual([each.message for each in bob.messages()], [b"hi"])
        payload = encode_ask_history(AskHistory(lobby, 0, 10))
        page = decode_history_page(bob.request(Command.GROUP_HISTORY, payload).payload)
        self.assertEqual(page, HistoryPage(0, 0, ()))

    def test_refusals(self) -> None:
        """Members only, of groups that are there, with payloads that can be read."""
        missing = "m" * 52
        history, presence = encode_ask_history, encode_ask_presence
        for cmd, payload, code in (
            (Command.GROUP_RECOVER, encode_ask_recover(AskRecover(missing, 0, 0, b"")), GROUP_UNKNOWN),
            (Command.GROUP_HISTORY, history(AskHistory(missing, 0, 1)), GROUP_UNKNOWN),
            (Command.GROUP_HISTORY, history(AskHistory(self.lobby, 0, 1)), NOT_MEMBER),
            (Command.GROUP_PRESENCE, presence(AskPresence(self.lobby, 0, 1, "")), NOT_MEMBER),
            (Command.GROUP_RECOVER, b"short", MALFORMED),
            (Command.GROUP_HISTORY, b"short", MALFORMED),
            (Command.GROUP_PRESENCE, b"short", MALFORMED),
        ):
            self.assertEqual(self.bob.refusal(cmd, payload)[1], code)

    def test_history(self) -> None:
        """Messages come in pages, the oldest first, with who sent them and what they are."""
        for number in range(5):
            self.ann.broadcast(self.lobby, b"%d" % number)
        self.node.groups.announce(self.lobby, 9, 7, b"from above", True)
        self.node.settle()
        page = self.history(3, 2)
        self.assertEqual(page.head, 6)
        self.assertEqual(
            page.messages, (HistoryMessage(4, "ann", 1, 113, b"3"), HistoryMessage(5, "ann", 1, 113, b"4"))
        )
        self.assertEqual(self.history(5).messages, (HistoryMessage(6, "", 9, 7, b"from above"),))
        self.assertEqual(self.history(0, 0).messages, ())

    def test_answer_fits(self) -> None:
        """An answer is never longer than a payload may be, and the longest message comes."""
        longest = 65536 - 52 - 1 - 3 - 19
        for _ in range(3):
            self.ann.broadcast(self.lobby, b"x" * longest)
        self.node.settle()
        payload = encode_ask_history(AskHistory(self.lobby, 0, 100))
        answer = self.ann.request(Command.GROUP_HISTORY, payload).payload
        self.assertLessEqual(len(answer), 65536)
        self.assertEqual(len(decode_history_page(answer).messages), 1)

    def test_announced(self) -> None:
        """What the application announces is pushed with its own numbers inside, and has no sender."""
        recover(self.bob, self.lobby)
        self.node.groups.announce(self.lobby, 9, 7, b"from above", True)
        self.node.settle()
        [frame] = self.bob.pushes()
        push = decode_logged_push(frame.payload)
        self.assertEqual((push.sender, push.ver, push.cmd, push.message), ("", 9, 7, b"from above"))

    def test_application(self) -> None:
        """The application reads history and presence without being a member."""
        self.ann.broadcast(self.lobby, b"hi")
        self.node.settle()
        page = self.successResultOf(Deferred.fromCoroutine(self.node.groups.history(self.lobby, 0, 10)))
        self.assertEqual([each.message for each in page.messages], [b"hi"])
        self.assertEqual(self.node.groups.presence(self.lobby, "", 10), Presence(1, (("ann", False),)))
        self.assertRaises(GroupNotFound, self.node.groups.presence, "m" * 52, "", 1)
        missing = Deferred.fromCoroutine(self.node.groups.history("m" * 52, 0, 10))
        self.failureResultOf(missing, GroupNotFound)

    def test_presence(self) -> None:
        """Who is there comes in pages by user ID."""
        for name in ("dan", "cid", "bob"):
            (self.bob if name == "bob" else self.node.sign_in(name)).join(self.lobby)

        def ask(after: str, limit: int) -> Presence:
            payload = encode_ask_presence(AskPresence(self.lobby, 0, limit, after))
            return decode_presence(self.ann.request(Command.GROUP_PRESENCE, payload).payload)

        self.assertEqual(ask("", 2), Presence(4, (("ann", False), ("bob", False))))
        self.assertEqual(ask("bob", 9), Presence(4, (("cid", False), ("dan", False))))
        self.assertEqual(ask("", 0), Presence(4, ()))
