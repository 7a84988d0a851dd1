"""Tests of `meshrelay.components.direct_commands`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.direct_commands import MAX_KNOWN_HEADS
from meshrelay.model import Status
from meshrelay.testing.node import MemoryClient, make_node
from meshrelay.wire.commands import CORE_VER, Command, CoreCommand, decode_error, decode_pushed_direct, encode_direct


class RunTests(SynchronousTestCase):
    """Many messages in one read."""

    def setUp(self) -> None:
        """Ann, bob and cid."""
        self.node = make_node()
        self.ann, self.bob, self.cid = (self.node.sign_in(name) for name in ("ann", "bob", "cid"))

    def told(self, client: MemoryClient) -> list[bytes]:
        """The messages that came to a client."""
        return [decode_pushed_direct(frame.payload).message for frame in client.pushes()]

    def in_one_read(self, *frames: tuple[str, bytes]) -> list[tuple[int, int]]:
        """Let ann send (peer, message) each, all in one read, and return (status, error code) of each answer."""
        self.ann.link.pause_reading()
        asked = [self.ann.ask(Command.DM_SEND, encode_direct(peer, message)) for peer, message in frames]
        self.ann.link.resume_reading()
        self.ann.link.read()
        self.node.settle()
        answers = []
        for request_id in asked:
            answer = self.ann.answer_to(request_id)
            assert answer is not None
            is_ok = answer.status == Status.OK
            answers.append((answer.status, 0 if is_ok else decode_error(answer.payload)[0]))
        return answers

    def test_run(self) -> None:
        """They arrive in their order, and each is answered."""
        frames = [("bob" if number % 7 else "cid", b"%d" % number) for number in range(1, 30)]
        self.assertEqual(self.in_one_read(*frames), [(Status.OK, 0)] * 29)
        self.assertEqual(self.told(self.bob), [message for peer, message in frames if peer == "bob"])
        self.assertEqual(self.told(self.cid), [message for peer, message in frames if peer == "cid"])
        counts = self.node.direct.statistics()
        self.assertEqual((counts["direct_sent"], counts["direct_delivered"]), (29, 29))

    def test_bad_ones_between(self) -> None:
        """What is wrong with one is told about that one; the others do not notice, and the order stays."""
        answers = self.in_one_read(
            ("bob", b"one"), ("bob", b""), ("bob", b"two"), ("nobody", b"x"), ("bob", b"y" * 65530), ("bob", b"three")
        )
        self.assertEqual([code for _, code in answers], [0, 31, 0, 30, 0, 0])
        self.assertEqual(self.told(self.bob), [b"one", b"two", b"y" * 65530, b"three"])

    def test_lengths(self) -> None:
        """Messages of different lengths in one read come as they were."""
        messages = [b"x" * size for size in (1, 1, 700, 2, 1, 1, 65530)]
        self.assertEqual(self.in_one_read(*(("bob", message) for message in messages)), [(Status.OK, 0)] * 7)
        self.assertEqual(self.told(self.bob), messages)

    def test_same_sender_after_another(self) -> None:
        """Who sends is told to the peer, whoever sent to it before."""
        for client, name in ((self.ann, "ann"), (self.cid, "cid"), (self.ann, "ann")):
            client.send(Command.DM_SEND, encode_direct("bob", b"x"))
            self.node.settle()
            self.assertEqual(decode_pushed_direct(self.bob.pushes()[-1].payload).user_id, name)

    def test_peer_comes_back(self) -> None:
        """A peer that was known is not taken for one that is there: gone it is told as gone, and back it is found."""
        self.assertEqual(self.in_one_read(("bob", b"one")), [(Status.OK, 0)])
        self.bob.send(CoreCommand.GOODBYE, ver=CORE_VER)
        self.node.settle()
        self.assertEqual(self.in_one_read(("bob", b"two")), [(Status.BAD, 30)])
        again = self.node.sign_in("bob")
        self.assertEqual(self.in_one_read(("bob", b"three")), [(Status.OK, 0)])
        self.assertEqual(self.told(again), [b"three"])

    def test_many_names(self) -> None:
        """However many peers a client makes up, only so many are remembered, and real ones are still found."""
        for number in range(MAX_KNOWN_HEADS + 10):
            self.ann.send(Command.DM_SEND, encode_direct(f"nobody-{number}", b"x"))
            self.ann.link.read()
        commands: Any = self.node.direct._commands
        self.assertEqual(commands._peer_of.cache_info().currsize, MAX_KNOWN_HEADS)
        self.assertEqual(self.in_one_read(("bob", b"one")), [(Status.OK, 0)])

    def test_other_commands_between(self) -> None:
        """A command behind messages of the same read is done behind them, and GOODBYE as well."""
        self.ann.link.pause_reading()
        self.ann.send(Command.DM_SEND, encode_direct("bob", b"one"))
        lobby = self.ann.ask(Command.GROUP_LIST)
        self.ann.send(Command.DM_SEND, encode_direct("bob", b"two"))
        self.ann.send(CoreCommand.GOODBYE, ver=CORE_VER)
        self.ann.link.resume_reading()
        self.ann.link.read()
        self.node.settle()
        self.assertEqual(self.told(self.bob), [b"one", b"two"])
        self.assertIsNotNone(self.ann.answer_to(lobby))

    def test_unanswered(self) -> None:
        """Messages without request ID are not answered."""
        before = len(self.ann.link.received)
        self.ann.send(Command.DM_SEND, encode_direct("bob", b"one"))
        self.node.settle()
        self.assertEqual(self.told(self.bob), [b"one"])
        self.assertEqual(len(self.ann.link.received), before)

    def test_malformed(self) -> None:
        """A payload that holds no peer is answered with code 1."""
        for payload in (b"", b"\x00x", b"\x05ab", b"\x02\xff\xfex"):
            self.assertEqual(self.ann.refusal(Command.DM_SEND, payload)[:2], (Status.BAD, 1))

    def test_udp(self) -> None:
        """A client on UDP gets each answer as well."""
        udp = self.node.sign_in("dan", "udp")
        asked = [udp.ask(Command.DM_SEND, encode_direct("bob", b"%d" % number)) for number in range(3)]
        self.node.settle()
        self.assertTrue(all(udp.answer_to(request_id) is not None for request_id in asked))
