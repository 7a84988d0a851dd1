"""A node that says about groups what a test tells it to, and keeps what it hears. Its links are real ones."""

from __future__ import annotations

from base64 import b32encode
from functools import partial

from meshrelay.components.place_ids import node_key
from meshrelay.directory.records import NodeRecord
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.memory_nodes import endpoint
from meshrelay.wire.frame import encode_push
from meshrelay.wire.group_node import (
    Cast,
    EntryType,
    Hold,
    HoldSettings,
    decode_cast,
    decode_hold,
    encode_cast,
    encode_entry,
    encode_exit,
    encode_hold,
    encode_member,
    encode_members,
)
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["SETTINGS", "Stranger", "group_of", "message", "said"]

SETTINGS = HoldSettings(False, False, 60, 0, 0)


def group_of(node_id: str, number: int = 1) -> str:
    """Return the ID of a group whose home is `node_id`."""
    return b32encode(node_key(node_id) + number.to_bytes(16, "big")).decode("ascii").rstrip("=").lower()


def message(*texts: bytes, entry_type: int = EntryType.FRAMES) -> bytes:
    """Return a content that pushes `texts` under (2, 1)."""
    return encode_entry(entry_type, b"".join(encode_push(2, 1, text) for text in texts))


def said(entry_type: int, user_id: str, sid: str = "s1") -> bytes:
    """Return a content about one member."""
    return encode_entry(entry_type, encode_member(user_id, sid))


class Stranger:
    """See the module.

    :param hold: of all groups that it holds.
    """

    def __init__(self, cluster: GroupCluster, node_id: str, hold: int = 1) -> None:
        self._cluster = cluster
        self.node_id = node_id
        self.hold = hold
        self._heard: list[tuple[int, str, bytes]] = []
        linked = cluster.links.add(node_id)
        self._nodes = linked.nodes
        self._incarnation = linked.links.identity.incarnation.hex()
        for kind in NodeKind:
            linked.nodes.handle(kind, partial(self._hear, kind))
        record = NodeRecord(
            node_id=node_id,
            incarnation=self._incarnation,
            mesh_endpoint=endpoint(node_id),
            places={},
            load=0.0,
            protocol=1,
        )
        cluster.directory.register_node(record)

    def kill(self) -> None:
        """End as kill -9 does; the directory forgets this node at once."""
        self._cluster.links.kill(self.node_id)
        self._cluster.directory.withdraw_node(self.node_id, self._incarnation)

    def _hear(self, kind: int, node_id: str, data: bytes) -> None:
        self._heard.append((kind, node_id, data))

    def is_listed(self, group_id: str) -> None:
        """Say in the directory that this node holds a group."""
        self._cluster.directory.join_group(group_id, self.node_id, b"")

    def heard(self, kind: NodeKind, node_id: str = "") -> list[bytes]:
        """What came of one kind since the last call, of one node or of all."""
        found = [each for each in self._heard if each[0] == kind and node_id in ("", each[1])]
        self._heard = [each for each in self._heard if each not in found]
        return [data for _, _, data in found]

    def holds_heard(self) -> list[Hold]:
        """All GROUP_HOLD since the last call."""
        return [decode_hold(data) for data in self.heard(NodeKind.GROUP_HOLD)]

    def casts_heard(self) -> list[Cast]:
        """All GROUP_CAST since the last call."""
        return [decode_cast(data) for data in self.heard(NodeKind.GROUP_CAST)]

    def answer_calls(self, name: str, answer: bytes) -> None:
        """Answer calls of this name."""
        self._nodes.answer(name, lambda *_: answer)

    def send(self, node_id: str, kind: NodeKind, payload: bytes) -> None:
        """Send anything, and let it arrive."""
        assert self._nodes.send(node_id, kind, payload)
        self._cluster.run(0.03)

    def say_hold(
        self,
        node_id: str,
        group_id: str,
        next_number: int = 1,
        asks: bool = False,
        of_hold: int = 0,
        settings: HoldSettings = SETTINGS,
        others: tuple[str, ...] = (),
        members: tuple[tuple[str, str, bool], ...] = (),
    ) -> None:
        """Say that this node holds a group, with these members."""
        wire_id = group_id.encode("ascii")
        for payload in encode_members(wire_id, self.hold, members):
            self._nodes.send(node_id, NodeKind.GROUP_MEMBERS, payload)
        holders = (self.node_id, *others)
        payload = encode_hold(wire_id, self.hold, next_number, asks, of_hold, settings, holders)
        self.send(node_id, NodeKind.GROUP_HOLD, payload)

    def enter(self, node_id: str, group_id: str, members: tuple[tuple[str, str, bool], ...] = ()) -> Hold:
        """Become a holder of a group of `node_id`, and return what that node said of it."""
        self.say_hold(node_id, group_id, asks=True, members=members)
        (hold,) = self.holds_heard()
        return hold

    def let_in(self, node_id: str, settings: HoldSettings = SETTINGS, others: tuple[str, ...] = ()) -> Hold:
        """Answer the one GROUP_HOLD of a node that asked; return it."""
        (asked,) = self.holds_heard()
        self.say_hold(node_id, asked.group_id, of_hold=asked.hold, settings=settings, others=others)
        return asked

    def cast(
        self, node_id: str, group_id: str, number: int, content: bytes, rest: tuple[str, ...] = (), hold: int = 0
    ) -> None:
        """Cast something."""
        wire_id = group_id.encode("ascii")
        payload = encode_cast(wire_id, hold or self.hold, number, self.node_id, rest, content)
        self.send(node_id, NodeKind.GROUP_CAST, payload)

    def exit(self, node_id: str, group_id: str) -> None:
        """Say that this node does not hold a group."""
        self.send(node_id, NodeKind.GROUP_EXIT, encode_exit(group_id.encode("ascii")))
