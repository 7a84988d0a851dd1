"""The console in headless Chromium against real nodes: live data, a chat in two tabs, hostile names, keyboard, phone.

With ``MESHRELAY_WRITE_IMAGES=1`` the pictures of the documentation are made anew. The rules of accessibility are those
of axe-core, which ``npm install`` in ``tests/integration/console`` fetches.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.browser import Browser, missing_browser
from tests.integration.cluster import LOCAL, Node, cluster_config
from tests.integration.daemon import ROOT, Daemon
from tests.integration.wire_clients import TcpClient, connect

IMAGES = ROOT / "docs" / "images"
AXE = ROOT / "tests" / "integration" / "console" / "node_modules" / "axe-core" / "axe.min.js"

#: Whether the pictures of the documentation are made anew.
WRITES_IMAGES = bool(os.environ.get("MESHRELAY_WRITE_IMAGES"))

VIEWS = ("overview", "people", "peers", "closes", "try")

#: What would happen if a name ever became markup.
HOSTILE = "<img src=x onerror=document.title='owned'>"

#: Signs users in at the node of the page, or at another one, and leaves them there.
_POPULATE = """
    const { Client } = await import("/meshrelay.js");
    const [url, names, group] = arguments;
    window.people ??= [];
    const made = [];
    for (const user of names) {
      const client = new Client(url, { user });
      await client.connect();
      made.push(client);
    }
    window.people.push(...made);
    const id = group ?? await made[0].createGroup({ join: true });
    for (const client of group ? made : made.slice(1)) await client.joinGroup(id);
    return id;
"""

_CHATTER = """
    const [group] = arguments;
    let turn = 0;
    window.chatter = setInterval(() => {
      turn += 1;
      const count = 20 + Math.round(15 * Math.sin(turn / 9)) + (turn % 7);
      for (let at = 0; at < count; at += 1) window.people[at % 3].broadcastNowait(group, "x".repeat(40 + (turn % 50)));
    }, 100);
"""

_VIOLATIONS = """
    const { violations } = await axe.run();
    return violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]);
"""

#: UDP clients of these tests say nothing for long.
PATIENT = {"session": {"udp_ttl_seconds": 120.0}}


def start_links(daemon: Daemon, names: Sequence[str]) -> list[TcpClient]:
    """Start P2P links in a room: two clients of UDP, and the others of WebSocket, whom nobody can reach directly."""
    # A client of UDP is sent to some node of the cluster; the room is on this one. A name of UDP is a part of a path.
    clients = [connect(daemon, "websocket", name) for name in names[2:]]
    clients += [connect(daemon, "rudp", quote(name, safe="")) for name in names[:2]]
    room = clients[0].ask(1, 100, struct.pack("!HBIH", 100, 2, 600, 0))
    for client in clients[1:]:
        client.ask(1, 101, room)
    clients[0].ask(1, 131, room + b"\0")
    for client, name in zip(clients, (*names[2:], *names[:2]), strict=True):
        # What each says of the others: those of UDP tried, and nothing came through.
        others = b"".join(bytes((len(other.encode()),)) + other.encode() + b"\2" for other in names if other != name)
        client.ask(1, 133, room + others)
    return clients


def run_async(browser: Browser, script: str, *arguments: Any) -> Any:
    """Run the body of an async function in the page and return what comes of it."""
    return browser.run(f"return (async function () {{ {script} }}).apply(null, arguments)", *arguments)


class ConsoleBrowser(Browser):
    """A browser that can be a phone, prefer a theme and press keys."""

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def command(self, name: str, **parameters: Any) -> Any:
        """Run a command of the DevTools protocol."""
        path = f"{self._session}/goog/cdp/execute"
        return self._call("POST", path, {"cmd": name, "params": parameters})

    def size(self, width: int, height: int, scale: float = 1.0) -> None:
        """Make the window this large."""
        mobile = width < 500
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def prefer(self, theme: str) -> None:
        """Let the system be dark or light."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def press(self, *keys: str) -> None:
        """Press keys one after the other, by their WebDriver names."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        self._call("POST", f"{self._session}/actions", body)

    def picture(self, name: str) -> None:
        """Keep a picture for the documentation, where it was asked for."""
        if WRITES_IMAGES:
            IMAGES.mkdir(exist_ok=True)
            (IMAGES / name).write_bytes(base64.b64decode(self.screenshot()))

    def open_console(self, daemon: Daemon, page: str = "overview") -> None:
        """Open the console and wait until it is live."""
        self.go(daemon.url(f"/#{page}"))
        self.wait_for("return document.getElementById('connection').dataset.state === 'live'")


TAB, ENTER = "\ue004", "\ue007"


class ConsoleTests(SynchronousTestCase):
    """A fresh profile and the pages of the node."""

    def setUp(self) -> None:
        """Skip without a browser."""
        missing = missing_browser()
        if missing:
            raise SkipTest(missing)

    def ws(self, daemon: Daemon) -> str:
        """Where the WebSockets of a node are."""
        return f"ws://{daemon.places['websocket']}/"

    def test_live(self) -> None:
        """The page shows the sessions, groups, rates and plots of the node as they change, without a reload."""
        with Daemon() as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon)
            browser.run("location.hash = '#people'")
            group = run_async(browser, _POPULATE, self.ws(daemon), ["ann", "bob", "cid"], None)
            browser.run(_CHATTER, group)
            browser.wait_for("return document.querySelector('#groups td.number')?.textContent === '3'")
            browser.wait_for("return parseFloat(document.querySelectorAll('#groups td.number')[2].textContent) > 50")
            browser.wait_for("return document.getElementById('users').textContent.includes('ann')")
            browser.run("location.hash = '#overview'")
            browser.wait_for("return document.querySelector('.series')?.getAttribute('d')?.split('L').length > 4")
            told = browser.run("return document.querySelector('#plots svg').getAttribute('aria-label')")
            self.assertRegex(told, r"^Messages over 1 min, now: in [\d.]+ ?k?/s, out ")
            self.assertEqual(daemon.metric("meshrelay_console_watchers"), 1.0)
            # A page that is opened now has a past, and a page that is gone is told nothing.
            browser.run("clearInterval(window.chatter)")
            browser.open_console(daemon)
            browser.wait_for("return document.querySelector('.series')?.getAttribute('d')")
            points = browser.run("return document.querySelector('.series').getAttribute('d').split('L').length")
            self.assertGreater(points, 4)
            browser.go("about:blank")
            browser.wait_for("return true")
            self.assertEqual(browser.errors(), [])

    def test_two_tabs_chat(self) -> None:
        """Two tabs of the page to try it talk in one group: the second comes by the link of the first."""
        with Daemon() as daemon, ConsoleBrowser() as browser:
            one = browser.run("return 1") and browser.new_tab()
            browser.open_console(daemon, "try")
            browser.run("document.getElementById('try-user').value = 'ann'")
            browser.run("document.getElementById('try-sign-in').requestSubmit()")
            browser.wait_for("return document.getElementById('try-state').textContent === 'In the group.'")
            link = browser.run("return document.getElementById('try-link').href")
            browser.new_tab()
            browser.go(link)
            browser.run("document.getElementById('try-user').value = arguments[0]", HOSTILE)
            browser.run("document.getElementById('try-sign-in').requestSubmit()")
            browser.wait_for("return document.getElementById('try-state').textContent === 'In the group.'")
            browser.run("document.getElementById('try-text').value = arguments[0]", f"hello {HOSTILE}")
            browser.press(ENTER)
            browser.wait_for("return document.getElementById('try-log').textContent.includes('hello')")
            browser.switch(one)
            browser.wait_for("return document.getElementById('try-log').textContent.includes('hello')")
            said = browser.run("return document.querySelector('#try-log li:last-child').textContent")
            self.assertEqual(said, f"{HOSTILE}hello {HOSTILE}")
            self.assertEqual(browser.run("return document.querySelectorAll('#try-log img').length"), 0)
            self.assertNotIn("owned", browser.run("return document.title"))
            browser.size(1000, 780)
            browser.prefer("light")
            browser.picture("console-try.png")
            self.assertEqual(browser.errors(), [])

    def test_hostile_names(self) -> None:
        """A user ID that is markup is shown as it is and does nothing, wherever it stands."""
        with Daemon(PATIENT) as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon, "people")
            run_async(browser, _POPULATE, self.ws(daemon), [HOSTILE, f"{HOSTILE}2", "<script>alert(1)</script>"], None)
            clients = start_links(daemon, [f"{HOSTILE}3", f"{HOSTILE}4", f"{HOSTILE}5"])
            browser.wait_for("return document.getElementById('users').textContent.includes('onerror')")
            run_async(browser, "await window.people[1].close()")
            for view, place in (("closes", "ended"), ("peers", "pairs"), ("people", "rooms"), ("people", "users")):
                browser.run("location.hash = arguments[0]", view)
                browser.wait_for(f"return document.getElementById('{place}').textContent.includes('<img')")
            self.assertEqual(browser.run("return document.querySelectorAll('main img, main script').length"), 0)
            for client in clients:
                client.close()
            self.assertNotIn("owned", browser.run("return document.title"))
            self.assertEqual(browser.errors(), [])

    def test_markup_from_text_is_forbidden(self) -> None:
        """Even a mistake in the pages could not make markup of text, nor run or fetch anything from elsewhere."""
        with Daemon() as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon)
            broken = browser.run(
                "try { document.body.innerHTML = '<b>x</b>'; return 'taken' } catch { return 'refused' }"
            )
            self.assertEqual(broken, "refused")
            fetched = run_async(browser, "return fetch('http://192.0.2.1/').then(() => 'sent', () => 'refused')")
            self.assertEqual(fetched, "refused")
            self.assertTrue(any("Content Security Policy" in line for line in browser.errors()))

    def test_cluster(self) -> None:
        """The map has all nodes and links of the cluster, and shows within seconds that one is gone."""
        with self.nodes() as [one, two, three], ConsoleBrowser() as browser:
            browser.size(1280, 1150)
            browser.prefer("light")
            browser.open_console(one)
            group = run_async(browser, _POPULATE, self.ws(one), ["ann", "bob", "cid", "dora", "emil"], None)
            clients = [connect(two, "tcp", f"lia{at}") for at in range(4)]
            clients += [connect(three, "tcp", f"ola{at}") for at in range(7)]
            browser.run(_CHATTER, group)
            browser.wait_for("return document.querySelectorAll('#map .node').length === 3")
            browser.wait_for("return document.querySelectorAll('#map .link[data-state=up]').length === 3")
            browser.wait_for("return document.querySelector('.series')?.getAttribute('d')?.split('L').length > 20", 40)
            # The last, as those of UDP read nothing, which a node takes for so long only.
            clients += start_links(one, ["uma", "udo", "wes", "wilma"])
            self.show_all(browser)
            browser.run("clearInterval(window.chatter); location.hash = '#overview'")
            for client in clients:
                client.close()
            three.kill()
            browser.wait_for("return document.querySelectorAll('#map .link[data-state=down]').length >= 1", 20)
            self.assertEqual(browser.errors(), [])

    @contextmanager
    def nodes(self) -> Iterator[list[Node]]:
        """Three nodes; the first is a relay and a peer of an overlay as well."""
        more: dict[str, Any] = {"relay": {"listen": LOCAL}, "overlay": {"listen": LOCAL}, **PATIENT}
        with Node(cluster_config("berlin", **more)) as one:
            directory = f"pb:{one.places['mesh']}"
            with Node(cluster_config("lisbon", directory)) as two, Node(cluster_config("oslo", directory)) as three:
                one.wait_linked(2)
                yield [one, two, three]

    def show_all(self, browser: ConsoleBrowser) -> None:
        """Show every page in both themes once."""
        if WRITES_IMAGES:
            # Pictures of plots need a past.
            run_async(browser, "await new Promise((resolve) => setTimeout(resolve, 25000))")
        for theme in ("light", "dark"):
            browser.prefer(theme)
            for view in VIEWS[:4]:
                browser.run("location.hash = arguments[0]", view)
                browser.wait_for(f"return !document.querySelector('[data-view={view}]').hidden")
                if view == "peers":
                    browser.wait_for("return document.querySelectorAll('#pairs td').length > 1")
                browser.picture(f"console-{view}-{theme}.png")
        browser.prefer("light")

    def test_phone(self) -> None:
        """On a screen of 360 pixels no page is wider than the screen."""
        with Daemon() as daemon, ConsoleBrowser() as browser:
            browser.size(360, 740)
            browser.open_console(daemon)
            run_async(browser, _POPULATE, self.ws(daemon), ["w" * 128, HOSTILE, "cid"], None)
            browser.wait_for("return document.querySelectorAll('#map .node').length === 1")
            for view in VIEWS:
                browser.run("location.hash = arguments[0]", view)
                browser.wait_for(f"return !document.querySelector('[data-view={view}]').hidden")
                width = browser.run("return document.documentElement.scrollWidth")
                self.assertLessEqual(width, 360, view)
                if view == "overview":
                    browser.picture("console-phone.png")
            self.assertEqual(browser.errors(), [])

    def test_keyboard(self) -> None:
        """The first key leads past the menu, each page can be reached and read by keyboard, and focus goes along."""
        with Daemon() as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon)
            browser.press(TAB)
            self.assertEqual(browser.run("return document.activeElement.className"), "skip")
            browser.press(ENTER)
            self.assertEqual(browser.run("return document.activeElement.id"), "main")
            self.assertTrue(browser.run("return !document.querySelector('[data-view=overview]').hidden"))
            browser.go(daemon.url("/"))
            browser.press(TAB, TAB, TAB)
            self.assertEqual(browser.run("return document.activeElement.dataset.page"), "people")
            browser.press(ENTER)
            browser.wait_for("return document.activeElement.id === 'people-title'")
            self.assertEqual(browser.run("return document.querySelector('[aria-current]').dataset.page"), "people")
            self.assertTrue(browser.run("return document.title.startsWith('Users and groups')"))
            browser.press(TAB)
            self.assertEqual(browser.run("return document.activeElement.getAttribute('role')"), "region")

    def test_words_on_a_phone(self) -> None:
        """On a phone no word is broken into letters; what does not fit is scrolled to, by keyboard as well."""
        broken = """
            return [...document.querySelectorAll('main td')].filter((cell) => {
              const range = document.createRange();
              range.selectNodeContents(cell);
              const lines = new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size;
              return lines > Math.max(1, cell.textContent.split(/[ -]/).length);
            }).map((cell) => cell.textContent);
        """
        with Daemon(PATIENT) as daemon, ConsoleBrowser() as browser:
            browser.size(360, 740)
            browser.open_console(daemon)
            run_async(browser, _POPULATE, self.ws(daemon), ["ann", "bob", "cid"], None)
            clients = start_links(daemon, ["uma", "udo", "wes"])
            clients[0].close()
            browser.wait_for("return document.querySelectorAll('#map .node').length === 1")
            for view, place in (
                ("overview", "nodes"),
                ("peers", "pairs"),
                ("closes", "close-counts"),
                ("people", "groups"),
            ):
                browser.run("location.hash = arguments[0]", view)
                browser.wait_for(f"return document.querySelectorAll('#{place} td').length > 1")
                rows = browser.run(broken)
                self.assertEqual([text for text in rows if not text.startswith("console:")], [], view)
            for client in clients[1:]:
                client.close()

    def test_pause(self) -> None:
        """A page that is paused says so and stands still, whatever happens, until it goes on."""
        with Daemon() as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon, "people")
            browser.run("document.getElementById('pause').focus()")
            browser.press(ENTER)
            self.assertEqual(browser.run("return document.getElementById('connection').textContent"), "paused")
            run_async(browser, _POPULATE, self.ws(daemon), ["ann"], None)
            browser.run("location.hash = '#overview'")
            browser.wait_for("return document.title.startsWith('Overview')")
            before = browser.run("return document.querySelector('.series').getAttribute('d')")
            run_async(browser, "await new Promise((resolve) => setTimeout(resolve, 2500))")
            browser.run("location.hash = '#closes'; location.hash = '#overview'")
            self.assertEqual(browser.run("return document.querySelector('.series').getAttribute('d')"), before)
            browser.run("location.hash = '#people'")
            browser.wait_for("return document.title.startsWith('Users')")
            self.assertNotIn("ann", browser.run("return document.getElementById('users').textContent"))
            browser.run("document.getElementById('pause').click()")
            browser.wait_for("return document.getElementById('users').textContent.includes('ann')")
            self.assertEqual(browser.run("return document.getElementById('connection').textContent"), "live")

    def test_focus(self) -> None:
        """By keyboard alone the focus is never lost: after a sign-in that failed, in the chat, and behind it."""
        with Daemon() as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon, "try")
            browser.run("document.getElementById('try-user').value = 'console:me'")
            browser.run("document.getElementById('try-enter').focus()")
            browser.press(ENTER)
            browser.wait_for("return document.getElementById('try-state').textContent.startsWith('That did not work')")
            browser.wait_for("return document.activeElement.id === 'try-enter'")
            browser.run("document.getElementById('try-user').value = 'ann'")
            browser.press(ENTER)
            browser.wait_for("return document.activeElement.id === 'try-text'")
            browser.press(TAB, TAB, ENTER)
            browser.wait_for("return document.activeElement.id === 'try-user'")
            self.assertEqual(browser.run("return document.getElementById('try-state').textContent"), "You have left.")

    def test_themes(self) -> None:
        """Dark and light follow the system until a button says otherwise, which the next visit remembers."""
        ground = "return getComputedStyle(document.body).backgroundColor"
        with Daemon() as daemon, ConsoleBrowser() as browser:
            browser.prefer("dark")
            browser.open_console(daemon)
            dark = browser.run(ground)
            browser.prefer("light")
            light = browser.run(ground)
            self.assertNotEqual(dark, light)
            browser.run("document.getElementById('theme').click(); document.getElementById('theme').click()")
            self.assertEqual(browser.run(ground), dark)
            browser.open_console(daemon)
            self.assertEqual(browser.run(ground), dark)

    def test_accessible(self) -> None:
        """axe-core finds nothing on any page, in either theme."""
        if not AXE.exists():
            raise SkipTest("missing: axe-core (npm install in tests/integration/console)")
        with Daemon() as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon)
            run_async(browser, _POPULATE, self.ws(daemon), ["ann", "bob", "cid"], None)
            browser.run(AXE.read_text("utf-8") + "; window.axe = axe;")
            for theme in ("light", "dark"):
                browser.prefer(theme)
                for view in VIEWS:
                    browser.run("location.hash = arguments[0]", view)
                    browser.wait_for(f"return !document.querySelector('[data-view={view}]').hidden")
                    found = run_async(browser, _VIOLATIONS)
                    self.assertEqual(found, [], f"{view} {theme}: {json.dumps(found)}")

    def test_key(self) -> None:
        """Behind a proxy the page asks for the admin key, says when it is wrong, and forgets it with the tab."""
        with tempfile.TemporaryDirectory() as directory:
            key = Path(directory) / "key"
            key.write_text("0123456789abcdef-admin")
            with Daemon({"http": {"admin_key_file": str(key)}}) as daemon, ConsoleBrowser() as browser:
                # As a proxy would; callers on this machine need no key.
                browser.command("Network.enable")
                browser.command("Network.setExtraHTTPHeaders", headers={"X-Forwarded-For": "192.0.2.7"})
                browser.go(daemon.url("/"))
                browser.wait_for("return !document.getElementById('key-page').hidden")
                self.assertEqual(browser.run("return document.activeElement.id"), "key")
                for word, is_right in (("wrong", False), ("0123456789abcdef-admin", True)):
                    browser.run("document.getElementById('key').value = arguments[0]", word)
                    browser.press(ENTER)
                    if not is_right:
                        browser.wait_for(
                            "return document.getElementById('notice').textContent.includes('not the admin')"
                        )
                browser.wait_for("return document.getElementById('connection').dataset.state === 'live'")
                kept = browser.run("return [localStorage.length, document.cookie, Object.keys(sessionStorage)]")
                self.assertEqual(kept, [0, "", ["meshrelay-admin-key"]])

    def test_without_websockets(self) -> None:
        """Where the WebSocket port cannot be reached the same is shown by HTTP."""
        with Daemon({"listen": {"websocket": ""}}) as daemon, ConsoleBrowser() as browser:
            browser.open_console(daemon)
            browser.wait_for("return document.getElementById('connection').textContent === 'live, by HTTP'")
            browser.wait_for("return document.querySelector('.series')?.getAttribute('d')?.split('L').length > 2")
            self.assertEqual(browser.errors(), [])

    def test_token_mode(self) -> None:
        """The console needs no token of a user: its ticket is enough where everybody else needs one."""
        with tempfile.TemporaryDirectory() as directory:
            secret = Path(directory) / "secret"
            secret.write_text("0123456789abcdef0123456789abcdef")
            auth = {"mode": "token", "secret_file": str(secret)}
            with Daemon({"auth": auth}) as daemon, ConsoleBrowser() as browser:
                browser.open_console(daemon)
                browser.wait_for("return document.getElementById('connection').textContent === 'live'")
                self.assertEqual(browser.errors(), [])
