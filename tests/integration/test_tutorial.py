"""What the tutorial says, typed as it stands there: on a host of its own, where the usual ports are free."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Self

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.browser import Browser, missing_browser
from tests.integration.daemon import ROOT, Daemon
from tests.integration.nat_lab import Namespace, missing

PAGES = ("README.rst", "docs/tutorial.rst", "docs/tutorial-lobby.rst", "docs/tutorial-whiteboard.rst")

SECONDS = 60.0

#: Needs the network and minutes; other tests build and install packages.
INSTALL = "python3 -m venv relay && relay/bin/pip install . && "
NOT_HERE = {"python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python tests/run.py"}

NODE = INSTALL + "relay/bin/twistd -n --pidfile= meshrelay"
CHAT = "relay/bin/meshrelay chat --group lobby"
LISTEN = "relay/bin/meshrelay listen --group <the ID> --json"
SEND = "relay/bin/meshrelay send --group <the ID> hello from a script"
ALICE = "relay/bin/meshrelay chat --user alice --with bob"
BOB = "relay/bin/meshrelay chat --user bob --with alice"
DIRECT = "relay/bin/meshrelay dm alice the build is done"
DIRECT_LINES = "make 2>&1 | relay/bin/meshrelay dm alice -"
PROGRAM = "relay/bin/python docs/examples/hello.py"
PROGRAMS = {"tcp": PROGRAM, "ws": f"{PROGRAM} ws://127.0.0.1:7300/", "udp+http": f"{PROGRAM} udp+http://127.0.0.1:7000"}
TOKEN = "relay/bin/meshrelay token --user alice --new-secret secret.txt > alice.token"
TOKEN_NODE = (
    "MESHRELAY_AUTH__MODE=token MESHRELAY_AUTH__SECRET_FILE=secret.txt relay/bin/twistd -n --pidfile= meshrelay"
)
TOKEN_CHAT = "relay/bin/meshrelay chat --group lobby --user alice --token-file alice.token"
LOBBY_NODE = "PYTHONPATH=examples/lobby MESHRELAY_APP__MODULE=lobby_app relay/bin/twistd -n --pidfile= meshrelay"
PLAIN_NODE = "relay/bin/twistd -n --pidfile= meshrelay"
SERVE = "relay/bin/python -m http.server --bind 127.0.0.1 --directory examples 8000"


def blocks(page: str, language: str) -> list[str]:
    """The blocks of one language on a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(rf"(?m)^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", text)
    return [dedent(block).strip("\n") for block in found]


def shell_lines() -> set[str]:
    """Every command that a reader is told to type."""
    return {line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines() if line}


class Terminal:
    """One terminal with one command, which is ended with Ctrl-C."""

    def __init__(self, command: str, folder: Path) -> None:
        self.command = command
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.text += line

    def read(self, pattern: str) -> str:
        """Wait until something is to be read; returns the first group of the pattern, or all of it."""
        deadline = time.monotonic() + SECONDS
        while (match := re.search(pattern, self.text)) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.command}: no {pattern} in\n{self.text}")
            time.sleep(0.02)
        return match[match.lastindex or 0]

    def type(self, line: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self) -> int:
        """Wait until the command has ended; returns its status."""
        status = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        return status

    def interrupt(self) -> None:
        """Ctrl-C."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise
        finally:
            self._reader.join(SECONDS)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()


class TutorialTests(SynchronousTestCase):
    """A reader with a new host."""

    def setUp(self) -> None:
        """Make a host, and a folder with what the reader has by then."""
        reason = missing()
        if reason:
            raise SkipTest(reason)
        self.host = Namespace()
        self.addCleanup(self.host.close)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = Path(directory.name)
        for name in ("docs", "examples"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / "relay").symlink_to(sys.prefix)
        make = self.folder / "make"
        make.write_text("#!/bin/sh\necho compiled\necho linked >&2\n")
        make.chmod(0o755)
        self.terminals: list[Terminal] = []
        self.addCleanup(self.end_all)
        self.typed: set[str] = set()

    def end_all(self) -> None:
        """Ctrl-C in all terminals, the newest first."""
        while self.terminals:
            self.terminals.pop().interrupt()

    def enter(self, command: str, **words: str) -> Terminal:
        """Type a command of the tutorial in a new terminal.

        :param words: what the reader puts in for a word in angle brackets.
        """
        self.typed.add(command)
        command = command.removeprefix(INSTALL)
        for word, value in words.items():
            command = command.replace(f"<{word.replace('_', ' ')}>", value)
        terminal = Terminal(command, self.folder)
        self.terminals.append(terminal)
        return terminal

    def run_to_end(self, command: str, **words: str) -> str:
        """Type a command that ends by itself, and well; returns what it printed."""
        terminal = self.enter(command, **words)
        self.assertEqual(terminal.wait(), 0, terminal.text)
        return terminal.text

    def start_node(self, command: str) -> Terminal:
        """Type a command that starts a node; it listens where the tutorial says."""
        node = self.enter(command)
        places = "tcp=127.0.0.1:7200 udp=127.0.0.1:7100 websocket=127.0.0.1:7300 http=127.0.0.1:7000"
        node.read(rf" ready node=\S+ {re.escape(places)}")
        return node

    def on_the_host(self, function: Callable[[], None]) -> None:
        """Do something on the new host."""
        self.host.call(function)

    def test_every_command(self) -> None:
        """Every command of README and tutorial does what is said beside it; there is none that is not tried here."""
        for part in (self.groups, self.programs, self.tokens, self.lobby, self.whiteboard):
            self.on_the_host(part)
            self.end_all()
        self.assertEqual(shell_lines() - NOT_HERE, self.typed)

    def groups(self) -> None:
        """Terminals that meet in a group, and two people who need none."""
        self.start_node(NODE)
        self.fetch("http://127.0.0.1:7000/", "console</title>")
        one = self.enter(CHAT)
        group_id = one.read(r"in group (\S{52});")
        other = self.enter(CHAT)
        other.read(re.escape(f"in group {group_id};"))
        one.type("what I type")
        other.read(": what I type")
        listener = self.enter(LISTEN, the_ID=group_id)
        listener.read("listening in group")
        self.run_to_end(SEND, the_ID=group_id)
        self.assertIn("hello from a script", json.loads(listener.read(r"\{.*\}")).values())
        one.read(": hello from a script")
        alice, bob = self.enter(ALICE), self.enter(BOB)
        for chat in (alice, bob):
            chat.read("connected to node")
        alice.type("are you there?")
        bob.read("alice: are you there")
        bob.type("I am")
        alice.read("bob: I am")
        self.run_to_end(DIRECT)
        alice.read("the build is done")
        self.run_to_end(DIRECT_LINES)
        alice.read("compiled")
        alice.read("linked")

    def programs(self) -> None:
        """The program in Python, by each transport; it comes back when the node was started again."""
        node = self.start_node(NODE)
        chat = self.enter(CHAT)
        chat.read("in group")
        running = {}
        for user, command in PROGRAMS.items():
            running[user] = self.enter(command)
            chat.read(rf"{re.escape(user)}: hello from Python")
        chat.type("hello programs")
        for program in running.values():
            program.read(": hello programs")
        node.interrupt()
        self.terminals.remove(node)
        self.start_node(NODE)
        again = self.enter(CHAT)
        again.read("in group")
        # Each comes back after a random time of its own.
        deadline = time.monotonic() + 2 * SECONDS
        while not all("welcome back" in program.text for program in running.values()):
            self.assertLess(time.monotonic(), deadline, {user: each.text for user, each in running.items()})
            again.type("welcome back")
            time.sleep(0.5)

    def tokens(self) -> None:
        """Signing in with a token, and not without."""
        self.run_to_end(TOKEN)
        self.start_node(TOKEN_NODE)
        self.enter(TOKEN_CHAT).read("you are alice, connected")
        without = Terminal("relay/bin/meshrelay chat --group lobby --user bob", self.folder)
        self.terminals.append(without)
        self.assertNotEqual(without.wait(), 0)

    def lobby(self) -> None:
        """The node with the application, and its pages."""
        node = self.start_node(LOBBY_NODE)
        self.enter(SERVE)
        self.fetch("http://127.0.0.1:8000/lobby/", "Game lobby")
        self.fetch("http://127.0.0.1:8000/lobby/lobby.js", "../node.js")
        (module,) = re.findall(r'from "(http:.*)"', self.fetch("http://127.0.0.1:8000/node.js", "NODE_URL"))
        self.fetch(module, "export class Client")
        self.assertNotIn("Traceback", node.text)

    def whiteboard(self) -> None:
        """A node without anything, and the pages."""
        self.start_node(PLAIN_NODE)
        self.enter(SERVE)
        self.fetch("http://127.0.0.1:8000/whiteboard/", "Shared whiteboard")

    def fetch(self, url: str, text: str) -> str:
        """Get a page; it holds `text`."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                with opener.open(url, timeout=SECONDS) as answer:
                    body: str = answer.read().decode()
                break
            except OSError:
                # The server has only just been started.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.assertIn(text, body)
        return body


class Console(Browser):
    """A browser whose developer console is used."""

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def paste(self, program: str) -> None:
        """Run a program as the console does, where ``await`` may stand anywhere and names last.

        :raises AssertionError: it threw.
        """
        parameters = {"expression": program, "replMode": True, "awaitPromise": True}
        call = {"cmd": "Runtime.evaluate", "params": parameters}
        answer = self._call("POST", f"{self._session}/goog/cdp/execute", call)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])

    def wait_for_line(self, text: str) -> None:
        """Wait until a line with `text` stands on the console."""
        deadline = time.monotonic() + SECONDS
        while not any(text in line for line in self.errors()):
            if time.monotonic() > deadline:
                raise AssertionError(f"no line with {text}")
            time.sleep(0.05)


class PageTests(SynchronousTestCase):
    """The pages themselves."""

    def test_console(self) -> None:
        """What is pasted into the console of a browser joins the group of others, says hello and hears them."""
        reason = missing_browser()
        if reason:
            raise SkipTest(reason)
        with Daemon() as daemon, Console() as browser:
            chat = Terminal(f"{sys.prefix}/bin/meshrelay chat --group lobby --url tcp://{daemon.places['tcp']}", ROOT)
            self.addCleanup(chat.interrupt)
            chat.read("in group")
            browser.go(daemon.url("/health/live"))
            browser.paste((ROOT / "docs" / "examples" / "hello.js").read_text(encoding="utf-8"))
            chat.read("browser: hello from a browser")
            browser.paste('say("hi")')
            chat.read("browser: hi")
            chat.type("hello page")
            browser.wait_for_line(": hello page")
            chat.interrupt()

    def test_usual_ports(self) -> None:
        """The examples look for the node where a node without configuration listens."""
        node = (ROOT / "examples" / "node.js").read_text(encoding="utf-8")
        self.assertIn('"http://127.0.0.1:7000/meshrelay.js"', node)
        self.assertIn('"ws://127.0.0.1:7300/"', node)
