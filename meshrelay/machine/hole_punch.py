"""The way to one peer through whatever NATs there are: PROBEs in, PROBEs and the best direct path out.

Both ends run this at the same time, from the moment they get the sync bytes. ::

    candidates --rounds, backing off--> questions ---> peer
    PROBE of the peer, from anywhere  ---> answer at once, and a check of that path (`machine.peer_path`)
    checks that were verified         ---> `path`, the fastest; kept alive, asked again, given up, chosen anew
    no path                           ---> `reason`, and it goes on trying

A round asks all candidates: the public address first, then the local ones, then what was learned. Each round also says
by the relay what NAT this end has (`machine.nat_kind`), since who sits behind a symmetric one has to be found elsewhere
than where the node saw it. After a few rounds the ports that come next are tried, then many by chance
(`machine.port_prediction`); three such searches, then only plain rounds every half a minute go on.

Everything that comes in was opened with the key of the link group: a forged PROBE never gets here. Bounds: candidates,
checks, questions that wait, answers that wait, packets of a search and their rate; each has its name below.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, unique
from random import Random
from typing import NamedTuple

from meshrelay.machine.nat_kind import MappingObserver
from meshrelay.machine.peer_path import Path, PathCheck, PathStage
from meshrelay.machine.port_prediction import (
    PREDICTED_PORTS,
    SEARCH_PORTS,
    SEARCH_SOCKETS,
    PortSearch,
    next_ports,
    random_ports,
)
from meshrelay.wire.addresses import AddressKind, UdpAddress, usable_addresses
from meshrelay.wire.peer_packet import Mapping, Probe, decode_probe, encode_probe

__all__ = [
    "MAX_ANSWERS",
    "MAX_CANDIDATES",
    "MAX_CHECKS",
    "MAX_QUESTIONS",
    "HolePunch",
    "OutgoingProbe",
    "PunchOptions",
    "RelayReason",
]

#: Addresses that a round asks: those of the sync bytes and a few that were learned.
MAX_CANDIDATES = 24

#: Paths that are checked at a time; only those from which the peer was heard.
MAX_CHECKS = 32

#: Questions whose answers are waited for; more than three searches send.
MAX_QUESTIONS = 4096

#: Answers that wait to be fetched; the peer asks again.
MAX_ANSWERS = 64

#: Between the rounds while there is no path, then the last one with some jitter.
_ROUND_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 30.0)

#: Rounds that also try the ports that come next; and those that search, at 1.5, 6.3 and 25.5 seconds.
_PREDICTING_ROUNDS = range(3, 9)
_SEARCHING_ROUNDS = frozenset((4, 6, 8))

#: After so many rounds (6.3 s) people are told that nobody answers.
_PATIENT_ROUNDS = 7

#: Between the rounds that look for a faster path.
_FIRST_RECHECK_SECONDS = 1.0
_RECHECK_SECONDS = 60.0

#: Data of the last so many seconds make a path active.
_ACTIVE_SECONDS = 5.0

#: A path must be that much faster to replace one that works.
_BETTER_SHARE = 0.8
_BETTER_SECONDS = 0.002

#: Sockets of a search stay open so long: the peer may search later than we do.
_SOCKETS_SECONDS = 20.0

#: A peer that comes from new addresses starts the rounds anew, no more often than this.
_RESTART_SECONDS = 5.0

_SYMMETRIC = (Mapping.STEADY, Mapping.RANDOM)


@unique
class RelayReason(Enum):
    """Why packets go by the relay; the value is for the eyes of people."""

    TRYING = "a direct path is being tried"
    NO_OWN_ADDRESS = "this client has no UDP address: it speaks to the node over TCP or WebSocket"
    NO_PEER_ADDRESS = "the peer has no UDP address that can be used"
    NO_ANSWER = "nobody answered at the peer's addresses: UDP is blocked, or both NATs are symmetric"
    PORT_NOT_FOUND = "one NAT uses another port for each destination (symmetric), and the right one was not found"
    BOTH_SYMMETRIC = "both NATs use another port for each destination (symmetric)"
    TOO_NARROW = "small packets pass, but none of full length"
    LOST = "the direct path was lost and is tried again"


@dataclass(frozen=True, slots=True)
class PunchOptions:
    """What may be tried."""

    #: False: there is no UDP socket, everything is relayed.
    has_socket: bool = True
    allow_private: bool = True
    #: For tests on one machine.
    allow_loopback: bool = False
    #: False: at most one socket is used, and chances against symmetric NATs are small.
    allow_search: bool = True


class OutgoingProbe(NamedTuple):
    """The content of a PROBE to send; `path` None = by the relay."""

    path: Path | None
    content: bytes


class HolePunch:
    """See the module. Outputs are pulled with `probes_to_send`; `path`, `reason` and `deadline` are valid after it.

    :param candidates: the peer's addresses of the sync bytes, public one first; useless ones are left out.
    :param observer: what was seen of our socket; shared by all peers of it, and fed by whoever hears the node.
    :param random: for ports and jitter.
    """

    def __init__(
        self,
        candidates: Iterable[UdpAddress],
        observer: MappingObserver,
        random: Random,
        now: float,
        options: PunchOptions | None = None,
    ) -> None:
        self._options = options or PunchOptions()
        self._observer = observer
        self._random = random
        self._candidates = self._usable(candidates)[:MAX_CANDIDATES]
        #: The best direct path; None = relay.
        self.path: Path | None = None
        self._checks: dict[Path, PathCheck] = {}
        self._answers: list[tuple[Path, int, int]] = []
        # Number -> where the question went, when, and whether it filled a datagram.
        self._questions: dict[int, tuple[Path, float, bool]] = {}
        self._number = 0
        self._search = PortSearch(now)
        self._round_at = now
        self._rounds = 0
        self._restarted_at = now
        self._data_at = -_ACTIVE_SECONDS
        self._sockets_until = now
        self._was_lost = False
        self._peer_mapping = Mapping.UNKNOWN
        self._peer_step = 0
        # Only where the node has seen the peer many ports are tried: what a peer says of itself may be anybody's.
        self._vouched = next((each for each in self._candidates if each.kind is AddressKind.PUBLIC), None)
        self._peer_public: tuple[UdpAddress, ...] = ()
        self._counts = dict.fromkeys(("probes_sent", "searches", "paths_lost", "answers_dropped", "checks_refused"), 0)

    def restart(self, now: float) -> None:
        """Try everything from the beginning: our network is another one. A path that still works is kept."""
        self._rounds = 0
        self._doubt(now)

    def data_moved(self, now: float) -> None:
        """Note that data were sent or received, by whichever path."""
        self._data_at = now
        check = self._checks.get(self.path) if self.path is not None else None
        if check is not None:
            check.data_moved(now)

    def receive(self, content: bytes, path: Path | None, now: float) -> None:
        """Take the opened content of a PROBE.

        :param path: where it came from and by which socket; None: by the relay.
        :raises PacketRejected: ``bad_probe``.
        """
        probe = decode_probe(content)
        self._learn(probe, path, now)
        if path is None or not self._options.has_socket:
            return
        self._hear(path, now)
        if probe.question:
            if len(self._answers) < MAX_ANSWERS:
                self._answers.append((path, probe.question, len(content)))
            else:
                self._counts["answers_dropped"] += 1
        if probe.answer:
            self._take_answer(probe.answer, path, now)

    def probes_to_send(self, now: float) -> list[OutgoingProbe]:
        """Return what is due."""
        if not self._options.has_socket:
            return []
        probes: list[OutgoingProbe] = []
        for path, question, size in self._answers:
            probes.append(OutgoingProbe(path, self._probe(answer=question, seen=path.address, size=size)))
        self._answers.clear()
        for check in list(self._checks.values()):
            if now >= check.ask_at:
                check.expire(now)
                if check.stage is PathStage.DEAD:
                    self._bury(check, now)
                elif now >= check.ask_at:
                    probes.append(self._question(check.path, check.ask(now), now))
        self._choose(now)
        if now >= self._round_at:
            probes += self._round(now)
        for address, socket in self._search.take(now):
            probes.append(self._question(Path(address, socket), 0, now))
        self._counts["probes_sent"] += len(probes)
        return probes

    def deadline(self) -> float | None:
        """Return when `probes_to_send` is to be called next; None: never."""
        if not self._options.has_socket:
            return None
        times = [self._round_at, *(check.ask_at for check in self._checks.values())]
        if self._search.deadline is not None:
            times.append(self._search.deadline)
        return min(times)

    def is_suspect(self, now: float) -> bool:
        """Whether the path may be dead: send by the relay as well until that is known."""
        check = self._checks.get(self.path) if self.path is not None else None
        return check is not None and check.is_suspect(now)

    @property
    def round_trip_seconds(self) -> float | None:
        """Of the path; None: there is none."""
        return self._checks[self.path].round_trip_seconds if self.path is not None else None

    @property
    def reason(self) -> RelayReason | None:
        """Why the relay is used; None: it is not."""
        if self.path is not None:
            return None
        if not self._options.has_socket:
            return RelayReason.NO_OWN_ADDRESS
        if not self._candidates and not self._checks:
            return RelayReason.NO_PEER_ADDRESS
        if any(check.stage is PathStage.NARROW for check in self._checks.values()):
            return RelayReason.TOO_NARROW
        if self._rounds < _PATIENT_ROUNDS:
            return RelayReason.LOST if self._was_lost else RelayReason.TRYING
        symmetric = [mapping in _SYMMETRIC for mapping in (self._observer.mapping, self._peer_mapping)]
        if any(symmetric):
            return RelayReason.BOTH_SYMMETRIC if all(symmetric) else RelayReason.PORT_NOT_FOUND
        return RelayReason.LOST if self._was_lost else RelayReason.NO_ANSWER

    @property
    def peer_mapping(self) -> Mapping:
        """How the peer's NAT chooses ports, as it says."""
        return self._peer_mapping

    def sockets_needed(self, now: float) -> frozenset[int]:
        """Return which of our sockets must stay open; the others may be closed."""
        if len(self._search) or now < self._sockets_until:
            return frozenset(range(SEARCH_SOCKETS + 1))
        return frozenset((0, *(path.socket for path in self._checks)))

    def statistics(self) -> dict[str, int]:
        """Return counters and current values."""
        return {**self._counts, "candidates": len(self._candidates), "checks": len(self._checks)}

    def _usable(self, addresses: Iterable[UdpAddress]) -> list[UdpAddress]:
        return usable_addresses(addresses, self._options.allow_private, self._options.allow_loopback)

    def _learn(self, probe: Probe, path: Path | None, now: float) -> None:
        if probe.seen is not None and path is not None and not path.socket:
            self._observer.add(path.address, probe.seen)
        if probe.mapping is not Mapping.UNKNOWN:
            self._peer_mapping, self._peer_step = probe.mapping, probe.step
        public = tuple(self._usable(probe.public))
        if not public or public == self._peer_public:
            return
        is_new = public[0] not in self._candidates
        self._peer_public = public
        # The first places belong to the sync bytes; of the rest the latest stay.
        known = [address for address in self._candidates if address not in public]
        self._candidates = known[: MAX_CANDIDATES - len(public)] + list(public)
        if is_new and now >= self._restarted_at + _RESTART_SECONDS:
            if self.path is None:
                self._rounds = 0
            self._doubt(now)

    def _doubt(self, now: float) -> None:
        """See at once which paths still work, and whether there are others."""
        self._round_at = self._restarted_at = now
        for check in self._checks.values():
            check.doubt(now)

    def _hear(self, path: Path, now: float) -> None:
        """The peer was heard from there: ask back."""
        if path in self._checks:
            return
        if len(self._checks) >= MAX_CHECKS:
            self._counts["checks_refused"] += 1
            return
        self._checks[path] = PathCheck(path, now)
        current = self._checks.get(self.path) if self.path is not None else None
        if current is not None:
            # Perhaps it has moved, and is not there any more.
            current.doubt(now)

    def _take_answer(self, number: int, path: Path, now: float) -> None:
        asked = self._questions.get(number)
        check = self._checks.get(path)
        # An answer from elsewhere proves nothing about the path that the question took; that one is asked by itself.
        if asked is None or check is None or asked[0] != path:
            return
        del self._questions[number]
        check.answered(asked[1], asked[2], now < self._data_at + _ACTIVE_SECONDS, now)
        if check.stage is PathStage.VERIFIED:
            self._search.stop()

    def _bury(self, check: PathCheck, now: float) -> None:
        del self._checks[check.path]
        if check.path == self.path:
            self.path = None
            self._was_lost = True
            self._counts["paths_lost"] += 1
            self.restart(now)

    def _choose(self, now: float) -> None:
        """Take the fastest verified path, but change a good one for a much better one only."""
        verified = [check for check in self._checks.values() if check.stage is PathStage.VERIFIED]
        if not verified:
            return
        best = min(verified, key=lambda check: (check.is_suspect(now), check.round_trip_seconds))
        current = self._checks.get(self.path) if self.path is not None else None
        if current is None:
            self._round_at = now + _FIRST_RECHECK_SECONDS
        elif current.is_suspect(now) is best.is_suspect(now) and (
            best.round_trip_seconds > current.round_trip_seconds * _BETTER_SHARE - _BETTER_SECONDS
        ):
            return
        self.path = best.path
        self._rounds = 0

    def _round(self, now: float) -> list[OutgoingProbe]:
        """Ask the candidates, and without a path do more."""
        paths = (Path(address) for address in self._candidates)
        probes = [self._question(path, 0, now) for path in paths if path not in self._checks]
        if self.path is not None:
            self._round_at = now + _RECHECK_SECONDS * self._random.uniform(0.75, 1.25)
            return probes
        number = self._rounds
        self._rounds += 1
        delay = _ROUND_SECONDS[min(number, len(_ROUND_SECONDS) - 1)]
        self._round_at = now + (delay if number < len(_ROUND_SECONDS) else delay * self._random.uniform(0.75, 1.25))
        if self._vouched is not None and self._options.allow_search:
            if number in _SEARCHING_ROUNDS:
                self._begin_search(now)
            elif number in _PREDICTING_ROUNDS and not len(self._search):
                self._search.begin([(address, 0) for address in self._predicted()], now)
        # A note by the relay goes with each round, so that both ends know what NATs there are.
        return [OutgoingProbe(None, self._probe()), *probes]

    def _target(self) -> UdpAddress:
        """Return where the peer was seen last, at the host that the node vouches for."""
        assert self._vouched is not None
        host = self._vouched.host
        return next((address for address in self._peer_public if address.host == host), self._vouched)

    def _predicted(self) -> list[UdpAddress]:
        """Return where a counting NAT of the peer expects us."""
        if self._peer_mapping not in (Mapping.STEADY, Mapping.UNKNOWN):
            return []
        host, port = self._target()
        return [UdpAddress(host, next_port) for next_port in next_ports(port, self._peer_step, PREDICTED_PORTS)]

    def _begin_search(self, now: float) -> None:
        """Open many ports of our NAT towards the peer, try many of the peer's, or both when nothing is known."""
        own, peer = self._observer.mapping, self._peer_mapping
        places: list[tuple[UdpAddress, int]] = [(address, 0) for address in self._predicted()]
        if own is not Mapping.SAME and peer not in _SYMMETRIC:
            places += [(self._target(), socket) for socket in range(1, SEARCH_SOCKETS + 1)]
            self._sockets_until = now + _SOCKETS_SECONDS
        if peer is not Mapping.SAME and own not in _SYMMETRIC:
            host = self._target().host
            count = SEARCH_SOCKETS + SEARCH_PORTS - len(places) if own is Mapping.SAME else SEARCH_PORTS
            places += [(UdpAddress(host, port), 0) for port in random_ports(self._random, count)]
        if places:
            self._counts["searches"] += 1
            self._search.begin(places, now)

    def _probe(self, *, question: int = 0, answer: int = 0, seen: UdpAddress | None = None, size: int = 0) -> bytes:
        observer = self._observer
        hears = seen is not None
        probe = Probe(question, answer, hears, observer.mapping, observer.step, seen, observer.public)
        return encode_probe(probe, size)

    def _question(self, path: Path, size: int, now: float) -> OutgoingProbe:
        self._number += 1
        self._questions[self._number] = (path, now, size > 0)
        if len(self._questions) > MAX_QUESTIONS:
            del self._questions[next(iter(self._questions))]
        seen = path.address if path in self._checks else None
        return OutgoingProbe(path, self._probe(question=self._number, seen=seen, size=size))
