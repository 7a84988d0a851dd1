"""Users of real daemons and peers of the overlay write to each other; the peers speak as npm's package does."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import TestCase

from tests.integration.cluster import LOCAL, Node, cluster_config, wait_until
from tests.integration.daemon import Daemon, run_until_exit
from tests.integration.test_direct import NOT_FOUND, SEND, TIMED_OUT, direct, heard
from tests.integration.wire_clients import Closed, Frame, WebSocketClient, connect

TOO_LARGE, MALFORMED = 5, 1


class OverlayClient(WebSocketClient):
    """A peer of npm's package, as far as the node can see: a hello, and envelopes as text.

    :ivar node_id: peer ID of the daemon.
    """

    place = "overlay"

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon)
        self.peer_id = os.urandom(20)
        self._nonces = int.from_bytes(os.urandom(4), "big") * 1000
        self._say({"type": "Buffer", "data": list(self.peer_id)})
        hello = json.loads(self._read())
        assert hello["type"] == "Buffer", hello
        self.node_id = bytes(hello["data"])

    @property
    def user_id(self) -> str:
        """What users call it."""
        return f"peer:{self.peer_id.hex()}"

    def _say(self, value: Any) -> None:
        self.send_message(json.dumps(value).encode(), 1)

    def envelope(self, to: bytes, kind: str, data: Any) -> None:
        """Send an envelope."""
        self._nonces += 1
        own = self.peer_id.hex()
        content = {"type": kind, "data": data}
        self._say({"to": to.hex(), "from": own, "path": [own], "nonce": str(self._nonces), "data": content})

    def write(self, data: Any, to: bytes | None = None) -> None:
        """Send a message, to the daemon unless it is for somebody else."""
        self.envelope(self.node_id if to is None else to, "user", data)

    def read(self) -> Any:
        """Data of the next message for this peer; all else is passed over."""
        while True:
            frame = json.loads(self._read())
            if frame["to"] == self.peer_id.hex() and frame["data"]["type"] == "user":
                return frame["data"]["data"]

    def close_code(self) -> int | None:
        """Read to the end, and return the code of the close frame."""
        try:
            while True:
                self._read()
        except Closed as closed:
            code: int | None = closed.args[0] if closed.args else None
            return code


def overlay(**keys: Any) -> dict[str, Any]:
    """The sections of a daemon that is a peer."""
    return {"overlay": {"listen": LOCAL, **keys}}


def write_until_found(daemon: Daemon, peer: OverlayClient, user: str, data: Any) -> None:
    """Let a peer write to a user whom the daemon hears of a moment after the user's own node or worker."""

    def counts() -> list[float]:
        return [daemon.metric(f"meshrelay_overlay_bridge_to_users{end}") for end in ("_total", "_refused_total")]

    def is_found() -> bool:
        before = counts()
        peer.write({"to": user, "data": data})
        wait_until(lambda: counts() != before, what="the fate of a message")
        if counts()[0] > before[0]:
            return True
        assert "error" in peer.read()
        return False

    wait_until(is_found, what=f"{user} is found")


class OneDaemonTests(TestCase):
    """A daemon that is a peer of the overlay."""

    def start(self, **keys: Any) -> Daemon:
        """Start it with keys of [overlay]."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        return stack.enter_context(Daemon(overlay(**keys)))

    def join(self, daemon: Daemon) -> OverlayClient:
        """Come in as a peer."""
        peer = OverlayClient(daemon)
        self.addCleanup(peer.close)
        return peer

    def test_both_ways(self) -> None:
        """Texts and bytes arrive as they were sent, whoever begins."""
        daemon = self.start()
        peer = self.join(daemon)
        for transport in ("tcp", "ws", "rudp"):
            user = connect(daemon, transport, f"ann-{transport}")
            self.addCleanup(user.close)
            for sent, shown in (("héllo".encode(), "héllo"), (b"\xff\x00", {"type": "Buffer", "data": [255, 0]})):
                request_id = user.send(1, SEND, direct(peer.user_id, sent))
                self.assertEqual(peer.read(), {"from": f"ann-{transport}", "data": shown})
                # It was handed over, and nobody acknowledges it: that takes nine seconds to tell.
                self.assertEqual(user.answer(request_id).payload, b"")
                peer.write({"to": f"ann-{transport}", "data": shown})
                self.assertEqual(heard(user), (peer.user_id, sent))
            peer.write({"to": f"ann-{transport}", "data": {"a": [1, None]}})
            self.assertEqual(heard(user), (peer.user_id, b'{"a":[1,null]}'))

    def test_errors(self) -> None:
        """A peer hears that a user is not there, and a user that a peer cannot be."""
        daemon = self.start()
        ann = connect(daemon, "tcp", "ann")
        self.addCleanup(ann.close)
        self.assertEqual(ann.refused(1, SEND, direct("peer:" + "0" * 40, b"hi")), NOT_FOUND)
        peer = self.join(daemon)
        peer.write("not for a user")
        peer.write({"to": "nobody", "data": "hi"})
        self.assertEqual(peer.read(), {"error": "user not found", "to": "nobody"})
        peer.write({"to": "ann", "data": "x" * 65536})
        self.assertIn(str(65536 - 1 - len(peer.user_id)), peer.read()["error"])
        self.assertEqual(ann.refused(1, SEND, direct("peer:xyz", b"hi")), NOT_FOUND)
        self.assertEqual(ann.refused(1, SEND, direct(peer.user_id, b"\x01" * 40_000)), TOO_LARGE)

    def test_sign_in(self) -> None:
        """Nobody signs in as a peer, by HELLO or by the endpoint, and is told why; without the bridge anybody may."""
        daemon = self.start()
        client = WebSocketClient(daemon)
        self.addCleanup(client.close)
        payload = client.answer(client.send(0, 1, json.dumps({"protocol": 1, "user": "peer:x"}).encode())).payload
        self.assertEqual(int.from_bytes(payload[:2], "big"), MALFORMED)
        self.assertIn(b"peers of the overlay", payload)
        status, told = daemon.get("/endpoint/type/UDP/user/peer:x")
        self.assertEqual((status, "peers of the overlay" in told["error"]), (400, True))
        other = self.start(bridge=False)
        for name in ("ann", "peer:x"):
            user = connect(other, "tcp", name)
            self.addCleanup(user.close)
        user.ask(1, SEND, direct("peer:x", b"to myself"))
        self.assertEqual(heard(user), ("peer:x", b"to myself"))

    def test_pages(self) -> None:
        """The page for operators and the metrics tell who is there."""
        daemon = self.start(bootstrap=["ws://127.0.0.1:9"])
        peer = self.join(daemon)
        peer.write({"to": "nobody", "data": "hi"})
        peer.read()
        status, told = daemon.get("/admin/overlay")
        self.assertEqual((status, told["id"]), (200, peer.node_id.hex()))
        self.assertEqual([each["url"] for each in told["bootstraps"]], ["ws://127.0.0.1:9"])
        [shown] = told["peers"]
        self.assertEqual((shown["id"], shown["transport"], shown["outgoing"]), (peer.peer_id.hex(), "ws", False))
        self.assertGreaterEqual(shown["frames_received"], 2)
        self.assertEqual(daemon.metric('meshrelay_overlay_peers{transport="ws"}'), 1)
        self.assertEqual(daemon.metric("meshrelay_overlay_bridge_to_users_refused_total"), 1)

    def test_same_peer_after_restart(self) -> None:
        """With a key file a node is the same peer again after a restart; the file is its user's alone."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "overlay.key"
            ids = []
            for _ in range(2):
                with Daemon(overlay(key_file=str(path))) as daemon:
                    peer = OverlayClient(daemon)
                    ids.append(peer.node_id)
                    peer.close()
            self.assertEqual(ids[0], ids[1])
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_goodbye(self) -> None:
        """A daemon that stops takes leave of its peers as WebSockets do."""
        with Daemon(overlay()) as daemon:
            peer = OverlayClient(daemon)
            self.assertEqual(daemon.terminate(), 0)
            self.assertEqual(peer.close_code(), 1000)
            peer.close()

    def test_refuse_unsigned(self) -> None:
        """Where only peers are wanted that prove who they are, others are closed before they hear who is there."""
        daemon = self.start(unsigned="refuse")
        self.assertRaises(Closed, self.join, daemon)

    def test_configuration(self) -> None:
        """What is wrong is told with its key."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "overlay.key"
            path.write_text("no key")
            path.chmod(0o600)
            quiet = '[listen]\ntcp = ""\nudp = ""\nwebsocket = ""\nhttp = ""\n[overlay]\n'
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                for keys, expected in (
                    (f'listen = "tcp:{taken.getsockname()[1]}:interface=127.0.0.1"', "overlay.listen: "),
                    (f'listen = "{LOCAL}"\nkey_file = "{path}"', "overlay.key_file: "),
                    ('dial_networks = ["10.0.0.1/8"]', "overlay.dial_networks[0]: "),
                    ('bootstrap = ["http://a:1"]', "overlay.bootstrap[0]: "),
                ):
                    status, _, errors = run_until_exit(quiet + keys)
                    self.assertEqual((keys, status, expected in errors), (keys, 1, True), errors)


class ClusterTests(TestCase):
    """Two linked daemons."""

    def start(self, *sections: dict[str, Any]) -> list[Node]:
        """Start the nodes."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        nodes: list[Node] = []
        for number, keys in enumerate(sections):
            directory = "pb:" + nodes[0].places["mesh"] if nodes else "memory"
            nodes.append(stack.enter_context(Node(cluster_config(f"n{number}", directory, **keys))))
        for node in nodes:
            node.wait_linked(len(nodes) - 1)
        return nodes

    def join(self, node: Node) -> OverlayClient:
        """Come in as a peer."""
        peer = OverlayClient(node)
        self.addCleanup(peer.close)
        return peer

    def connect(self, node: Node, user: str) -> Any:
        """Sign a user in."""
        client = connect(node, "tcp", user)
        self.addCleanup(client.close)
        return client

    def write(self, client: Any, user_id: str, message: bytes) -> Frame:
        """Let a user write, and return the answer."""
        return client.answer(client.send(1, SEND, direct(user_id, message)))  # type: ignore[no-any-return]

    def test_other_node(self) -> None:
        """Users of a node that is no peer write to peers, and are reached by them, through the other node."""
        node, in_overlay = self.start({}, overlay())
        ann, peer = self.connect(node, "ann"), self.join(in_overlay)
        request_id = ann.send(1, SEND, direct(peer.user_id, b"hi"))
        self.assertEqual(peer.read(), {"from": "ann", "data": "hi"})
        self.assertEqual(ann.answer(request_id).payload, b"")
        write_until_found(in_overlay, peer, "ann", "hello")
        self.assertEqual(heard(ann), (peer.user_id, b"hello"))
        self.assertEqual(node.metric("meshrelay_overlay_bridge_nodes"), 1)
        self.assertEqual(node.get("/admin/overlay")[0], 404)

    def test_node_lost(self) -> None:
        """When the only node that is a peer dies, senders hear that nobody is reached, in time."""
        node, in_overlay = self.start({}, overlay())
        ann, peer = self.connect(node, "ann"), self.join(in_overlay)
        ann.send(1, SEND, direct(peer.user_id, b"hi"))
        peer.read()
        in_overlay.kill()
        codes = {int.from_bytes(self.write(ann, peer.user_id, b"x").payload[:2], "big") for _ in range(2)}
        self.assertLessEqual(codes, {TIMED_OUT, NOT_FOUND})

    def test_node_leaves(self) -> None:
        """Of two nodes that are peers one stops: users reach peers through the other."""
        node, first, second = self.start({}, overlay(), overlay())
        ann, peer = self.connect(node, "ann"), self.join(second)
        wait_until(lambda: node.metric("meshrelay_overlay_bridge_nodes") == 2)
        self.assertEqual(first.terminate(), 0)
        wait_until(lambda: node.metric("meshrelay_overlay_bridge_nodes") == 1)
        ann.send(1, SEND, direct(peer.user_id, b"hi"))
        self.assertEqual(peer.read(), {"from": "ann", "data": "hi"})

    def test_through_the_overlay(self) -> None:
        """A peer of one daemon reaches the users of another one by the ID of its node, and they reach the peer."""
        [hub] = self.start(overlay())
        [leaf] = self.start({"overlay": {"bootstrap": ["ws://" + hub.places["overlay"]]}})
        ann, peer = self.connect(leaf, "ann"), self.join(hub)
        told = leaf.get("/admin/overlay")[1]
        wait_until(lambda: leaf.get("/admin/overlay")[1]["peers"], what="the link between the daemons")
        peer.write({"to": "ann", "data": "hello"}, bytes.fromhex(told["id"]))
        self.assertEqual(heard(ann), (peer.user_id, b"hello"))
        request_id = ann.send(1, SEND, direct(peer.user_id, b"hi"))
        self.assertEqual(peer.read(), {"from": "ann", "data": "hi"})
        self.assertEqual(ann.answer(request_id).payload, b"")

    def test_workers(self) -> None:
        """With workers the supervisor is the peer, and users of every worker write and are written to."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        daemon = stack.enter_context(Daemon({"node": {"workers": 2}, **overlay()}))
        peer = OverlayClient(daemon)
        self.addCleanup(peer.close)
        wait_until(lambda: daemon.get("/admin/overlay")[0] == 200)
        users = [connect(daemon, "tcp", f"ann{number}") for number in range(6)]
        for user in users:
            self.addCleanup(user.close)
        for number, user in enumerate(users):
            request_id = user.send(1, SEND, direct(peer.user_id, b"hi"))
            self.assertEqual(peer.read(), {"from": f"ann{number}", "data": "hi"})
            self.assertEqual(user.answer(request_id).payload, b"")
            write_until_found(daemon, peer, f"ann{number}", "hello")
            self.assertEqual(heard(user), (peer.user_id, b"hello"))
