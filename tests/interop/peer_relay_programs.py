"""Peers of the overlay in processes of their own: those of the npm package peer-relay, and ours behind the same words.

`JsPeers` runs ``peer_relay/peers.js``, which hosts any number of peers of the package; `OwnPeers` runs
``tests.interop.own_peers``, which hosts ours. Both are told what to do by lines of JSON, so a test can be written once
and run with either kind in every place.

The package is installed by ``npm ci`` when first wanted, into ``meshrelay-interop`` where the user's caches are
(``$MESHRELAY_INTEROP_CACHE`` names another place), in a directory named after the list of versions and Node itself.

Everything here blocks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.integration.nat_lab import Namespace
from tests.interop.driven_program import DrivenProgram

__all__ = [
    "EVENT_SECONDS",
    "JsPeers",
    "OwnPeers",
    "Peer",
    "PeerProcess",
    "Refused",
    "install_packages",
    "missing_reason",
    "packages",
]

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent / "peer_relay"

NODE_VERSION = 18

INSTALL_SECONDS = 300.0
START_SECONDS = 20.0
ANSWER_SECONDS = 20.0
#: Longest wait for what must come, on a machine that has other things to do.
EVENT_SECONDS = 20.0


class Refused(Exception):
    """A peer has answered a command with an error, whose text this has."""


def _version(program: str, path: str | None) -> str:
    found = shutil.which(program, path=path)
    if found is None:
        return ""
    done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=START_SECONDS, check=False)
    return done.stdout.strip()


def missing_reason(path: str | None = None) -> str:
    """What is missing to run the package, in the words of a skipped test; empty if nothing is.

    :param path: where to look for Node instead of ``$PATH``.
    """
    version = _version("node", path)
    match = re.match(r"v(\d+)\.", version)
    if match is None or int(match[1]) < NODE_VERSION:
        return f"missing: Node.js {NODE_VERSION} or newer ({version or 'none'})"
    return "" if _version("npm", path) else "missing: npm"


def _cache_directory() -> Path:
    named = os.environ.get("MESHRELAY_INTEROP_CACHE")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else caches / "meshrelay-interop"


def install_packages(directory: Path) -> Path:
    """Install what ``package-lock.json`` names, unless this directory has it already.

    :returns: the folder ``node_modules``.
    :raises SkipTest: npm could not get it.
    """
    digest = hashlib.sha256(_version("node", None).encode())
    files = [SOURCES / "package.json", SOURCES / "package-lock.json"]
    for file in files:
        digest.update(file.read_bytes())
    target = directory / f"peer-relay-{digest.hexdigest()[:16]}"
    if not target.exists():
        directory.mkdir(parents=True, exist_ok=True)
        # Elsewhere first: somebody else may be installing the same.
        with tempfile.TemporaryDirectory(dir=directory) as partial:
            installed = Path(partial) / "installed"
            installed.mkdir()
            for file in files:
                shutil.copy(file, installed)
            # The binary of WebRTC is a package of its own: no script has to run.
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(
                command, cwd=installed, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
            if done.returncode:
                raise SkipTest(f"missing: packages of npm ({done.stderr.strip()[-300:]})")
            try:
                installed.rename(target)
            except OSError:
                # Not empty: somebody else was faster.
                if not target.exists():
                    raise
    return target / "node_modules"


@cache
def packages() -> Path:
    """The folder ``node_modules`` with the package in it.

    :raises SkipTest: there is no Node, or no way to the package.
    """
    reason = missing_reason()
    if reason:
        raise SkipTest(reason)
    return install_packages(_cache_directory())


class PeerProcess(DrivenProgram):
    """A program that hosts peers, from ``with`` to its end, which expects a clean exit and no crash.

    :param namespace: the network to run it in; None: the machine's.
    :param may_crash: what crashes peers is what the test wants to see.
    :ivar crashes: what would have killed the process if it were not a test's.
    """

    #: Of its peers: "js" or "own".
    kind = ""

    def __init__(self, namespace: Namespace | None = None, *, may_crash: bool = False) -> None:
        super().__init__("peer-relay")
        self.crashes: list[str] = []
        self.peers: list[Peer] = []
        self._namespace = namespace
        self._may_crash = may_crash
        self._changed = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked = 0
        self._has_ended = False

    def _command(self) -> tuple[list[str], dict[str, str]]:
        """The program, and what it finds in its environment beside the usual."""
        raise NotImplementedError

    def _spawn(self) -> subprocess.Popen[str]:
        command, environ = self._command()
        run: Callable[..., subprocess.Popen[str]] = self._popen
        arguments = (command, {**os.environ, **environ}, ROOT)
        return run(*arguments) if self._namespace is None else self._namespace.call(run, *arguments)

    def _started(self) -> None:
        self.wait_event("ready", lambda event: True, START_SECONDS)

    def _line_came(self, line: str) -> None:
        said = json.loads(line)
        with self._changed:
            if "answer" in said:
                self._answers[said["answer"]] = said
            else:
                if said["event"] == "crashed":
                    self.crashes.append(said["error"])
                self._events.append(said)
            self._changed.notify_all()

    def _output_ended(self) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def begin(self, command: str, **arguments: Any) -> int:
        """Begin one command and return its number for `finish`."""
        assert self.process is not None
        assert self.process.stdin is not None
        with self._changed:
            self._asked += 1
            number = self._asked
            try:
                self.process.stdin.write(json.dumps({"id": number, "do": command, **arguments}) + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                self._has_ended = True
        return number

    def finish(self, number: int, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Wait for the answer to a command.

        :raises Refused: the peer returned an error.
        """
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self._has_ended, seconds)
            answer = self._answers.pop(number, None)
        if answer is None:
            raise AssertionError(f"no answer within {seconds} s; ended: {self._has_ended}\n{self.log}")
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer

    def ask(self, command: str, *, timeout: float = ANSWER_SECONDS, **arguments: Any) -> dict[str, Any]:
        """Carry out one command and return what its answer says.

        :raises Refused: the peer returned an error.
        """
        return self.finish(self.begin(command, **arguments), timeout)

    def wait_event(
        self, name: str, is_wanted: Callable[[dict[str, Any]], bool], seconds: float = EVENT_SECONDS
    ) -> dict[str, Any]:
        """Wait for an event and take it out of those that have come."""

        def find() -> dict[str, Any] | None:
            return next((event for event in self._events if event["event"] == name and is_wanted(event)), None)

        with self._changed:
            self._changed.wait_for(lambda: find() is not None or self._has_ended, seconds)
            found = find()
            if found is not None:
                self._events.remove(found)
                return found
            raise AssertionError(f"no {name} within {seconds} s among {self._events[-20:]}\n{self.log}")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of a kind that have come and nobody has waited for."""
        with self._changed:
            return [event for event in self._events if event["event"] == name]

    def make(
        self,
        name: str,
        *,
        port: int | None = None,
        bootstrap: Iterable[Peer | str] = (),
        wrtc: bool = False,
        **options: Any,
    ) -> Peer:
        """Make a peer.

        :param port: of its WebSocket server, 0 for a free one; None: it has none.
        :param bootstrap: peers that listen, or URLs.
        :param options: more that only ours knows.
        """
        return self._make("make", name, port, bootstrap, wrtc, options)

    def make_socket(
        self, name: str, *, port: int | None = None, bootstrap: Iterable[Peer | str] = (), wrtc: bool = False
    ) -> Peer:
        """Make a Socket, the look-alike of dgram, with a peer inside."""
        return self._make("make_socket", name, port, bootstrap, wrtc, {})

    def _make(
        self,
        command: str,
        name: str,
        port: int | None,
        bootstrap: Iterable[Peer | str],
        wrtc: bool,
        options: dict[str, Any],
    ) -> Peer:
        urls = [one if isinstance(one, str) else one.url for one in bootstrap]
        answer = self.ask(command, peer=name, port=port, bootstrap=urls, wrtc=wrtc, **options)
        peer = Peer(self, name, answer["peer_id"], answer["port"])
        self.peers.append(peer)
        return peer

    def counts(self) -> dict[str, int]:
        """Frames, bytes and memory of the process."""
        answer = self.ask("counts")
        return {name: value for name, value in answer.items() if name not in ("answer", "ok")}

    def _check_end(self) -> None:
        assert self._may_crash or not self.crashes, "\n".join(self.crashes)


class JsPeers(PeerProcess):
    """Peers of the npm package under Node.

    :param has_deflate: False: WebSocket messages are not compressed; the package as shipped compresses every one.
    """

    kind = "js"

    def __init__(
        self, namespace: Namespace | None = None, *, may_crash: bool = False, has_deflate: bool = True
    ) -> None:
        super().__init__(namespace, may_crash=may_crash)
        self._has_deflate = has_deflate

    def _command(self) -> tuple[list[str], dict[str, str]]:
        environ = {"NODE_PATH": str(packages()), "NODE_OPTIONS": ""}
        options = [] if self._has_deflate else ["--deflate=off"]
        return ["node", "--no-deprecation", str(SOURCES / "peers.js"), *options], environ


class OwnPeers(PeerProcess):
    """Peers of ours.

    :param has_asyncio: run on asyncio's loop, which WebRTC needs.
    """

    kind = "own"

    def __init__(
        self, namespace: Namespace | None = None, *, may_crash: bool = False, has_asyncio: bool = False
    ) -> None:
        super().__init__(namespace, may_crash=may_crash)
        self._has_asyncio = has_asyncio

    def _command(self) -> tuple[list[str], dict[str, str]]:
        options = ["--asyncio"] if self._has_asyncio else []
        return [sys.executable, "-m", "tests.interop.own_peers", *options], {}


class Peer:
    """One peer of a process.

    :ivar peer_id: 40 hex digits.
    :ivar port: of its WebSocket server; None: it has none.
    """

    def __init__(self, process: PeerProcess, name: str, peer_id: str, port: int | None) -> None:
        self.process = process
        self.name = name
        self.peer_id = peer_id
        self.port = port

    @property
    def url(self) -> str:
        """Where its WebSocket server is."""
        assert self.port is not None
        return f"ws://127.0.0.1:{self.port}"

    def send(self, other: Peer | str, data: Any) -> None:
        """Send a message; that it arrives is another matter."""
        self.process.ask("send", peer=self.name, to=_id_of(other), data=data)

    def send_packet(self, other: Peer | str, data: bytes, **options: int) -> None:
        """Send a packet from a Socket: its ``offset``, ``length`` and ``port`` as the package takes them."""
        text = base64.b64encode(data).decode()
        self.process.ask("send_packet", peer=self.name, to=_id_of(other), data=text, **options)

    def connect(self, other: Peer | str) -> None:
        """Ask for a direct link."""
        self.process.ask("connect", peer=self.name, peer_id=_id_of(other))

    def disconnect(self, other: Peer | str) -> None:
        """Close the direct link."""
        self.process.ask("disconnect", peer=self.name, peer_id=_id_of(other))

    def destroy(self) -> None:
        """End the peer; returns when it says that it has ended."""
        self.process.ask("destroy", peer=self.name)

    def links(self) -> set[str]:
        """The IDs of those that it is linked to."""
        return set(self.process.ask("links", peer=self.name)["links"])

    def wait_linked(self, *others: Peer | str, least: int = 0, seconds: float = EVENT_SECONDS) -> set[str]:
        """Wait until it is linked to these, and to at least so many."""
        return self._until(seconds, linked=[_id_of(other) for other in others], least=least)

    def wait_unlinked(self, *others: Peer | str, seconds: float = EVENT_SECONDS) -> set[str]:
        """Wait until it is linked to none of these."""
        return self._until(seconds, unlinked=[_id_of(other) for other in others])

    def _until(self, seconds: float, **wanted: Any) -> set[str]:
        try:
            answer = self.process.ask("until", peer=self.name, seconds=seconds, timeout=seconds + 5, **wanted)
        except Refused as error:
            raise AssertionError(f"{self.name}: not {wanted} within {seconds} s: {error}") from None
        return set(answer["links"])

    def wait_event(self, name: str, seconds: float = EVENT_SECONDS) -> dict[str, Any]:
        """Wait for its next event of a kind."""
        return self.process.wait_event(name, self._is_mine, seconds)

    def next_linked(self, seconds: float = EVENT_SECONDS) -> str:
        """Wait for the next event ``peer`` and return the ID that it tells."""
        return str(self.wait_event("linked", seconds)["peer_id"])

    def next_message(self, seconds: float = EVENT_SECONDS) -> tuple[Any, str]:
        """Wait for the next message; returns what, and from whom."""
        event = self.wait_event("message", seconds)
        return event.get("data"), str(event["from"])

    def next_packet(self, seconds: float = EVENT_SECONDS) -> tuple[bytes, str, int]:
        """Wait for the next packet of a Socket; returns it with the sender's address and port."""
        event = self.wait_event("packet", seconds)
        return base64.b64decode(event["data"]), str(event["from"]), int(event["port"])

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its events of a kind that nobody has waited for."""
        return [event for event in self.process.events(name) if self._is_mine(event)]

    def send_until_received(self, other: Peer, data: Any, seconds: float = EVENT_SECONDS) -> None:
        """Send again and again until the other has it: for the first moments, when a way is still being made."""
        deadline = time.monotonic() + seconds
        while True:
            self.send(other, data)
            try:
                found = other.process.wait_event("message", lambda e: other.has_got(e, self, data), 0.5)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                continue
            assert found["from"] == self.peer_id
            return

    def has_got(self, event: dict[str, Any], sender: Peer, data: Any) -> bool:
        """Whether an event tells that this peer has received exactly this."""
        return self._is_mine(event) and event.get("data") == data and event["from"] == sender.peer_id

    def _is_mine(self, event: dict[str, Any]) -> bool:
        return event.get("peer") == self.name


def _id_of(other: Peer | str) -> str:
    return other if isinstance(other, str) else other.peer_id
