"""Direct messages between users of several real daemons, on all transports.

The module is also the application of the nodes: it says who is gone, and by which node that was said.
"""

from __future__ import annotations

import itertools
import signal
import struct
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from unittest import TestCase

from meshrelay.interfaces import IMeshRelay
from meshrelay.model import User
from tests.integration.cluster import AT_ONCE_SECONDS, PATIENCE_SECONDS, Node, cluster_config
from tests.integration.wire_clients import OK, TcpClient, connect

__all__ = ["setup"]

SEND, PEER_GONE = 120, 122
TIMED_OUT, NOT_FOUND, DECLINED = 6, 30, 33

LOOKUP_SECONDS = 1.5
RESUME_SECONDS = 4.0

#: How the users begin who only find out whether another one is known; nobody misses them.
ASKING = "asks-for-"

#: In one write.
MANY = 300


def setup(relay: IMeshRelay) -> None:
    """Be the application of a node; see the module."""
    node_id = relay.node_id

    def say_who_left(user: User, peer_id: str) -> bytes:
        return b"" if user.user_id.startswith(ASKING) else f"{user.user_id} left, says {node_id}".encode()

    relay.direct.on_user_disconnect(say_who_left)
    relay.direct.on_receive(lambda ver, cmd, message, sender_id, receiver: message != b"spam")


def direct(peer: str, message: bytes) -> bytes:
    """The payload of a DM_SEND."""
    return b"%c%b%b" % (len(peer), peer.encode(), message)


def heard(client: TcpClient, cmd: int = SEND) -> tuple[str, bytes]:
    """The next push, which must be a direct message: sender and message."""
    frame = client.push()
    assert (frame.ver, frame.cmd) == (1, cmd), frame
    size = 1 + frame.payload[0]
    return frame.payload[1:size].decode(), frame.payload[size:]


class DirectTests(TestCase):
    """Three nodes; the directory is the first one's."""

    def setUp(self) -> None:
        """Start the nodes."""
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        sections: dict[str, Any] = {
            "app": {"module": "tests.integration.test_direct"},
            "dm": {"lookup_timeout_seconds": LOOKUP_SECONDS},
            "session": {"resume_seconds": RESUME_SECONDS},
        }
        first = self.stack.enter_context(Node(cluster_config("n0", **sections)))
        directory = "pb:" + first.places["mesh"]
        others = [Node(cluster_config(name, directory, **sections)) for name in ("n1", "n2")]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Node.__enter__, others))
        for node in others:
            self.stack.push(node)
        self.nodes = [first, *others]
        for node in self.nodes:
            node.wait_linked(2)

    def connect(self, node: Node, transport: str, user: str) -> TcpClient:
        """A client that is signed in, and known in the whole cluster."""
        client = connect(node, transport, user)
        self.addCleanup(client.close)
        deadline = time.monotonic() + PATIENCE_SECONDS
        other = connect(self.nodes[0], "tcp", ASKING + user)
        while other.answer(other.send(1, SEND, direct(user, b"spam"))).payload[:2] != struct.pack("!H", DECLINED):
            assert time.monotonic() < deadline, f"{user} is not found"
            time.sleep(0.02)
        other.send(0, 4)
        other.close()
        return client

    def test_everybody_to_everybody(self) -> None:
        """Users of three nodes and all transports write to each other: all of it arrives, once and in order."""
        clients: dict[str, TcpClient] = {}
        for node, transport in itertools.product(self.nodes, ("tcp", "ws", "rudp")):
            clients[f"{node.node_id}-{transport}"] = self.connect(node, transport, f"{node.node_id}-{transport}")
        for number in range(5):
            for client in clients.values():
                for peer in clients:
                    client.ask(1, SEND, direct(peer, b"%d" % number))
        for peer, client in clients.items():
            came: dict[str, list[bytes]] = {}
            for _ in range(5 * len(clients)):
                sender, message = heard(client)
                came.setdefault(sender, []).append(message)
            self.assertEqual((peer, came), (peer, {sender: [b"%d" % n for n in range(5)] for sender in clients}))

    def test_pipelined(self) -> None:
        """Hundreds of messages in one write are all answered, and come in order."""
        ann, bob = self.connect(self.nodes[1], "tcp", "ann"), self.connect(self.nodes[2], "ws", "bob")
        requests = b"".join(
            struct.pack("!BBHII", 1, 1, SEND, 1000 + number, len(payload)) + payload
            for number, payload in ((number, direct("bob", b"%d" % number)) for number in range(MANY))
        )
        ann.send_bytes(requests)
        answers = {frame.request_id: frame.status for frame in (ann.receive() for _ in range(MANY))}
        self.assertEqual(answers, {1000 + number: OK for number in range(MANY)})
        self.assertEqual([heard(bob) for _ in range(MANY)], [("ann", b"%d" % number) for number in range(MANY)])

    def test_errors(self) -> None:
        """Nobody there, nothing said, declined: each has its code, across nodes as well."""
        ann, bob = self.connect(self.nodes[1], "tcp", "ann"), self.connect(self.nodes[2], "tcp", "bob")
        for payload, code in (
            (direct("nobody", b"hi"), NOT_FOUND),
            (direct("bob", b""), 31),
            (direct("bob", b"spam"), DECLINED),
            (direct("", b"hi"), 1),
            (b"\x03\xff\xff\xffhi", 1),
            (b"\xc8" + b"x" * 200 + b"hi", 1),
        ):
            self.assertEqual((payload[:8], ann.refused(1, SEND, payload)), (payload[:8], code))
        ann.ask(1, SEND, direct("bob", b"hi"))
        self.assertEqual(heard(bob), ("ann", b"hi"))

    def test_stopped_node(self) -> None:
        """A peer whose node stands still is a timeout, in time; when the node goes on, so do messages."""
        ann, bob = self.connect(self.nodes[1], "tcp", "ann"), self.connect(self.nodes[2], "tcp", "bob")
        ann.ask(1, SEND, direct("bob", b"0"))
        self.nodes[2].send_signal(signal.SIGSTOP)
        try:
            for _ in range(2):
                started = time.monotonic()
                self.assertEqual(ann.refused(1, SEND, direct("bob", b"late")), TIMED_OUT)
                self.assertLess(time.monotonic() - started, LOOKUP_SECONDS + AT_ONCE_SECONDS)
        finally:
            self.nodes[2].send_signal(signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while ann.answer(ann.send(1, SEND, direct("bob", b"again"))).status != OK:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        messages = [heard(bob)]
        while messages[-1] != ("ann", b"again"):
            messages.append(heard(bob))
        self.assertEqual(messages[0], ("ann", b"0"))

    def test_user_leaves(self) -> None:
        """Peers of a user who leaves are told at once, on whichever node; strangers are not."""
        ann, bob = self.connect(self.nodes[1], "tcp", "ann"), self.connect(self.nodes[2], "rudp", "bob")
        cid = self.connect(self.nodes[0], "tcp", "cid")
        ann.ask(1, SEND, direct("bob", b"hi"))
        cid.ask(1, SEND, direct("ann", b"hi"))
        self.assertEqual(heard(bob), ("ann", b"hi"))
        ann.send(0, 4)
        self.assertEqual(heard(bob, PEER_GONE), ("ann", b"ann left, says n1"))
        self.assertEqual(heard(cid, PEER_GONE), ("ann", b"ann left, says n1"))
        self.assertEqual(bob.refused(1, SEND, direct("ann", b"hi")), NOT_FOUND)

    def test_node_dies(self) -> None:
        """Peers of users of a killed node are told when those had time to come back, and who came back is not gone."""
        ann, bob = self.connect(self.nodes[1], "tcp", "ann"), self.connect(self.nodes[2], "tcp", "bob")
        self.connect(self.nodes[2], "tcp", "cid")
        for peer in ("bob", "cid"):
            ann.ask(1, SEND, direct(peer, b"hi"))
        self.nodes[2].kill()
        bob.close()
        bob = connect(self.nodes[0], "tcp", "bob")
        self.addCleanup(bob.close)
        self.assertEqual(heard(ann, PEER_GONE), ("cid", b"cid left, says n1"))
        ann.ask(1, SEND, direct("bob", b"still there?"))
        self.assertEqual(heard(bob), ("ann", b"still there?"))
        self.assertEqual(ann.pushes, [])

    def post(self, node: Node, user: str, message: bytes) -> int:
        """Let an operator send as the server; return the status."""
        request = urllib.request.Request(node.url(f"/direct/{user}"), data=message, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def test_server(self) -> None:
        """An operator sends as the server through any node."""
        bob = self.connect(self.nodes[2], "rudp", "bob")
        for node in self.nodes:
            self.assertEqual(self.post(node, "bob", b"from " + node.node_id.encode()), 204)
            self.assertEqual(heard(bob), ("", b"from " + node.node_id.encode()))
        self.assertEqual(self.post(self.nodes[0], "nobody", b"hi"), 404)
        self.assertEqual(self.post(self.nodes[0], "bob", b"spam"), 409)
        self.assertEqual(self.post(self.nodes[0], "bob", b"x" * 65536), 413)
