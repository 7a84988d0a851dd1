"""Several processes shown as one node."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.console_history import Sample
from meshrelay.http.console_state import MAX_ENDED, MAX_ROWS
from meshrelay.http.console_sum import SAMPLE_SECONDS, sum_samples, sum_states

NOTHING: dict[str, Any] = {"count": 0, "rows": []}


def sample(at: float, messages: float = 0.0, sessions: int = 0, lag_ms: float = 0.0) -> Sample:
    """A second of a process."""
    return Sample(at, messages, messages, messages * 10, messages * 10, sessions, lag_ms)


def state(**more: Any) -> dict[str, Any]:
    """A state of a process where nothing happens."""
    quiet: dict[str, Any] = {
        "node": "w",
        "sample": None,
        "connections": {"tcp": 0},
        "users": {**NOTHING, "away": 0},
        "groups": NOTHING,
        "rooms": NOTHING,
        "closes": [],
        "ended": [],
        "pairs": NOTHING,
        "pair_counts": {},
        "relay": None,
        "overlay": None,
        "cluster": None,
        "consoles": 0,
    }
    return {**quiet, **more}


def group(name: str, members: int, messages: float = 0.0, nodes: int = 1) -> dict[str, Any]:
    """A row of a group."""
    told = {"id": name, "members": members, "nodes": nodes, "static": False}
    return {**told, "messages": messages, "bytes": messages * 10}


def added(*states: dict[str, Any], group_count: int = 0) -> dict[str, Any]:
    """What is shown of a supervisor that knows the cluster and of these workers."""
    return sum_states(state(node="sup", cluster={"count": 3}), states, None, group_count)


class SampleTests(SynchronousTestCase):
    """What was."""

    def test_sum(self) -> None:
        """Rates and sessions add up at each second; of lag the worst counts."""
        own = [sample(10.0, lag_ms=1.0), sample(11.0, lag_ms=9.0)]
        one = [sample(9.7, 5.0, 2, 3.0), sample(10.7, 6.0, 3, 3.0)]
        two = [sample(9.9, 1.5, 10, 2.0), sample(10.9, 2.5, 11, 2.0)]
        both = sum_samples(own, [one, two])
        self.assertEqual(both, [sample(10.0, 6.5, 12, 3.0), sample(11.0, 8.5, 14, 9.0)])

    def test_new(self) -> None:
        """A process that has just begun, or has no past, adds nothing to the time before."""
        own = [sample(10.0), sample(11.0)]
        shown = sum_samples(own, [[sample(10.5, 5.0, 1)], []])
        self.assertEqual([each.sessions for each in shown], [0, 1])

    def test_gone(self) -> None:
        """A process that is gone counts for a moment, as if its next sample were on its way, and then no more."""
        own = [sample(10.0 + second) for second in range(6)]
        shown = sum_samples(own, [[sample(10.0, 5.0, 7)]])
        self.assertEqual([each.sessions for each in shown], [7] * int(SAMPLE_SECONDS) + [0] * 3)


class StateTests(SynchronousTestCase):
    """What is."""

    def test_users(self) -> None:
        """Users of all, the newest first, and how many there are; no more rows than one process has."""
        rows = [{"id": f"u{number}", "seconds": float(number)} for number in range(MAX_ROWS)]
        one = state(users={"count": 300, "away": 2, "rows": rows})
        two = state(users={"count": 1, "away": 1, "rows": [{"id": "new", "seconds": 0.5}]})
        users = added(one, two)["users"]
        self.assertEqual((users["count"], users["away"], len(users["rows"])), (301, 3, MAX_ROWS))
        self.assertEqual([row["id"] for row in users["rows"][:3]], ["u0", "new", "u1"])

    def test_groups(self) -> None:
        """A group that several hold is shown once, with what all say in it; busy ones come first, then large ones."""
        one = state(groups={"count": 3, "rows": [group("a", 5, 1.0, 2), group("big", 9), group("small", 1)]})
        two = state(groups={"count": 2, "rows": [group("b", 2, 2.0), group("a", 4, 2.5, 1)]})
        groups = added(one, two, group_count=4)["groups"]
        expected = [group("a", 5, 3.5, 2), group("b", 2, 2.0), group("big", 9), group("small", 1)]
        self.assertEqual(groups, {"count": 4, "rows": expected})

    def test_group_count(self) -> None:
        """Where more is shown than was counted a moment before, that is how many there are."""
        self.assertEqual(added(state(groups={"count": 1, "rows": [group("a", 1)]}))["groups"]["count"], 1)
        self.assertEqual(added(state(), group_count=9)["groups"]["count"], 9)

    def test_rooms_and_pairs(self) -> None:
        """Rooms of all, the largest first, and pairs of all."""
        one = state(
            rooms={"count": 1, "rows": [{"id": "r1", "members": 2}]}, pairs={"count": 1, "rows": [{"user": "a"}]}
        )
        two = state(
            rooms={"count": 1, "rows": [{"id": "r2", "members": 7}]}, pairs={"count": 1, "rows": [{"user": "b"}]}
        )
        shown = added(one, two)
        self.assertEqual(([row["id"] for row in shown["rooms"]["rows"]], shown["rooms"]["count"]), (["r2", "r1"], 2))
        self.assertEqual(shown["pairs"], {"count": 2, "rows": [{"user": "a"}, {"user": "b"}]})

    def test_counts(self) -> None:
        """Connections, closes, counts of pairs and consoles add up; what is 0 everywhere stays."""
        lost = {"transport": "tcp", "reason": "lost", "total": 5, "recent": 1}
        left = {"transport": "tcp", "reason": "goodbye", "total": 1, "recent": 0}
        one = state(connections={"tcp": 2, "udp": 0}, closes=[lost], pair_counts={"direct": 1, "lost": 0}, consoles=1)
        two = state(
            connections={"tcp": 3, "udp": 0}, closes=[left, lost], pair_counts={"direct": 2, "lost": 0}, consoles=2
        )
        shown = added(one, two)
        self.assertEqual((shown["connections"], shown["consoles"]), ({"tcp": 5, "udp": 0}, 3))
        self.assertEqual(shown["closes"], [{**lost, "total": 10, "recent": 2}, left])
        self.assertEqual(shown["pair_counts"], {"direct": 3, "lost": 0})

    def test_ended(self) -> None:
        """Of the sessions that ended the last ones are shown, whichever process had them."""
        one = state(ended=[{"at": float(second), "user": "a"} for second in range(60, 0, -2)])
        two = state(ended=[{"at": float(second), "user": "b"} for second in range(59, 0, -2)])
        ended = added(one, two)["ended"]
        self.assertEqual([row["at"] for row in ended], [float(second) for second in range(60, 60 - MAX_ENDED, -1)])

    def test_parts(self) -> None:
        """The relay and the overlay are of whoever has them, name and cluster of the process that asks."""
        shown = added(state(node="w0"), state(node="w1", relay={"peers": {}}, cluster={"count": 9}))
        self.assertEqual((shown["node"], shown["cluster"], shown["relay"]), ("sup", {"count": 3}, {"peers": {}}))
        self.assertIsNone(shown["overlay"])

    def test_sample(self) -> None:
        """The newest sample is the one of all together."""
        self.assertEqual(sum_states(state(), [], sample(5.0, 1.0), 0)["sample"], list(sample(5.0, 1.0)))
        self.assertIsNone(sum_states(state(), [], None, 0)["sample"])
