"""Tests of `meshrelay.client.recovery`, by way of the client that it serves."""

from __future__ import annotations

from random import Random

from meshrelay.client.events import (
    Event,
    GroupMessageReceived,
    GroupPresenceChanged,
    GroupRecovered,
)
from meshrelay.client.options import ClientOptions
from meshrelay.client.recovery import AGAIN_SECONDS
from meshrelay.errors import ErrorCode, GroupNotFound, MalformedPayload, NotMember
from meshrelay.model import HistoryMessage, HistoryPage, Presence
from meshrelay.wire.commands import Command, encode_pushed_message
from meshrelay.wire.frame import Frame
from meshrelay.wire.history_commands import (
    PRESENCE_OFF,
    PRESENCE_ON,
    AskHistory,
    AskPresence,
    AskRecover,
    PresenceChange,
    Recovered,
    decode_ask_history,
    decode_ask_presence,
    decode_ask_recover,
    encode_history_page,
    encode_logged_push,
    encode_presence,
    encode_presence_push,
    encode_recovered,
)
from tests.client.test_client import ClientCase

GID = "g" * 52
WIRE_ID = GID.encode()


class RecoveryTests(ClientCase):
    """A client that follows a group."""

    options = ClientOptions(uniform=Random(1).uniform)

    def setUp(self) -> None:
        """Ann has joined; the group was at epoch 7, offset 3."""
        super().setUp()
        self.told: list[Event] = []
        for event_class in (GroupMessageReceived, GroupRecovered, GroupPresenceChanged):
            self.client.on(event_class, self.told.append)
        joined = self.client.join_group(GID, b"hello", recover=True)
        self.assertEqual(self.asked(), AskRecover(GID, 0, 0, b"hello"))
        self.answer(Recovered(False, 7, 3))
        self.assertIsNone(self.successResultOf(joined))

    def asked(self) -> AskRecover:
        """The last GROUP_RECOVER."""
        return decode_ask_recover(self.last(Command.GROUP_RECOVER).payload)

    def last(self, cmd: int) -> Frame:
        """The last frame of a command."""
        frame: Frame = self.node.end.of_command(1, cmd)[-1]
        return frame

    def answer(self, answer: Recovered) -> None:
        """Answer it."""
        self.node.end.answer(self.last(Command.GROUP_RECOVER), encode_recovered(answer))

    def push(self, offset: int, epoch: int = 7) -> None:
        """Push a message with its place."""
        self.node.end.push(1, 118, encode_logged_push(WIRE_ID, epoch, offset, ("bob", 1, 113, b"%d" % offset)))

    def come_back(self, *, resumed: bool = False, recovered: bool = False) -> None:
        """Break the connection, and let the client sign in again."""
        self.node.end.receiver.link_lost(None, "broken")
        self.clock.advance(10.0)
        self.node.end.welcome(resumed=resumed, recovered=recovered)

    def heard(self) -> list[int]:
        """Offsets of the messages that were told."""
        return [event.offset for event in self.told if isinstance(event, GroupMessageReceived)]

    def recoveries(self) -> list[tuple[bool, str]]:
        """How it went."""
        return [(event.recovered, event.error) for event in self.told if isinstance(event, GroupRecovered)]

    def test_live(self) -> None:
        """Messages come as ever, with their offsets, and the program can keep its position."""
        self.push(4)
        self.assertEqual(self.told, [GroupMessageReceived(GID, "bob", b"4", 4)])
        self.assertEqual(self.client.group_position(GID), (7, 4))

    def test_new_session(self) -> None:
        """After a break the client joins again by itself, from where it was, and tells how that went."""
        self.push(4)
        self.come_back()
        self.assertEqual(self.asked(), AskRecover(GID, 7, 4, b""))
        self.answer(Recovered(True, 7, 6))
        self.push(5)
        self.push(6)
        self.push(7)
        self.assertEqual((self.heard(), self.recoveries()), ([4, 5, 6, 7], [(True, "")]))

    def test_resumed(self) -> None:
        """After a resume that lost nothing nothing is asked; after one that did, the same as with a new session."""
        self.come_back(resumed=True, recovered=True)
        self.assertEqual(self.node.end.of_command(1, 118), [])
        self.come_back(resumed=True)
        self.assertEqual(self.asked(), AskRecover(GID, 7, 3, b""))
        plain = encode_pushed_message(GID, "bob", b"4")
        self.node.end.push(1, 113, plain)
        self.answer(Recovered(True, 7, 4))
        self.push(4)
        self.assertEqual(self.heard(), [4])

    def test_gap(self) -> None:
        """A push that was lost on its way is asked for."""
        self.push(5)
        self.assertEqual(self.asked(), AskRecover(GID, 7, 3, b""))
        self.answer(Recovered(True, 7, 5))
        self.push(4)
        self.push(5)
        self.assertEqual(self.heard(), [4, 5])

    def test_refused(self) -> None:
        """A group that is gone is told, and not asked for again."""
        self.come_back()
        self.node.end.refuse(self.last(118), ErrorCode.GROUP_NOT_FOUND, "no")
        self.assertEqual(len(self.recoveries()), 1)
        self.assertFalse(self.recoveries()[0][0])
        self.assertNotEqual(self.recoveries()[0][1], "")
        self.come_back()
        self.assertEqual(self.node.end.of_command(1, 118), [])

    def test_again(self) -> None:
        """A node that could not say is asked again; leaving the group ends that."""
        self.come_back()
        self.node.end.refuse(self.last(118), ErrorCode.TIMED_OUT, "no")
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(len(self.node.end.of_command(1, 118)), 2)
        self.node.end.refuse(self.last(118), ErrorCode.TIMED_OUT, "no")
        self.client.leave_group(GID)
        self.node.end.answer(self.last(112), b"")
        self.clock.advance(10 * AGAIN_SECONDS)
        self.assertEqual(len(self.node.end.of_command(1, 118)), 2)

    def test_broken_while_asking(self) -> None:
        """When the connection breaks again before the answer the next one asks anew."""
        self.come_back()
        self.come_back()
        self.assertEqual(self.asked(), AskRecover(GID, 7, 3, b""))
        self.assertEqual(self.recoveries(), [])

    def test_first_join_fails(self) -> None:
        """A join that is refused is not tried again behind the program's back; nonsense never leaves."""
        joined = self.client.join_group("h" * 52, recover=(5, 6))
        self.node.end.refuse(self.last(118), ErrorCode.GROUP_NOT_FOUND, "no")
        self.failureResultOf(joined, GroupNotFound)
        self.assertEqual(self.client.group_position("h" * 52), (0, 0))
        self.failureResultOf(self.client.join_group("short", recover=True), MalformedPayload)
        self.failureResultOf(self.client.join_group(GID, recover=(-1, 0)), MalformedPayload)

    def test_stored_position(self) -> None:
        """A program that was started anew goes on where it was, and is told whether that worked."""
        self.client.join_group("h" * 52, recover=(5, 6)).addErrback(lambda _: None)
        self.assertEqual(self.asked(), AskRecover("h" * 52, 5, 6, b""))
        self.answer(Recovered(True, 5, 6))
        self.assertEqual(self.recoveries(), [(True, "")])

    def test_close(self) -> None:
        """A closed client forgets its groups."""
        self.client.close()
        self.assertEqual(self.client.group_position(GID), (0, 0))
        self.client.connect()
        self.node.end.welcome()
        self.assertEqual(self.node.end.of_command(1, 118), [])

    def test_history(self) -> None:
        """history() gives messages with their offsets."""
        asked = self.client.history(GID, 3, 10)
        self.assertEqual(decode_ask_history(self.last(119).payload), AskHistory(GID, 3, 10))
        page = HistoryPage(7, 4, (HistoryMessage(4, "bob", 1, 113, b"hi"),))
        self.node.end.answer(self.last(119), encode_history_page(page))
        self.assertEqual(self.successResultOf(asked), page)
        self.failureResultOf(self.client.history(GID, -1), MalformedPayload)

    def test_presence(self) -> None:
        """presence() gives members; with watch changes are told, and asked for again after a break."""
        asked = self.client.presence(GID, watch=True)
        self.assertEqual(decode_ask_presence(self.last(140).payload), AskPresence(GID, PRESENCE_ON, 1000, ""))
        self.node.end.answer(self.last(140), encode_presence(2, [("ann", False), ("bob", True)]))
        self.assertEqual(self.successResultOf(asked), Presence(2, (("ann", False), ("bob", True))))
        changes = [(PresenceChange.THERE, "bob"), (PresenceChange.GONE, "cid"), (PresenceChange.AWAY, "dan")]
        self.node.end.push(1, 140, encode_presence_push(WIRE_ID, 5, changes))
        self.assertEqual(self.told, [GroupPresenceChanged(GID, 5, ("bob",), ("dan",), ("cid",))])
        self.come_back()
        self.assertEqual(decode_ask_presence(self.last(140).payload), AskPresence(GID, PRESENCE_ON, 0, ""))
        self.node.end.answer(self.last(140), encode_presence(9, []))
        self.assertEqual(self.told[-1], GroupPresenceChanged(GID, 9, (), (), ()))
        self.client.presence(GID, watch=False)
        self.assertEqual(decode_ask_presence(self.last(140).payload), AskPresence(GID, PRESENCE_OFF, 1000, ""))
        self.node.end.answer(self.last(140), encode_presence(9, []))
        self.come_back()
        self.assertEqual(self.node.end.of_command(1, 140), [])

    def test_presence_refused(self) -> None:
        """Who is no member is told so, and a watch that is refused after a break ends."""
        asked = self.client.presence(GID)
        self.node.end.refuse(self.last(140), ErrorCode.NOT_MEMBER, "no")
        self.failureResultOf(asked, NotMember)
        self.failureResultOf(self.client.presence("short"), MalformedPayload)
