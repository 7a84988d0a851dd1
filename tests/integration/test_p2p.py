"""P2P links of the client library against real daemons and between real sockets, all on this machine."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client import Client, ClientOptions
from meshrelay.client.aio import Client as AioClient
from meshrelay.client.p2p import (
    LinkLost,
    LinkMessageReceived,
    LinkRelayReceived,
    LinksStarted,
    LinkState,
    LinkStateChanged,
    P2POptions,
    RelayReason,
)
from tests.integration.daemon import ROOT, Daemon
from tests.integration.test_client import DaemonCase, next_events, reactor

#: Everything is on one machine.
P2P = P2POptions(allow_loopback=True, hosts=lambda: ["127.0.0.1"])
OPTIONS = ClientOptions(p2p=P2P)


def when(client: Client, event_class: type[Any], **expected: object) -> Deferred[Any]:
    """Fire with the first event of a class that has these values."""

    def note(event: Any) -> None:
        if not found.called and all(getattr(event, name) == value for name, value in expected.items()):
            remove()
            found.callback(event)

    found: Deferred[Any] = Deferred()
    remove = client.on(event_class, note)
    return found.addTimeout(60, reactor)


class LinkTests(DaemonCase):
    """One daemon."""

    def setUp(self) -> None:
        self.start()

    async def enter(self, *transports: str, options: ClientOptions = OPTIONS) -> tuple[list[Client], str]:
        """So many clients in one room, and its ID."""
        clients = [
            await self.connect(transport, f"user{number}", options=options)
            for number, transport in enumerate(transports)
        ]
        room_id = await clients[0].create_room()
        for client in clients[1:]:
            await client.join_room(room_id)
        for client in clients:
            await client.links.addresses()
        return clients, room_id

    async def test_direct(self) -> None:
        """Two UDP clients reach each other directly, and what the first says at once is there first."""
        (ann, bob), room_id = await self.enter("udp", "udp")
        heard = next_events(bob, LinkMessageReceived, 100)
        direct = [when(each, LinkStateChanged, state=LinkState.DIRECT) for each in (ann, bob)]
        started = when(ann, LinksStarted)
        await ann.links.start(room_id)
        self.assertEqual(await started, LinksStarted(room_id, ("user1",)))
        for number in range(50):
            ann.links.send("user1", 2, 7, b"%d" % number)
        await gatherResults(direct)
        for number in range(50, 100):
            ann.links.send("user1", 2, 7, b"%d" % number)
        self.assertEqual([event.payload for event in await heard], [b"%d" % number for number in range(100)])
        [peer] = ann.links.peers()
        self.assertEqual((peer.address, peer.reason), (bob.links.network.public, None))

    async def test_relayed(self) -> None:
        """Clients of TCP and WebSocket take part by the relay, and know why."""
        clients, room_id = await self.enter("udp", "tcp", "websocket", "udp")
        heard = [next_events(each, LinkMessageReceived, 30) for each in clients]
        started = [when(each, LinksStarted) for each in clients]
        await clients[1].links.start(room_id)
        await gatherResults(started)
        for client in clients:
            for number in range(10):
                self.assertEqual(client.links.send_all(2, 7, b"%d" % number), {})
        for number, events in enumerate(await gatherResults(heard)):
            by_sender: dict[str, list[bytes]] = {}
            for event in events:
                by_sender.setdefault(event.user_id, []).append(event.payload)
            self.assertEqual(set(by_sender), {f"user{other}" for other in range(4) if other != number})
            for payloads in by_sender.values():
                self.assertEqual(payloads, [b"%d" % each for each in range(10)])
        reasons = {peer.user_id: peer.reason for peer in clients[0].links.peers() if peer.reason}
        self.assertEqual(reasons, dict.fromkeys(("user1", "user2"), RelayReason.NO_PEER_ADDRESS))

    async def test_large(self) -> None:
        """A large message arrives whole, relayed and directly, both ways."""
        (ann, bob, cyd), room_id = await self.enter("udp", "udp", "tcp")
        direct = when(ann, LinkStateChanged, state=LinkState.DIRECT)
        started = [when(each, LinksStarted) for each in (ann, bob, cyd)]
        await ann.links.start(room_id)
        await gatherResults(started)
        await direct
        payload = bytes(range(256)) * 256
        for sender, others in ((ann, (bob, cyd)), (cyd, (ann, bob))):
            heard = [next_events(each, LinkMessageReceived) for each in others]
            sender.links.send_all(2, 7, payload)
            for [event] in await gatherResults(heard):
                self.assertEqual(event.payload, payload)

    async def test_relay_to_groups(self) -> None:
        """In a room of 16 in 4 link groups everybody but the sender hears each relayed message exactly once."""
        clients, room_id = await self.enter(*["udp"] * 12, *["tcp"] * 4)
        started = [when(each, LinksStarted) for each in clients]
        heard: list[list[LinkRelayReceived]] = [[] for _ in clients]
        for client, events in zip(clients, heard, strict=True):
            client.on(LinkRelayReceived, events.append)
        await clients[0].links.start(room_id, 4)
        self.assertEqual([len(event.user_ids) for event in await gatherResults(started)], [3] * 16)
        last = [when(each, LinkRelayReceived, message=b"last") for each in clients[1:]]
        senders = clients[::5]
        self.assertEqual(await gatherResults([each.links.relay(room_id, b"hi") for each in senders]), [True] * 4)
        await clients[0].links.relay(room_id, b"last")
        await gatherResults(last)
        await self.quiet()
        for number, events in enumerate(heard):
            hi = sorted(event.user_id for event in events if event.message == b"hi")
            self.assertEqual(hi, sorted(f"user{at}" for at in range(0, 16, 5) if at != number))
            self.assertEqual(len([event for event in events if event.message == b"last"]), number > 0)

    async def quiet(self) -> None:
        """Let everything arrive that may be on its way."""
        await deferLater(reactor, 0.3)

    async def test_leave(self) -> None:
        """A link ends when its peer leaves the room; what was said before comes before."""
        # However long what is on its way takes.
        options = ClientOptions(p2p=replace(P2P, linger_seconds=60.0))
        (ann, bob), room_id = await self.enter("udp", "udp", options=options)
        started = [when(each, LinksStarted) for each in (ann, bob)]
        await ann.links.start(room_id)
        await gatherResults(started)
        heard, lost = next_events(ann, LinkMessageReceived), when(ann, LinkLost)
        bob.links.send("user0", 2, 7, b"bye")
        await bob.links.close(room_id)
        await bob.leave_room(room_id)
        ended = await lost
        self.assertTrue(heard.called)
        self.assertEqual([event.payload for event in await heard], [b"bye"])
        # What is told by the node may be faster than the end of the link.
        self.assertEqual((ended.room_id, ended.user_id, ended.code), (room_id, "user1", 0))
        self.assertIn(ended.text, ("both ends have finished", "left the room"))

    async def test_start_again(self) -> None:
        """Starts one after the other lose nothing and double nothing."""
        (ann, bob), room_id = await self.enter("udp", "udp")
        started = [when(each, LinksStarted) for each in (ann, bob)]
        await ann.links.start(room_id)
        await gatherResults(started)
        heard = next_events(bob, LinkMessageReceived, 300)
        for number in range(300):
            ann.links.send("user1", 2, 7, b"%d" % number)
            if number % 100 == 50:
                started = [when(each, LinksStarted) for each in (ann, bob)]
                await ann.links.start(room_id)
                await gatherResults(started)
        self.assertEqual([event.payload for event in await heard], [b"%d" % number for number in range(300)])

    async def test_connection_breaks(self) -> None:
        """A client that goes on from another socket keeps its links."""
        (ann, bob), room_id = await self.enter("udp", "udp")
        direct = [when(each, LinkStateChanged, state=LinkState.DIRECT) for each in (ann, bob)]
        await ann.links.start(room_id)
        await gatherResults(direct)
        self.assertTrue(ann.rebind())
        heard = next_events(bob, LinkMessageReceived, 2)
        ann.links.send("user1", 2, 7, b"one")
        ann.links.send("user1", 2, 7, b"two")
        self.assertEqual([event.payload for event in await heard], [b"one", b"two"])


class AioTests(SynchronousTestCase):
    """The client for asyncio."""

    def test_links(self) -> None:
        """asyncio programs have the same links."""

        async def talk(daemon: Daemon) -> list[tuple[str, bytes]]:
            url = f"udp+http://{daemon.places['http']}"
            async with AsyncExitStack() as stack:
                clients = [
                    await stack.enter_async_context(AioClient(url, name, options=OPTIONS)) for name in ("ann", "bob")
                ]
                ann, bob = clients
                room_id = await ann.create_room()
                await bob.join_room(room_id)
                for client in clients:
                    self.assertIsNotNone(await client.links.addresses())
                heard: asyncio.Queue[LinkMessageReceived] = asyncio.Queue()
                started = asyncio.Event()
                bob.on(LinkMessageReceived, heard.put_nowait)
                ann.on(LinksStarted, lambda _: started.set())
                await ann.links.start(room_id)
                await asyncio.wait_for(started.wait(), 30)
                ann.links.send("bob", 2, 7, b"hi")
                ann.links.send_all(2, 7, b"all")
                await ann.links.when_drained("bob")
                events = [await asyncio.wait_for(heard.get(), 30) for _ in range(2)]
                self.assertFalse(await ann.links.relay(room_id, b"nobody else"))
                self.assertEqual([peer.user_id for peer in ann.links.peers(room_id)], ["bob"])
                self.assertTrue(ann.links.network.has_socket)
                self.assertEqual(ann.links.statistics()["groups"], 1)
                await ann.links.close()
                return [(event.user_id, event.payload) for event in events]

        with Daemon({"auth": {"insecure": True}}) as daemon:
            self.assertEqual(asyncio.run(talk(daemon)), [("ann", b"hi"), ("ann", b"all")])


class PunchTests(SynchronousTestCase):
    """``meshrelay punch`` at a node on this machine."""

    def punch(self, daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        url = f"udp+http://{daemon.places['http']}"
        command = [sys.executable, "-c", "from meshrelay.cli import main; main()", "punch", "--url", url, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)

    def test_alone(self) -> None:
        """It tells where the node sees this machine, for people and for programs."""
        with Daemon({"auth": {"insecure": True}}) as daemon:
            text, machine = self.punch(daemon), self.punch(daemon, "--json")
        self.assertEqual((text.returncode, machine.returncode), (0, 0), text.stderr + machine.stderr)
        self.assertRegex(text.stdout, r"(?s)node .*UDP +reaches the node\npublic +127\.0\.0\.1:\d+\n")
        told = json.loads(machine.stdout)
        self.assertEqual((told["has_udp"], told["mapping"], told["peers"]), (True, "unknown", []))

    def test_nobody(self) -> None:
        """Waiting for others in vain is a failure that says so."""
        with Daemon({"auth": {"insecure": True}}) as daemon:
            done = self.punch(daemon, "--room", "NEW", "--seconds", "0.5")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("nobody was met", done.stderr)
