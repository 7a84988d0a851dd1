"""The table of channels: how many it keeps, for how long, and which go first."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.direct_channels import MAX_EVICTIONS, TOUCH_SECONDS, Channel, ChannelTable, Item, Place
from meshrelay.errors import CommandError, UserNotFound
from meshrelay.wire.direct_node import Direct

DIRECT = Direct("ann", "s", "bob", 1, 120, True, b"hi")


def busy(channel: Channel) -> None:
    """Let a message be on its way."""
    channel.flight[1] = Item(DIRECT, lambda error: None, 3.0)


class ItemTests(SynchronousTestCase):
    """One message."""

    def test_once(self) -> None:
        """What became of a message is told once, however often it is found out."""
        told: list[CommandError | None] = []
        item = Item(DIRECT, told.append, 3.0)
        item.finish(None)
        item.finish(UserNotFound())
        self.assertEqual(told, [None])


class TableTests(SynchronousTestCase):
    """Channels of users."""

    def peers(self, table: ChannelTable, user_id: str = "ann") -> list[str]:
        """Whom a user has channels to."""
        return [channel.peer_id for channel in table.peers_of(user_id)]

    def test_open(self) -> None:
        """A pair has one channel, and each direction its own."""
        table = ChannelTable(10, 60.0)
        channel = table.open("ann", "bob", 0.0)
        self.assertIs(table.open("ann", "bob", 1.0), channel)
        self.assertIsNot(table.open("bob", "ann", 1.0), channel)
        self.assertEqual(len(table), 2)
        self.assertIsNone(table.find("ann", "cid"))

    def test_opened(self) -> None:
        """Each new channel is told, so that somebody looks after it; using it again is not."""
        told: list[int] = []
        table = ChannelTable(10, 60.0, lambda: told.append(len(table)))
        for peer_id in ("bob", "bob", "cid"):
            table.open("ann", peer_id, 0.0)
        self.assertEqual(told, [1, 2])

    def test_close(self) -> None:
        """A closed channel is gone, and closing it again harms nobody."""
        table = ChannelTable(10, 60.0)
        channel = table.open("ann", "bob", 0.0)
        table.close(channel)
        self.assertEqual((len(table), self.peers(table)), (0, []))
        newer = table.open("ann", "bob", 0.0)
        table.close(channel)
        self.assertIs(table.find("ann", "bob"), newer)

    def test_close_busy(self) -> None:
        """A channel that carries messages stays, so that those behind them keep their order."""
        table = ChannelTable(10, 60.0)
        channel = table.open("ann", "bob", 0.0)
        for make_busy in (
            lambda: busy(channel),
            lambda: channel.waiting.append(Item(DIRECT, lambda error: None, 3.0)),
            lambda: channel.refused.append(Item(DIRECT, lambda error: None, 3.0)),
            lambda: setattr(channel, "is_resolving", True),
        ):
            make_busy()
            table.close(channel)
            self.assertIs(table.find("ann", "bob"), channel)
            channel.flight.clear()
            channel.waiting.clear()
            channel.refused.clear()
            channel.is_resolving = False
        table.close(channel)
        self.assertEqual(len(table), 0)

    def test_eviction(self) -> None:
        """One channel too many makes the longest unused go; one that was used lately stays."""
        table = ChannelTable(3, 60.0)
        for index, peer in enumerate("xyz"):
            table.open("ann", peer, float(index))
        table.open("ann", "x", 2.0 + TOUCH_SECONDS)
        table.open("ann", "new", 4.0)
        self.assertEqual((sorted(self.peers(table)), table.evicted), (["new", "x", "z"], 1))

    def test_eviction_of_busy_ones(self) -> None:
        """Channels that carry messages are not evicted; as soon as they do not, the table is as small as it must be."""
        table = ChannelTable(3, 60.0)
        channels = [table.open("ann", str(index), 0.0) for index in range(3)]
        for channel in channels:
            busy(channel)
        for index in range(5):
            busy(table.open("ann", f"more-{index}", 0.0))
        self.assertEqual((len(table), table.evicted), (8, 0))
        for channel in table.peers_of("ann"):
            channel.flight.clear()
        table.open("ann", "last", 0.0)
        self.assertEqual((len(table), table.evicted), (3, 6))
        self.assertIn("last", self.peers(table))

    def test_eviction_is_cheap(self) -> None:
        """However many channels are busy, one more looks at a few of them only, and the next one at others."""
        table = ChannelTable(1, 60.0)
        for index in range(100):
            busy(table.open("ann", f"busy-{index}", 0.0))
        idle = table.find("ann", "busy-50")
        assert idle is not None
        idle.flight.clear()
        opened = 0
        while table.find("ann", "busy-50") is idle:
            busy(table.open("ann", f"newer-{opened}", 0.0))
            opened += 1
        self.assertGreater(opened, 1)
        self.assertLess(opened, 2 * 100 / MAX_EVICTIONS)

    def test_many_peers(self) -> None:
        """Ever so many peers leave as many channels as are allowed, and nothing beside them."""
        table = ChannelTable(1000, 60.0)
        for index in range(50_000):
            table.open(f"user-{index % 7}", f"peer-{index}", index / 1000)
        self.assertEqual(len(table), 1000)
        self.assertEqual(sum(len(table.peers_of(f"user-{index}")) for index in range(7)), 1000)

    def test_expire(self) -> None:
        """A channel that was not used for keep_seconds goes, unless it carries messages."""
        table = ChannelTable(10, 60.0)
        table.open("ann", "old", 0.0)
        busy(table.open("ann", "busy", 0.0))
        table.open("ann", "young", 30.0)
        table.expire(59.9)
        self.assertEqual(len(table), 3)
        table.expire(60.0)
        self.assertEqual(self.peers(table), ["busy", "young"])

    def test_keep_nothing(self) -> None:
        """With keep_seconds = 0 everything idle goes at once."""
        table = ChannelTable(10, 0.0)
        table.open("ann", "bob", 5.0)
        table.expire(5.0)
        self.assertEqual(len(table), 0)

    def test_through(self) -> None:
        """The channels to the users of one node are found."""
        table = ChannelTable(10, 60.0)
        for peer, node_id in (("bob", "b"), ("cid", "c"), ("dan", "b")):
            table.open("ann", peer, 0.0).place = Place(node_id, "s")
        table.open("ann", "eve", 0.0)
        self.assertEqual([channel.peer_id for channel in table.through("b")], ["bob", "dan"])
