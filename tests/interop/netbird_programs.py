"""NetBird's own relay client and relay server as processes: built when first wanted, started, spoken to, ended.

The two Go programs of ``tests/interop/netbird`` do nothing but drive NetBird's packages. They are built into
``meshrelay-interop`` where the user's caches are (``$MESHRELAY_INTEROP_CACHE`` names another place), in a directory
named after the sources and the compiler, so that a change builds anew.

Everything here blocks. A test that runs a relay or a client of ours on its own reactor calls it by ``deferToThread``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from twisted.trial.unittest import SkipTest

from meshrelay.cli.ca import init_authority, issue_certificate
from tests.interop.driven_program import DrivenProgram

__all__ = [
    "Certificates",
    "NetBirdPeer",
    "NetBirdServer",
    "Programs",
    "Refused",
    "build_programs",
    "make_certificates",
    "missing_reason",
    "programs",
]

SOURCES = Path(__file__).resolve().parent / "netbird"

#: What NetBird's own go.mod asks for.
GO_VERSION = (1, 25)

#: Half a minute on two cores with nothing in Go's caches, half a second with everything there.
BUILD_SECONDS = 900.0
START_SECONDS = 60.0
#: NetBird gives an absent peer 30 s.
ANSWER_SECONDS = 45.0
EVENT_SECONDS = 60.0

EVENTS = ("message", "closed", "disconnected", "reconnected")

_END = None


class Refused(Exception):
    """NetBird's client has answered a command with an error.

    :ivar reason: its text.
    """

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"{command}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Programs:
    """Where the two programs are."""

    client: Path
    server: Path


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, and a certificate of it for 127.0.0.1 and localhost with its key."""

    authority: Path
    certificate: Path
    key: Path


def _environ() -> dict[str, str]:
    # NB_ and the rest of what NetBird reads from the environment is for tests to say.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NB_")}
    return {**environ, "GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "0"}


def _run_go(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["go", *arguments], cwd=SOURCES, env=_environ(), capture_output=True, text=True, timeout=seconds, check=False
    )


def missing_reason(path: str | None = None) -> str:
    """What is missing to build the programs, in the words of a skipped test; empty if nothing is.

    :param path: where to look for Go instead of ``$PATH``.
    """
    if shutil.which("go", path=path) is None:
        return "missing: Go"
    version = _run_go("env", "GOVERSION", seconds=START_SECONDS)
    match = re.match(r"go(\d+)\.(\d+)", version.stdout)
    if version.returncode or match is None or (int(match[1]), int(match[2])) < GO_VERSION:
        said = (version.stdout + version.stderr).strip()
        return f"missing: Go {'.'.join(map(str, GO_VERSION))} or newer ({said})"
    return ""


def _cache_directory() -> Path:
    named = os.environ.get("MESHRELAY_INTEROP_CACHE")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else caches / "meshrelay-interop"


def _fingerprint() -> str:
    digest = hashlib.sha256(_run_go("version", seconds=START_SECONDS).stdout.encode())
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(SOURCES)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _download_modules() -> None:
    done = _run_go("mod", "download", seconds=BUILD_SECONDS)
    if done.returncode:
        raise SkipTest(f"missing: modules of Go ({done.stderr.strip()})")


def build_programs(directory: Path) -> Programs:
    """Build both programs, unless this directory has them from the same sources.

    :raises SkipTest: what NetBird needs cannot be downloaded.
    :raises AssertionError: the compiler refused; the text is what it wrote.
    """
    target = directory / f"netbird-{_fingerprint()}"
    if not target.exists():
        directory.mkdir(parents=True, exist_ok=True)
        # Elsewhere first: somebody else may be building the same.
        with tempfile.TemporaryDirectory(dir=directory) as partial:
            _download_modules()
            built = Path(partial) / "built"
            options = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", f"{built}/"]
            done = _run_go("build", *options, "./client", "./server", seconds=BUILD_SECONDS)
            if done.returncode:
                raise AssertionError(f"go build ended with {done.returncode}:\n{done.stdout}{done.stderr}")
            try:
                built.rename(target)
            except OSError:
                # Not empty: somebody else was faster.
                if not target.exists():
                    raise
    return Programs(client=target / "client", server=target / "server")


@cache
def programs() -> Programs:
    """The two programs, built if need be.

    :raises SkipTest: there is no Go that could build them, or no way to what they need.
    :raises AssertionError: they do not build.
    """
    reason = missing_reason()
    if reason:
        raise SkipTest(reason)
    return build_programs(_cache_directory())


def make_certificates(directory: Path) -> Certificates:
    """Make an authority and a certificate for a relay on this machine, in an empty directory."""
    now = datetime.now(UTC)
    init_authority(directory, now)
    issue_certificate(directory, "relay", ("127.0.0.1", "localhost"), now)
    return Certificates(directory / "ca.pem", directory / "relay.pem", directory / "relay.key")


class _Process(DrivenProgram):
    """One of the two programs.

    :param command: the program and its options.
    :param environ: what it finds in its environment beside the usual.
    """

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        super().__init__("netbird")
        self._command = command
        self._environ = {**_environ(), **environ}

    def _spawn(self) -> subprocess.Popen[str]:
        return self._popen(self._command, self._environ)

    def _line_came(self, line: str) -> None:
        self._take(line.strip())

    def _output_ended(self) -> None:
        self._take(_END)

    def _take(self, line: str | None) -> None:
        raise NotImplementedError


class NetBirdServer(_Process):
    """NetBird's own relay server on a free port of 127.0.0.1.

    :param secret: what tokens are signed with; empty lets everybody in.
    :param certificates: turn on TLS, and QUIC with it.
    :param options: more of the program's options, ``log_level="debug"`` for ``-log-level debug``.
    """

    def __init__(self, secret: str = "", certificates: Certificates | None = None, **options: str) -> None:
        self._scheme = "rel" if certificates is None else "rels"
        if secret:
            options["secret"] = secret
        if certificates is not None:
            options["cert"], options["key"] = str(certificates.certificate), str(certificates.key)
        super().__init__([str(programs().server), *_flags(options)], {})
        self._ready: SimpleQueue[str | None] = SimpleQueue()
        self.port = 0

    @property
    def url(self) -> str:
        """Where clients find it, and its instance URL unless the option ``exposed`` says another."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def _started(self) -> None:
        try:
            line = self._ready.get(timeout=START_SECONDS)
        except Empty:
            line = _END
        if line is None or not line.startswith("ready "):
            raise AssertionError(f"the relay server did not get ready:\n{self.log}")
        self.port = int(line.removeprefix("ready "))

    def _take(self, line: str | None) -> None:
        self._ready.put(line)


class NetBirdPeer(_Process):
    """A peer that uses NetBird's own relay client; `ask` says what it does, events say what happens to it.

    It connects when told to: ``ask("connect")``. The commands are listed in ``netbird/client/commands.go``.

    :param name: its ID, as text.
    :param server: URL of the relay; of several, with commas between them, for the manager.
    :param authority: PEM file of the authority that is trusted instead of the machine's.
    :param options: more of the program's options: ``transport``, ``secret``, ``token_payload``, ``manager="true"``, ...
    """

    def __init__(self, name: str, server: str, authority: Path | None = None, **options: str) -> None:
        command = [str(programs().client), *_flags({"peer": name, "server": server, **options})]
        super().__init__(command, {} if authority is None else {"SSL_CERT_FILE": str(authority)})
        self.name = name
        self._numbers = count(1)
        self._mutex = threading.Lock()
        self._answers: dict[int, SimpleQueue[dict[str, Any] | None]] = {}
        self._events: dict[str, SimpleQueue[dict[str, Any] | None]] = {event: SimpleQueue() for event in EVENTS}
        self._has_ended = False

    def ask(self, command: str, *, timeout: float = ANSWER_SECONDS, **arguments: Any) -> dict[str, Any]:
        """Carry out one command and return what its answer says. May be called from many threads.

        :param timeout: seconds until the test fails for want of an answer.
        :param arguments: those of the command.
        :raises Refused: NetBird's client returned an error.
        """
        assert self.process is not None
        assert self.process.stdin is not None
        answers: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        with self._mutex:
            number = next(self._numbers)
            if self._has_ended:
                answers.put(_END)
            else:
                self._answers[number] = answers
                self.process.stdin.write(json.dumps({"id": number, "do": command, **arguments}) + "\n")
                self.process.stdin.flush()
        answer = self._get(answers, f"answer to {command}", timeout)
        if not answer["ok"]:
            raise Refused(command, answer["error"])
        return answer

    def send(self, peer: str, payload: bytes) -> int:
        """Send one message to a peer that is open.

        :returns: how many bytes NetBird's client says it has sent.
        """
        answer = self.ask("send", peer=peer, data=base64.b64encode(payload).decode())
        return int(answer["bytes"])

    def next_event(self, name: str, timeout: float = EVENT_SECONDS) -> dict[str, Any]:
        """Wait for the next event of a kind: message, closed, disconnected or reconnected.

        :param timeout: seconds until the test fails for want of one.
        """
        return self._get(self._events[name], f"event {name}", timeout)

    def next_message(self, timeout: float = EVENT_SECONDS) -> tuple[str, bytes]:
        """Wait for the next message; returns who sent it, and what."""
        event = self.next_event("message", timeout)
        return str(event["peer"]), base64.b64decode(event["data"])

    def _get(self, queue: SimpleQueue[dict[str, Any] | None], wanted: str, timeout: float) -> dict[str, Any]:
        try:
            line = queue.get(timeout=timeout)
        except Empty:
            raise AssertionError(f"{self.name}: no {wanted} within {timeout} s:\n{self.log}") from None
        if line is None:
            raise AssertionError(f"{self.name} has ended, no {wanted}:\n{self.log}")
        return line

    def _take(self, line: str | None) -> None:
        if line is None:
            with self._mutex:
                self._has_ended = True
                waiting = [*self._answers.values(), *self._events.values()]
            for queue in waiting:
                queue.put(_END)
            return
        said = json.loads(line)
        if "event" in said:
            self._events[said["event"]].put(said)
            return
        with self._mutex:
            answers = self._answers.pop(said["answer"])
        answers.put(said)


def _flags(options: dict[str, str]) -> list[str]:
    return [f"-{name.replace('_', '-')}={value}" for name, value in options.items()]
