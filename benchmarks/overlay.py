"""The overlay: fifty peers, ours and those of the npm package peer-relay, together and each alone; memory of a hub.

``python -m benchmarks.overlay``; about twelve minutes. Needs Node, and once npm's registry. Writes the figures to
results/overlay.json and the tables into README.md.

All peers of a kind are in one process, so that two kinds have a processor each. Each peer listens on 127.0.0.1. Where
there are peers of ours they are the hubs: each of ours knows one that came before it, each of the package one of ours.
Where the package is alone all know the first. Every message has a number and the time at which it was sent; senders
keep their pace whatever happens. Latency is from the call of ``send`` to the event ``message``. Frames are all that
WebSockets carry meanwhile, acknowledgements and the upkeep of links included.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.page import write_between
from tests.interop.peer_relay_programs import JsPeers, OwnPeers, Peer, PeerProcess

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

PEERS = 50
SEEDS = (1, 2, 3, 4, 5)

#: All pairs once, at this pace.
PAIRS_PER_SECOND = 300.0
LOAD_PER_SECOND = 1000.0
LOAD_SECONDS = 5.0

#: Links come and go until then.
SETTLE_SECONDS = 4.0
#: What has not come so long after everything else has is lost.
LATE_SECONDS = 3.0

HUB_MESSAGES = 1_000_000
HUB_PER_SECOND = 6000.0
#: Parts of them; memory is looked at after each.
HUB_PARTS = 10

#: What is wanted.
FRAMES, P99_MS, GROWTH_MIB = 3.0, 20.0, 16.0

_BEGIN, _END = "<!-- overlay: written by overlay.py -->", "<!-- overlay: end -->"


class Swarm:
    """Peers in one overlay, from ``with`` to its end.

    :param kinds: "own" or "js" for each peer, in the order in which they come.
    :param seed: who knows whom, and who sends to whom.
    """

    def __init__(self, kinds: list[str], seed: int, *, has_deflate: bool = True) -> None:
        self._kinds = kinds
        self._random = random.Random(seed)
        self._stack = ExitStack()
        self._processes: dict[str, PeerProcess] = {}
        if "own" in kinds:
            self._processes["own"] = OwnPeers()
        if "js" in kinds:
            self._processes["js"] = JsPeers(has_deflate=has_deflate)
        self.peers: list[Peer] = []

    def __enter__(self) -> Swarm:
        for process in self._processes.values():
            self._stack.enter_context(process)
        for number, kind in enumerate(self._kinds):
            hubs = [peer for peer in self.peers if peer.process.kind == "own"]
            known = [self._random.choice(hubs)] if hubs else self.peers[:1]
            self.peers.append(self._processes[kind].make(f"{number}", port=0, bootstrap=known))
        for peer in self.peers:
            peer.wait_linked(least=1)
        time.sleep(SETTLE_SECONDS)
        return self

    def __exit__(self, *of: Any) -> None:
        self._stack.__exit__(*of)

    def all_pairs(self) -> list[tuple[Peer, Peer]]:
        """Each to each other, in random order."""
        pairs = [(sender, target) for sender in self.peers for target in self.peers if sender is not target]
        self._random.shuffle(pairs)
        return pairs

    def measure(self, pairs: list[tuple[Peer, Peer]], per_second: float, count: int) -> dict[str, float]:
        """Send that many messages to the pairs in turn, and say what became of them."""
        before = self._counts("frames_sent")
        for process in self._processes.values():
            process.ask("count")
        at = time.monotonic() + 0.2
        begun, first = [], 0
        for process in self._processes.values():
            own = [[sender.name, target.peer_id] for sender, target in pairs if sender.process is process]
            share = round(count * len(own) / len(pairs))
            pace = per_second * len(own) / len(pairs)
            number = process.begin("send_many", pairs=own, per_second=pace, count=share, first=first, at=at)
            begun.append((process, number))
            first += share
        for process, number in begun:
            process.finish(number, count / per_second * 4 + 60)
        buckets, received = self._wait_for_the_last()
        frames = self._counts("frames_sent") - before
        return {
            "sent": first,
            "delivered": received / first,
            "p50_ms": _quantile(buckets, 0.5),
            "p99_ms": _quantile(buckets, 0.99),
            "frames": frames / max(1, received),
        }

    def _wait_for_the_last(self) -> tuple[Counter[int], int]:
        received, changed_at = -1, time.monotonic()
        while time.monotonic() < changed_at + LATE_SECONDS:
            time.sleep(0.5)
            answers = [process.ask("counted", timeout=60) for process in self._processes.values()]
            now = sum(answer["received"] for answer in answers)
            if now != received:
                received, changed_at = now, time.monotonic()
        buckets: Counter[int] = Counter()
        for answer in answers:
            buckets.update({int(bucket): value for bucket, value in answer["buckets"].items()})
        return buckets, received

    def _counts(self, name: str) -> int:
        return sum(process.counts()[name] for process in self._processes.values())


def _quantile(buckets: Counter[int], part: float) -> float:
    """Milliseconds; the buckets of the programs are 2 % wide."""
    left = part * sum(buckets.values())
    for bucket in sorted(buckets):
        left -= buckets[bucket]
        if left <= 0:
            return math.pow(1.02, bucket + 0.5) / 1000
    return math.nan


MIXES: dict[str, tuple[str, list[str], bool]] = {
    "mixed": ("25 of ours, 25 of the package", ["own"] * 25 + ["js"] * 25, True),
    "own": ("50 of ours", ["own"] * PEERS, True),
    "js": ("50 of the package", ["js"] * PEERS, True),
    "js_plain": ("50 of the package, not compressing", ["js"] * PEERS, False),
}


def measure_mix(name: str, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """For each seed: all pairs once, and some seconds at the higher pace."""
    _, kinds, has_deflate = MIXES[name]
    runs = []
    for seed in seeds:
        with Swarm(kinds, seed, has_deflate=has_deflate) as swarm:
            pairs = swarm.all_pairs()
            once = swarm.measure(pairs, PAIRS_PER_SECOND, len(pairs))
            load = swarm.measure(pairs, LOAD_PER_SECOND, round(LOAD_PER_SECOND * LOAD_SECONDS))
        runs.append({"once": once, "load": load})
        print(name, seed, json.dumps(runs[-1]), flush=True)
    return runs


def measure_hub(count: int) -> dict[str, Any]:
    """Messages between two peers of the package that do not listen, through a hub of ours."""
    mib: list[float] = []
    with OwnPeers() as hub_process, JsPeers(has_deflate=False) as leaves:
        hub = hub_process.make("hub", port=0)
        first, last = (leaves.make(name, bootstrap=[hub]) for name in ("first", "last"))
        hub.wait_linked(first, last)
        leaves.ask("count")
        pairs = [[first.name, last.peer_id], [last.name, first.peer_id]]
        part = count // HUB_PARTS
        mib.append(hub_process.counts()["rss"] / 2**20)
        for number in range(HUB_PARTS):
            options = {"pairs": pairs, "per_second": HUB_PER_SECOND, "count": part, "first": number * part}
            leaves.ask("send_many", timeout=part / HUB_PER_SECOND * 4 + 60, **options)
            time.sleep(0.5)
            mib.append(hub_process.counts()["rss"] / 2**20)
            print("hub", number, mib, flush=True)
        received = leaves.ask("counted")["received"]
    return {"sent": part * HUB_PARTS, "delivered": received / (part * HUB_PARTS), "mib": mib}


def _middle(runs: list[dict[str, Any]], part: str, key: str) -> float:
    return float(statistics.median(run[part][key] for run in runs))


def goals(figures: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """What is wanted: title, how much, what was measured, whether that is enough."""
    mixed, own, hub = figures["mixes"]["mixed"], figures["mixes"]["own"], figures["hub"]
    least = min(run["once"]["delivered"] for run in mixed)
    frames = max(run["once"]["frames"] for run in mixed)
    least_own = min(run["load"]["delivered"] for run in own)
    late = _middle(own, "load", "p99_ms")
    # The first parts fill tables that have a bound.
    growth = max(hub["mib"]) - hub["mib"][len(hub["mib"]) // 2]
    return [
        ("mixed: all pairs deliver, the worst seed", "100 %", f"{least:.2%}", least == 1.0),
        ("mixed: frames for a delivered message, the worst seed", f"≤ {FRAMES:.0f}", f"{frames:.2f}", frames <= FRAMES),
        ("ours alone at 1,000/s: delivered, the worst seed", "100 %", f"{least_own:.2%}", least_own == 1.0),
        ("ours alone at 1,000/s: p99, ms", f"< {P99_MS:.0f}", f"{late:.1f}", late < P99_MS),
        (
            f"growth of a hub over the second half of {hub['sent']:,} messages, MiB",
            f"≤ {GROWTH_MIB:.0f}",
            f"{growth:.1f}",
            growth <= GROWTH_MIB,
        ),
    ]


def table(figures: dict[str, Any]) -> str:
    """The figures as tables in Markdown."""
    lines = [
        f"Measured on {figures['date']}: {figures['machine']}. {PEERS} peers, the middle one of {len(SEEDS)} seeds, in "
        "brackets the least share that was delivered:",
    ]
    titles = {
        "once": f"all pairs once, {PAIRS_PER_SECOND:.0f} a second",
        "load": f"{LOAD_PER_SECOND:,.0f} a second for {LOAD_SECONDS:.0f} s",
    }
    for part, title in titles.items():
        lines += ["", f"| {title} | delivered | p50, ms | p99, ms | frames for a delivered message |"]
        lines.append("|---|---:|---:|---:|---:|")
        for name, runs in figures["mixes"].items():
            least = min(run[part]["delivered"] for run in runs)
            cells = [f"{_middle(runs, part, 'delivered'):.1%} ({least:.1%})"]
            cells += [f"{_middle(runs, part, key):.1f}" for key in ("p50_ms", "p99_ms", "frames")]
            lines.append(f"| {MIXES[name][0]} | {' | '.join(cells)} |")
    hub = figures["hub"]
    lines += [
        "",
        f"A hub of ours that passes on {hub['sent']:,} messages between two peers of the package: {hub['mib'][0]:.0f} "
        f"MiB before, {hub['mib'][len(hub['mib']) // 2]:.0f} after half of them, {hub['mib'][-1]:.0f} after all; "
        f"{hub['delivered']:.2%} delivered.",
        "",
        "| goal | wanted | measured | |",
        "|---|---:|---:|---|",
    ]
    for title, wanted, measured, is_reached in goals(figures):
        lines.append(f"| {title} | {wanted} | {measured} | {'reached' if is_reached else 'not reached'} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Fifty peers of the overlay, ours and the npm package's.")
    parser.add_argument("--table", action="store_true", help="only write the table of what was measured before")
    parser.add_argument("--only", choices=[*MIXES, "hub"], help="measure that and write nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="with --only: how many")
    parser.add_argument("--messages", type=int, default=HUB_MESSAGES, help="with --only hub: how many")
    arguments = parser.parse_args()
    if arguments.only:
        only = arguments.only
        measured = measure_hub(arguments.messages) if only == "hub" else measure_mix(only, SEEDS[: arguments.seeds])
        print(json.dumps(measured, indent=1))
        return
    RESULTS.mkdir(exist_ok=True)
    stored = RESULTS / "overlay.json"
    if not arguments.table:
        figures = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "mixes": {name: measure_mix(name, SEEDS) for name in MIXES},
            "hub": measure_hub(HUB_MESSAGES),
        }
        stored.write_text(json.dumps(figures, indent=1) + "\n")
    figures = json.loads(stored.read_text())
    write_between(HERE / "README.md", _BEGIN, _END, table(figures))
    print(table(figures))


if __name__ == "__main__":
    main()
