"""What the admin API wants of one node."""

from __future__ import annotations

import msgspec
from twisted.internet.defer import Deferred

from meshrelay.errors import MeshError
from meshrelay.http.admin_local import (
    ANNOUNCED_IN_A_TURN,
    MAX_SHOWN_MEMBERS,
    VERBS,
    AnnounceQuestion,
    GroupQuestion,
    PageQuestion,
    Publication,
    UserQuestion,
)
from meshrelay.interfaces import ISession
from meshrelay.testing.builders import make_session
from tests.http.admin_cluster import STATIC, AdminTestCase


class LocalNodeTests(AdminTestCase):
    """One of three nodes."""

    def call(self, name: str, payload: bytes) -> Deferred[bytes]:
        """Ask node b from node a."""
        answer: Deferred[bytes] = self.cluster.links["a"].nodes.call("b", name, payload)
        self.cluster.run(0.2)
        return answer

    def test_calls(self) -> None:
        """Other nodes ask by calls, and read what comes back."""
        self.sign_in("ann", "b")
        answer = self.successResultOf(self.call("admin.user", msgspec.msgpack.encode(UserQuestion("ann"))))
        view = msgspec.msgpack.decode(answer, type=VERBS["admin.user"].answer)
        self.assertEqual((view.user, view.node), ("ann", "b"))
        nobody = self.successResultOf(self.call("admin.user", msgspec.msgpack.encode(UserQuestion("x"))))
        self.assertIsNone(msgspec.msgpack.decode(nobody))
        question = msgspec.msgpack.encode(AnnounceQuestion(Publication(b"x", "server")))
        self.assertEqual(msgspec.msgpack.decode(self.successResultOf(self.call("admin.announce", question))), 0)

    def test_garbage(self) -> None:
        """A question that cannot be read fails, and harms nobody."""
        for name in VERBS:
            self.failureResultOf(self.call(name, b"\xc1"), MeshError)
        page = msgspec.msgpack.encode({"after": "", "limit": 1002})
        self.failureResultOf(self.call("admin.groups", page), MeshError)

    def test_later_version(self) -> None:
        """Fields of a later version are passed over."""
        payload = msgspec.msgpack.encode({"user": "ann", "colour": "red"})
        self.assertIsNone(msgspec.msgpack.decode(self.successResultOf(self.call("admin.user", payload))))

    def test_many_groups(self) -> None:
        """Others get their turn while very many groups are announced in; groups that go meanwhile are left out."""
        node = self.cluster["a"]
        count = ANNOUNCED_IN_A_TURN * 3
        made = [node.groups.create_group(None, True, False, 1000, 0) for _ in range(count)]
        self.cluster.run(0.1)
        done = Deferred.fromCoroutine(self.locals["a"].announce(AnnounceQuestion(Publication(b"x", "server"))))
        self.assertNoResult(done)
        last = list(node.groups.table)[-1]
        last.is_expired = True
        node.groups.table.settle(last)
        self.cluster.run(0.1)
        # The static group is spoken for by the first node.
        self.assertEqual(self.successResultOf(done), len(made) + 1 - 1)

    def test_many_members(self) -> None:
        """Of a very large group the first members are shown, and how many there are."""
        node = self.cluster["a"]
        sessions: list[ISession] = [make_session(f"user-{number}") for number in range(MAX_SHOWN_MEMBERS + 5)]
        for session in sessions:
            node.groups.table.add(STATIC, session)
        view = self.locals["a"].group(GroupQuestion(STATIC))
        assert view is not None
        self.assertEqual((len(view.members), view.members_left_out), (MAX_SHOWN_MEMBERS, 5))
        [row] = self.locals["a"].group_rows(PageQuestion("", 10))
        self.assertEqual(row.members, MAX_SHOWN_MEMBERS + 5)

    def test_first_that_is_there(self) -> None:
        """When the first holder of a group cannot be reached, the next one speaks for it."""
        self.cluster.run(0.2)
        question = AnnounceQuestion(Publication(b"x", "server"))
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.locals["b"].announce(question))), 0)
        self.cluster.links.mesh.part("a", "b")
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.locals["b"].announce(question))), 1)
