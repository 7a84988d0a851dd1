"""Tests of `meshrelay.client.recovery`, by way of the client that it serves."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred

from meshrelay.client.errors import ConnectionLost, NotConnected
from meshrelay.client.events import (
    Connected,
    Event,
    GroupMessageReceived,
    GroupPresenceChanged,
    GroupRecovered,
)
from meshrelay.client.options import ClientOptions
from meshrelay.client.recovery import AGAIN_SECONDS
from meshrelay.errors import (
    ErrorCode,
    GroupNotFound,
    MalformedPayload,
    MessageTooLarge,
    NotMember,
    RateLimited,
    RemoteProtocolError,
)
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
OTHER = "h" * 52
WIRE_ID = GID.encode()


class RecoveryCase(ClientCase):
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
        self.clock.advance(self.options.retry_cap_seconds)
        self.node.end.welcome(resumed=resumed, recovered=recovered)

    def heard(self) -> list[int]:
        """Offsets of the messages that were told."""
        return [event.offset for event in self.told if isinstance(event, GroupMessageReceived)]

    def recoveries(self) -> list[tuple[bool, str]]:
        """How it went."""
        return [(event.recovered, event.error) for event in self.told if isinstance(event, GroupRecovered)]

    def questions(self) -> int:
        """How often the client has asked on this connection what it missed."""
        return len(self.node.end.of_command(1, Command.GROUP_RECOVER))

    def refuse(self, code: ErrorCode = ErrorCode.RATE_LIMITED) -> None:
        """Refuse the last question."""
        self.node.end.refuse(self.last(Command.GROUP_RECOVER), code, "no")

    def plain(self, message: bytes) -> None:
        """Push a message without its place."""
        self.node.end.push(1, 113, encode_pushed_message(GID, "bob", message))


class RecoveryTests(RecoveryCase):
    """What was missed, after a break."""

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

    def test_two_first_joins(self) -> None:
        """Of two joins at once the first is refused: the group is followed if the second is not, and only then."""
        for code in (ErrorCode.RATE_LIMITED, ErrorCode.GROUP_NOT_FOUND):
            for is_second_answered in (True, False):
                group_id = "h" * 52
                joins = [self.client.join_group(group_id, recover=True) for _ in range(2)]
                first, second = self.node.end.of_command(1, 118)[-2:]
                self.node.end.refuse(first, code, "no")
                self.failureResultOf(joins[0])
                if is_second_answered:
                    self.node.end.answer(second, encode_recovered(Recovered(False, 9, 4)))
                    self.successResultOf(joins[1])
                    self.assertEqual(self.client.group_position(group_id), (9, 4))
                    self.client.leave_group(group_id)
                    self.node.end.answer(self.last(112), b"")
                else:
                    self.node.end.refuse(second, code, "no")
                    self.failureResultOf(joins[1])
                asked = len(self.node.end.of_command(1, 118))
                self.clock.advance(10 * AGAIN_SECONDS)
                self.assertEqual(len(self.node.end.of_command(1, 118)), asked)
                self.assertNotIn(group_id, self.client._recovery.positions)

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


class HistoryTests(RecoveryCase):
    """What was said, and who is there."""

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
        self.answer(Recovered(True, 7, 3))
        self.assertEqual(decode_ask_presence(self.last(140).payload), AskPresence(GID, PRESENCE_ON, 0, ""))
        self.node.end.answer(self.last(140), encode_presence(9, []))
        self.assertEqual(self.told[-1], GroupPresenceChanged(GID, 9, (), (), ()))
        self.client.presence(GID, watch=False)
        self.assertEqual(decode_ask_presence(self.last(140).payload), AskPresence(GID, PRESENCE_OFF, 1000, ""))
        self.node.end.answer(self.last(140), encode_presence(9, []))
        self.come_back()
        self.answer(Recovered(True, 7, 3))
        self.assertEqual(self.node.end.of_command(1, 140), [])

    def test_presence_refused(self) -> None:
        """Who is no member is told so, and a watch that is refused after a break ends."""
        asked = self.client.presence(GID)
        self.node.end.refuse(self.last(140), ErrorCode.NOT_MEMBER, "no")
        self.failureResultOf(asked, NotMember)
        self.failureResultOf(self.client.presence("short"), MalformedPayload)

    def watch(self, group_id: str = GID) -> None:
        """Watch a group."""
        self.client.presence(group_id, watch=True)
        self.node.end.answer(self.last(140), encode_presence(1, [("ann", False)]))

    def asked_who(self) -> int:
        """How often the client has asked on this connection who is there."""
        return len(self.node.end.of_command(1, 140))

    def test_watch_waits_for_the_group(self) -> None:
        """A node that cannot make the client a member at once does not end its watch."""
        self.watch()
        self.come_back()
        self.refuse(ErrorCode.TIMED_OUT)
        self.assertEqual(self.asked_who(), 0)
        self.clock.advance(AGAIN_SECONDS)
        self.answer(Recovered(True, 7, 3))
        self.assertEqual(self.asked_who(), 1)
        self.node.end.answer(self.last(140), encode_presence(9, []))
        self.assertEqual(self.told[-1], GroupPresenceChanged(GID, 9, (), (), ()))

    def test_watch_again(self) -> None:
        """A node that has enough for the moment does not end a watch either; it is asked again a second later."""
        self.watch()
        self.come_back()
        self.answer(Recovered(True, 7, 3))
        for code in (ErrorCode.RATE_LIMITED, ErrorCode.TIMED_OUT, ErrorCode.NODE_DRAINING):
            count = self.asked_who()
            self.node.end.refuse(self.last(140), code, "no")
            self.assertEqual(self.asked_who(), count)
            self.clock.advance(AGAIN_SECONDS)
            self.assertEqual(self.asked_who(), count + 1)
        self.node.end.answer(self.last(140), encode_presence(9, []))
        self.clock.advance(10 * AGAIN_SECONDS)
        self.assertEqual(self.asked_who(), 4)

    def test_watch_cut(self) -> None:
        """A watch that broke with its connection is asked for on the next, also when that lost nothing."""
        self.watch()
        self.come_back()
        self.answer(Recovered(True, 7, 3))
        self.come_back(resumed=True, recovered=True)
        self.assertEqual((self.questions(), self.asked_who()), (0, 1))
        self.node.end.answer(self.last(140), encode_presence(9, []))
        self.come_back(resumed=True, recovered=True)
        self.assertEqual(self.asked_who(), 0)

    def test_watch_not_member(self) -> None:
        """A watch of a group that the client is not in after a break is over; others are not."""
        self.watch(OTHER)
        self.come_back()
        self.assertEqual(self.asked_who(), 1)
        self.node.end.refuse(self.last(140), ErrorCode.NOT_MEMBER, "no")
        self.come_back()
        self.assertEqual(self.asked_who(), 0)

    def test_enough(self) -> None:
        """Who has seen enough is told no more after a break, whether the node could be told or not."""
        self.watch()
        self.node.end.receiver.link_lost(None, "broken")
        self.failureResultOf(self.client.presence(GID, watch=False), NotConnected)
        self.clock.advance(10.0)
        self.node.end.welcome()
        self.answer(Recovered(True, 7, 3))
        self.assertEqual(self.asked_who(), 0)

    def test_enough_while_asking(self) -> None:
        """The answer to a question that nobody has any more is not told."""
        self.watch()
        self.come_back()
        self.answer(Recovered(True, 7, 3))
        asked = self.last(140)
        self.client.presence(GID, watch=False)
        self.told.clear()
        self.node.end.answer(asked, encode_presence(9, []))
        self.assertEqual(self.told, [])

    def test_watched_anew(self) -> None:
        """A refusal of what was asked before does not end a watch that the program has begun since."""
        self.watch()
        self.come_back()
        self.answer(Recovered(True, 7, 3))
        asked = self.last(140)
        self.watch()
        self.node.end.refuse(asked, ErrorCode.NOT_MEMBER, "no")
        self.come_back()
        self.answer(Recovered(True, 7, 3))
        self.assertEqual(self.asked_who(), 1)


class AskingTests(RecoveryCase):
    """When the node is asked, and when it is left in peace."""

    def test_gap_in_a_pause(self) -> None:
        """A node that could not say is left in peace for a second, whatever it pushes meanwhile."""
        self.push(6)
        self.refuse()
        for offset in (7, 8):
            self.push(offset)
        self.assertEqual(self.questions(), 2)
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(self.questions(), 3)
        self.answer(Recovered(True, 7, 8))
        for offset in range(4, 9):
            self.push(offset)
        self.assertEqual(self.heard(), [4, 5, 6, 7, 8])
        self.clock.advance(10 * AGAIN_SECONDS)
        self.assertEqual(self.questions(), 3)

    def test_plain_in_a_pause(self) -> None:
        """What comes without its offset between two questions comes again with it, and is told once."""
        self.come_back(resumed=True)
        self.refuse()
        self.plain(b"4")
        self.clock.advance(AGAIN_SECONDS)
        self.answer(Recovered(True, 7, 4))
        self.push(4)
        self.assertEqual(self.heard(), [4])

    def test_cut_question(self) -> None:
        """A question that broke with its connection is asked again, also when the session lost nothing."""
        self.come_back()
        self.come_back(resumed=True, recovered=True)
        self.assertEqual(self.asked(), AskRecover(GID, 7, 3, b""))
        self.answer(Recovered(True, 7, 4))
        self.push(4)
        self.assertEqual((self.heard(), self.recoveries()), ([4], [(True, "")]))

    def test_cut_pause(self) -> None:
        """So is one for which the client was waiting; a new connection is asked at once, and once."""
        self.come_back()
        self.refuse()
        self.node.end.receiver.link_lost(None, "broken")
        self.clock.advance(0.5)
        self.node.end.welcome(resumed=True, recovered=True)
        self.assertEqual(self.questions(), 1)
        self.clock.advance(5.0)
        self.assertEqual(self.questions(), 1)

    def test_cut_answer(self) -> None:
        """That something was missed is told also when the answer that said so was lost."""
        self.come_back()
        self.come_back(resumed=True, recovered=True)
        self.push(51, epoch=9)
        self.answer(Recovered(True, 9, 51))
        self.assertEqual((self.heard(), self.recoveries()), ([51], [(False, "")]))

    def test_not_asked_in_time(self) -> None:
        """That something was missed is told also when the group had moved on before the node could say."""
        self.push(5)
        self.refuse()
        self.push(51, epoch=9)
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(self.asked(), AskRecover(GID, 9, 51, b""))
        self.answer(Recovered(True, 9, 51))
        self.assertEqual((self.heard(), self.recoveries()), ([51], [(False, "")]))

    def test_passing(self) -> None:
        """What a node refuses for reasons of its own is asked again, a second later each time."""
        self.come_back()
        for code in (ErrorCode.TIMED_OUT, ErrorCode.RATE_LIMITED, ErrorCode.NODE_DRAINING, ErrorCode.NODE_OFFLINE):
            count = self.questions()
            self.refuse(code)
            self.clock.advance(0.9 * AGAIN_SECONDS)
            self.assertEqual(self.questions(), count, code)
            self.clock.advance(0.1 * AGAIN_SECONDS)
            self.assertEqual(self.questions(), count + 1, code)
        self.assertEqual(self.recoveries(), [])

    def test_unreadable(self) -> None:
        """An answer that cannot be read is said to be the node's fault, and ends the following only."""
        self.come_back()
        self.node.end.answer(self.last(118), b"?")
        self.assertEqual([recovered for recovered, _ in self.recoveries()], [False])
        self.assertIn("cannot be read", self.recoveries()[0][1])
        self.assertTrue(self.client.is_connected)
        joined = self.client.join_group(GID, recover=True)
        self.node.end.answer(self.last(118), b"?")
        self.failureResultOf(joined, RemoteProtocolError)

    def follow(self, groups: list[str]) -> None:
        """Join groups that are where the first one is."""
        for group_id in groups:
            self.client.join_group(group_id, recover=True)
            self.answer(Recovered(False, 7, 3))

    def unanswered(self) -> list[Frame]:
        """Questions in order."""
        return list(self.node.end.of_command(1, 118))

    def test_many(self) -> None:
        """Many groups are asked for sixteen at a time, and all are asked for in the end."""
        groups = [f"{number:g>52}" for number in range(40)]
        self.follow(groups)
        self.come_back()
        for number in range(41):
            questions = self.unanswered()
            self.assertEqual(len(questions), min(number + 16, 41))
            self.node.end.answer(questions[number], encode_recovered(Recovered(True, 7, 3)))
        names = [decode_ask_recover(question.payload).group_id for question in self.unanswered()]
        self.assertEqual(names, [GID, *groups])
        self.assertEqual(self.recoveries(), [(True, "")] * 41)

    def test_many_refused(self) -> None:
        """A node that has enough is left in peace for a second, by all groups and watches, and is asked then."""
        groups = [f"{number:g>52}" for number in range(40)]
        self.follow(groups)
        self.client.presence(GID, watch=True)
        self.node.end.answer(self.last(140), encode_presence(1, []))
        self.come_back()
        first = self.unanswered()
        for question in first:
            self.node.end.refuse(question, ErrorCode.RATE_LIMITED, "no")
        self.assertEqual((self.questions(), len(self.node.end.of_command(1, 140))), (16, 0))
        self.clock.advance(0.9 * AGAIN_SECONDS)
        self.assertEqual(self.questions(), 16)
        self.clock.advance(0.1 * AGAIN_SECONDS)
        self.assertEqual(self.questions(), 32)
        number = 16
        while number < self.questions():
            self.node.end.answer(self.unanswered()[number], encode_recovered(Recovered(True, 7, 3)))
            number += 1
        self.assertEqual((number, len(self.recoveries())), (16 + 41, 41))
        self.assertEqual(len(self.node.end.of_command(1, 140)), 1)

    def test_many_gone(self) -> None:
        """Groups that are gone keep no place among those that are asked for."""
        groups = [f"{number:g>52}" for number in range(40)]
        self.follow(groups)
        self.come_back()
        for number in range(41):
            self.node.end.refuse(self.unanswered()[number], ErrorCode.GROUP_NOT_FOUND, "no")
        self.assertEqual((self.questions(), len(self.recoveries())), (41, 41))
        self.come_back()
        self.assertEqual(self.questions(), 0)


class FewRequestsTests(RecoveryCase):
    """A client that may not have many open requests."""

    options = ClientOptions(uniform=Random(1).uniform, max_pending_requests=1)

    def test_rest(self) -> None:
        """A client that cannot ask for all its groups at once asks for the rest a second later."""
        self.client.join_group(OTHER, recover=True)
        self.answer(Recovered(False, 7, 3))
        self.come_back()
        self.assertEqual(self.asked(), AskRecover(GID, 7, 3, b""))
        self.answer(Recovered(True, 7, 3))
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(self.asked(), AskRecover(OTHER, 7, 3, b""))

    def test_taken_by_the_program(self) -> None:
        """So does one whose program has taken all that there may be."""
        self.client.on(Connected, lambda _: self.client.list_groups())
        self.come_back()
        self.node.end.answer(self.last(115))
        self.assertEqual(self.questions(), 0)
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(self.questions(), 1)


class FullTests(RecoveryCase):
    """A client that may not have much unsent."""

    options = ClientOptions(uniform=Random(1).uniform, max_unsent_bytes=60)

    def test_full(self) -> None:
        """A question that could not be sent is sent a second later."""
        self.node.end.receiver.writing_paused()
        self.push(5)
        self.node.end.receiver.writing_resumed()
        self.assertEqual(self.questions(), 1)
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(self.questions(), 2)


class JoinTests(RecoveryCase):
    """A program that joins groups which the client follows already."""

    def test_keeps_its_place(self) -> None:
        """Who joins again goes on from where the client is; a position of the program's own counts more."""
        self.push(4)
        joined = self.client.join_group(GID, b"hi", recover=True)
        self.assertEqual(self.asked(), AskRecover(GID, 7, 4, b"hi"))
        self.answer(Recovered(True, 7, 5))
        self.assertIsNone(self.successResultOf(joined))
        self.push(5)
        self.assertEqual((self.heard(), self.recoveries()), ([4, 5], [(True, "")]))
        self.client.join_group(GID, recover=(7, 2))
        self.assertEqual(self.asked(), AskRecover(GID, 7, 2, b""))

    def test_joins_by_itself(self) -> None:
        """A program that joins again after each break by itself loses no position, also when that fails."""
        joins: list[Deferred[None]] = []
        self.client.on(Connected, lambda _: joins.append(self.client.join_group(GID, recover=True)))
        self.come_back()
        self.assertEqual((self.questions(), self.asked()), (1, AskRecover(GID, 7, 3, b"")))
        self.come_back()
        self.failureResultOf(joins[0], ConnectionLost)
        self.assertEqual((self.questions(), self.asked()), (1, AskRecover(GID, 7, 3, b"")))
        self.answer(Recovered(True, 7, 4))
        self.push(4)
        self.assertIsNone(self.successResultOf(joins[1]))
        self.assertEqual((self.heard(), self.recoveries()), ([4], [(True, "")]))

    def test_refused(self) -> None:
        """A second join that the node could not take now is tried again; one into a group that is gone is not."""
        joined = self.client.join_group(GID, recover=True)
        self.refuse()
        self.failureResultOf(joined, RateLimited)
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual((self.questions(), self.asked()), (3, AskRecover(GID, 7, 3, b"")))
        self.answer(Recovered(True, 7, 3))
        joined = self.client.join_group(GID, recover=True)
        self.refuse(ErrorCode.GROUP_NOT_FOUND)
        self.failureResultOf(joined, GroupNotFound)
        self.assertEqual(self.client.group_position(GID), (0, 0))

    def test_own_fault(self) -> None:
        """A second join that never left, or that nobody waits for any more, takes nothing from the first."""
        joined = self.client.join_group(GID, bytes(1 << 20), recover=True)
        self.failureResultOf(joined, MessageTooLarge)
        self.answer(Recovered(True, 7, 3))
        joined = self.client.join_group(GID, recover=True)
        joined.addErrback(lambda _: None)
        joined.cancel()
        self.answer(Recovered(True, 7, 4))
        self.push(4)
        self.assertEqual((self.heard(), self.recoveries()), ([4], [(True, "")] * 2))

    def test_while_asking(self) -> None:
        """A second join while the client asks by itself is made, and both answers count."""
        self.come_back()
        first = self.last(118)
        joined = self.client.join_group(GID, b"hi", recover=True)
        self.assertEqual(self.asked(), AskRecover(GID, 7, 3, b"hi"))
        self.node.end.answer(first, encode_recovered(Recovered(True, 7, 4)))
        self.push(4)
        self.refuse()
        self.failureResultOf(joined, RateLimited)
        self.push(5)
        self.clock.advance(10 * AGAIN_SECONDS)
        self.assertEqual((self.questions(), self.heard()), (2, [4, 5]))

    def test_old_answer(self) -> None:
        """An answer to a question of before does not move the place from which the program began anew."""
        self.come_back()
        first = self.last(118)
        self.client.join_group(GID, recover=(7, 1))
        self.node.end.answer(first, encode_recovered(Recovered(False, 7, 50)))
        self.assertEqual((self.client.group_position(GID), self.recoveries()), ((7, 1), []))
        self.answer(Recovered(True, 7, 2))
        self.push(2)
        self.assertEqual((self.heard(), self.recoveries()), ([2], [(True, "")]))

    def test_old_refusal(self) -> None:
        """Nor does a refusal have the client ask twice, or end what the program began anew."""
        self.come_back()
        first = self.last(118)
        self.client.join_group(GID, recover=(7, 1)).addErrback(lambda _: None)
        second = self.last(118)
        self.node.end.refuse(first, ErrorCode.TIMED_OUT, "no")
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(self.questions(), 2)
        self.client.join_group(GID, recover=(7, 2))
        self.node.end.refuse(second, ErrorCode.GROUP_NOT_FOUND, "no")
        self.assertEqual(self.client.group_position(GID), (7, 2))

    def test_leaves_and_joins(self) -> None:
        """Who leaves and joins in one breath begins anew and is followed."""
        left = self.client.leave_group(GID)
        joined = self.client.join_group(GID, recover=True)
        self.assertEqual(self.asked(), AskRecover(GID, 0, 0, b""))
        self.node.end.answer(self.last(112))
        self.answer(Recovered(False, 7, 9))
        self.push(10)
        self.assertEqual((self.successResultOf(left), self.successResultOf(joined)), (None, None))
        self.assertEqual((self.heard(), self.client.group_position(GID)), ([10], (7, 10)))

    def test_leave_refused(self) -> None:
        """Who is told when leaving that it is no member follows no more; who cannot leave goes on to follow."""
        left = self.client.leave_group(GID)
        self.node.end.refuse(self.last(112), ErrorCode.TIMED_OUT, "no")
        self.failureResultOf(left)
        self.client.join_group(GID, recover=True)
        self.assertEqual(self.asked(), AskRecover(GID, 7, 3, b""))
        self.answer(Recovered(True, 7, 3))
        left = self.client.leave_group(GID)
        self.node.end.refuse(self.last(112), ErrorCode.NOT_MEMBER, "no")
        self.failureResultOf(left, NotMember)
        self.assertEqual(self.client.group_position(GID), (0, 0))

    def test_leaves_after_a_break(self) -> None:
        """A group that the program leaves as soon as it is back is not joined again behind its back."""
        left: list[Deferred[None]] = []
        self.client.on(Connected, lambda _: left.append(self.client.leave_group(GID)))
        self.come_back()
        self.assertEqual(self.questions(), 0)
        self.node.end.refuse(self.last(112), ErrorCode.TIMED_OUT, "no")
        self.failureResultOf(left[0])
        self.assertEqual(self.asked(), AskRecover(GID, 7, 3, b""))


class CloseTests(RecoveryCase):
    """The end."""

    def test_while_away(self) -> None:
        """A client that is closed during a break follows and watches nothing, and nothing of it runs on."""
        self.client.presence(GID, watch=True)
        self.node.end.answer(self.last(140), encode_presence(1, []))
        self.node.end.receiver.link_lost(None, "broken")
        self.successResultOf(self.client.close())
        self.assertEqual(self.client.group_position(GID), (0, 0))
        self.client.connect()
        self.node.end.welcome()
        self.assertEqual((self.node.end.of_command(1, 118), self.node.end.of_command(1, 140)), ([], []))

    def test_in_a_pause(self) -> None:
        """A client that is closed while it waits to ask again asks no more."""
        self.client.join_group(OTHER, recover=True)
        self.answer(Recovered(False, 7, 3))
        self.come_back()
        for question in self.node.end.of_command(1, 118):
            self.node.end.refuse(question, ErrorCode.RATE_LIMITED, "no")
        self.successResultOf(self.client.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SeedTests(RecoveryCase):
    """One long life after the other.

    The node is as the protocol says: it gives messages their offsets once it was asked on a connection that lost
    something, and what it said on one that lost nothing is said again, except its answers.
    """

    kept = 30

    def test_stories(self) -> None:
        """Whatever breaks and whatever is lost on the way, a client that is not warned hears all, once and in order."""
        for seed in range(25):
            self.setUp()
            self.random = Random(seed)
            self._begin_story()
            for _ in range(60):
                self._go_on()
            heard = [int(event.message) for event in self.told if isinstance(event, GroupMessageReceived)]
            self.assertEqual(heard, sorted(set(heard)), f"seed {seed}")
            if (False, "") not in self.recoveries():
                self.assertEqual(heard, list(range(4, 4 + len(heard))), f"seed {seed}")
            self.client.close()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def _begin_story(self) -> None:
        self.head, self.answered = 3, 1
        self.is_logged = self.is_member = True

    def _go_on(self) -> None:
        chance = self.random.random
        self.head += 1
        if self.is_logged and chance() < 0.8:
            self.push(self.head)
        elif self.is_member and not self.is_logged:
            self.plain(b"%d" % self.head)
        if chance() < 0.15:
            self._break(chance())
        while self.answered < self.questions() and chance() >= 0.3:
            question = self.node.end.of_command(1, 118)[self.answered]
            self.answered += 1
            if chance() < 0.3:
                self.node.end.refuse(question, ErrorCode.TIMED_OUT, "no")
            else:
                self._recover(question, True)
        if chance() < 0.3:
            self.clock.advance(1.1)

    def _break(self, chance: float) -> None:
        questions = self.node.end.of_command(1, 118)[self.answered :]
        self.answered = 0
        if chance < 0.4:
            self.come_back(resumed=True, recovered=True)
            if questions and chance < 0.2:
                self._recover(questions[0], False)
        else:
            self.is_member = chance < 0.7
            self.is_logged = False
            self.come_back(resumed=self.is_member)

    def _recover(self, question: Frame, is_answered: bool) -> None:
        self.is_member = self.is_logged = True
        after = decode_ask_recover(question.payload).offset
        is_whole = after >= self.head - self.kept
        if is_answered:
            self.node.end.answer(question, encode_recovered(Recovered(is_whole, 7, self.head)))
        for offset in range(after + 1, self.head + 1) if is_whole else ():
            self.push(offset)
