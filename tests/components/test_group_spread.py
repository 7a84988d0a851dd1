"""One group beyond its node, without nodes."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import group_spread
from meshrelay.components.group_spread import MAX_CAST_BYTES, MAX_EARLY, Holder, Spread
from meshrelay.fanout.turn import Turn
from meshrelay.machine.sequence import Incoming
from meshrelay.testing.builders import make_group_id
from meshrelay.wire.group_node import EntryType, decode_content, decode_member


class Casts:
    """Keeps what is cast: (content, is_last)."""

    def __init__(self) -> None:
        self.all: list[tuple[bytes, bool]] = []

    def cast(self, spread: Spread, content: bytes, is_last: bool) -> None:
        """See `SpreadWriter`."""
        self.all.append((content, is_last))
        spread.next_number += 1


class SpreadTestCase(SynchronousTestCase):
    """A group that node b holds as well."""

    def setUp(self) -> None:
        """Nothing was said yet."""
        self.clock = Clock()
        self.casts = Casts()
        self.spread = Spread(make_group_id("lobby"), 5, Turn(self.clock), self.casts)
        self.spread.holders["b"] = Holder("b", Incoming(1))
        self.unknown: list[str] = []

    def entries(self) -> list[list[tuple[int, bytes]]]:
        """The entries of each cast since the last call."""
        self.clock.advance(0)
        casts, self.casts.all = self.casts.all, []
        return [decode_content(content) for content, _ in casts]

    def receive(self, node_id: str, hold: int, number: int, content: bytes) -> list[bytes]:
        """Let a cast come."""
        return self.spread.receive(node_id, hold, number, content, self.unknown.append)


class SendTests(SpreadTestCase):
    """What goes to the others."""

    def test_one_turn(self) -> None:
        """All of one turn is one cast, in order; frames of one kind that follow each other are one entry."""
        self.spread.publish(b"one", True)
        self.spread.publish(b"two", True)
        self.spread.publish(b"maybe", False)
        self.spread.say(EntryType.JOINED, "ann", "s1")
        self.spread.publish(b"three", True)
        self.assertEqual(self.casts.all, [])
        (entries,) = self.entries()
        kinds = [EntryType.FRAMES, EntryType.UNRELIABLE, EntryType.JOINED, EntryType.FRAMES]
        self.assertEqual([kind for kind, _ in entries], kinds)
        self.assertEqual([data for kind, data in entries if kind != EntryType.JOINED], [b"onetwo", b"maybe", b"three"])
        self.assertEqual(decode_member(entries[2][1]), ("ann", "s1"))
        self.assertEqual(self.entries(), [])

    def test_full(self) -> None:
        """What waits for the end of the turn is cast at once when it is too much for one message."""
        frame = bytes(1024)
        for _ in range(MAX_CAST_BYTES // 1024 - 1):
            self.spread.publish(frame, True)
        self.assertEqual(self.casts.all, [])
        self.spread.publish(frame, True)
        self.assertEqual(len(self.casts.all), 1)
        self.spread.publish(b"rest", True)
        self.assertEqual([data for _, data in self.entries()[1]], [b"rest"])

    def test_full_of_members(self) -> None:
        """The same holds for members that come and go."""
        count = 0
        while not self.casts.all:
            self.spread.say(EntryType.AWAY, "u" * 128, "s" * 32)
            count += 1
        self.assertLess(abs(count * 167 - MAX_CAST_BYTES), 200)

    def test_nobody(self) -> None:
        """As long as nobody else holds the group nothing is kept for them."""
        del self.spread.holders["b"]
        self.spread.publish(b"one", True)
        self.spread.say(EntryType.JOINED, "ann", "s1")
        self.spread.exit()
        self.assertEqual(self.entries(), [])

    def test_exit(self) -> None:
        """The last cast is told to be the last, and has what waited before it; nothing comes behind it."""
        self.spread.publish(b"bye", True)
        self.spread.exit()
        ((content, is_last),) = self.casts.all
        self.assertTrue(is_last)
        self.assertEqual(decode_content(content), [(EntryType.FRAMES, b"bye"), (EntryType.EXIT, b"")])
        self.entries()
        self.assertEqual(self.entries(), [])


class ReceiveTests(SpreadTestCase):
    """What comes from the others."""

    def test_in_order(self) -> None:
        """What a holder says comes out once and in order."""
        self.spread.begin("c", 7, 1)
        self.assertEqual(self.receive("c", 7, 2, b"two"), [])
        self.assertEqual(self.receive("c", 7, 1, b"one"), [b"one", b"two"])
        self.assertEqual(self.receive("c", 7, 1, b"one"), [])
        self.assertEqual(self.unknown, [])

    def test_before_it_holds(self) -> None:
        """Casts that overtake the word that a node holds the group wait for it, and it is asked once."""
        self.assertEqual(self.receive("c", 7, 3, b"three") + self.receive("c", 7, 4, b"four"), [])
        self.assertEqual(self.unknown, ["c"])
        self.assertEqual(self.spread.begin("c", 7, 3), [b"three", b"four"])
        self.assertEqual(self.spread.early, {})

    def test_before_it_was_said(self) -> None:
        """What was cast before the node let us in is not ours."""
        self.receive("c", 7, 2, b"two")
        self.assertEqual(self.spread.begin("c", 7, 3), [])
        self.assertEqual(self.receive("c", 7, 3, b"three"), [b"three"])

    def test_old_hold(self) -> None:
        """What a node said before it left and came back is over."""
        self.spread.begin("c", 7, 1)
        self.spread.begin("c", 8, 1)
        self.assertEqual(self.receive("c", 7, 1, b"old"), [])
        self.assertEqual(self.receive("c", 8, 1, b"new"), [b"new"])
        self.assertEqual(self.unknown, [])

    def test_old_word(self) -> None:
        """The word of an older hold does not undo a newer one."""
        self.spread.begin("c", 8, 1)
        self.assertEqual(self.spread.begin("c", 7, 9), [])
        self.assertEqual(self.spread.holders["c"].incoming.hold, 8)

    def test_next_hold_comes_early(self) -> None:
        """A node that came back casts before it says so: that waits, and the older hold is no longer heard."""
        self.receive("c", 7, 1, b"old")
        self.receive("c", 8, 1, b"new")
        self.receive("c", 7, 2, b"old")
        self.assertEqual(self.unknown, ["c", "c"])
        self.assertEqual(self.spread.begin("c", 8, 1), [b"new"])

    def test_said_twice(self) -> None:
        """Saying again where a series stands tells what is missing, and gives nothing out twice."""
        self.spread.begin("c", 7, 1)
        self.receive("c", 7, 1, b"one")
        self.assertEqual(self.spread.begin("c", 7, 4), [])
        self.assertEqual(self.spread.holders["c"].incoming.missing, (2, 4))

    def test_too_many_early(self) -> None:
        """Only so many nodes that never said a word can make this one keep something."""
        for number in range(MAX_EARLY + 1):
            self.receive(f"n{number}", 1, 1, b"early")
        self.assertEqual(len(self.spread.early), MAX_EARLY)
        self.assertEqual(len(self.unknown), MAX_EARLY)
        # Who is known to be early is still heard.
        self.receive("n0", 1, 2, b"second")
        self.assertEqual(self.spread.begin("n0", 1, 1), [b"early", b"second"])

    def test_too_much_early(self) -> None:
        """What is kept of each of them is bounded; the rest is known to be missing as soon as it has a word to say."""
        limit = group_spread.MAX_EARLY_CASTS
        for number in range(1, limit + 2):
            self.receive("c", 7, number, b"")
        self.assertEqual(self.spread.early["c"].held_count, limit)
        self.assertEqual(len(self.spread.begin("c", 7, 1)), limit)
        self.assertEqual(self.spread.holders["c"].incoming.missing, (limit + 1, limit + 2))

    def test_too_many_bytes_early(self) -> None:
        """Large ones are bounded by their bytes."""
        for number in range(1, 10):
            self.receive("c", 7, number, bytes(group_spread.MAX_EARLY_BYTES // 4))
        self.assertEqual(self.spread.early["c"].held_count, 4)

    def test_widened(self) -> None:
        """A holder is kept more of than somebody who never said a word."""
        self.receive("c", 7, 2, b"early")
        self.spread.begin("c", 7, 1)
        for number in range(3, group_spread.MAX_EARLY_CASTS + 100):
            self.receive("c", 7, number, b"")
        self.assertEqual(self.spread.holders["c"].incoming.lost_count, 0)
