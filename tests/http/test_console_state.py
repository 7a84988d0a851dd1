"""What a console is shown."""

from __future__ import annotations

from typing import Any

from meshrelay.http import console_state
from meshrelay.http.console_state import MAX_ENDED, MAX_ROWS
from meshrelay.model import CloseReason
from meshrelay.wire.commands import Command
from meshrelay.wire.room_commands import NewRoom, encode_new_room
from tests.http.console_kit import ConsoleTestCase, node_row


class StateTests(ConsoleTestCase):
    """A state as it is pushed."""

    def state(self) -> Any:
        """Read it, as a page without a WebSocket does."""
        return self.read()["state"]

    def test_users(self) -> None:
        """The newest users come first, with how and since when they are here; those who are away are said to be."""
        self.node.sign_in("ann")
        self.clock.advance(5)
        bob = self.node.sign_in("bob", "udp")
        ann, bob_row = self.state()["users"]["rows"][1], self.state()["users"]["rows"][0]
        self.assertEqual((ann["id"], ann["transport"], ann["away"], ann["seconds"]), ("ann", "tcp", False, 5.0))
        self.assertEqual((bob_row["id"], bob_row["transport"]), ("bob", "udp"))
        bob.lose()
        self.assertEqual([row["away"] for row in self.state()["users"]["rows"]], [True, False])

    def test_hostile_names(self) -> None:
        """IDs are told as they are: it is for the page to show them as text."""
        name = "<img src=x onerror=alert(1)>\u2028"
        self.node.sign_in(name)
        self.assertEqual(self.state()["users"]["rows"][0]["id"], name)

    def test_groups(self) -> None:
        """Busy groups come before large ones, large before small."""
        people = [self.node.sign_in(name) for name in ("ann", "bob", "cid")]
        small, large, busy = (people[0].create_group() for _ in range(3))
        for each in people[1:]:
            each.join(large)
        people[1].join(busy)
        self.state()
        people[0].broadcast(busy, b"hello")
        self.node.settle()
        self.clock.advance(1)
        rows = self.state()["groups"]["rows"]
        self.assertEqual([(row["id"], row["members"]) for row in rows], [(busy, 2), (large, 3), (small, 1)])
        self.assertEqual([row["messages"] for row in rows], [1.0, 0.0, 0.0])

    def test_rooms(self) -> None:
        """Rooms are told with their owner."""
        ann = self.node.sign_in("ann")
        room = ann.request(Command.ROOM_CREATE, encode_new_room(NewRoom(10, False, True, 60, 0))).payload.decode()
        expected = {"count": 1, "rows": [{"id": room, "members": 1, "max_members": 10, "owner": "ann"}]}
        self.assertEqual(self.state()["rooms"], expected)

    def test_ended(self) -> None:
        """Why sessions ended is told, the last first, and no more than fit; consoles themselves are none."""
        for number in range(MAX_ENDED + 5):
            self.node.sign_in(f"user{number}")
            self.node.registry.kick(f"user{number}", "")
        self.node.registry.kick(self.open_console().connection.session.user.user_id, "")  # type: ignore[union-attr]
        ended = self.state()["ended"]
        self.assertEqual(len(ended), MAX_ENDED)
        self.assertEqual((ended[0]["user"], ended[0]["reason"]), (f"user{MAX_ENDED + 4}", "kicked"))
        self.assertEqual(ended[0]["text"], CloseReason.KICKED.text)

    def test_cluster(self) -> None:
        """The nodes and the links between those that are shown, the asked node first, then those that are not well."""
        self.nodes = [node_row("a"), node_row("b", "no answer"), node_row("n1", "ready", ("a", "up"), ("x", "idle"))]
        self.state()
        cluster = self.state()["cluster"]
        self.assertEqual([node["id"] for node in cluster["rows"]], ["n1", "b", "a"])
        links = [{"to": "a", "state": "up", "rtt_ms": 1.5, "queued_bytes": 0}]
        self.assertEqual(cluster["rows"][0]["links"], links)
        self.assertEqual(cluster["directory"]["state"], "up")

    def test_bounds(self) -> None:
        """However much there is, a state has so many rows of each kind, and says how many there are."""
        self.nodes = [node_row(f"n{number}") for number in range(MAX_ROWS + 20)]
        ann = self.node.sign_in("ann")
        for number in range(MAX_ROWS + 10):
            self.node.sign_in(f"user{number}")
            ann.create_group()
        self.state()
        state = self.state()
        for name, count in (("users", MAX_ROWS + 11), ("groups", MAX_ROWS + 10)):
            self.assertEqual((len(state[name]["rows"]), state[name]["count"]), (MAX_ROWS, count), name)
        self.assertEqual((len(state["cluster"]["rows"]), state["cluster"]["count"]), (MAX_ROWS, MAX_ROWS + 20))

    def test_size(self) -> None:
        """A state that would be too long has fewer rows."""
        for number in range(MAX_ROWS):
            self.node.sign_in(f"{number}".rjust(128, "\1"))
        self.patch(console_state, "MAX_STATE_BYTES", 40_000)
        self.assertEqual(len(self.state()["users"]["rows"]), 30)
        self.patch(console_state, "MAX_STATE_BYTES", 1000)
        self.assertEqual(len(self.state()["users"]["rows"]), 10)

    def test_without_parts(self) -> None:
        """A node without relay and overlay says so."""
        state = self.state()
        self.assertEqual((state["relay"], state["overlay"], state["pairs"]), (None, None, {"count": 0, "rows": []}))
        self.assertEqual((state["node"], state["version"]), ("n1", "1.2.3"))
