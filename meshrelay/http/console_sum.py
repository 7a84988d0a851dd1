"""What several processes of one node show of themselves -> what the console shows of the node. Pure.

=========================================  =========================================================================
of the object                              shown
=========================================  =========================================================================
users, rooms, pairs, sessions that ended   the lists of all, in the order that each has
groups                                     each once: members as the process says that knows most, what was said
                                           everywhere added up
connections, closes, pair_counts, samples  added up; of a sample's lag the greatest
relay, overlay                             of the one process that has it
node, version, uptime, cluster             of the process that asks the others
=========================================  =========================================================================
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from meshrelay.http.console_history import STEP_SECONDS, Sample
from meshrelay.http.console_state import MAX_ENDED, MAX_ROWS

__all__ = ["SAMPLE_SECONDS", "sum_samples", "sum_states"]

#: A sample tells how it is for so long: of a process whose next one is still on its way, the last one counts.
SAMPLE_SECONDS = 3 * STEP_SECONDS


def sum_samples(own: Sequence[Sample], others: Iterable[Sequence[Sample]]) -> list[Sample]:
    """Return the samples of all processes together, at the times of `own`.

    :param own: oldest first, like each of the others.
    """
    rows = [([sample.at for sample in samples], samples) for samples in others]
    return [_sum_at(sample, rows) for sample in own]


def _sum_at(own: Sample, rows: Sequence[tuple[list[float], Sequence[Sample]]]) -> Sample:
    found = [own]
    for times, samples in rows:
        index = bisect_right(times, own.at) - 1
        if index >= 0 and times[index] > own.at - SAMPLE_SECONDS:
            found.append(samples[index])
    return Sample(
        own.at,
        round(sum(each.messages_received for each in found), 1),
        round(sum(each.messages_sent for each in found), 1),
        round(sum(each.bytes_received for each in found), 1),
        round(sum(each.bytes_sent for each in found), 1),
        sum(each.sessions for each in found),
        max(each.lag_ms for each in found),
    )


def sum_states(
    own: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], sample: Sample | None, group_count: int
) -> dict[str, Any]:
    """Return the object that stands for all.

    :param own: of the process that asks; see `meshrelay.http.console_state.ConsoleView.read`.
    :param parts: of the others.
    :param sample: the newest of all together.
    :param group_count: groups that there are; one that several processes hold is one.
    """
    states = [own, *parts]
    groups = _groups(states)
    return {
        **own,
        "sample": list(sample) if sample is not None else None,
        "connections": _total(state["connections"] for state in states),
        "users": {**_joined(states, "users", _seconds), "away": sum(state["users"]["away"] for state in states)},
        "groups": {"count": max(group_count, len(groups)), "rows": groups[:MAX_ROWS]},
        "rooms": _joined(states, "rooms", _fewer_members),
        "closes": _closes(states),
        "ended": sorted((row for state in states for row in state["ended"]), key=_earlier)[:MAX_ENDED],
        "pairs": _joined(states, "pairs", _nothing),
        "pair_counts": _total(state["pair_counts"] for state in states),
        "relay": _first(states, "relay"),
        "overlay": _first(states, "overlay"),
        "consoles": sum(state["consoles"] for state in states),
    }


def _seconds(row: Mapping[str, Any]) -> float:
    return float(row["seconds"])


def _fewer_members(row: Mapping[str, Any]) -> int:
    return -int(row["members"])


def _earlier(row: Mapping[str, Any]) -> float:
    return -float(row["at"])


def _nothing(row: Mapping[str, Any]) -> int:
    return 0


def _joined(states: Sequence[Mapping[str, Any]], name: str, key: Any) -> dict[str, Any]:
    rows = sorted((row for state in states for row in state[name]["rows"]), key=key)
    return {"count": sum(state[name]["count"] for state in states), "rows": rows[:MAX_ROWS]}


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        # Not by adding counters, which leaves out what is 0.
        total.update(each)
    return dict(total)


def _first(states: Sequence[Mapping[str, Any]], name: str) -> Any:
    return next((state[name] for state in states if state[name] is not None), None)


def _groups(states: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The groups of all, the busiest first, of those that are equally busy the largest."""
    found: dict[str, dict[str, Any]] = {}
    for state in states:
        for row in state["groups"]["rows"]:
            known = found.setdefault(row["id"], {**row, "messages": 0.0, "bytes": 0.0})
            known["members"] = max(known["members"], row["members"])
            known["nodes"] = max(known["nodes"], row["nodes"])
            known["messages"] = round(known["messages"] + row["messages"], 1)
            known["bytes"] = round(known["bytes"] + row["bytes"], 1)
    return sorted(found.values(), key=lambda row: (-row["messages"], -row["members"]))


def _closes(states: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for state in states:
        for row in state["closes"]:
            known = found.setdefault((row["transport"], row["reason"]), {**row, "total": 0, "recent": 0})
            known["total"] += row["total"]
            known["recent"] += row["recent"]
    order = sorted(found.values(), key=lambda row: (-row["recent"], -row["total"], row["reason"], row["transport"]))
    return order[:MAX_ROWS]
