"""What every `IDirectory` must promise, as tests: mix `DirectoryContract` into a `twisted.trial.unittest.TestCase`.

The case says how to open directories on one common store, how time passes and how the store loses its data; the same
tests then run on the table inside a node and on a real Redis server.
"""

# trial declares no types for its assertions.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from meshrelay.directory.errors import DirectoryFull, DirectoryUnavailable, NodeIdInUse, NodeUnknown, UserTakenOver
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import MAX_SETTINGS_BYTES, MAX_STAMP, GroupRecord, NodeRecord, UserRecord

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _Case
else:
    _Case = object

__all__ = ["CONTRACT_MAX_NODES", "DirectoryContract", "make_node_record", "make_user_record"]

ErrorT = TypeVar("ErrorT", bound=Exception)

#: The bound that the directories under test have.
CONTRACT_MAX_NODES = 4

GROUP = "g" * 52


def make_node_record(node_id: str = "node-a", incarnation: str = "first", load: float = 0.25) -> NodeRecord:
    """Return a node with two places."""
    places = {"tcp": "127.0.0.1:7200", "udp": "127.0.0.1:7100"}
    return NodeRecord(
        node_id=node_id,
        incarnation=incarnation,
        mesh_endpoint=f"{node_id}:6779",
        places=places,
        load=load,
        protocol=1,
    )


def make_user_record(
    user_id: str = "ann", node_id: str = "node-a", sid: str = "5" * 32, stamp: int = 1_700_000_000_000_000
) -> UserRecord:
    """Return a sign-in."""
    return UserRecord(user_id=user_id, node_id=node_id, sid=sid, stamp=stamp)


class DirectoryContract(_Case):
    """The promises. A case overrides the first three methods."""

    async def open_directory(self) -> IDirectory:
        """Return one more directory on the store of this test, with room for `CONTRACT_MAX_NODES` nodes."""
        raise NotImplementedError

    async def pass_a_lease(self) -> None:
        """Let more time pass than a lease is long."""
        raise NotImplementedError

    async def pass_half_a_lease(self) -> None:
        """Let less time pass than a lease is long, but more than half of it."""
        raise NotImplementedError

    async def lose_data(self, directory: IDirectory) -> None:
        """Wipe the store, and wait until directories that were started have noticed."""
        raise NotImplementedError

    async def two_nodes(self) -> tuple[IDirectory, IDirectory]:
        """Directories of node-a and node-b, both registered."""
        one, other = await self.open_directory(), await self.open_directory()
        await one.register_node(make_node_record("node-a"))
        await other.register_node(make_node_record("node-b"))
        return one, other

    async def failure_of(self, awaitable: Awaitable[object], kind: type[ErrorT]) -> ErrorT:
        """Wait, and return the error."""
        try:
            result = await awaitable
        except kind as error:
            return error
        raise self.failureException(f"{result!r} instead of {kind.__name__}")

    async def test_interface(self) -> None:
        """A directory has everything that the interface names."""
        directory = await self.open_directory()
        self.assertTrue(verifyObject(IDirectory, directory))
        self.assertGreater(directory.lease_seconds, 0)
        self.assertTrue(all(isinstance(value, int) for value in directory.statistics().values()))

    async def test_register(self) -> None:
        """Every node is seen by all others, as it described itself last."""
        one, other = await self.two_nodes()
        await one.register_node(make_node_record("node-a", load=0.75))
        expected = [make_node_record("node-a", load=0.75), make_node_record("node-b")]
        self.assertEqual(await other.nodes(), expected)
        self.assertEqual(await one.nodes(), expected)

    async def test_register_says_new(self) -> None:
        """A node learns whether its lease was there, that is whether it has to say everything again."""
        directory = await self.open_directory()
        self.assertFalse(await directory.register_node(make_node_record()))
        self.assertTrue(await directory.register_node(make_node_record()))
        await self.pass_a_lease()
        self.assertFalse(await directory.register_node(make_node_record()))

    async def test_lease_ends(self) -> None:
        """A node that does not renew its lease is not listed any more."""
        one, _ = await self.two_nodes()
        await self.pass_a_lease()
        self.assertEqual(await one.nodes(), [])

    async def test_lease_renewed(self) -> None:
        """A node that renews its lease stays, however long it takes."""
        one, other = await self.two_nodes()
        for _ in range(3):
            await self.pass_half_a_lease()
            await one.register_node(make_node_record("node-a"))
        self.assertEqual(await other.nodes(), [make_node_record("node-a")])

    async def test_node_id_in_use(self) -> None:
        """Two living nodes cannot have one ID: the second one is told, the first one is left alone."""
        one, other = await self.two_nodes()
        twin = make_node_record("node-a", incarnation="second", load=1.0)
        error = await self.failure_of(other.register_node(twin), NodeIdInUse)
        self.assertEqual(error.node_id, "node-a")
        self.assertIn(make_node_record("node-a"), await one.nodes())

    async def test_node_comes_back(self) -> None:
        """A node that was killed has its ID again when its lease is over, and none of its old entries."""
        one, other = await self.two_nodes()
        await one.claim_user(make_user_record())
        await one.join_group(GROUP, "node-a", b"old")
        await self.pass_a_lease()
        self.assertFalse(await one.register_node(make_node_record(incarnation="second")))
        self.assertIsNone(await other.find_user("ann"))
        self.assertIsNone(await other.find_group(GROUP))

    async def test_withdraw(self) -> None:
        """A node that stops is gone at once with all it had, and its ID is free."""
        one, other = await self.two_nodes()
        await one.claim_user(make_user_record())
        await one.join_group(GROUP, "node-a", b"")
        self.assertTrue(await one.withdraw_node("node-a", "first"))
        self.assertEqual(await other.nodes(), [make_node_record("node-b")])
        self.assertIsNone(await other.find_user("ann"))
        self.assertIsNone(await other.find_group(GROUP))
        self.assertFalse(await other.register_node(make_node_record("node-a", incarnation="second")))
        self.assertIsNone(await other.find_user("ann"))

    async def test_withdraw_other(self) -> None:
        """Nobody can withdraw another life of a node, nor one that is not there."""
        one, other = await self.two_nodes()
        self.assertFalse(await other.withdraw_node("node-a", "second"))
        self.assertFalse(await other.withdraw_node("node-z", "first"))
        self.assertEqual(len(await one.nodes()), 2)

    async def test_too_many_nodes(self) -> None:
        """The number of nodes has a bound; dead ones do not count."""
        directory = await self.open_directory()
        for number in range(CONTRACT_MAX_NODES):
            await directory.register_node(make_node_record(f"node-{number}"))
        error = await self.failure_of(directory.register_node(make_node_record("node-z")), DirectoryFull)
        self.assertEqual((error.what, error.limit), ("nodes", CONTRACT_MAX_NODES))
        self.assertTrue(await directory.register_node(make_node_record("node-1")))
        await self.pass_a_lease()
        self.assertFalse(await directory.register_node(make_node_record("node-z")))

    async def test_claim(self) -> None:
        """Every node finds a user who signed in on one of them."""
        one, other = await self.two_nodes()
        self.assertIsNone(await one.claim_user(make_user_record()))
        self.assertEqual(await other.find_user("ann"), make_user_record())
        self.assertIsNone(await other.find_user("bob"))

    async def test_claim_strange_names(self) -> None:
        """A user ID may hold whatever UTF-8 can, up to its full length."""
        directory, _ = await self.two_nodes()
        for user_id in ("12", "1.5", "\n", "é\n{}\"'\\ \x00\x7f", "漢" * 42, "a" * 128, "\U0001f600"):
            record = make_user_record(user_id)
            self.assertIsNone(await directory.claim_user(record))
            self.assertEqual(await directory.find_user(user_id), record)

    async def test_claim_again(self) -> None:
        """Saying the same sign-in again displaces nobody and never makes it older."""
        directory, _ = await self.two_nodes()
        for stamp in (20, 30, 10):
            self.assertIsNone(await directory.claim_user(make_user_record(stamp=stamp)))
        self.assertEqual(await directory.find_user("ann"), make_user_record(stamp=30))

    async def test_newer_claim(self) -> None:
        """A newer sign-in wins, and its node learns which one to end."""
        one, other = await self.two_nodes()
        newest = make_user_record(node_id="node-b", sid="b", stamp=MAX_STAMP)
        await one.claim_user(make_user_record(stamp=MAX_STAMP - 1))
        self.assertEqual(await other.claim_user(newest), make_user_record(stamp=MAX_STAMP - 1))
        self.assertEqual(await one.find_user("ann"), newest)

    async def test_same_node_other_session(self) -> None:
        """A newer session on the same node displaces the older one, too."""
        one, _ = await self.two_nodes()
        await one.claim_user(make_user_record(sid="a", stamp=1))
        displaced = await one.claim_user(make_user_record(sid="b", stamp=2))
        self.assertEqual(displaced, make_user_record(sid="a", stamp=1))

    async def test_older_claim(self) -> None:
        """An older sign-in that comes late loses, and learns to whom."""
        one, other = await self.two_nodes()
        newest = make_user_record(node_id="node-b", sid="b", stamp=MAX_STAMP)
        await other.claim_user(newest)
        error = await self.failure_of(one.claim_user(make_user_record(stamp=MAX_STAMP - 1)), UserTakenOver)
        self.assertEqual(error.current, newest)
        self.assertEqual(await one.find_user("ann"), newest)

    async def test_equal_stamps(self) -> None:
        """Of two sign-ins of the same moment the same one wins, whichever comes first."""
        one, other = await self.two_nodes()
        first, second = make_user_record(sid="a"), make_user_record(node_id="node-b", sid="b")
        await one.claim_user(first)
        self.assertEqual(await other.claim_user(second), first)
        await self.failure_of(one.claim_user(first), UserTakenOver)

    async def test_claim_over_dead_node(self) -> None:
        """A user whose node died can sign in elsewhere, even when the clock there is behind."""
        one, other = await self.two_nodes()
        await one.claim_user(make_user_record(stamp=100))
        await self.pass_a_lease()
        await other.register_node(make_node_record("node-b"))
        self.assertIsNone(await other.find_user("ann"))
        late = make_user_record(node_id="node-b", sid="b", stamp=1)
        self.assertIsNone(await other.claim_user(late))
        self.assertEqual(await other.find_user("ann"), late)

    async def test_claim_without_lease(self) -> None:
        """A node that is not registered, or not any more, is told so instead of storing what nobody would find."""
        directory = await self.open_directory()
        for awaitable in (
            directory.claim_user(make_user_record()),
            directory.join_group(GROUP, "node-a", b""),
            directory.refresh("node-a", [make_user_record()], []),
        ):
            error = await self.failure_of(awaitable, NodeUnknown)
            self.assertEqual((error.node_id, error.retryable), ("node-a", True))

    async def test_release(self) -> None:
        """A user who signed out is found nowhere."""
        one, other = await self.two_nodes()
        await one.claim_user(make_user_record(sid="a"))
        self.assertTrue(await one.release_user("ann", "a", "node-a"))
        self.assertIsNone(await other.find_user("ann"))
        self.assertFalse(await one.release_user("ann", "a", "node-a"))

    async def test_release_displaced(self) -> None:
        """The end of a displaced session does not sign out the session that displaced it."""
        one, other = await self.two_nodes()
        newer = make_user_record(node_id="node-b", sid="b", stamp=2)
        await one.claim_user(make_user_record(sid="a", stamp=1))
        await other.claim_user(newer)
        self.assertFalse(await one.release_user("ann", "a", "node-a"))
        self.assertEqual(await one.find_user("ann"), newer)

    async def test_release_moved(self) -> None:
        """A node whose session was resumed elsewhere, and that says its end late, does not sign the user out there."""
        one, other = await self.two_nodes()
        moved = make_user_record(node_id="node-b", sid="a", stamp=2)
        await one.claim_user(make_user_record(sid="a", stamp=1))
        await other.claim_user(moved)
        self.assertFalse(await one.release_user("ann", "a", "node-a"))
        self.assertEqual(await one.find_user("ann"), moved)
        self.assertTrue(await other.release_user("ann", "a", "node-b"))

    async def test_join_group(self) -> None:
        """Nodes that hold a group find each other, and the settings are those of the first one."""
        one, other = await self.two_nodes()
        settings = bytes(range(256))
        expected = GroupRecord(group_id=GROUP, settings=settings, nodes=("node-b",))
        self.assertEqual(await other.join_group(GROUP, "node-b", settings), expected)
        expected = GroupRecord(group_id=GROUP, settings=settings, nodes=("node-a", "node-b"))
        self.assertEqual(await one.join_group(GROUP, "node-a", b"mine"), expected)
        self.assertEqual(await one.join_group(GROUP, "node-a", b"twice"), expected)
        self.assertEqual(await other.find_group(GROUP), expected)
        self.assertIsNone(await other.find_group("h" * 52))

    async def test_leave_group(self) -> None:
        """A group is gone when the last node left it; the next one gives it new settings."""
        one, other = await self.two_nodes()
        await one.join_group(GROUP, "node-a", b"old")
        await other.join_group(GROUP, "node-b", b"")
        self.assertTrue(await one.leave_group(GROUP, "node-a"))
        self.assertFalse(await one.leave_group(GROUP, "node-a"))
        self.assertEqual(await one.find_group(GROUP), GroupRecord(group_id=GROUP, settings=b"old", nodes=("node-b",)))
        self.assertTrue(await other.leave_group(GROUP, "node-b"))
        self.assertIsNone(await one.find_group(GROUP))
        self.assertEqual((await one.join_group(GROUP, "node-a", b"new")).settings, b"new")

    async def test_group_of_dead_node(self) -> None:
        """Dead nodes are left out; a group that only they held is a new one for whoever joins next."""
        one, other = await self.two_nodes()
        await one.join_group(GROUP, "node-a", b"old")
        await other.join_group(GROUP, "node-b", b"")
        await self.pass_half_a_lease()
        await other.register_node(make_node_record("node-b"))
        await self.pass_half_a_lease()
        self.assertEqual(await other.find_group(GROUP), GroupRecord(group_id=GROUP, settings=b"old", nodes=("node-b",)))
        await self.pass_a_lease()
        await other.register_node(make_node_record("node-b"))
        self.assertIsNone(await other.find_group(GROUP))
        self.assertEqual((await other.join_group(GROUP, "node-b", b"new")).settings, b"new")

    async def test_wrong_arguments(self) -> None:
        """What cannot be stored is refused as a mistake of the caller."""
        directory, _ = await self.two_nodes()
        for awaitable in (
            directory.join_group(GROUP, "node-a", bytes(MAX_SETTINGS_BYTES + 1)),
            directory.join_group("with blank", "node-a", b""),
            directory.join_group(GROUP, "", b""),
            directory.leave_group(GROUP, ""),
            directory.leave_group("", "node-a"),
            directory.find_group("g" * 65),
            directory.find_user(""),
            directory.release_user("a" * 129, "sid", "node-a"),
            directory.release_user("ann", "", "node-a"),
            directory.release_user("ann", "sid", ""),
            directory.withdraw_node("", "first"),
            directory.refresh("node-a", [make_user_record(node_id="node-b")], []),
        ):
            await self.failure_of(awaitable, ValueError)

    async def test_refresh(self) -> None:
        """After the data were lost each node says all it has, and everything is found again."""
        one, other = await self.two_nodes()
        users = [make_user_record(f"user-{number}") for number in range(1_001)]
        groups = [(f"{number:052}", f"settings {number}".encode()) for number in range(501)]
        self.assertEqual(await one.refresh("node-a", iter(users), iter(groups)), [])
        for record in (users[0], users[499], users[1_000]):
            self.assertEqual(await other.find_user(record.user_id), record)
        for group_id, settings in (groups[0], groups[500]):
            expected = GroupRecord(group_id=group_id, settings=settings, nodes=("node-a",))
            self.assertEqual(await other.find_group(group_id), expected)

    async def test_refresh_taken_over(self) -> None:
        """A refresh takes no user away from a newer sign-in, and tells which ones are lost to it."""
        one, other = await self.two_nodes()
        newer = make_user_record("bob", node_id="node-b", sid="b", stamp=9)
        await other.claim_user(newer)
        mine = [make_user_record(user_id, stamp=5) for user_id in ("ann", "bob", "cid")]
        self.assertEqual(await one.refresh("node-a", mine, []), [newer])
        self.assertEqual(await one.find_user("bob"), newer)
        self.assertEqual(await other.find_user("cid"), mine[2])

    async def test_refresh_keeps(self) -> None:
        """A refresh changes nothing that it does not name, and may have nothing to say."""
        one, _ = await self.two_nodes()
        await one.claim_user(make_user_record())
        self.assertEqual(await one.refresh("node-a", [], []), [])
        self.assertEqual(await one.find_user("ann"), make_user_record())

    async def test_epoch(self) -> None:
        """All nodes see one epoch, which changes when the data are lost and at no other time."""
        one, other = await self.two_nodes()
        before = await one.epoch()
        self.assertEqual(await other.epoch(), before)
        await one.claim_user(make_user_record())
        self.assertEqual(await one.epoch(), before)
        await self.lose_data(one)
        after = await one.epoch()
        self.assertNotEqual(after, before)
        self.assertEqual(await other.epoch(), after)

    async def test_lost(self) -> None:
        """When the data are lost the watchers are told, even if one of them fails, and can put everything back."""
        directory = await self.open_directory()
        healed: Deferred[None] = Deferred()

        def fail() -> None:
            raise RuntimeError("a watcher with a bug")

        async def heal() -> None:
            await directory.register_node(make_node_record())
            await directory.refresh("node-a", [make_user_record()], [(GROUP, b"settings")])
            healed.callback(None)

        directory.watch_lost(fail)
        directory.watch_lost(lambda: Deferred.fromCoroutine(heal()))
        directory.start()
        await directory.register_node(make_node_record())
        await self.lose_data(directory)
        await healed
        self.assertEqual(await directory.find_user("ann"), make_user_record())
        expected = GroupRecord(group_id=GROUP, settings=b"settings", nodes=("node-a",))
        self.assertEqual(await directory.find_group(GROUP), expected)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_loopback(self) -> None:
        """A token comes back while the directory works, again and again, and on several nodes at once."""
        one, other = await self.two_nodes()
        for _ in range(3):
            await one.loopback("token")
        first, second = one.loopback("same"), other.loopback("same")
        await first
        await second

    async def test_stop(self) -> None:
        """After the end every call fails at once, and stopping twice does no harm."""
        directory = await self.open_directory()
        directory.start()
        await directory.register_node(make_node_record())
        await directory.stop()
        calls: list[Callable[[], Deferred[Any]]] = [
            directory.nodes,
            lambda: directory.find_user("ann"),
            lambda: directory.refresh("node-a", [make_user_record()], []),
            directory.epoch,
            lambda: directory.loopback("token"),
        ]
        for call in calls:
            await self.failure_of(call(), DirectoryUnavailable)
        await directory.stop()
