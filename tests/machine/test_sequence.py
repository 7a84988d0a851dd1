from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.sequence import ITEM_OVERHEAD_BYTES, History, Incoming

KEY = ("g" * 52, 3)
OTHER = ("h" * 52, 3)


def content_of(number: int) -> bytes:
    """What is cast under this number."""
    return b"%d" % number


def started(next_number: int = 1, limit_count: int = 10_000, limit_bytes: int = 4 * 1024 * 1024) -> Incoming:
    """A receiver that begins at `next_number`."""
    incoming = Incoming(3, limit_count, limit_bytes)
    incoming.start(next_number)
    return incoming


class HistoryTests(SynchronousTestCase):
    def test_what_was_sent(self) -> None:
        """What was given to others to pass on can be had again, in order and no more than was asked for."""
        history = History()
        for number in range(1, 6):
            history.add(KEY, number, content_of(number), 0.0)
        history.add(OTHER, 3, b"other", 0.0)
        self.assertEqual(history.get(KEY, 2, 5), (2, [(2, b"2"), (3, b"3"), (4, b"4")]))
        self.assertEqual(history.get(OTHER, 3, 9), (3, [(3, b"other")]))

    def test_gaps(self) -> None:
        """A number that was sent directly is absent, and is not taken for one that was dropped."""
        history = History()
        for number in (1, 4, 6):
            history.add(KEY, number, content_of(number), 0.0)
        self.assertEqual(history.get(KEY, 2, 7), (2, [(4, b"4"), (6, b"6")]))
        self.assertEqual(history.get(KEY, 2, 4), (2, []))

    def test_unknown(self) -> None:
        """Of a group that has nothing kept, nothing is available."""
        history = History()
        self.assertEqual(history.get(KEY, 2, 7), (7, []))
        history.add(KEY, 1, b"1", 0.0)
        self.assertEqual(history.get((KEY[0], 4), 2, 7), (7, []), "another hold of the same group")

    def test_too_much(self) -> None:
        """Over its bytes the oldest go first, of whatever group, and it is told from where on nothing is lacking."""
        size = ITEM_OVERHEAD_BYTES + 1
        history = History(limit_bytes=3 * size)
        history.add(OTHER, 7, b"7", 0.0)
        for number in (1, 2, 4):
            history.add(KEY, number, content_of(number), 0.0)
        self.assertEqual(history.get(OTHER, 7, 8), (8, []))
        self.assertEqual((history.bytes, history.dropped_count), (3 * size, 1))
        history.add(KEY, 5, b"5", 0.0)
        self.assertEqual(history.get(KEY, 1, 6), (2, [(2, b"2"), (4, b"4"), (5, b"5")]))
        history.add(KEY, 6, b"6", 0.0)
        self.assertEqual(history.get(KEY, 1, 6), (3, [(4, b"4"), (5, b"5")]))
        self.assertEqual(history.get(KEY, 1, 2), (2, []), "never beyond the end that was asked for")

    def test_too_large(self) -> None:
        """A content that is larger than the whole room is not kept."""
        history = History(limit_bytes=1000)
        history.add(KEY, 1, b"1", 0.0)
        history.add(KEY, 2, bytes(1000), 0.0)
        self.assertEqual((history.bytes, history.item_count, history.get(KEY, 1, 3)), (0, 0, (3, [])))

    def test_too_old(self) -> None:
        """What is older than it must be kept goes with the next content, or when it is looked after."""
        history = History(keep_seconds=30.0)
        history.add(KEY, 1, b"1", 0.0)
        history.add(KEY, 2, b"2", 20.0)
        history.drop_old(30.0)
        self.assertEqual(history.get(KEY, 1, 3), (1, [(1, b"1"), (2, b"2")]))
        history.drop_old(30.5)
        self.assertEqual(history.get(KEY, 1, 3), (2, [(2, b"2")]))
        history.add(OTHER, 1, b"1", 60.0)
        self.assertEqual(history.get(KEY, 1, 3), (3, []))
        self.assertEqual(history.item_count, 1)

    def test_begun_again(self) -> None:
        """After all was dropped, what comes next is not taken for the whole."""
        history = History(keep_seconds=30.0)
        history.add(KEY, 1, b"1", 0.0)
        history.drop_old(100.0)
        history.add(KEY, 9, b"9", 100.0)
        self.assertEqual(history.get(KEY, 1, 10), (9, [(9, b"9")]))

    def test_forget(self) -> None:
        """A group that is given up leaves nothing, and may come back under the same key."""
        history = History()
        history.add(KEY, 1, b"1", 0.0)
        history.add(OTHER, 1, b"1", 0.0)
        history.forget(KEY)
        history.forget(KEY)
        self.assertEqual(history.get(KEY, 1, 2), (2, []))
        self.assertEqual((history.bytes, history.item_count), (ITEM_OVERHEAD_BYTES + 1, 1))
        history.add(KEY, 5, b"5", 1.0)
        history.drop_old(30.5)
        self.assertEqual(history.get(OTHER, 1, 2), (2, []))
        self.assertEqual(history.get(KEY, 5, 6), (5, [(5, b"5")]), "the newer one under this key is not the old one")

    def test_memory_of_forgotten(self) -> None:
        """Groups that come and go do not make it grow, even while an old content stays in front of them."""
        history = History()
        history.add(OTHER, 1, b"1", 0.0)
        for hold in range(2000):
            for number in (1, 2, 3):
                history.add((KEY[0], hold), number, b"content", 0.0)
            history.forget((KEY[0], hold))
        self.assertLess(len(history._order), 10)
        self.assertEqual(history.item_count, 1)

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(
        st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from(("add", "add", "add", "forget")), st.integers(0, 300)),
            max_size=60,
        )
    )
    def test_bounds(self, steps: list[tuple[int, str, int]]) -> None:
        """Whatever is added and forgotten, it holds the newest of what a plain list would, and never too much."""
        limit = 4 * (ITEM_OVERHEAD_BYTES + 200)
        history = History(limit_bytes=limit, keep_seconds=10.0)
        model: list[tuple[tuple[str, int], int, bytes, float]] = []
        for now, (index, action, size) in enumerate(steps):
            key = ("g" * 52, index)
            if action == "add":
                history.add(key, now + 1, bytes(size), float(now))
                model.append((key, now + 1, bytes(size), float(now)))
                while model and (
                    sum(len(item[2]) + ITEM_OVERHEAD_BYTES for item in model) > limit or model[0][3] < now - 10.0
                ):
                    del model[0]
            else:
                history.forget(key)
                model = [item for item in model if item[0] != key]
            self.assertLessEqual(history.bytes, limit)
            self.assertEqual(history.item_count, len(model))
            self.assertEqual(history.bytes, sum(len(item[2]) + ITEM_OVERHEAD_BYTES for item in model))
            for each in range(3):
                kept = [(number, content) for key, number, content, _ in model if key[1] == each]
                self.assertEqual(history.get(("g" * 52, each), 1, len(steps) + 1)[1], kept)


class IncomingTests(SynchronousTestCase):
    def test_in_order(self) -> None:
        """What comes in order is given out at once."""
        incoming = started()
        self.assertEqual([incoming.receive(number, content_of(number)) for number in (1, 2)], [[b"1"], [b"2"]])
        self.assertEqual((incoming.next_number, incoming.missing), (3, None))

    def test_before_start(self) -> None:
        """Until it is known where to begin all is held back; then what is older is dropped and the rest is in order."""
        incoming = Incoming(3)
        for number in (6, 4, 5, 8):
            self.assertEqual(incoming.receive(number, content_of(number)), [])
        self.assertEqual((incoming.missing, incoming.skip_to(9), incoming.held_count), (None, [], 4))
        self.assertEqual(incoming.start(5), [b"5", b"6"])
        self.assertEqual((incoming.missing, incoming.held_count, incoming.held_bytes), ((7, 8), 1, 1))
        self.assertEqual((incoming.lost_count, incoming.duplicates), (0, 0))

    def test_started_twice(self) -> None:
        """Being told once more where the origin stands takes nothing back and reveals what is missing."""
        incoming = started()
        incoming.receive(1, b"1")
        self.assertEqual(incoming.start(4), [])
        self.assertEqual(incoming.missing, (2, 4))
        self.assertEqual(incoming.receive(2, b"2"), [b"2"])

    def test_duplicates(self) -> None:
        """What comes once more is dropped and counted, whether it was given out or is held back."""
        incoming = started()
        incoming.receive(1, b"1")
        incoming.receive(3, b"3")
        self.assertEqual([incoming.receive(1, b"x"), incoming.receive(3, b"x")], [[], []])
        self.assertEqual(incoming.duplicates, 2)
        self.assertEqual(incoming.receive(2, b"2"), [b"2", b"3"])
        early = Incoming(3)
        early.receive(1, b"1")
        early.receive(1, b"1")
        self.assertEqual((early.duplicates, early.start(1)), (1, [b"1"]))

    def test_missing(self) -> None:
        """The first gap is told, and a lost end as soon as the origin says how far it is."""
        incoming = started()
        incoming.receive(4, b"4")
        incoming.receive(7, b"7")
        self.assertEqual(incoming.missing, (1, 4))
        for number in (1, 2, 3):
            incoming.receive(number, content_of(number))
        self.assertEqual(incoming.missing, (5, 7))
        incoming.skip_to(7)
        self.assertIsNone(incoming.missing)
        incoming.head(10)
        incoming.head(9)
        self.assertEqual(incoming.missing, (8, 10))

    def test_head_before_start(self) -> None:
        """How far the origin is may be heard before it is known where to begin."""
        incoming = Incoming(3)
        incoming.head(5)
        incoming.start(3)
        self.assertEqual(incoming.missing, (3, 5))

    def test_skip(self) -> None:
        """What is given up is counted; what is held from before is not lost with it."""
        incoming = started()
        for number in (2, 5, 8, 9):
            incoming.receive(number, content_of(number))
        self.assertEqual(incoming.skip_to(8), [b"2", b"5", b"8", b"9"])
        self.assertEqual((incoming.lost_count, incoming.next_number, incoming.held_bytes), (5, 10, 0))
        self.assertEqual(incoming.skip_to(10), [])
        self.assertEqual(incoming.skip_to(3), [])
        self.assertEqual((incoming.lost_count, incoming.receive(10, b"10")), (5, [b"10"]))

    def test_too_many(self) -> None:
        """When more would be held than may be, the oldest gap is given up and what follows it is given out."""
        incoming = started(limit_count=3)
        for number in (3, 4, 6):
            self.assertEqual(incoming.receive(number, content_of(number)), [])
        self.assertEqual(incoming.receive(9, b"9"), [b"3", b"4"])
        self.assertEqual((incoming.lost_count, incoming.overflows, incoming.held_count), (2, 1, 2))
        self.assertEqual(incoming.missing, (5, 6))

    def test_too_large(self) -> None:
        """The same counts for bytes; as many gaps are given up as it takes."""
        incoming = started(limit_bytes=10)
        incoming.receive(2, b"22")
        incoming.receive(4, b"44")
        self.assertEqual(incoming.receive(6, b"6" * 10), [b"22", b"44"])
        self.assertEqual((incoming.lost_count, incoming.held_bytes), (2, 10))
        self.assertEqual(incoming.receive(8, b"8" * 11), [b"6" * 10, b"8" * 11])
        self.assertEqual((incoming.lost_count, incoming.held_bytes), (4, 0))

    def test_too_many_before_start(self) -> None:
        """Before the beginning is known nothing can be given up: what has no room is missing and can be asked for."""
        incoming = Incoming(3, limit_count=2)
        for number in (1, 2, 3):
            incoming.receive(number, content_of(number))
        self.assertEqual((incoming.held_count, incoming.overflows), (2, 1))
        self.assertEqual(incoming.start(1), [b"1", b"2"])
        self.assertEqual((incoming.missing, incoming.lost_count), ((3, 4), 0))
        small = Incoming(3, limit_bytes=3)
        small.receive(1, b"11")
        small.receive(2, b"22")
        self.assertEqual((small.held_bytes, small.start(1), small.missing), (2, [b"11"], (2, 3)))


class IncomingPropertyTests(SynchronousTestCase):
    """However things are mixed up on their way."""

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 60), st.integers(0, 30), st.integers(0, 60), st.integers(0, 2**32))
    def test_once_and_in_order(self, count: int, repeat_count: int, start_after: int, seed: int) -> None:
        """Everything is given out once and in order, whatever overtakes what and however often it comes."""
        random = Random(seed)
        numbers = list(range(1, count + 1))
        arrivals = numbers + (random.choices(numbers, k=repeat_count) if numbers else [])
        random.shuffle(arrivals)
        incoming, got = Incoming(3), list[bytes]()
        for index, number in enumerate(arrivals):
            if index == start_after:
                got += incoming.start(1)
            got += incoming.receive(number, content_of(number))
        got += incoming.start(1)
        self.assertEqual(got, [content_of(number) for number in numbers])
        self.assertEqual((incoming.missing, incoming.held_count, incoming.held_bytes), (None, 0, 0))
        self.assertEqual((incoming.duplicates, incoming.lost_count), (len(arrivals) - count, 0))

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.integers(1, 60), st.floats(0.0, 1.0), st.integers(0, 12), st.integers(0, 2**32))
    def test_repair(self, count: int, loss: float, kept_count: int, seed: int) -> None:
        """What is lost is asked for until nothing is missing; only what the origin has dropped is lost for good."""
        random = Random(seed)
        history = History(limit_bytes=kept_count * (ITEM_OVERHEAD_BYTES + 2))
        arrivals = []
        for number in range(1, count + 1):
            history.add(KEY, number, content_of(number), 0.0)
            if random.random() >= loss:
                arrivals.append(number)
        random.shuffle(arrivals)
        incoming, got = started(), list[bytes]()
        for number in arrivals:
            got += incoming.receive(number, content_of(number))
        incoming.head(count + 1)
        asked_count = 0
        while incoming.missing is not None:
            first, end = incoming.missing
            asked_count += 1
            self.assertLessEqual(asked_count, count)
            available, contents = history.get(KEY, first, end)
            got += incoming.skip_to(available)
            for number, content in contents:
                got += incoming.receive(number, content)
        oldest, _ = history.get(KEY, 1, count + 1)
        expected = [content_of(number) for number in range(1, count + 1) if number in arrivals or number >= oldest]
        self.assertEqual(got, expected)
        self.assertEqual(incoming.lost_count, count - len(expected))

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 20)), max_size=80), st.integers(0, 80))
    def test_bounds(self, arrivals: list[tuple[int, int]], start_after: int) -> None:
        """Whatever comes, no more is held than may be, what is given out goes up, and every number is accounted for."""
        incoming, got = Incoming(3, limit_count=8, limit_bytes=60), list[int]()
        for index, (number, size) in enumerate(arrivals):
            if index == start_after:
                got += [int(content) for content in incoming.start(1)]
            got += [int(content) for content in incoming.receive(number, content_of(number).rjust(size))]
            self.assertLessEqual(incoming.held_count, 8)
            self.assertLessEqual(incoming.held_bytes, 60)
        self.assertEqual(got, sorted(set(got)))
        if incoming.is_started:
            self.assertEqual(len(got) + incoming.lost_count, incoming.next_number - 1)
