"""Groups with history on real daemons: clients that lose their connections and their nodes, and miss nothing.

MESHRELAY_NODE_STORIES says how many stories are told; each is one of its own.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from meshrelay.client import (
    Client,
    ClientOptions,
    Disconnected,
    Event,
    GroupMessageReceived,
    GroupPresenceChanged,
    GroupRecovered,
)
from meshrelay.errors import CommandError, DeliveryError
from tests.integration.cluster import Line, Node, cluster_config
from tests.integration.test_directory_redis import MISSING, RedisProcess

reactor: Any = global_reactor

SEEDS = int(os.environ.get("MESHRELAY_NODE_STORIES", "1"))

#: Stories that are told until one is smooth.
ATTEMPTS = 6

#: By then all have come back, whatever happened to their nodes.
BACK_SECONDS = 30.0


class Unsettled(AssertionError):
    """Not all came back in time, or not as far."""


class Person:
    """A client at the end of a line that may lead to another node each time.

    :ivar heard: (sender, message) in order.
    :ivar warnings: how often something may have been missing.
    :ivar ended: how often a node said that somebody else has the user, which is nobody.
    """

    def __init__(self, user: str) -> None:
        self.user = user
        self.line = Line()
        options = ClientOptions(retry_base_seconds=0.05, retry_cap_seconds=0.2, connect_timeout_seconds=8.0)
        self.client = Client(reactor, f"tcp://{self.line.address}", user, options=options)
        self.heard: list[tuple[str, bytes]] = []
        self.warnings: list[GroupRecovered] = []
        self.recoveries = 0
        self.group_id = ""
        self.ended: list[Disconnected] = []
        self.client.on(Event, self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, GroupMessageReceived):
            self.heard.append((event.user_id, event.message))
        elif isinstance(event, GroupRecovered):
            self.recoveries += 1
            if not event.recovered:
                self.warnings.append(event)
        elif isinstance(event, Disconnected) and not event.will_retry and self.group_id:
            self.ended.append(event)

    def lead_to(self, node: Node) -> None:
        """From now on it connects to this node."""
        self.line.target = node.address("tcp")

    def close(self) -> Deferred[None]:
        """Leave."""
        self.group_id = ""
        return self.client.close().addCallback(lambda _: self.line.close())


class HistoryTests(TestCase):
    """Three nodes, three persons, one group."""

    timeout = 480.0 * (1 + SEEDS)

    def run_nodes(self, directory: str | None, size: int) -> list[Node]:
        """Start three nodes; without a directory the first one has it."""
        group = {"history": [{"pattern": "*", "history_size": size}]}
        nodes: list[Node] = []
        for number in range(3):
            config = cluster_config(f"n{number}", directory or "memory", group=group)
            node = Node(config)
            node.__enter__()
            self.addCleanup(node.__exit__, None, None, None)
            nodes.append(node)
            directory = directory or "pb:" + node.places["mesh"]
        for node in nodes:
            node.wait_linked(2)
        return nodes

    def run_redis(self) -> str:
        """Start a Redis; returns its URL."""
        redis = RedisProcess()
        self.addCleanup(redis.remove)
        return f"redis://127.0.0.1:{redis.port}/0"

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await deferLater(reactor, seconds)

    async def meet(self, nodes: list[Node]) -> tuple[list[Person], str]:
        """Let three persons join one group, each at a node of its own."""
        persons = [Person(f"user-{number}") for number in range(3)]
        group_id = ""
        for person, node in zip(persons, nodes, strict=True):
            self.addCleanup(person.close)
            person.lead_to(node)
            await person.client.connect()
            if not group_id:
                group_id = await person.client.create_group(allow_empty=True, join=False)
            await person.client.join_group(group_id, recover=True)
            person.group_id = group_id
        return persons, group_id

    async def tell(self, random: Random, persons: list[Person], nodes: list[Node], group_id: str, turns: int) -> None:
        """Let all talk while lines are cut and lead elsewhere, and once a node dies."""
        number = 0
        for turn in range(turns):
            for _ in range(random.randrange(1, 6)):
                person = random.choice(persons)
                number += 1
                try:
                    person.client.broadcast_nowait(group_id, b"%d" % number)
                except DeliveryError:
                    continue
            if random.random() < 0.25:
                person = random.choice(persons)
                person.lead_to(random.choice(nodes))
                person.line.cut()
                await self.pause(random.choice((0.0, 0.05, 0.3)))
                person.line.mend()
            if turn == turns // 2 and len(nodes) > 2:
                # The directory of a cluster without Redis is the first one's.
                dead = nodes.pop()
                dead.kill()
                for person in persons:
                    if person.line.target == dead.address("tcp"):
                        person.lead_to(random.choice(nodes))
            await self.pause(random.choice((0.0, 0.01, 0.05)))

    async def settle(self, persons: list[Person], group_id: str) -> None:
        """Wait until all are back and have come as far."""
        for _ in range(round(BACK_SECONDS / 0.1)):
            await self.pause(0.1)
            if all(person.client.is_connected for person in persons):
                try:
                    page = await persons[0].client.history(group_id, 0, 0)
                except (CommandError, DeliveryError):
                    continue
                places = {person.client.group_position(group_id) for person in persons}
                if places == {(page.epoch, page.head)}:
                    return
        self.assertEqual([each.ended for each in persons], [[] for _ in persons])
        told = [(each.client.group_position(group_id), each.warnings) for each in persons]
        raise Unsettled(told)

    def check(self, persons: list[Person]) -> None:
        """Nobody was sent away, or heard anything twice; who was never warned heard the same as others like that."""
        for person in persons:
            self.assertEqual(person.ended, [])
            self.assertEqual(len(set(person.heard)), len(person.heard))
        for one in persons:
            for other in persons:
                if not one.warnings and not other.warnings:
                    users = {one.user, other.user}
                    self.assertEqual(
                        [each for each in one.heard if each[0] not in users],
                        [each for each in other.heard if each[0] not in users],
                    )

    async def _story(self, seed: int, url: str | None, size: int) -> list[Person]:
        random = Random(seed)
        nodes = self.run_nodes(url, size)
        persons, group_id = await self.meet(nodes)
        await self.tell(random, persons, nodes, group_id, 120)
        await self.settle(persons, group_id)
        self.check(persons)
        return persons

    async def _smooth_story(self, seed: int, has_redis: bool) -> list[Person]:
        """Tell a story in which the machine did not stall: who is silent for two seconds is away, and that by right.

        That nobody heard anything twice, and nobody missed anything unwarned, holds for the others too.
        """
        for attempt in range(ATTEMPTS):
            try:
                # The nodes of an attempt run to the end of the test, under the same IDs: each has its own directory.
                url = self.run_redis() if has_redis else None
                persons = await self._story(seed + attempt * SEEDS, url, 10_000)
            except Unsettled:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                if not any(person.warnings for person in persons):
                    break
        return persons

    async def test_redis(self) -> None:
        """With Redis nobody is ever warned: lines and nodes may come and go, and all hear all."""
        for seed in range(SEEDS):
            persons = await self._smooth_story(seed, True)
            self.assertEqual([person.warnings for person in persons], [[], [], []])
            self.assertGreater(sum(person.recoveries for person in persons), 0)

    test_redis.skip = MISSING or None  # type: ignore[attr-defined]

    async def test_memory(self) -> None:
        """Without Redis the same holds as long as the node that keeps the history lives."""
        for seed in range(SEEDS):
            persons = await self._smooth_story(1000 + seed, False)
            self.assertEqual([person.warnings for person in persons], [[], [], []])

    async def test_overrun(self) -> None:
        """Who was away for more than is kept is warned, and goes on from there."""
        nodes = self.run_nodes(None, 5)
        persons, group_id = await self.meet(nodes)
        away, *rest = persons
        away.line.cut()
        for number in range(20):
            await rest[0].client.broadcast(group_id, b"%d" % number)
        await self.pause(0.3)
        away.lead_to(nodes[1])
        away.line.mend()
        await self.settle(persons, group_id)
        self.assertEqual([warning.error for warning in away.warnings], [""])
        page = await away.client.history(group_id)
        self.assertEqual([message.offset for message in page.messages], [16, 17, 18, 19, 20])
        await rest[0].client.broadcast(group_id, b"again")
        await self.settle(persons, group_id)
        self.assertEqual(away.heard[-1], ("user-1", b"again"))
        self.check(rest)

    async def test_redis_away(self) -> None:
        """While Redis is away messages go out all the same; when it is back everybody knows that the epoch ended."""
        redis = RedisProcess()
        self.addCleanup(redis.remove)
        nodes = self.run_nodes(f"redis://127.0.0.1:{redis.port}/0", 100)
        persons, group_id = await self.meet(nodes)
        await persons[0].client.broadcast(group_id, b"before")
        await self.settle(persons, group_id)
        epoch, _ = persons[1].client.group_position(group_id)
        redis.kill()
        await persons[0].client.broadcast(group_id, b"meanwhile")
        for _ in range(600):
            await self.pause(0.05)
            if persons[1].heard[-1] == ("user-0", b"meanwhile") == persons[2].heard[-1]:
                break
        self.assertEqual(persons[1].heard[-1], ("user-0", b"meanwhile"))
        redis.start()
        while any(node.get("/health/ready")[0] != 200 for node in nodes):
            await self.pause(0.2)
        # The connection of the history comes back in its own time, two seconds apart at most.
        await self.pause(4.0)
        await persons[0].client.broadcast(group_id, b"after")
        await self.settle(persons, group_id)
        self.assertGreater(persons[1].client.group_position(group_id)[0], epoch)
        self.check(persons)

    test_redis_away.skip = MISSING or None  # type: ignore[attr-defined]

    async def test_presence(self) -> None:
        """Who watches is told who comes and goes on all nodes, and that the members of a dead node are gone."""
        nodes = self.run_nodes(None, 10)
        persons, group_id = await self.meet(nodes)
        changes: list[GroupPresenceChanged] = []
        persons[0].client.on(GroupPresenceChanged, changes.append)
        presence = await persons[0].client.presence(group_id, watch=True)
        self.assertEqual(presence.members, tuple((f"user-{number}", False) for number in range(3)))
        await persons[1].client.leave_group(group_id)
        await self._until(lambda: bool(changes and changes[-1].gone == ("user-1",)))
        persons[2].line.cut()
        nodes[2].kill()
        await self._until(lambda: any("user-2" in change.gone for change in changes))
        self.assertEqual((await persons[0].client.presence(group_id)).members, (("user-0", False),))

    async def _until(self, is_so: Any) -> None:
        for _ in range(300):
            if is_so():
                return
            await self.pause(0.1)
        raise AssertionError("did not happen within 30 s")
