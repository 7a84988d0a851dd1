"""Histories of groups on a real Redis server."""

from __future__ import annotations

import random
import signal

from twisted.internet import reactor

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.redis_history import RedisHistory, open_redis_history
from meshrelay.machine.message_logs import LogLimits
from meshrelay.testing.builders import make_group_id
from meshrelay.wire.group_log import LogPage
from tests.integration.test_directory_redis import FAIL_SECONDS, RedisCase

LOBBY = make_group_id("lobby")
OTHER = make_group_id("other")
LIMITS = LogLimits(10, 60.0)
ALL = (100, 1 << 20)


class RedisHistoryTests(RedisCase):
    """What a store promises, on Redis."""

    def store(self, port: int) -> RedisHistory:
        """One of a node of its own."""
        store = open_redis_history(reactor, f"redis://127.0.0.1:{port}/0", "test", random.Random())
        self.addCleanup(store.stop)
        return store

    async def read(self, store: RedisHistory, after: int = 0, known: int = 0) -> LogPage:
        """All that is kept."""
        return await store.read(LOBBY, known, after, ALL, LIMITS)

    async def test_offsets(self) -> None:
        """Messages of two nodes have the offsets of one history, and come back as they were, whatever their bytes."""
        server = self.server()
        one, two = self.store(server.port), self.store(server.port)
        epoch, first = await one.append(LOBBY, 0, [b"a", b"\r\n\0\xff"], LIMITS)
        self.assertEqual((epoch > 0, first), (True, 1))
        self.assertEqual(await two.append(LOBBY, 0, [b""], LIMITS), (epoch, 3))
        self.assertEqual(await self.read(two), LogPage(epoch, 3, 1, (b"a", b"\r\n\0\xff", b"")))
        self.assertEqual(await self.read(one, 2), LogPage(epoch, 3, 3, (b"",)))
        self.assertEqual(await self.read(one, 3), LogPage(epoch, 3, 4, ()))
        self.assertEqual((await self.read(one, (1 << 64) - 1)).entries, ())
        self.assertEqual((await one.read(OTHER, 0, 0, ALL, LIMITS)).head, 0)

    async def test_bounds(self) -> None:
        """A group keeps its last messages, and a page is as long as asked for."""
        store = self.store(self.server().port)
        epoch, _ = await store.append(LOBBY, 0, [b"%d" % number for number in range(1, 26)], LIMITS)
        page = await self.read(store)
        self.assertEqual((page.head, page.first, len(page.entries)), (25, 16, 10))
        self.assertEqual((await store.read(LOBBY, 0, 17, (2, 1 << 20), LIMITS)).entries, (b"18", b"19"))
        self.assertEqual((await store.read(LOBBY, 0, 17, (9, 3), LIMITS)).entries, (b"18",))
        self.assertEqual(await store.read(LOBBY, 0, 17, (0, 0), LIMITS), LogPage(epoch, 25, 26, ()))

    async def test_age(self) -> None:
        """What is too old does not come back, and the offsets go on."""
        store = self.store(self.server().port)
        limits = LogLimits(10, 2.0)
        epoch, _ = await store.append(LOBBY, 0, [b"old"], limits)
        await self.pause(2.2)
        self.assertEqual(await store.append(LOBBY, 0, [b"new"], limits), (epoch, 2))
        page = await store.read(LOBBY, 0, 0, ALL, limits)
        self.assertEqual((page.first, page.entries), (2, (b"new",)))

    async def test_epochs(self) -> None:
        """Who has seen a later epoch begins a greater one, also with a clock that is late; one who has not follows."""
        store = self.store(self.server().port)
        epoch, _ = await store.append(LOBBY, 0, [b"a"], LIMITS)
        later, first = await store.append(LOBBY, epoch + (1 << 40), [b"b"], LIMITS)
        self.assertEqual((later > epoch + (1 << 40), first), (True, 1))
        self.assertEqual(await store.append(LOBBY, epoch, [b"c"], LIMITS), (later, 2))
        renewed = await store.read(LOBBY, later + 1, 0, (0, 0), LIMITS)
        self.assertEqual((renewed.epoch > later, renewed.head), (True, 0))

    async def test_new_life(self) -> None:
        """A server that was started anew may have lost messages: its histories begin another epoch."""
        server = self.server(["--appendonly", "yes", "--appendfsync", "always"])
        store = self.store(server.port)
        epoch, _ = await store.append(LOBBY, 0, [b"a", b"b"], LIMITS)
        server.kill()
        server.start()

        async def is_back() -> bool:
            await self.read(store, 0, epoch)
            return True

        await self.until(is_back, "the history")
        page = await self.read(store, 0, epoch)
        self.assertEqual((page.epoch > epoch, page.head, page.entries), (True, 0, ()))

    async def test_wiped(self) -> None:
        """The same when all its data were deleted."""
        server = self.server()
        store = self.store(server.port)
        epoch, _ = await store.append(LOBBY, 0, [b"a"], LIMITS)
        server.tell("FLUSHALL")
        later, first = await store.append(LOBBY, epoch, [b"b"], LIMITS)
        self.assertEqual((later > epoch, first), (True, 1))

    async def test_hangs(self) -> None:
        """A server that does not answer holds nobody up for more than two seconds."""
        server = self.server()
        store = self.store(server.port)
        await store.append(LOBBY, 0, [b"a"], LIMITS)
        server.send_signal(signal.SIGSTOP)
        self.addCleanup(server.send_signal, signal.SIGCONT)
        error, seconds = await self.unavailable(store.append(LOBBY, 0, [b"b"], LIMITS))
        self.assertIsInstance(error, DirectoryUnavailable)
        self.assertLess(seconds, FAIL_SECONDS)
        server.send_signal(signal.SIGCONT)
