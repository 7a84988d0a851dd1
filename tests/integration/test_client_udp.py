"""Reliable UDP of the client library against a real daemon: large, many, broken off, and moved."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from meshrelay.client import Client, ClientOptions, Connected, GroupMessageReceived, UnsentFull
from meshrelay.errors import MessageTooLarge
from meshrelay.testing.impairment import Impairment, LossyPath
from meshrelay.testing.udp_proxy import UdpProxy
from tests.integration.test_client import PATIENCE_SECONDS, Breaker, DaemonCase, next_events, reactor

_PATIENT = ClientOptions(request_timeout_seconds=60.0)

#: How long a change of the socket may be felt: half a second where the machine does nothing else. A connection that has
#: to be made anew, or an answer that is not waited for any more, would take longer.
FELT_SECONDS = 3.0


class _Collector:
    """Gathers what one client receives."""

    def __init__(self, client: Client) -> None:
        self.messages: list[bytes] = []
        self._wanted = 0
        self._done: Deferred[list[bytes]] | None = None
        client.on(GroupMessageReceived, self._heard)

    def _heard(self, event: GroupMessageReceived) -> None:
        self.messages.append(event.message)
        if self._done is not None and len(self.messages) >= self._wanted:
            done, self._done = self._done, None
            done.callback(self.messages)

    def until(self, count: int) -> Deferred[list[bytes]]:
        """Fire when so many are there."""
        self._wanted = count
        self._done = Deferred()
        if len(self.messages) >= count:
            self._done.callback(self.messages)
        return self._done.addTimeout(PATIENCE_SECONDS, reactor)


async def _broadcast_all(client: Client, group_id: str, messages: list[bytes]) -> None:
    """Send without answers, as fast as the node takes it."""
    for number, message in enumerate(messages):
        while True:
            try:
                client.broadcast_nowait(group_id, message)
                break
            except UnsentFull:
                await client.when_drained()
        if number % 100 == 99:
            await deferLater(reactor, 0)


class UdpDeliveryTests(DaemonCase):
    """What is sent reliably arrives."""

    async def test_large_messages(self) -> None:
        """60 KB pass both ways, several at once, and one byte over the node's limit is refused here."""
        ann, bob = await self.connect("udp", "ann"), await self.connect("udp", "bob")
        group_id = await ann.create_group()
        await bob.join_group(group_id)
        for sender, receiver in ((ann, bob), (bob, ann)):
            heard = _Collector(receiver)
            sent = [bytes([number]) * 60000 for number in range(10)]
            await gatherResults([sender.broadcast(group_id, message) for message in sent])
            self.assertEqual(await heard.until(10), sent)
            await self.assertFailure(sender.broadcast(group_id, bytes(65536 - 52 + 1)), MessageTooLarge)

    async def test_unreliable(self) -> None:
        """Broadcasts that may be lost arrive too, small ones and those that no datagram holds."""
        ann, bob = await self.connect("udp", "ann"), await self.connect("udp", "bob")
        group_id = await ann.create_group()
        await bob.join_group(group_id)
        heard = _Collector(bob)
        for size in (100, 5000):
            await ann.broadcast(group_id, bytes(size), reliable=False)
        self.assertEqual(sorted(map(len, await heard.until(2))), [100, 5000])

    async def test_ten_thousand(self) -> None:
        """10,000 broadcasts of a UDP client arrive once and in order, at a UDP and at a TCP client."""
        ann = await self.connect("udp", "ann", options=_PATIENT)
        group_id = await ann.create_group()
        collectors = []
        for transport in ("udp", "tcp"):
            client = await self.connect(transport, f"user-{transport}")
            await client.join_group(group_id)
            collectors.append(_Collector(client))
        sent = [str(number).encode() * 20 for number in range(10000)]
        await _broadcast_all(ann, group_id, sent)
        for collector in collectors:
            self.assertEqual(await collector.until(10000), sent)

    async def test_many_requests_at_once(self) -> None:
        """Thousands of requests in one turn all get their own answers."""
        client = await self.connect("udp", "ann", options=_PATIENT)
        payloads = [str(number).encode() for number in range(3000)]
        self.assertEqual(await gatherResults([client.request(0, 2, payload) for payload in payloads]), payloads)

    async def test_close_leaves_the_group(self) -> None:
        """close brings GOODBYE to the node: the session is gone at once, not after its time."""
        ann, bob = await self.connect("udp", "ann"), await self.connect("udp", "bob")
        group_id = await ann.create_group()
        await bob.join_group(group_id)
        for number in range(1000):
            bob.broadcast_nowait(group_id, str(number).encode())
        heard = _Collector(ann)
        await bob.close()
        self.assertEqual(len(await heard.until(1000)), 1000)
        self.assertEqual(self.daemon.metric('meshrelay_sessions{transport="udp"}'), 1)


class UdpResumeTests(DaemonCase):
    """A connection that breaks off while pushes flow."""

    async def test_nothing_lost_nothing_doubled(self) -> None:
        """Cut five times in the middle of a stream, the client comes back each time and has every message once."""
        breaker = Breaker()
        options = ClientOptions(retry_base_seconds=0.05, uniform=lambda low, high: high)
        ann = await self.connect("udp", "ann", options=options, opener=breaker.opener)
        bob = await self.connect("tcp", "bob")
        group_id = await ann.create_group()
        await bob.join_group(group_id)
        heard = _Collector(ann)
        sent = [str(number).encode() * 50 for number in range(5000)]
        for start in range(0, 5000, 1000):
            back = next_events(ann, Connected)
            for message in sent[start : start + 500]:
                bob.broadcast_nowait(group_id, message)
            # Somewhere in the middle: packets are on their way, received and not acknowledged, or not sent yet.
            await heard.until(start + 50)
            breaker.break_newest()
            for message in sent[start + 500 : start + 1000]:
                bob.broadcast_nowait(group_id, message)
            [connected] = await back
            self.assertEqual((connected.resumed, connected.recovered), (True, True), start)
            self.assertEqual(await heard.until(start + 1000), sent[: start + 1000])
        self.assertEqual(await ann.list_groups(), [group_id])


class UdpMoveTests(DaemonCase):
    """A client that changes its address."""

    async def _stream(self, client: Client, group_id: str, count: int) -> list[bytes]:
        sent = []
        for number in range(count):
            sent.append(str(number).encode() * 30)
            client.broadcast_nowait(group_id, sent[-1])
            if number % 10 == 9:
                await deferLater(reactor, 0.005)
        return sent

    async def test_rebind(self) -> None:
        """Moved in the middle of two streams, nothing is lost or doubled, and what follows comes soon."""
        ann, bob = await self.connect("udp", "ann"), await self.connect("tcp", "bob")
        group_id = await ann.create_group()
        await bob.join_group(group_id)
        at_ann, at_bob = _Collector(ann), _Collector(bob)
        streams = [Deferred.fromCoroutine(self._stream(client, group_id, 1000)) for client in (ann, bob)]
        for _ in range(3):
            await deferLater(reactor, 0.1)
            before, started = len(at_ann.messages), reactor.seconds()
            self.assertTrue(ann.rebind())
            await at_ann.until(before + 100)
            self.assertLess(reactor.seconds() - started, FELT_SECONDS)
        from_ann, from_bob = await gatherResults(streams)
        self.assertEqual(await at_ann.until(1000), from_bob)
        self.assertEqual(await at_bob.until(1000), from_ann)
        self.assertEqual(self.daemon.metric("meshrelay_address_changes_total"), 3)
        self.assertTrue(ann.is_connected)

    async def test_idle(self) -> None:
        """A client with nothing to say shows the node its new address by itself, and hears what comes."""
        ann, bob = await self.connect("udp", "ann"), await self.connect("tcp", "bob")
        group_id = await ann.create_group()
        await bob.join_group(group_id)
        heard = _Collector(ann)
        self.assertTrue(ann.rebind())
        await bob.broadcast(group_id, bytes(60000))
        self.assertEqual(await heard.until(1), [bytes(60000)])

    async def test_broken_socket(self) -> None:
        """A socket that fails is replaced without a word of the program."""
        breaker = Breaker()
        ann = await self.connect("udp", "ann", opener=breaker.opener)
        [link] = breaker.links
        # What the reactor does to a socket whose reading fails.
        link._path._port.stopListening()
        await deferLater(reactor, 0.01)
        self.assertTrue(link._path.is_broken)
        started = reactor.seconds()
        await ann.create_group()
        self.assertLess(reactor.seconds() - started, FELT_SECONDS)
        self.assertEqual((breaker.links, link._path.is_broken), ([link], False))

    async def test_streams_stay(self) -> None:
        """On TCP and WebSocket there is nothing to move."""
        for transport in ("tcp", "websocket"):
            client = await self.connect(transport, f"user-{transport}")
            self.assertFalse(client.rebind())
            await client.ping()


class _Detour:
    """A reactor whose UDP sockets reach the node by way of another place."""

    def __init__(self, place: tuple[str, int]) -> None:
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def listenUDP(self, *arguments: Any, **options: Any) -> Any:
        """See `IReactorUDP`."""
        port = reactor.listenUDP(*arguments, **options)
        connect = port.connect
        port.connect = lambda host, number: connect(*self._place)
        return port


class UdpBadNetworkTests(DaemonCase):
    """A network that loses, delays, doubles and reorders."""

    async def test_both_ways(self) -> None:
        """At 5 % loss each way 1,000 messages up and 1,000 down arrive once and in order, with a move in between."""
        bob = await self.connect("tcp", "bob")
        bad = Impairment(0.01, 0.005, loss=0.05, duplication=0.01, reordering=0.01)
        proxy = UdpProxy(reactor, self.daemon.address("udp"), LossyPath(bad, 1), LossyPath(bad, 2))
        place = proxy.listen()
        self.addCleanup(proxy.close)
        ann = Client(_Detour(place), self.urls["udp"], "ann", options=_PATIENT)
        self.addCleanup(ann.close)
        await ann.connect()
        group_id = await ann.create_group()
        await bob.join_group(group_id)
        at_ann, at_bob = _Collector(ann), _Collector(bob)
        sent = [str(number).encode() * 100 for number in range(1000)]
        for client in (ann, bob):
            await _broadcast_all(client, group_id, sent)
        await at_ann.until(200)
        ann.rebind()
        self.assertEqual(await at_ann.until(1000), sent)
        self.assertEqual(await at_bob.until(1000), sent)
        self.assertTrue(proxy.there.counters["lost"] > 10)
