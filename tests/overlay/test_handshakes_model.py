"""Every order in which the messages of two handshaking peers can arrive.

The peers are played by `meshrelay.overlay.handshakes` and by a few lines that do what the JavaScript package does. The
world is copied at each step and every next step is tried, so a promise here holds for all orders, not for some.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.handshakes import OFFER_SECONDS, Handshakes

LOW, HIGH = b"\x01" * 20, b"\x02" * 20

Kind = Literal["offer", "answer", "connect", "hello", "accepted", "refused"]


def _longest(low: float, high: float) -> float:
    return high


class _Message(NamedTuple):
    kind: Kind
    to: bytes
    #: The sender of an answer can be dialled.
    has_url: bool = False


class _Peer:
    """What both kinds have."""

    def __init__(self, own_id: bytes, *, has_url: bool) -> None:
        self.own_id = own_id
        self.other_id = HIGH if own_id == LOW else LOW
        self.has_url = has_url
        self.is_linked = False
        self.dials = 0
        self.opened_count = 0

    def wants(self, now: float) -> list[_Message]:
        """The peer looks for links."""
        raise NotImplementedError

    def offer(self, now: float) -> list[_Message]:
        """An offer came."""
        raise NotImplementedError

    def answer(self, now: float, has_url: bool) -> list[_Message]:
        """An answer came."""
        raise NotImplementedError

    def opened(self) -> None:
        """A link is there."""
        self.is_linked = True
        self.opened_count += 1

    def connected(self) -> list[_Message]:
        """The other dialled. Ours waits for its word, so that a second link is closed before it is one."""
        if self.is_linked:
            return [self._to_other("refused")]
        self.opened()
        return [self._to_other("accepted")]

    def hello(self) -> list[_Message]:
        """The other speaks first where we dialled. Ours says nothing on a second link."""
        if self.is_linked:
            return []
        self.opened()
        return [self._to_other("accepted")]

    def refused(self, now: float) -> list[_Message]:
        """The dial failed."""
        return []

    def time_passed(self, now: float) -> list[_Message]:
        """A second is over."""
        return []

    def take(self, message: _Message, now: float) -> list[_Message]:
        """A message, or what a socket says."""
        match message.kind:
            case "offer":
                return self.offer(now)
            case "answer":
                return self.answer(now, message.has_url)
            case "connect":
                return self.connected()
            case "hello":
                return self.hello()
            case "accepted":
                self.opened()
                return []
            case "refused":
                return [] if self.is_linked else self.refused(now)

    def _to_other(self, kind: Kind) -> _Message:
        return _Message(kind, self.other_id, self.has_url)

    def _dial(self) -> list[_Message]:
        self.dials += 1
        return [self._to_other("connect")]


class _Ours(_Peer):
    """A peer with our handshakes."""

    def __init__(self, own_id: bytes, *, has_url: bool) -> None:
        super().__init__(own_id, has_url=has_url)
        self.handshakes = Handshakes(own_id, _longest, is_reachable=has_url)

    def wants(self, now: float) -> list[_Message]:
        if not self.is_linked and self.handshakes.want(self.other_id, now):
            return [self._to_other("offer")]
        return []

    def offer(self, now: float) -> list[_Message]:
        reply = self.handshakes.offer_came(self.other_id, now, self.is_linked)
        answers = [self._to_other("answer")] if reply.sends_answer else []
        return answers + ([self._to_other("offer")] if reply.sends_offer else [])

    def answer(self, now: float, has_url: bool) -> list[_Message]:
        if not self.handshakes.answer_came(self.other_id, now):
            return []
        if has_url:
            self.handshakes.dialling(self.other_id, now)
            return self._dial()
        self.handshakes.unusable(self.other_id, now)
        return self._invitation(now)

    def opened(self) -> None:
        super().opened()
        self.handshakes.opened(self.other_id)

    def refused(self, now: float) -> list[_Message]:
        self.handshakes.failed(self.other_id, now)
        return self._invitation(now)

    def time_passed(self, now: float) -> list[_Message]:
        return self._invitation(now) if self.handshakes.expire(now) else []

    def _invitation(self, now: float) -> list[_Message]:
        return [self._to_other("answer")] if self.handshakes.invites(self.other_id, now) else []


class _JavaScript(_Peer):
    """A peer with the rules of the JavaScript package: it waits for ever, and takes any answer."""

    def __init__(self, own_id: bytes, *, has_url: bool) -> None:
        super().__init__(own_id, has_url=has_url)
        self.is_waiting = False

    def wants(self, now: float) -> list[_Message]:
        if self.is_linked or self.is_waiting:
            return []
        self.is_waiting = True
        return [self._to_other("offer")]

    def offer(self, now: float) -> list[_Message]:
        if self.is_linked or (self.is_waiting and self.other_id > self.own_id):
            return []
        self.is_waiting = True
        return [self._to_other("answer")]

    def answer(self, now: float, has_url: bool) -> list[_Message]:
        return self._dial() if has_url and not self.is_linked else []

    def connected(self) -> list[_Message]:
        return [self._to_other("hello")]

    def opened(self) -> None:
        super().opened()
        self.is_waiting = False


@dataclass
class _World:
    """Two peers and what is between them."""

    peers: dict[bytes, _Peer]
    #: Who has not looked for links yet.
    starters: tuple[bytes, ...]
    #: How many messages or dials the world may still lose, or how often time may pass while something is on its way.
    mishaps: int = 0
    now: float = 0.0
    under_way: list[_Message] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    @property
    def dials(self) -> int:
        return sum(peer.dials for peer in self.peers.values())

    @property
    def is_linked(self) -> bool:
        return all(peer.is_linked for peer in self.peers.values())

    def start(self, peer_id: bytes) -> None:
        self.story.append(f"{peer_id[0]} starts")
        self.starters = tuple(other for other in self.starters if other != peer_id)
        self.under_way += self.peers[peer_id].wants(self.now)

    def deliver(self, index: int) -> None:
        message = self.under_way.pop(index)
        self.story.append(f"{message.kind} at {message.to[0]}")
        self.under_way += self.peers[message.to].take(message, self.now)

    def lose(self, index: int) -> None:
        message = self.under_way.pop(index)
        self.mishaps -= 1
        self.story.append(f"{message.kind} to {message.to[0]} lost")
        if message.kind == "connect":
            self.under_way.append(_Message("refused", LOW if message.to == HIGH else HIGH))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for peer in self.peers.values():
            self.under_way += peer.time_passed(self.now)

    def next_worlds(self) -> Iterator[_World]:
        """All worlds that may be next."""
        for peer_id in self.starters:
            (world := copy.deepcopy(self)).start(peer_id)
            yield world
        for index, message in enumerate(self.under_way):
            (world := copy.deepcopy(self)).deliver(index)
            yield world
            if self.mishaps and message.kind in ("offer", "answer", "connect"):
                (world := copy.deepcopy(self)).lose(index)
                yield world
        if self.mishaps and self.under_way:
            world = copy.deepcopy(self)
            world.mishaps -= 1
            world.story.append("time passes")
            world.wait(OFFER_SECONDS + 1)
            yield world

    def settle(self, seconds: int) -> None:
        """Let peers of ours go on as they do, with nothing lost any more, until there is a link."""
        for _ in range(seconds):
            self.wait(1.0)
            for peer in self.peers.values():
                self.under_way += peer.wants(self.now)
            while self.under_way:
                self.deliver(0)
            if self.is_linked:
                return


def _ends(world: _World) -> Iterator[_World]:
    """All worlds in which nothing is under way any more."""
    heap = [world]
    while heap:
        world = heap.pop()
        nexts = list(world.next_worlds())
        heap += nexts
        if not nexts:
            yield world


def _world(low: _Peer, high: _Peer, starters: tuple[bytes, ...], mishaps: int = 0) -> _World:
    return _World({LOW: low, HIGH: high}, starters, mishaps)


_STARTERS = ((LOW,), (HIGH,), (LOW, HIGH))


class OursTests(SynchronousTestCase):
    """Two peers of ours."""

    def test_nothing_lost(self) -> None:
        """Whoever begins, in whatever order messages arrive, there is one dial and one link, if one can be dialled."""
        for starters, low_url, high_url in product(_STARTERS, (True, False), (True, False)):
            if not (low_url or high_url):
                continue
            ends = 0
            for end in _ends(_world(_Ours(LOW, has_url=low_url), _Ours(HIGH, has_url=high_url), starters)):
                ends += 1
                self.assertTrue(end.is_linked, end.story)
                self.assertEqual(end.dials, 1, end.story)
            self.assertGreater(ends, 0)

    def test_one_mishap(self) -> None:
        """If a message is lost, a dial fails or all is late, there is a link all the same, and never a second one."""
        for starters, low_url, high_url in product(_STARTERS, (True, False), (True, False)):
            if not (low_url or high_url):
                continue
            for end in _ends(_world(_Ours(LOW, has_url=low_url), _Ours(HIGH, has_url=high_url), starters, 1)):
                if not end.is_linked:
                    end.settle(60)
                self.assertTrue(end.is_linked, end.story)
                self.assertEqual([peer.opened_count for peer in end.peers.values()], [1, 1], end.story)

    def test_nobody_can_be_dialled(self) -> None:
        """Two peers that cannot be dialled say a few words and leave it at that."""
        for starters in _STARTERS:
            for end in _ends(_world(_Ours(LOW, has_url=False), _Ours(HIGH, has_url=False), starters)):
                self.assertEqual(end.dials, 0)
                self.assertLessEqual(len(end.story), 8, end.story)


class JavaScriptTests(SynchronousTestCase):
    """A peer of ours and one of the JavaScript package."""

    def _check(self, low: _Peer, high: _Peer, starters: tuple[bytes, ...], mishaps: int = 0) -> None:
        for end in _ends(_world(low, high, starters, mishaps)):
            if mishaps and not end.is_linked:
                end.settle(120)
            self.assertTrue(end.is_linked, end.story)
            self.assertEqual([peer.opened_count for peer in end.peers.values()], [1, 1], end.story)

    def test_nothing_lost(self) -> None:
        """There is one link in every order of messages; if ours can be dialled, the other need not be."""
        for starters, has_url in product(_STARTERS, (True, False)):
            self._check(_Ours(LOW, has_url=True), _JavaScript(HIGH, has_url=has_url), starters)
            self._check(_JavaScript(LOW, has_url=has_url), _Ours(HIGH, has_url=True), starters)

    def test_ours_cannot_be_dialled(self) -> None:
        """One of ours that cannot be dialled gets its link when its ID is the lower one, or it begins alone."""
        for starters in _STARTERS:
            self._check(_Ours(LOW, has_url=False), _JavaScript(HIGH, has_url=True), starters)
        self._check(_JavaScript(LOW, has_url=True), _Ours(HIGH, has_url=False), (HIGH,))

    def test_one_mishap(self) -> None:
        """The JavaScript package waits for ever after a loss; ours gets it to dial all the same."""
        for starters, has_url in product(_STARTERS, (True, False)):
            self._check(_Ours(LOW, has_url=True), _JavaScript(HIGH, has_url=has_url), starters, 1)
            self._check(_JavaScript(LOW, has_url=has_url), _Ours(HIGH, has_url=True), starters, 1)
