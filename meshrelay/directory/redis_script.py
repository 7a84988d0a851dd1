"""What runs inside Redis as one step, and what its answers mean.

Keys, all below ``meshrelay:{cluster}:`` (the braces keep them in one slot, so that a server which spreads its keys
can run the scripts, too):

===============  ==========================================================================================
epoch            random; made by whoever finds none
nodes            hash: node ID -> what the node says of itself, JSON
lease:NODE       incarnation of a living node, blank, name of the lease; ends by itself
user:USER        lease of the node, line feed, where the user is as JSON; ends by itself
group:GROUP      hash: ``s`` -> settings in base64, ``n:NODE`` -> lease of that node; ends by itself
===============  ==========================================================================================

An entry counts while the lease of its node is the one that stands in the entry: the death of a node hides all its
entries in one step, and they stay hidden when it comes back. Every script answers with one string, as the client
library takes one reactor turn for each string of a list.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from meshrelay.directory.errors import DirectoryFull, DirectoryUnavailable, NodeIdInUse, NodeUnknown, UserTakenOver
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import (
    GroupRecord,
    NodeRecord,
    UserRecord,
    check_group_id,
    check_name,
    check_settings,
)
from meshrelay.model import check_user_id

__all__ = ["RedisScripts", "ScriptCall"]

RecordT = TypeVar("RecordT", NodeRecord, UserRecord)

_EPOCH = """
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[1], epoch)
end
return epoch
"""

_REGISTER = """
local prefix, node, incarnation = ARGV[1], ARGV[2], ARGV[3]
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #incarnation + 1) ~= incarnation .. ' ' then return 'used' end
local limit = tonumber(ARGV[6])
if redis.call('HEXISTS', KEYS[2], node) == 0 and redis.call('HLEN', KEYS[2]) >= limit then
  for _, other in ipairs(redis.call('HKEYS', KEYS[2])) do
    if redis.call('EXISTS', prefix .. 'lease:' .. other) == 0 then redis.call('HDEL', KEYS[2], other) end
  end
  if redis.call('HLEN', KEYS[2]) >= limit then return 'full' end
end
redis.call('SET', KEYS[1], held or incarnation .. ' ' .. ARGV[7], 'PX', ARGV[5])
redis.call('HSET', KEYS[2], node, ARGV[4])
return held and 'renewed' or 'new'
"""

_WITHDRAW = """
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, #ARGV[2] + 1) ~= ARGV[2] .. ' ' then return 'no' end
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 'yes'
"""

_NODES = """
local living = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if redis.call('EXISTS', ARGV[1] .. 'lease:' .. all[i]) == 1 then
    living[#living + 1] = all[i + 1]
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return table.concat(living, '\\n')
"""

#: What is held about a user -> the same, decoded and as JSON, while the lease in it is the one of its node.
_LIVING_USER = """
local function living(held)
  if not held then return nil end
  local cut = string.find(held, '\\n', 1, true)
  local json = string.sub(held, cut + 1)
  local user = cjson.decode(json)
  if redis.call('GET', ARGV[1] .. 'lease:' .. user.node_id) ~= string.sub(held, 1, cut - 1) then return nil end
  return user, json
end
"""

_CLAIM = (
    _LIVING_USER
    + """
local lease = redis.call('GET', KEYS[1])
if not lease then return 'unknown' end
local function is_newer(a, b)
  if a.stamp ~= b.stamp then return a.stamp > b.stamp end
  if a.sid ~= b.sid then return a.sid > b.sid end
  return a.node_id > b.node_id
end
local answers = {}
for i = 3, #ARGV do
  local json, answer = ARGV[i], ''
  local user = cjson.decode(json)
  local key = ARGV[1] .. 'user:' .. user.user_id
  local other, other_json = living(redis.call('GET', key))
  if other then
    local is_same = other.node_id == user.node_id and other.sid == user.sid
    if not is_same and is_newer(other, user) then
      answer = '>' .. other_json
    elseif is_same and is_newer(other, user) then
      json = other_json
    elseif not is_same then
      answer = '<' .. other_json
    end
  end
  if string.sub(answer, 1, 1) ~= '>' then
    redis.call('SET', key, lease .. '\\n' .. json, 'PX', ARGV[2])
  end
  answers[#answers + 1] = answer
end
return table.concat(answers, '\\n')
"""
)

_RELEASE = (
    _LIVING_USER
    + """
local user = living(redis.call('GET', KEYS[1]))
if not user or user.sid ~= ARGV[2] or user.node_id ~= ARGV[3] then return 'no' end
redis.call('DEL', KEYS[1])
return 'yes'
"""
)

_FIND_USER = (
    _LIVING_USER
    + """
local _, json = living(redis.call('GET', KEYS[1]))
return json or ''
"""
)

#: Key of a group -> its settings and living nodes; what dead ones left behind is deleted.
_LIVING_GROUP = """
local function living(key)
  local settings, nodes = nil, {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if all[i] == 's' then
      settings = all[i + 1]
    else
      local node = string.sub(all[i], 3)
      if redis.call('GET', ARGV[1] .. 'lease:' .. node) == all[i + 1] then
        nodes[#nodes + 1] = node
      else
        redis.call('HDEL', key, all[i])
      end
    end
  end
  if #nodes == 0 then
    redis.call('DEL', key)
    return nil
  end
  return settings, nodes
end
"""

_JOIN = (
    _LIVING_GROUP
    + """
local node = ARGV[3]
local lease = redis.call('GET', KEYS[1])
if not lease then return 'unknown' end
local answer = ''
for i = 4, #ARGV, 2 do
  local key = ARGV[1] .. 'group:' .. ARGV[i]
  local settings, nodes = living(key)
  if not settings then
    settings, nodes = ARGV[i + 1], {}
    redis.call('HSET', key, 's', settings)
  end
  if redis.call('HSET', key, 'n:' .. node, lease) == 1 then nodes[#nodes + 1] = node end
  redis.call('PEXPIRE', key, ARGV[2])
  answer = '=' .. settings .. '\\n' .. table.concat(nodes, '\\n')
end
return answer
"""
)

_LEAVE = (
    _LIVING_GROUP
    + """
local settings = living(KEYS[1])
if not settings or redis.call('HDEL', KEYS[1], 'n:' .. ARGV[2]) == 0 then return 'no' end
living(KEYS[1])
return 'yes'
"""
)

_FIND_GROUP = (
    _LIVING_GROUP
    + """
local settings, nodes = living(KEYS[1])
if not settings then return '' end
return '=' .. settings .. '\\n' .. table.concat(nodes, '\\n')
"""
)


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One script with what it works on."""

    script: str
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int]


class RedisScripts:
    """Questions -> script calls, and answers -> values, for the keys of one cluster.

    :param cluster: its name; several clusters may share a server.
    :raises ValueError: the name is not 1 to 64 printable ASCII characters without blanks and braces.
    """

    def __init__(self, cluster: str, options: DirectoryOptions) -> None:
        check_name(cluster, "name of the cluster", 64)
        if "{" in cluster or "}" in cluster:
            raise ValueError("name of the cluster must have no braces")
        self.prefix = f"meshrelay:{{{cluster}}}:"
        self._lease_ms = max(1, round(options.lease_seconds * 1000))
        self._entry_ms = max(1, round(options.entry_seconds * 1000))
        self._max_nodes = options.max_nodes
        #: Descriptions of nodes that were left out.
        self.unreadable = 0

    def epoch(self, candidate: str) -> ScriptCall:
        """Name the life of the data; `candidate` becomes the name when there is none."""
        return ScriptCall(_EPOCH, [self.prefix + "epoch"], [candidate])

    def register(self, record: NodeRecord, lease_name: str) -> ScriptCall:
        """Answered by `read_register`.

        :param lease_name: names the lease if it is a new one.
        """
        arguments: list[str | bytes | int] = [
            self.prefix,
            record.node_id,
            record.incarnation,
            msgspec.json.encode(record),
            self._lease_ms,
            self._max_nodes,
            lease_name,
        ]
        return ScriptCall(_REGISTER, [self._lease(record.node_id), self.prefix + "nodes"], arguments)

    def read_register(self, answer: bytes, node_id: str) -> bool:
        """Whether a lease was renewed.

        :raises NodeIdInUse: another incarnation has it.
        :raises DirectoryFull: no room for one more node.
        """
        if answer == b"used":
            raise NodeIdInUse(node_id)
        if answer == b"full":
            raise DirectoryFull("nodes", self._max_nodes)
        return answer == b"renewed"

    def withdraw(self, node_id: str, incarnation: str) -> ScriptCall:
        """Answered by yes or no."""
        return ScriptCall(_WITHDRAW, [self._lease(node_id), self.prefix + "nodes"], [node_id, incarnation])

    def nodes(self) -> ScriptCall:
        """Answered by `read_nodes`."""
        return ScriptCall(_NODES, [self.prefix + "nodes"], [self.prefix])

    def read_nodes(self, answer: bytes) -> list[NodeRecord]:
        """Sorted by ID. What cannot be read is left out and counted: one strange node must not hide the others."""
        records = []
        for line in filter(None, answer.split(b"\n")):
            try:
                records.append(_decode(line, NodeRecord))
            except DirectoryUnavailable:
                self.unreadable += 1
        return sorted(records, key=lambda record: record.node_id)

    def claim(self, node_id: str, records: Iterable[UserRecord]) -> ScriptCall:
        """All of one node. Answered by `read_claim` for one, `read_claims` for many."""
        encoded: list[str | bytes | int] = [self.prefix, self._entry_ms]
        for record in records:
            if record.node_id != node_id:
                raise ValueError(f"a user of node {record.node_id} in the refresh of node {node_id}")
            encoded.append(msgspec.json.encode(record))
        return ScriptCall(_CLAIM, [self._lease(node_id)], encoded)

    def read_claim(self, answer: bytes, node_id: str) -> UserRecord | None:
        """The displaced sign-in.

        :raises UserTakenOver: a newer one is there.
        :raises NodeUnknown: the node has no lease.
        """
        newer = self.read_claims(answer, node_id)
        if newer:
            raise UserTakenOver(newer[0])
        return _decode(answer[1:], UserRecord) if answer else None

    def read_claims(self, answer: bytes, node_id: str) -> list[UserRecord]:
        """The newer sign-ins that were met.

        :raises NodeUnknown: the node has no lease.
        """
        if answer == b"unknown":
            raise NodeUnknown(node_id)
        return [_decode(line[1:], UserRecord) for line in answer.split(b"\n") if line.startswith(b">")]

    def release(self, user_id: str, sid: str, node_id: str) -> ScriptCall:
        """Answered by yes or no."""
        session = [check_name(sid, "session ID"), check_name(node_id, "node ID")]
        return ScriptCall(_RELEASE, [self._user(user_id)], [self.prefix, *session])

    def find_user(self, user_id: str) -> ScriptCall:
        """Answered by `read_user`."""
        return ScriptCall(_FIND_USER, [self._user(user_id)], [self.prefix])

    def read_user(self, answer: bytes) -> UserRecord | None:
        """Where the user is."""
        return _decode(answer, UserRecord) if answer else None

    def join(self, node_id: str, groups: Iterable[tuple[str, bytes]]) -> ScriptCall:
        """Many groups of one node. Answered by `read_join` about the last one."""
        arguments: list[str | bytes | int] = [self.prefix, self._entry_ms, node_id]
        for group_id, settings in groups:
            arguments += [check_group_id(group_id), b64encode(check_settings(settings))]
        return ScriptCall(_JOIN, [self._lease(node_id)], arguments)

    def leave(self, group_id: str, node_id: str) -> ScriptCall:
        """Answered by yes or no."""
        return ScriptCall(_LEAVE, [self._group(group_id)], [self.prefix, check_name(node_id, "node ID")])

    def find_group(self, group_id: str) -> ScriptCall:
        """Answered by `read_group`."""
        return ScriptCall(_FIND_GROUP, [self._group(group_id)], [self.prefix])

    def read_join(self, answer: bytes, group_id: str, node_id: str) -> GroupRecord:
        """The group with its living nodes.

        :raises NodeUnknown: the node has no lease.
        """
        if answer == b"unknown":
            raise NodeUnknown(node_id)
        settings, *nodes = answer.decode("ascii").split("\n")
        return GroupRecord(group_id=group_id, settings=b64decode(settings[1:]), nodes=tuple(sorted(nodes)))

    def read_group(self, answer: bytes, group_id: str) -> GroupRecord | None:
        """The group with its living nodes."""
        return self.read_join(answer, group_id, "") if answer else None

    def _lease(self, node_id: str) -> str:
        return f"{self.prefix}lease:{check_name(node_id, 'node ID')}"

    def _user(self, user_id: str) -> str:
        return f"{self.prefix}user:{check_user_id(user_id)}"

    def _group(self, group_id: str) -> str:
        return f"{self.prefix}group:{check_group_id(group_id)}"


def _decode(text: bytes, kind: type[RecordT]) -> RecordT:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise DirectoryUnavailable(f"something else wrote a {kind.__name__}: {error}") from None
