"""Tests of `meshrelay.components.group_parts`; that the parts work together is what all tests of groups show."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.components.group_nodes import GroupSurroundings
from meshrelay.components.group_parts import Chances, GroupHouse, make_groups
from meshrelay.config.schema import Config, GroupConfig, SessionConfig
from meshrelay.counters import NodeCounters
from meshrelay.directory.history import MemoryHistory
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.turn import Turn
from meshrelay.mesh.alone import Alone
from meshrelay.session.registry import RegistryLimits, SessionRegistry
from meshrelay.testing.heap_clock import HeapClock


class GroupPartsTests(SynchronousTestCase):
    """One configuration, one component."""

    def test_made(self) -> None:
        """Every part is given its share of the configuration, and the component stands on all of them."""
        clock = HeapClock()
        random = Random(1)
        turn, alarms, counters = Turn(clock), Alarms(clock), NodeCounters()
        registry = SessionRegistry(RegistryLimits(30.0, 1000, max_away=10), alarms, lambda: "0" * 32, counters)
        around = GroupSurroundings(Alone("a"), MemoryDirectory(clock, random), None, turn, clock, alarms)
        store = MemoryHistory(1 << 20, clock, random.randrange)
        chances = Chances(random.randbytes, random.randrange)
        house = GroupHouse(around, store, Hub(turn, clock, counters), registry, chances)
        config = Config(group=GroupConfig(presence_max_members=7), session=SessionConfig(max_payload_bytes=1000))
        groups, parts = make_groups(config, house, lambda: False)
        self.assertEqual((parts.watch.max_members, parts.watch.max_payload_bytes), (7, 1000))
        group_id = groups.create_group(None, True, False, 60, 0)
        self.assertIsNotNone(parts.table.find(group_id))
        self.assertEqual(groups.statistics()["groups"], 1)
        groups.stop()
