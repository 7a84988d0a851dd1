"""One node of a mesh with real sockets: in this process, or as one of its own by ``python -m``.

The program reads one JSON object from its first argument, writes ``ready PORT`` when it listens and then one line for
each event. It answers messages of kind 1 with the same of kind 2, and counts those of kind 3.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import clientFromString, serverFromString
from zope.interface import implementer

from meshrelay.fanout.turn import Turn
from meshrelay.mesh.greeting import NodeIdentity
from meshrelay.mesh.interfaces import INodeLinkObserver
from meshrelay.mesh.link import NodeLink
from meshrelay.mesh.links import Chance, LinkOptions, Links
from meshrelay.mesh.pb import dialer, server_factory
from meshrelay.mesh.tls import NodeCertificates
from meshrelay.wire.node import Message

__all__ = ["ROOT", "MeshNode", "NodeProcess", "load_certificates"]

ROOT = Path(__file__).resolve().parents[2]


def load_certificates(directory: str, name: str) -> NodeCertificates:
    """Read what ``meshrelay ca`` wrote."""
    folder = Path(directory)
    files = [(folder / file).read_bytes() for file in ("ca.pem", f"{name}.pem", f"{name}.key")]
    return NodeCertificates.from_pem(*files)


@implementer(INodeLinkObserver)
class MeshNode:
    """A node: its links, where it listens, and what it was told.

    :param tell: called with each event.
    """

    def __init__(
        self,
        reactor: Any,
        node_id: str,
        certificates: NodeCertificates | None = None,
        secret: bytes = b"secret",
        tell: Callable[[str], None] = lambda _: None,
        identity: NodeIdentity | None = None,
    ) -> None:
        self.reactor = reactor
        self.certificates = certificates
        self.events: list[str] = []
        self.messages: list[Message] = []
        self.counted = 0
        self._tell = tell
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self.links = Links(
            identity or NodeIdentity(node_id, os.urandom(16)),
            secret,
            frozenset({1, 2, 3}),
            self,
            Turn(reactor),
            reactor,
            Chance(os.urandom, random.uniform),
            LinkOptions(),
        )
        self.port: Any = None

    def listen(self, description: str) -> Deferred[Any]:
        """Listen; fires with the port."""
        factory = server_factory(self.links.accepted, self.reactor, self.certificates, insecure=True)
        listening: Deferred[Any] = serverFromString(self.reactor, description).listen(factory)
        return listening.addCallback(self._listening)

    def _listening(self, port: Any) -> Any:
        self.port = port
        return port

    def dial(self, node_id: str, description: str, host: str | None = None) -> NodeLink:
        """Keep a link to a node."""
        endpoint = clientFromString(self.reactor, description)
        return self.links.keep(node_id, dialer(endpoint, self.reactor, self.certificates, insecure=True, host=host))

    def messages_received(self, node_id: str, messages: list[Message]) -> None:
        """See `INodeLinkObserver`."""
        if messages[0][0] == 3:
            self.counted += len(messages)
        else:
            self.messages += messages
            link = self.links.find(node_id)
            for kind, payload in messages:
                if kind == 1 and link is not None:
                    link.send(2, payload)
        self._changed()

    def call_received(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """See `INodeLinkObserver`."""
        return succeed(b"%d" % self.counted if name == "count" else payload)

    def link_up(self, node_id: str) -> None:
        """See `INodeLinkObserver`."""
        self._event(f"up {node_id}")

    def link_down(self, node_id: str, reason: str) -> None:
        """See `INodeLinkObserver`."""
        self._event(f"down {node_id} {reason}")

    def link_reset(self, node_id: str, dropped_messages: int) -> None:
        """See `INodeLinkObserver`."""
        self._event(f"reset {node_id} {dropped_messages}")

    def _event(self, event: str) -> None:
        self.events.append(event)
        self._tell(event)
        self._changed()

    def _changed(self) -> None:
        ready = [each for each in self._waiting if each[0]()]
        self._waiting = [each for each in self._waiting if each not in ready]
        for _, fired in ready:
            fired.callback(None)

    def when(self, condition: Callable[[], bool], seconds: float = 60.0) -> Deferred[None]:
        """Fires as soon as `condition` holds behind an event or message; fails when that takes too long."""
        fired: Deferred[None] = Deferred()
        if condition():
            return succeed(None)
        self._waiting.append((condition, fired))
        return fired.addTimeout(seconds, self.reactor)

    def when_event(self, start: str, seconds: float = 60.0) -> Deferred[None]:
        """Fires when an event begins so."""
        return self.when(lambda: any(event.startswith(start) for event in self.events), seconds)

    def when_message(self, payload: bytes) -> Deferred[None]:
        """Fires when a message came back."""
        return self.when(lambda: (2, payload) in self.messages)

    async def stop(self) -> None:
        """Close everything."""
        if self.port is not None:
            await self.port.stopListening()
        await self.links.stop()


class NodeProcess:
    """A node in a process of its own; ends with ``with``."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self.process: subprocess.Popen[str]
        self.port = ""

    def __enter__(self) -> NodeProcess:
        arguments = [sys.executable, "-m", "tests.integration.mesh_node", json.dumps(self._settings)]
        self.process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            raise AssertionError(f"the node did not start: {line!r}")
        self.port = line.split()[1]
        return self

    def memory_bytes(self) -> int:
        """What the process has in memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def _main(settings: dict[str, Any]) -> None:
    from twisted.internet import reactor

    def tell(line: str) -> None:
        print(line, flush=True)

    certificates = load_certificates(settings["ca"], settings["node_id"]) if "ca" in settings else None
    node = MeshNode(reactor, settings["node_id"], certificates, tell=tell)
    for node_id, description in settings.get("dial", []):
        node.dial(node_id, description)
    listening = node.listen(settings.get("listen", "tcp:0:interface=127.0.0.1"))
    listening.addCallback(lambda port: tell(f"ready {getattr(port.getHost(), 'port', 'unix')}"))
    reactor.run()


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
