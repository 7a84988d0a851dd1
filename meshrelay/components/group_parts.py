"""Puts the group component together: the table, what spans nodes, histories, presence, and what clients may call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from meshrelay.background import Alarms
from meshrelay.components.group_callbacks import GroupCallbacks, longest_message_of_callbacks
from meshrelay.components.group_logs import GroupLogs, LogRules
from meshrelay.components.group_nodes import GroupNodes, GroupSpreadRules, GroupSurroundings
from meshrelay.components.group_table import GroupTable, GroupTableLimits
from meshrelay.components.group_watch import WatchParts
from meshrelay.components.groups import GroupRules, Groups, GroupSet
from meshrelay.config.schema import Config
from meshrelay.directory.history import HistoryStore
from meshrelay.fanout.hub import Hub
from meshrelay.interfaces import ISessions

__all__ = ["Chances", "GroupHouse", "make_groups"]


class Chances(NamedTuple):
    """Randomness."""

    #: ``random_bytes(n)`` -> n bytes that nobody can guess.
    random_bytes: Callable[[int], bytes]
    #: ``random_below(n)`` -> a number from 0 to n - 1.
    random_below: Callable[[int], int]


class GroupHouse(NamedTuple):
    """What a node has for groups."""

    surroundings: GroupSurroundings
    store: HistoryStore
    hub: Hub
    sessions: ISessions
    chances: Chances


def make_groups(config: Config, house: GroupHouse, is_draining: Callable[[], bool]) -> tuple[Groups, GroupSet]:
    """Return the component, and what it consists of.

    :param is_draining: asked at each creation; True: the node is about to stop.
    """
    around, hub, chances = house.surroundings, house.hub, house.chances
    alarms: Alarms = around.alarms
    max_payload_bytes = config.session.max_payload_bytes
    logs = GroupLogs(LogRules.of(config), house.store, hub, around.turn, alarms, chances.random_bytes)
    table = GroupTable(
        around.nodes.node_id,
        GroupTableLimits.of(config.group),
        hub,
        alarms,
        chances.random_bytes,
        chances.random_below,
        logs.make_group,
    )
    logs.settle = table.settle
    callbacks = GroupCallbacks(alarms, longest_message_of_callbacks(max_payload_bytes))
    group_nodes = GroupNodes(around, table, callbacks, GroupSpreadRules.of(config))
    watch = WatchParts(around.nodes, hub, around.turn, alarms, config.group.presence_max_members, max_payload_bytes)
    parts = GroupSet(table, group_nodes, callbacks, logs, watch)
    return Groups(GroupRules.of(config), parts, house.sessions, alarms, is_draining), parts
