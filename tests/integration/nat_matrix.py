"""Every kind of NAT against every other: how two clients reach each other, and how soon.

``python -m tests.integration.nat_matrix --write`` measures, and writes ``docs/nat-matrix.csv``, which the page on P2P
links shows as a table, and ``docs/nat-matrix.svg``.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.daemon import ROOT
from tests.integration.nat_lab import Lab, LabNode, Nat, missing
from tests.integration.nat_peers import NatPeer

__all__ = ["KINDS", "PairResult", "is_possible", "measure_matrix", "measure_symmetric", "peers_behind"]

KINDS = tuple(Nat)

SYMMETRIC = (Nat.SYMMETRIC, Nat.SYMMETRIC_STEP)

#: Longest wait for a direct path that theory allows: three searches are over by then.
DIRECT_SECONDS = 60.0

#: After so long the reason of a relay is known, where the machine does nothing else; and the longest wait for it.
RELAY_SECONDS = 8.0
REASON_SECONDS = 30.0

#: Runs of the hard case that are on their way at a time.
AT_ONCE = 5

TABLE = ROOT / "docs" / "nat-matrix.csv"
PICTURE = ROOT / "docs" / "nat-matrix.svg"


class PairResult(NamedTuple):
    """What became of one pair; seconds from the order to start."""

    first: Nat
    second: Nat
    #: At either end: DIRECT or RELAYED, and why.
    states: tuple[str, str]
    reasons: tuple[str, str]
    #: Until each had the other's greeting.
    first_data_seconds: float
    #: Until both were direct; None: they were not.
    direct_seconds: float | None

    @property
    def is_direct(self) -> bool:
        """Whether both ends reach each other directly."""
        return self.states == ("DIRECT", "DIRECT")


def is_possible(first: Nat, second: Nat) -> bool:
    """Whether theory allows a direct path: one end's address can be told to the other."""
    if Nat.UDP_BLOCKED in (first, second):
        return False
    return not (first in SYMMETRIC and second in SYMMETRIC)


def peers_behind(lab: Lab, node: LabNode, kinds: Iterable[tuple[str, Nat]]) -> list[NatPeer]:
    """A client for each name and kind, signed in."""
    peers = [NatPeer(lab.client(name, kind), node) for name, kind in kinds]
    for peer in peers:
        peer.ready()
    return peers


class _Pair:
    """Two clients in a room of their own.

    :param helpers: two more members with UDP, where a pair has none or one: a node starts no links without two.
    """

    def __init__(self, kinds: tuple[Nat, Nat], one: NatPeer, other: NatPeer, helpers: Sequence[NatPeer] = ()) -> None:
        self.kinds = kinds
        self.ends = ((one, other), (other, one))
        self.members = (one, other, *helpers)
        self.room = one.room(*self.members[1:])
        self.begin = 0.0

    def start(self) -> None:
        """Start links, and come back when the greetings are here."""
        self.begin = time.monotonic()
        self.ends[0][0].order("start", self.room, len(self.members))
        for end, peer in self.ends:
            end.expect("greeting", room=self.room, peer=peer.name)

    def finish(self, seconds: float) -> PairResult:
        """Wait until both are direct, so long at most from the start, and leave the room."""
        direct_at = []
        for end, peer in self.ends:
            left = self.begin + seconds - time.monotonic()
            said = end.wait("state", max(0.0, left), room=self.room, peer=peer.name, state="DIRECT")
            direct_at.append(said["at"] - self.begin if said is not None else None)
        last = [self._last_state(end, peer) for end, peer in self.ends]
        greeted = [end.find("greeting", room=self.room, peer=peer.name)[0]["at"] for end, peer in self.ends]
        for member in self.members:
            member.ask("leave", self.room)
        is_direct = all(said["state"] == "DIRECT" for said in last)
        return PairResult(
            *self.kinds,
            (last[0]["state"], last[1]["state"]),
            (last[0]["reason"], last[1]["reason"]),
            max(greeted) - self.begin,
            max(at for at in direct_at if at is not None) if is_direct else None,
        )

    def _last_state(self, end: NatPeer, peer: NatPeer) -> dict[str, Any]:
        deadline = time.monotonic() + REASON_SECONDS
        while True:
            said: dict[str, Any] = end.find("state", room=self.room, peer=peer.name)[-1]
            if said["state"] == "DIRECT" or said["reason"] or time.monotonic() > deadline:
                return said
            time.sleep(0.05)


def measure_matrix(lab: Lab, node: LabNode, kinds: Sequence[Nat] = KINDS) -> list[PairResult]:
    """Try every kind against every other, both ways round."""
    ones = peers_behind(lab, node, [(f"a {kind.value}", kind) for kind in kinds])
    others = peers_behind(lab, node, [(f"b {kind.value}", kind) for kind in kinds])
    helpers = peers_behind(lab, node, [("c1", Nat.OPEN), ("c2", Nat.OPEN)])
    results: list[PairResult] = []
    for shift in range(len(kinds)):
        pairs = []
        for place, one in enumerate(ones):
            at = (place + shift) % len(kinds)
            has_udp = Nat.UDP_BLOCKED not in (kinds[place], kinds[at])
            pair = _Pair((kinds[place], kinds[at]), one, others[at], () if has_udp else helpers)
            pair.start()
            pairs.append(pair)
        results += [pair.finish(DIRECT_SECONDS if is_possible(*pair.kinds) else RELAY_SECONDS) for pair in pairs]
    return sorted(results, key=lambda result: (kinds.index(result.first), kinds.index(result.second)))


def measure_symmetric(lab: Lab, node: LabNode, runs: int) -> list[PairResult]:
    """Try symmetric, with ports drawn by lot, against port-restricted; from new sockets each time."""
    kinds = (Nat.SYMMETRIC, Nat.PORT_RESTRICTED)
    named = [
        (f"{side}{number}", kind)
        for number in range(min(runs, AT_ONCE))
        for side, kind in zip("sp", kinds, strict=True)
    ]
    peers = peers_behind(lab, node, named)
    results: list[PairResult] = []
    while len(results) < runs:
        pairs = []
        for one, other in list(zip(peers[::2], peers[1::2], strict=True))[: runs - len(results)]:
            for peer in (one, other):
                assert peer.ask("rebind")[0]
            pairs.append(_Pair(kinds, one, other))
            pairs[-1].start()
        results += [pair.finish(DIRECT_SECONDS) for pair in pairs]
    return results


def _shown(result: PairResult) -> str:
    if result.direct_seconds is None:
        return "relayed"
    return f"direct, {result.direct_seconds:.2f} s"


def write_table(results: Sequence[PairResult], path: Path) -> None:
    """One row for each kind of the first end."""
    kinds = list(dict.fromkeys(result.first for result in results))
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", *(kind.value for kind in kinds)])
        for kind in kinds:
            writer.writerow([kind.value, *(_shown(result) for result in results if result.first is kind)])


def write_picture(results: Sequence[PairResult], path: Path) -> None:
    """The same in colours."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(result.first for result in results))
    colours = {(result.first, result.second): _colour(result) for result in results}
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow([[mpl.colors.to_rgb(colours[one, other]) for other in kinds] for one in kinds])
    names = [kind.value for kind in kinds]
    axes.set_xticks(range(len(kinds)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(kinds)), names)
    for result in results:
        place = (kinds.index(result.second), kinds.index(result.first))
        axes.annotate(_shown(result).replace(", ", "\n"), place, ha="center", va="center", fontsize=8)
    axes.set_title("How two clients reach each other, and how long until they do so directly")
    with mpl.rc_context({"svg.hashsalt": "meshrelay"}):
        figure.savefig(path, metadata={"Date": None})


def _colour(result: PairResult) -> str:
    if result.direct_seconds is None:
        return "#f4c7a1"
    return "#a8d8a0" if result.direct_seconds < 1.0 else "#dcefb0"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table and the picture into docs")
    parser.add_argument("--runs", type=int, default=0, help="of symmetric against port-restricted, beside the table")
    arguments = parser.parse_args()
    reason = missing()
    if reason:
        sys.exit(reason)
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        node = stack.enter_context(lab.node())
        if arguments.runs:
            results = measure_symmetric(lab, node, arguments.runs)
            seconds = sorted(result.direct_seconds for result in results if result.direct_seconds is not None)
            sys.stdout.write(f"symmetric against port-restricted: {len(seconds)} of {len(results)} direct\n")
            if seconds:
                sys.stdout.write(
                    f"after {seconds[0]:.2f} to {seconds[-1]:.2f} s, half within {seconds[len(seconds) // 2]:.2f}\n"
                )
            return 0
        results = measure_matrix(lab, node)
    for result in results:
        reasons = "" if result.is_direct else f" {'/'.join(result.reasons)}"
        sys.stdout.write(
            f"{result.first.value:20} {result.second.value:20} {_shown(result)}{reasons}, "
            f"first data {result.first_data_seconds * 1000:.0f} ms\n"
        )
    if arguments.write:
        write_table(results, TABLE)
        write_picture(results, PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
