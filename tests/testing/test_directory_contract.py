"""Tests of `meshrelay.testing.directory_contract`: it finds what it is for, being shown something broken."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase, TestCase

from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import GroupRecord, NodeRecord, UserRecord
from meshrelay.testing.directory_contract import CONTRACT_MAX_NODES, DirectoryContract


class OldestWins(MemoryDirectory):
    """Keeps whoever came first."""

    def claim_user(self, record: UserRecord) -> Deferred[UserRecord | None]:
        """Do nothing when somebody is there."""
        if self.successful(self.find_user(record.user_id)) is None:
            return super().claim_user(record)
        return succeed(None)

    def successful(self, call: Deferred[UserRecord | None]) -> UserRecord | None:
        """The result of a call that has one."""
        results: list[UserRecord | None] = []
        call.addCallback(results.append)
        return results[0]


class LastSettingsWin(MemoryDirectory):
    """Answers a join with the settings of whoever joined."""

    def join_group(self, group_id: str, node_id: str, settings: bytes) -> Deferred[GroupRecord]:
        """Show the wrong settings."""
        joined = super().join_group(group_id, node_id, settings)
        return joined.addCallback(lambda group: GroupRecord(group_id=group_id, settings=settings, nodes=group.nodes))


class NeverDies(MemoryDirectory):
    """Lists whoever was there once."""

    def __init__(self, clock: Clock, random: Random, options: DirectoryOptions) -> None:
        super().__init__(clock, random, options)
        self.seen: dict[str, NodeRecord] = {}

    def register_node(self, record: NodeRecord) -> Deferred[bool]:
        """Remember for ever."""
        self.seen[record.node_id] = record
        return super().register_node(record)

    def nodes(self) -> Deferred[list[NodeRecord]]:
        """The living and the dead."""
        return succeed([self.seen[name] for name in sorted(self.seen)])


def failures_of(kind: type[MemoryDirectory]) -> set[str]:
    """The names of the promises that a directory breaks."""

    class Case(DirectoryContract, TestCase):
        def setUp(self) -> None:
            self.clock = Clock()
            self.directory = kind(self.clock, Random(1), DirectoryOptions(max_nodes=CONTRACT_MAX_NODES))

        async def open_directory(self) -> IDirectory:
            return self.directory

        async def pass_a_lease(self) -> None:
            self.clock.advance(10.1)

        async def pass_half_a_lease(self) -> None:
            self.clock.advance(6.0)

        async def lose_data(self, directory: IDirectory) -> None:
            self.directory.clear()

    result = TestResult()
    for name in dir(Case):
        if name.startswith("test_"):
            Case(name).run(result)
    return {test.id().rpartition(".")[2] for test, _ in [*result.failures, *result.errors]}


class ContractTests(SynchronousTestCase):
    """What the contract finds."""

    def test_good(self) -> None:
        """A good directory breaks no promise."""
        self.assertEqual(failures_of(MemoryDirectory), set())

    def test_oldest_wins(self) -> None:
        """A directory where the newest sign-in does not win is found."""
        self.assertLessEqual({"test_newer_claim", "test_older_claim", "test_equal_stamps"}, failures_of(OldestWins))

    def test_last_settings_win(self) -> None:
        """A directory that does not keep the first settings is found."""
        self.assertEqual(failures_of(LastSettingsWin), {"test_join_group"})

    def test_never_dies(self) -> None:
        """A directory that lists dead nodes is found."""
        self.assertLessEqual({"test_lease_ends", "test_lease_renewed", "test_withdraw"}, failures_of(NeverDies))
