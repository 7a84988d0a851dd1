"""Tests of `meshrelay.directory.memory`: the contract, and what the memory directory has for itself."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.testing.directory_contract import CONTRACT_MAX_NODES, DirectoryContract, make_node_record


class MemoryContractTests(DirectoryContract, TestCase):
    """The memory directory keeps the promises of all directories."""

    def setUp(self) -> None:
        """One store for all nodes of a test."""
        self.clock = Clock()
        self.directory = MemoryDirectory(self.clock, Random(1), DirectoryOptions(max_nodes=CONTRACT_MAX_NODES))

    async def open_directory(self) -> IDirectory:
        """All nodes of a test use the one store."""
        return self.directory

    async def pass_a_lease(self) -> None:
        """Move the clock."""
        self.clock.advance(self.directory.lease_seconds + 0.1)

    async def pass_half_a_lease(self) -> None:
        """Move the clock."""
        self.clock.advance(self.directory.lease_seconds * 0.6)

    async def lose_data(self, directory: IDirectory) -> None:
        """Forget everything."""
        self.directory.clear()


class MemoryTests(SynchronousTestCase):
    """What only a directory in memory can promise."""

    def test_at_once(self) -> None:
        """No call waits: a node alone does not become slower by having a directory."""
        directory = MemoryDirectory(Clock(), Random(1))
        self.assertFalse(self.successResultOf(directory.register_node(make_node_record())))
        self.assertEqual(self.successResultOf(directory.nodes()), [make_node_record()])

    def test_never_refresh(self) -> None:
        """Nothing has to be said again as long as nothing was lost."""
        self.assertEqual(MemoryDirectory(Clock(), Random(1)).refresh_seconds, 0.0)

    def test_losses_counted(self) -> None:
        """The operator sees how often data were lost."""
        directory = MemoryDirectory(Clock(), Random(1))
        directory.clear()
        self.assertEqual(directory.statistics()["losses"], 1)
