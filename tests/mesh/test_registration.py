"""What a node says to the directory that it has."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import GroupRecord, UserRecord
from meshrelay.mesh import registration
from meshrelay.mesh.registration import Registration
from meshrelay.testing.directory_contract import make_node_record, make_user_record


class FlakyDirectory(MemoryDirectory):
    """A directory that can be away, and slow.

    :ivar is_away: calls have no effect and fail.
    :ivar held: None = calls are done at once; else they wait here, in order, until `let_go`.
    :ivar calls: how many were made.
    """

    def __init__(self, clock: Clock, options: DirectoryOptions) -> None:
        super().__init__(clock, Random(1), options)
        self.is_away = False
        self.held: list[Callable[[], object]] | None = None
        self.calls = 0

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        self.calls += 1
        if self.held is None:
            return self._now(function, *args, **kwargs)
        result: Deferred[Any] = Deferred()
        self.held.append(lambda: self._now(function, *args, **kwargs).chainDeferred(result))
        return result

    def _now(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        if self.is_away:
            return fail(DirectoryUnavailable("away"))
        return super()._call(function, *args, **kwargs)

    def let_go(self) -> None:
        """Do what was held."""
        held, self.held = self.held or [], None
        for each in held:
            each()


class RegistrationTestCase(SynchronousTestCase):
    """Node-a, registered, in a directory with node-b."""

    def setUp(self) -> None:
        """Nobody is signed in."""
        self.clock = Clock()
        self.directory = FlakyDirectory(self.clock, DirectoryOptions(lease_seconds=3600, max_users=50_000))
        self.users: dict[str, UserRecord] = {}
        self.groups: dict[str, bytes] = {}
        self.displaced: list[UserRecord] = []
        self.taken_over: list[UserRecord] = []
        self.registration = Registration(
            self.directory,
            "node-a",
            self.clock,
            lambda: (record for record in list(self.users.values()) if record.user_id in self.users),
            self.groups.items,
            self.displaced.append,
            self.taken_over.append,
        )
        self.register()
        self.registration.start()

    def register(self) -> None:
        """Both nodes begin or renew their leases."""
        for node_id in ("node-a", "node-b"):
            is_renewed = self.successResultOf(self.directory.register_node(make_node_record(node_id)))
            if node_id == "node-a":
                self.registration.node_registered(is_renewed)

    def sign_in(self, user_id: str = "ann", stamp: int = 10) -> UserRecord:
        """A user signs in here."""
        record = self.users[user_id] = make_user_record(user_id, "node-a", f"sid-of-{user_id}-{stamp}", stamp)
        self.registration.claim(record)
        return record

    def sign_out(self, user_id: str = "ann") -> None:
        """The user's session ends."""
        record = self.users.pop(user_id)
        self.registration.release(user_id, record.sid)

    def join(self, group_id: str = "group") -> Deferred[GroupRecord | None]:
        """The node holds a group."""
        self.groups[group_id] = b"settings"
        return self.registration.join_group(group_id, b"settings")

    def leave(self, group_id: str = "group") -> None:
        """The node lets a group go."""
        del self.groups[group_id]
        self.registration.leave_group(group_id)

    def find(self, user_id: str = "ann") -> UserRecord | None:
        """What the directory says."""
        return self.successResultOf(self.directory.find_user(user_id))

    def holders(self, group_id: str = "group") -> tuple[str, ...]:
        """What the directory says."""
        group = self.successResultOf(self.directory.find_group(group_id))
        return group.nodes if group is not None else ()

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)


class SayingTests(RegistrationTestCase):
    """While all is well."""

    def test_users(self) -> None:
        """A user is in the directory from the sign-in to the sign-out."""
        record = self.sign_in()
        self.assertEqual(self.find(), record)
        self.sign_out()
        self.assertIsNone(self.find())

    def test_groups(self) -> None:
        """A group is in the directory from join to leave, and the join tells who else holds it."""
        self.successResultOf(self.directory.join_group("group", "node-b", b"settings"))
        group = self.successResultOf(self.join())
        assert group is not None
        self.assertEqual(group.nodes, ("node-a", "node-b"))
        self.leave()
        self.assertEqual(self.holders(), ("node-b",))

    def test_displaced(self) -> None:
        """A sign-in here ends the older one on another node; one on this node is not told."""
        older = make_user_record("ann", "node-b", "older", 5)
        self.successResultOf(self.directory.claim_user(older))
        self.sign_in(stamp=10)
        self.sign_in(stamp=11)
        self.assertEqual((self.displaced, self.taken_over), ([older], []))

    def test_taken_over(self) -> None:
        """A newer sign-in elsewhere ends the one here."""
        newer = make_user_record("ann", "node-b", "newer", 50)
        self.successResultOf(self.directory.claim_user(newer))
        self.sign_in()
        self.assertEqual((self.displaced, self.taken_over), ([], [newer]))

    def test_callback_that_raises(self) -> None:
        """An error in what is called is logged and keeps nothing from being said."""
        self.successResultOf(self.directory.claim_user(make_user_record("ann", "node-b", "newer", 50)))
        self.registration._taken_over = lambda _: 1 / 0
        self.sign_in()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.sign_in("bob")
        self.assertIsNotNone(self.find("bob"))

    def test_quiet(self) -> None:
        """A directory that lost nothing is not told anything twice."""
        self.pass_seconds(3)
        calls = self.directory.calls
        self.pass_seconds(100)
        self.assertEqual(self.directory.calls, calls)
        self.assertTrue(self.registration.is_whole)

    def test_regular_refresh(self) -> None:
        """A directory whose entries end by themselves is told everything in time."""
        self.pass_seconds(1)
        self.registration.stop()
        self.directory.refresh_seconds = 30.0
        self.registration.start()
        before = self.registration.refreshes
        self.pass_seconds(95)
        self.assertEqual(self.registration.refreshes - before, 3)


class LossTests(RegistrationTestCase):
    """After something went wrong."""

    def test_wiped(self) -> None:
        """A directory that lost everything has all users and groups again within two seconds of the new lease."""
        for number in range(1000):
            self.sign_in(f"user-{number}")
        self.join()
        self.directory.clear()
        self.pass_seconds(1)
        self.assertIsNone(self.find("user-0"))
        self.assertFalse(self.registration.is_whole)
        self.register()
        self.pass_seconds(2)
        self.assertEqual(self.find("user-999"), self.users["user-999"])
        self.assertEqual((self.holders(), self.registration.is_whole), (("node-a",), True))

    def test_lease_ended(self) -> None:
        """A node whose lease ended, and that is back, says everything again."""
        record = self.sign_in()
        self.clock.advance(4000)
        self.assertIsNone(self.find())
        self.register()
        self.pass_seconds(0.2)
        self.assertEqual(self.find(), record)

    def test_last_writes_lost(self) -> None:
        """A directory that lost its last writes and kept the lease has them again."""
        record = self.sign_in()
        self.pass_seconds(1)
        self.successResultOf(self.directory.release_user("ann", record.sid, record.node_id))
        self.directory._watchers.notify()
        self.pass_seconds(0.2)
        self.assertEqual(self.find(), record)

    def test_wiped_under_load(self) -> None:
        """The same while users come and go: within 10 seconds it is whole, and no one who left is in it."""
        random = Random(3)
        gone: set[str] = set()
        for step in range(200):
            if step == 50:
                self.directory.clear()
            if step % 10 == 0:
                self.register()
            for number in range(5):
                self.sign_in(f"user-{step}-{number}")
            for user_id in random.sample(sorted(self.users), 3):
                self.sign_out(user_id)
                gone.add(user_id)
            self.clock.advance(0.1)
            if step == 150:
                self.check(gone)
        self.check(gone)

    def check(self, gone: set[str]) -> None:
        """The directory has exactly our users."""
        self.assertEqual({user_id: self.find(user_id) for user_id in self.users}, self.users)
        self.assertEqual([user_id for user_id in gone if self.find(user_id) is not None], [])

    def test_away(self) -> None:
        """What happens while the directory is away is said when it is back, tried each second."""
        self.sign_in("bob")
        self.join("old")
        self.directory.is_away = True
        self.sign_in()
        self.sign_out("bob")
        self.assertIsNone(self.successResultOf(self.join()))
        self.leave("old")
        calls = self.directory.calls
        self.pass_seconds(10)
        self.assertLessEqual(self.directory.calls - calls, 30)
        self.assertEqual(self.registration.statistics()["unsaid"], 3)
        self.directory.is_away = False
        self.pass_seconds(1.2)
        self.assertEqual((self.find("ann"), self.find("bob")), (self.users["ann"], None))
        self.assertEqual((self.holders(), self.holders("old")), (("node-a",), ()))
        self.assertTrue(self.registration.is_whole)

    def test_comes_back_while_away(self) -> None:
        """A session that is over here, goes on elsewhere, and comes back is not signed out by its first end."""
        record = self.sign_in()
        self.directory.is_away = True
        self.sign_out()
        self.pass_seconds(0.1)
        self.users["ann"] = record
        self.registration.claim(record)
        self.directory.is_away = False
        self.pass_seconds(5)
        self.assertEqual(self.find(), record)

    def test_displaced_while_away(self) -> None:
        """A sign-in that the directory missed still ends the older one elsewhere, once."""
        older = make_user_record("ann", "node-b", "older", 5)
        self.successResultOf(self.directory.claim_user(older))
        self.directory.is_away = True
        self.sign_in()
        self.directory.is_away = False
        self.pass_seconds(3)
        self.assertEqual(self.displaced, [older])

    def test_taken_over_while_away(self) -> None:
        """A newer sign-in that was made elsewhere meanwhile ends the one here."""
        self.sign_in()
        newer = make_user_record("ann", "node-b", "newer", 50)
        self.successResultOf(self.directory.claim_user(newer))
        self.directory.clear()
        self.register()
        self.successResultOf(self.directory.claim_user(newer))
        self.pass_seconds(2)
        self.assertEqual(self.taken_over, [newer])

    def test_came_and_left_while_away(self) -> None:
        """Who came and left is not in the directory, even if it missed the first and not the second."""
        held: list[Callable[[], object]] = []
        self.directory.held = held
        self.sign_in()
        self.sign_out()
        self.directory.is_away, self.directory.held = True, None
        held[0]()
        self.directory.is_away = False
        held[1]()
        self.pass_seconds(3)
        self.assertIsNone(self.find())
        self.assertTrue(self.registration.is_whole)

    def test_resumed_while_away(self) -> None:
        """Of two claims of one session that the directory missed, the newer one is said, whichever failed last."""
        for user_id, step in (("ann", 1), ("bob", -1)):
            held: list[Callable[[], object]] = []
            self.directory.held = held
            self.directory.is_away = True
            newer = make_user_record(user_id, "node-a", "sid", 11)
            self.registration.claim(make_user_record(user_id, "node-a", "sid", 10))
            self.registration.claim(newer)
            self.directory.held = None
            for each in held[::step]:
                each()
            self.directory.is_away = False
            self.pass_seconds(3)
            self.assertEqual(self.find(user_id), newer)

    def test_left_during_refresh(self) -> None:
        """Who leaves while everything is being said is not brought back by it."""
        self.sign_in()
        self.join()
        users = iter([self.users["ann"]])
        self.registration._users = lambda: users
        groups = iter([("group", b"settings")])
        self.registration._groups = lambda: groups
        self.registration.node_registered(False)
        refresh = self.directory.refresh
        late: Deferred[None] = Deferred()
        self.patch(self.directory, "refresh", lambda *args: late.addCallback(lambda _: refresh(*args)))
        self.pass_seconds(0.2)
        self.sign_out()
        self.leave()
        late.callback(None)
        self.assertEqual((self.find(), self.holders()), (None, ()))

    def test_left_and_joined_again(self) -> None:
        """A group that was left and joined again while the directory was away is held."""
        self.join()
        self.directory.is_away = True
        self.leave()
        self.join()
        self.directory.held = []
        self.leave()
        self.join()
        self.directory.let_go()
        self.directory.is_away = False
        self.pass_seconds(3)
        self.assertEqual(self.holders(), ("node-a",))

    def test_moved(self) -> None:
        """A sign-in that the directory missed and that moved to another node is not claimed here again."""
        self.directory.is_away = True
        record = self.sign_in()
        del self.users["ann"]
        self.registration.moved("ann", record.sid)
        self.directory.is_away = False
        self.pass_seconds(3)
        self.assertIsNone(self.find())

    def test_full(self) -> None:
        """A full directory is tried each 10 seconds only, and takes the user when there is room."""
        directory = FlakyDirectory(self.clock, DirectoryOptions(lease_seconds=3600, max_users=1))
        self.registration.stop()
        self.directory = directory
        self.registration._directory = directory
        self.register()
        self.registration.start()
        self.sign_in("bob")
        self.sign_in("ann")
        calls = directory.calls
        self.pass_seconds(25)
        self.assertLessEqual(directory.calls - calls, 6)
        self.sign_out("bob")
        self.pass_seconds(11)
        self.assertIsNotNone(self.find("ann"))

    def test_broken_source(self) -> None:
        """A bug in what lists the users is logged, and everything is said as soon as it works."""
        self.sign_in()
        users = self.registration._users
        self.registration._users = lambda: 1 / 0  # type: ignore[assignment, return-value]
        self.directory.clear()
        self.register()
        self.pass_seconds(1.5)
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.registration._users = users
        self.pass_seconds(1.5)
        self.assertIsNotNone(self.find())

    def test_bound(self) -> None:
        """No more than so many things are kept to be said again; more are counted."""
        self.patch(registration, "_MAX_UNSAID", 10)
        self.directory.is_away = True
        for number in range(12):
            self.registration.release(f"user-{number}", "sid")
            self.registration.leave_group(f"group-{number}")
        statistics = self.registration.statistics()
        self.assertEqual((statistics["unsaid"], statistics["dropped_unsaid"]), (20, 4))

    def test_many_unsaid(self) -> None:
        """Thousands of sign-outs that were missed are said in pieces, each once."""
        for number in range(2000):
            self.sign_in(f"user-{number}")
        self.directory.is_away = True
        for number in range(2000):
            self.sign_out(f"user-{number}")
        self.directory.is_away = False
        calls = self.directory.calls
        self.pass_seconds(1.2)
        self.assertEqual(self.directory.calls - calls, 2001)
        self.assertEqual(self.directory.statistics()["users"], 0)

    def test_stopped(self) -> None:
        """A node that goes down says nothing again."""
        self.directory.is_away = True
        self.sign_in()
        self.registration.stop()
        calls = self.directory.calls
        self.pass_seconds(20)
        self.assertEqual(self.directory.calls, calls)
