"""The console of a node with two workers in headless Chromium: everything there is, whichever worker a page reaches."""

from __future__ import annotations

import json
import os
import signal
import struct
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.browser import missing_browser
from tests.integration.cluster import LOCAL
from tests.integration.daemon import Daemon
from tests.integration.members import create_group
from tests.integration.test_console import PATIENT, ConsoleBrowser, start_links
from tests.integration.test_workers import node_of, workers_of
from tests.integration.wire_clients import Closed, TcpClient, WebSocketClient

SECONDS = 20.0

GOODBYE, JOIN, BROADCAST = 4, 111, 113

CONSOLE_WATCH = 150

ROOM_CREATE = struct.pack("!HBIH", 10, 2, 600, 0)


def two_workers(**more: Any) -> Daemon:
    """A daemon with two workers, a relay and a peer of an overlay."""
    node = {"id": "sup", "workers": 2, "drain_seconds": 0.2}
    return Daemon({"node": node, "relay": {"listen": LOCAL}, "overlay": {"listen": LOCAL}, **PATIENT, **more})


def one_of_each(daemon: Daemon, kind: type[TcpClient]) -> dict[str, TcpClient]:
    """Sign in until each worker has somebody, and return who is where; the kernel chooses the worker."""
    found: dict[str, TcpClient] = {}
    spare: list[TcpClient] = []
    while len(found) < 2:
        client = kind(daemon)
        node = node_of(client, f"user{len(found) + len(spare)}")
        if node in found:
            spare.append(client)
        found.setdefault(node, client)
    for client in spare:
        leave(client)
    return found


def leave(client: TcpClient) -> None:
    """End a session, which would wait for its user otherwise."""
    client.send(0, GOODBYE)
    assert client.is_closed()
    client.close()


def ticket_of(daemon: Daemon) -> dict[str, Any]:
    """Ask for a sign-in for one console."""
    request = urllib.request.Request(daemon.url("/admin/console/ticket"), b"", method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        ticket: dict[str, Any] = json.loads(answer.read())
    return ticket


def sign_in(console: TcpClient, token: str) -> str:
    """Sign a console in, and return the ID of the node that it is on."""
    answer = json.loads(console.ask(0, 1, json.dumps({"protocol": 1, "token": token}).encode()))
    return str(answer["node"])


def state_of(daemon: Daemon) -> dict[str, Any]:
    """What a page by HTTP is told."""
    state: dict[str, Any] = daemon.get("/admin/console/state")[1]["state"]
    return state


def wait_until(is_so: Callable[[], bool], daemon: Daemon) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {SECONDS} seconds: {state_of(daemon)}\n{daemon.log}")
        time.sleep(0.05)


class WorkersTests(SynchronousTestCase):
    """What pages are told, without a browser."""

    def test_either_worker(self) -> None:
        """A page is told of all workers by whichever of them has its WebSocket, and a ticket is good once at both."""
        with two_workers() as daemon:
            users = one_of_each(daemon, TcpClient)
            consoles: dict[str, TcpClient] = {}
            tokens = []
            while len(consoles) < 2:
                token = ticket_of(daemon)["token"]
                console: TcpClient = WebSocketClient(daemon)
                self.addCleanup(console.close)
                consoles.setdefault(sign_in(console, token), console)
                tokens.append(token)
            for console in consoles.values():
                answer = json.loads(console.ask(1, CONSOLE_WATCH, b"\1"))
                state = answer["state"]
                shown = {row["id"] for row in state["users"]["rows"] if row["id"].startswith("user")}
                self.assertEqual((state["node"], len(shown)), ("sup", 2))
                pushed = json.loads(console.push().payload)
                self.assertEqual(pushed["node"], "sup")
            wait_until(lambda: state_of(daemon)["consoles"] == 2, daemon)
            # As many tries as reach both.
            for token in tokens * 6:
                self.refused(daemon, token)
            for client in (*users.values(), *consoles.values()):
                client.close()

    def refused(self, daemon: Daemon, token: str) -> None:
        """Nobody gets in by this token."""
        late = WebSocketClient(daemon)
        self.assertRaises((AssertionError, Closed), sign_in, late, token)
        late.close()

    def test_killed_worker(self) -> None:
        """A worker that is gone is left out within seconds, and the one in its place is there again."""
        with two_workers() as daemon:
            users = one_of_each(daemon, TcpClient)
            wait_until(lambda: state_of(daemon)["users"]["count"] == 2, daemon)
            os.kill(workers_of(daemon)[0], signal.SIGKILL)
            wait_until(lambda: state_of(daemon)["users"]["count"] == 1, daemon)
            wait_until(lambda: len(workers_of(daemon)) == 2, daemon)
            again = one_of_each(daemon, TcpClient)
            wait_until(lambda: state_of(daemon)["users"]["count"] >= 2, daemon)
            for client in (*users.values(), *again.values()):
                client.close()


class PageTests(SynchronousTestCase):
    """A browser on the page of the supervisor."""

    def setUp(self) -> None:
        """Skip without a browser."""
        missing = missing_browser()
        if missing:
            raise SkipTest(missing)

    def test_everything(self) -> None:
        """With workers the pages show all that they show without: users, groups, rates, rooms, pairs, ends, plots."""
        with two_workers() as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon, "people")
            browser.wait_for("return document.getElementById('connection').textContent === 'live'")
            one, two = one_of_each(daemon, WebSocketClient).values()
            group = create_group(one)
            two.ask(1, JOIN, group)
            one.ask(1, 100, ROOM_CREATE)
            two.ask(1, 100, ROOM_CREATE)
            self.show_people(browser, one, two, group)
            self.show_peers(daemon, browser)
            leave(two)
            self.show_closes(browser)
            self.show_overview(browser)
            one.close()
            self.assertEqual(browser.errors(), [])

    def show_people(self, browser: ConsoleBrowser, one: TcpClient, two: TcpClient, group: bytes) -> None:
        """Users of both workers, their rooms, and a group that both hold, which is one, with what both say."""
        browser.wait_for("return document.querySelectorAll('#users tbody tr').length >= 3", SECONDS)
        browser.wait_for("return document.querySelectorAll('#rooms tbody tr').length === 2", SECONDS)
        script = """
            const rows = [...document.querySelectorAll('#groups tbody tr')];
            const cells = rows.map((row) => [...row.children].map((cell) => cell.textContent));
            return rows.length === 1 && cells[0][1] === '2' && cells[0][2] === '2' && parseFloat(cells[0][3]) >= 10;
        """
        deadline = time.monotonic() + SECONDS
        while not browser.run(script):
            self.assertLess(
                time.monotonic(), deadline, browser.run("return document.getElementById('groups').textContent")
            )
            for _ in range(10):
                one.send(1, BROADCAST, group + b"hello")
                two.send(1, BROADCAST, group + b"hello")
            time.sleep(0.05)

    def show_peers(self, daemon: Daemon, browser: ConsoleBrowser) -> None:
        """Pairs of a room of some worker, and the relay and the overlay of the supervisor."""
        clients = start_links(daemon, ["uma", "udo", "wes"])
        browser.run("location.hash = '#peers'")
        browser.wait_for("return document.getElementById('pairs').textContent.includes('wes')", SECONDS)
        self.assertTrue(browser.run("return !document.getElementById('relay').hidden"))
        self.assertTrue(browser.run("return !document.getElementById('overlay').hidden"))
        for client in clients:
            client.close()

    def show_closes(self, browser: ConsoleBrowser) -> None:
        """Why connections of either worker ended."""
        browser.run("location.hash = '#closes'")
        browser.wait_for("return document.getElementById('close-counts').textContent.includes('goodbye')", SECONDS)
        browser.wait_for("return document.getElementById('ended').textContent.includes('user')", SECONDS)

    def show_overview(self, browser: ConsoleBrowser) -> None:
        """Plots and figures of all, and a map of supervisor and workers."""
        browser.run("location.hash = '#overview'")
        browser.wait_for("return document.querySelectorAll('#map .node').length === 3", SECONDS)
        browser.wait_for("return document.querySelector('.series')?.getAttribute('d')?.split('L').length > 4", SECONDS)
        told = browser.run("return document.querySelector('#plots svg').getAttribute('aria-label')")
        self.assertRegex(told, r"^Messages over .* in [\d.]+")
        sessions = browser.run("return document.querySelectorAll('#plots svg')[2].getAttribute('aria-label')")
        self.assertRegex(sessions, r"now [1-9]")

    def test_try_it(self) -> None:
        """The chat works where each tab may be on another worker."""
        with two_workers() as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon, "try")
            browser.run("document.getElementById('try-sign-in').requestSubmit()")
            browser.wait_for("return document.getElementById('try-state').textContent === 'In the group.'", SECONDS)
            self.assertEqual(browser.errors(), [])
