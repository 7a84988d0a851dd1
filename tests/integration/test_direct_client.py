"""Direct messages by the client library and the commands of a terminal, against real daemons.

The module is also the application of the daemons, see `setup`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from meshrelay.client import (
    Client,
    ClientOptions,
    Connected,
    DirectCleared,
    DirectMessageReceived,
    DirectPeerGone,
)
from meshrelay.errors import MessageIsEmpty, MessageTooLarge, UserDeclined, UserNotFound
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import User
from tests.integration.cluster import Node, cluster_config
from tests.integration.daemon import ROOT, Daemon
from tests.integration.test_client import Breaker, DaemonCase, next_events, reactor

__all__ = ["setup"]

APP = {"app": {"module": "tests.integration.test_direct_client"}}

#: Messages at one time; a client lets 4,096 wait for their answers.
MANY = 500


def setup(relay: IMeshRelay) -> None:
    """Be the application of a node: it says who is gone, declines spam, and sends as the server by command (2, 1)."""
    relay.direct.on_user_disconnect(lambda user, peer_id: b"so long")
    relay.direct.on_receive(lambda ver, cmd, message, sender_id, receiver: message != b"spam")

    async def announce(ver: int, cmd: int, payload: bytes, user: User) -> bytes:
        await relay.direct.send_direct(None, user.user_id, 1, 120, b"\x00" + payload)
        return b""

    relay.command(2, 1, announce)


def messages(numbers: int, sender: str) -> list[DirectMessageReceived]:
    """What is heard of somebody who has counted."""
    return [DirectMessageReceived(sender, b"%d" % number) for number in range(numbers)]


class OneNodeTests(DaemonCase):
    """One daemon."""

    def setUp(self) -> None:
        self.start(APP)

    async def test_every_pair_of_transports(self) -> None:
        """Between TCP, WebSocket and UDP many messages at once arrive in order and once, both ways."""
        clients = {name: await self.connect(name, name) for name in self.urls}
        for one, two in itertools.permutations(clients, 2):
            heard = next_events(clients[two], DirectMessageReceived, MANY)
            await gatherResults([clients[one].send_direct(two, b"%d" % number) for number in range(MANY)])
            self.assertEqual(await heard, messages(MANY, one), (one, two))

    async def test_oneself(self) -> None:
        """A user may send to himself."""
        ann = await self.connect("tcp", "ann")
        heard = next_events(ann, DirectMessageReceived)
        await ann.send_direct("ann", b"note")
        self.assertEqual(await heard, [DirectMessageReceived("ann", b"note")])

    async def test_refusals(self) -> None:
        """Each refusal comes as its class, and the connection goes on."""
        ann, bob = await self.connect("tcp", "ann"), await self.connect("udp", "bob")
        heard = next_events(bob, DirectMessageReceived)
        for peer, message, error_class in (
            ("nobody", b"hi", UserNotFound),
            ("bob", b"", MessageIsEmpty),
            ("bob", b"spam", UserDeclined),
            ("bob", bytes(65536), MessageTooLarge),
        ):
            with self.assertRaises(error_class):
                await ann.send_direct(peer, message)
        await ann.send_direct("bob", b"hi")
        self.assertEqual(await heard, [DirectMessageReceived("ann", b"hi")])

    async def test_clear(self) -> None:
        """A last message is told; without one nothing is, and nothing to clear is no error."""
        ann, bob = await self.connect("tcp", "ann"), await self.connect("websocket", "bob")
        await ann.clear_direct("nobody")
        await ann.send_direct("bob", b"hi")
        cleared = next_events(bob, DirectCleared)
        await ann.clear_direct("bob", b"bye")
        # Everything before it has come by then.
        self.assertEqual(await cleared, [DirectCleared("ann", b"bye")])
        after = next_events(bob, DirectMessageReceived)
        await ann.send_direct("bob", b"again")
        self.assertEqual(await after, [DirectMessageReceived("ann", b"again")])
        silent: list[DirectCleared] = []
        bob.on(DirectCleared, silent.append)
        await ann.clear_direct("bob")
        after = next_events(bob, DirectMessageReceived)
        await ann.send_direct("bob", b"once more")
        await after
        self.assertEqual(silent, [])

    async def test_peer_gone(self) -> None:
        """Who has exchanged messages with a user is told when that user is gone, and then nothing can be sent."""
        ann, bob = await self.connect("udp", "ann"), await self.connect("tcp", "bob")
        await ann.send_direct("bob", b"hi")
        gone = next_events(ann, DirectPeerGone)
        await bob.close()
        self.assertEqual(await gone, [DirectPeerGone("bob", b"so long")])
        with self.assertRaises(UserNotFound):
            await ann.send_direct("bob", b"hi")

    async def test_the_server(self) -> None:
        """A message of the server has a sender without a name."""
        ann = await self.connect("tcp", "ann")
        heard = next_events(ann, DirectMessageReceived)
        await ann.request(2, 1, b"news")
        self.assertEqual(await heard, [DirectMessageReceived("", b"news")])

    async def test_peer_is_away(self) -> None:
        """What is sent while the peer's connection is broken arrives, in order, when the peer resumes."""
        ann, breaker = await self.connect("tcp", "ann"), Breaker()
        options = ClientOptions(retry_base_seconds=0.5, uniform=lambda low, high: high)
        bob = await self.connect("websocket", "bob", opener=breaker.opener, options=options)
        heard, back = next_events(bob, DirectMessageReceived, 20), next_events(bob, Connected)
        await gatherResults([ann.send_direct("bob", b"%d" % number) for number in range(10)])
        breaker.break_newest()
        await gatherResults([ann.send_direct("bob", b"%d" % number) for number in range(10, 20)])
        [connected] = await back
        self.assertTrue(connected.resumed and connected.recovered)
        self.assertEqual(await heard, messages(20, "ann"))


class TwoNodesTests(TestCase):
    """Two daemons of a cluster."""

    timeout = 240

    def setUp(self) -> None:
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        first = self.stack.enter_context(Node(cluster_config("n0", app=APP["app"])))
        directory = "pb:" + first.places["mesh"]
        self.nodes = [first, self.stack.enter_context(Node(cluster_config("n1", directory, app=APP["app"])))]
        for node in self.nodes:
            node.wait_linked(1)

    async def connect(self, node: Daemon, user: str) -> Client:
        """A client that is signed in and closed at the end of the test."""
        client = Client(reactor, f"tcp://{node.places['tcp']}", user)
        self.addCleanup(client.close)
        await client.connect()
        return client

    async def test_across_nodes(self) -> None:
        """Users on two nodes exchange many messages at once, both ways at a time, in order and once."""
        ann, bob = await self.connect(self.nodes[0], "ann"), await self.connect(self.nodes[1], "bob")
        heard: list[Deferred[list[DirectMessageReceived]]] = [
            next_events(client, DirectMessageReceived, MANY) for client in (ann, bob)
        ]
        sends = [
            client.send_direct(peer, b"%d" % number)
            for number in range(MANY)
            for client, peer in ((ann, "bob"), (bob, "ann"))
        ]
        await gatherResults(sends)
        self.assertEqual([await heard[0], await heard[1]], [messages(MANY, "bob"), messages(MANY, "ann")])

    async def test_clear_and_gone(self) -> None:
        """The last message and the end of a user are told on the other node too."""
        ann, bob = await self.connect(self.nodes[0], "ann"), await self.connect(self.nodes[1], "bob")
        await ann.send_direct("bob", b"hi")
        cleared = next_events(bob, DirectCleared)
        await ann.clear_direct("bob", b"bye")
        self.assertEqual(await cleared, [DirectCleared("ann", b"bye")])
        await ann.send_direct("bob", b"hi")
        gone = next_events(ann, DirectPeerGone)
        await bob.close()
        self.assertEqual(await gone, [DirectPeerGone("bob", b"so long")])

    async def test_peer_moves(self) -> None:
        """A message finds a user who has signed in on the other node since the last one."""
        ann, bob = await self.connect(self.nodes[0], "ann"), await self.connect(self.nodes[1], "bob")
        await ann.send_direct("bob", b"1")
        await bob.close()
        bob = await self.connect(self.nodes[0], "bob")
        heard = next_events(bob, DirectMessageReceived)
        await ann.send_direct("bob", b"2")
        self.assertEqual(await heard, [DirectMessageReceived("ann", b"2")])


_AIO = """
    import asyncio, sys
    from meshrelay.client import aio, DirectCleared, DirectMessageReceived
    from meshrelay.errors import UserNotFound

    async def main(url, other):
        # Whatever is said on stderr fails the test, and a busy machine is not a fault of the program.
        asyncio.get_running_loop().slow_callback_duration = 5
        async with aio.Client(url, "ann") as ann, aio.Client(other, "bob") as bob:
            events = bob.events()
            await asyncio.gather(*(ann.send_direct("bob", b"%d" % number) for number in range(200)))
            await ann.clear_direct("bob", b"bye")
            for number in range(200):
                event = await asyncio.wait_for(anext(events), 30)
                assert event == DirectMessageReceived("ann", b"%d" % number), event
            event = await asyncio.wait_for(anext(events), 30)
            assert event == DirectCleared("ann", b"bye"), event
            try:
                await ann.send_direct("nobody", b"hi")
            except UserNotFound:
                print("done")

    asyncio.run(main(sys.argv[1], sys.argv[2]), debug=True)
"""

_MAIN = "from meshrelay.cli import main; main()"


class ProgramTests(SynchronousTestCase):
    """Programs in processes of their own."""

    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.daemon = stack.enter_context(Daemon(APP))
        self.stack = stack
        self.tcp, self.websocket = f"tcp://{self.daemon.places['tcp']}", f"ws://{self.daemon.places['websocket']}/"

    def run_program(self, code: str, *arguments: str, text: str = "") -> tuple[int, str, str]:
        """Exit status, output and errors."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            input=text,
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return done.returncode, done.stdout, done.stderr

    def start_command(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that runs beside the test."""
        process = self.stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", _MAIN, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                bufsize=1,
                cwd=ROOT,
            )
        )
        self.stack.callback(process.kill)
        return process

    def _read_until(self, process: subprocess.Popen[str], words: str) -> str:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"no {words!r} in {lines}")

    def _type(self, process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line + "\n")

    def test_asyncio(self) -> None:
        """asyncio programs send direct messages, many at once."""
        done = self.run_program(textwrap.dedent(_AIO), self.tcp, self.websocket)
        self.assertEqual(done, (0, "done\n", ""))

    def test_dm(self) -> None:
        """What dm says listen prints, from arguments and from standard input."""
        listen = ("listen", "--group", "lobby", "--json", "--count", "3", "--user", "bob", "--url", self.tcp)
        listener = self.start_command(*listen)
        self._read_until(listener, "listening in group")
        dm = (_MAIN, "dm", "--user", "ann", "--url", self.websocket, "bob")
        self.assertEqual(self.run_program(*dm, "one", "two"), (0, "", ""))
        self.assertEqual(self.run_program(*dm, "-", text="three\n\nfour"), (0, "", ""))
        assert listener.stdout is not None
        heard = [json.loads(line) for line in listener.stdout]
        self.assertEqual(heard, [{"user": "ann", "message": text} for text in ("one two", "three", "four")])
        self.assertEqual(listener.wait(10), 0)

    def test_no_such_user(self) -> None:
        """dm to nobody ends with status 1 and one plain line."""
        status, output, errors = self.run_program(_MAIN, "dm", "--url", self.tcp, "nobody", "hi")
        self.assertEqual((status, output, errors.count("\n")), (1, "", 1), errors)
        self.assertIn("no such user", errors)

    def test_chat(self) -> None:
        """Two terminals talk to each other alone; Ctrl-C and the end of input are seen at the other one."""
        ann = self.start_command("chat", "--with", "bob", "--user", "ann", "--url", self.tcp)
        self._read_until(ann, "--with ann")
        self._type(ann, "anybody?")
        self.assertEqual(self._read_until(ann, "not sent"), "* not sent: bob is not there\n")
        for end in ("Ctrl-C", "Ctrl-D"):
            bob = self.start_command("chat", "--with", "ann", "--user", "bob", "--url", self.websocket)
            self._read_until(bob, "--with bob")
            self._type(ann, "hello bob")
            self.assertEqual(self._read_until(bob, "hello"), "ann: hello bob\n")
            self._type(bob, "hello ann")
            self.assertEqual(self._read_until(ann, "hello"), "bob: hello ann\n")
            if end == "Ctrl-C":
                bob.send_signal(signal.SIGINT)
            elif bob.stdin is not None:
                bob.stdin.close()
            self.assertEqual(self._read_until(ann, "* bob"), "* bob left\n", end)
            self.assertEqual(bob.wait(10), 0, end)
