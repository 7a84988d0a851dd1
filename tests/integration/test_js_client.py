"""The client for browsers and Node against real daemons: its own tests under Node, and pages in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import meshrelay
from meshrelay.client.errors import command_error
from meshrelay.errors import CommandError, ErrorCode
from meshrelay.model import CloseReason
from tests.integration.browser import Browser, PageServer, missing_browser
from tests.integration.cluster import Node, cluster_config
from tests.integration.daemon import ROOT, Daemon

CLIENT = ROOT / "clients" / "js"

SECRET = "js-client-tests-0123456789abcdef-0123456789"

#: The first Node with a WebSocket, behind a switch.
OLDEST_NODE = (20, 10)


def node_switches() -> list[str]:
    """What Node needs to be told to have a WebSocket.

    :raises SkipTest: there is no Node, or an old one.
    """
    if shutil.which("node") is None:
        raise SkipTest("missing: node")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    major, minor = (int(part) for part in version.strip().lstrip("v").split(".")[:2])
    if (major, minor) < OLDEST_NODE:
        raise SkipTest(f"missing: node 20.10 or newer, there is {version.strip()}")
    return [] if major >= 22 else ["--experimental-websocket", "--no-warnings"]


def run_node(*arguments: str, env: dict[str, str] | None = None, timeout: float = 240) -> str:
    """Run Node in the folder of the client and return its output.

    :raises AssertionError: it failed.
    """
    done = subprocess.run(
        ["node", *arguments],
        cwd=CLIENT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"node ended with {done.returncode}:\n{done.stdout[-20000:]}\n{done.stderr[-5000:]}")
    return done.stdout


class NodeTests(SynchronousTestCase):
    """Tests that are written in JavaScript."""

    def setUp(self) -> None:
        """Skip without Node."""
        self.switches = node_switches()

    def run_tests(self, pattern: str, env: dict[str, str] | None = None) -> None:
        """Run test files; some must be there, and all must pass."""
        paths = [str(path) for path in sorted(CLIENT.glob(pattern))]
        self.assertNotEqual(paths, [])
        output = run_node(*self.switches, "--test", "--test-reporter=tap", *paths, env=env)
        counts = {
            name: int(count) for name, count in re.findall(r"(?m)^# (pass|fail|skipped|cancelled) (\d+)$", output)
        }
        self.assertGreaterEqual(counts["pass"], len(paths))
        self.assertEqual((counts["fail"], counts["skipped"], counts["cancelled"]), (0, 0, 0), output)

    def test_units(self) -> None:
        """Everything that needs no node: vectors, garbage, breaks, sleep, back pressure."""
        self.run_tests("test/*.test.js")

    def test_daemon(self) -> None:
        """Every command against real nodes, and fifty breaks while ten thousand messages flow."""
        with tempfile.TemporaryDirectory() as directory:
            secret = Path(directory) / "secret"
            secret.write_text(SECRET)
            auth = {"mode": "token", "secret_file": str(secret)}
            tokens: dict[str, dict[str, Any]] = {"auth": auth, "session": {"resume_seconds": 1}}
            with Daemon() as open_node, Daemon(tokens) as token_node:
                places = {"": open_node.places, "TOKEN_": token_node.places}
                env = {f"MESHRELAY_TEST_{kind}WS": f"ws://{each['websocket']}/" for kind, each in places.items()}
                env |= {f"MESHRELAY_TEST_{kind}HTTP": f"http://{each['http']}" for kind, each in places.items()}
                self.run_tests("test/daemon/*.test.js", {**env, "MESHRELAY_TEST_SECRET": SECRET})

    def test_cluster(self) -> None:
        """Twenty times breaks and moves with more missed than is kept; who is there, on two nodes."""
        group = {"history": [{"pattern": "*", "history_size": 40}]}
        session = {"resume_seconds": 1}
        with Node(cluster_config("n0", group=group, session=session)) as first:
            directory = "pb:" + first.places["mesh"]
            with Node(cluster_config("n1", directory, group=group, session=session)) as second:
                for node in (first, second):
                    node.wait_linked(1)
                places = " ".join(f"ws://{node.places['websocket']}/" for node in (first, second))
                self.run_tests("test/cluster/*.test.js", {"MESHRELAY_TEST_CLUSTER_WS": places})

    def test_same_numbers(self) -> None:
        """Close codes, error codes, whose fault each is and the names of their classes are those of the node."""
        script = """
            import { CloseCode, ErrorCode, VERSION, internals } from "./meshrelay.js";
            const faults = Object.entries(internals.REFUSALS).map(([name, Class]) => {
              const error = new Class();
              return [error.code, [name, error.status]];
            });
            console.log(JSON.stringify({ CloseCode, ErrorCode, VERSION, faults: Object.fromEntries(faults) }));
        """
        told: dict[str, Any] = json.loads(run_node("--input-type=module", "-e", script))
        self.assertEqual(told["CloseCode"], {reason.name: reason.value[0] for reason in CloseReason})
        self.assertEqual(told["ErrorCode"], {code.name: code.value for code in ErrorCode})
        self.assertEqual(told["VERSION"], meshrelay.__version__)
        classes: dict[int, type[CommandError]] = {code.value: type(command_error(0, code, "")) for code in ErrorCode}
        expected = {str(code): [each.__name__, each.status.value] for code, each in classes.items()}
        self.assertEqual(told["faults"], expected)

    def test_types(self) -> None:
        """The types fit the module, and a program that uses all of it."""
        compiler = CLIENT / "node_modules" / ".bin" / "tsc"
        if not compiler.exists():
            raise SkipTest("missing: typescript (npm install in clients/js)")
        run_node(str(compiler), "-p", "test/types")

    def test_package(self) -> None:
        """The npm package holds the module, its types and the text about it, and nothing else."""
        if shutil.which("npm") is None:
            raise SkipTest("missing: npm")
        done = subprocess.run(
            ["npm", "pack", "--dry-run", "--json", "--ignore-scripts"],
            cwd=CLIENT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        # npm 11 gives an object, those before a list.
        package = json.loads(done.stdout)
        package = package[0] if isinstance(package, list) else next(iter(package.values()))
        names = {entry["path"] for entry in package["files"]}
        self.assertEqual(names, {"README.md", "meshrelay.d.ts", "meshrelay.js", "package.json"})
        self.assertEqual((package["name"], package["version"]), ("meshrelay", meshrelay.__version__))


_PAGE = """<!doctype html>
<title>two tabs</title>
<script type="module">
  import { Client } from "http://HTTP/meshrelay.js";
  const heard = [];
  const user = new URL(location.href).searchParams.get("user");
  const client = new Client(URL_OF_NODE, { user, retryBaseSeconds: 0.05 });
  client.on("groupMessage", (event) => heard.push(`${event.userId}: ${event.message.text()}`));
  client.on("event", (event) => heard.push(event.name));
  window.chat = { client, heard };
  client.connect().then(() => (document.title = "online"), (error) => (document.title = String(error)));
</script>
"""


class ExampleTests(SynchronousTestCase):
    """What readers copy."""

    def test_bot(self) -> None:
        """The program for Node answers what is said in its group, and ends when it is told to."""
        switches = node_switches()
        script = """
            import { Client } from "meshrelay";
            const client = new Client(process.argv[1], { user: "ann" });
            await client.connect();
            const joined = new Promise((resolve) => client.on("groupJoined", (event) => resolve(event.userId)));
            const groupId = await client.createGroup({ ttlSeconds: 60 });
            console.log(groupId);
            console.log(await joined);
            const answers = client.events({ of: "groupMessage" });
            await client.broadcast(groupId, "hi");
            console.log((await answers.next()).value.message.text());
            await client.close();
        """
        with Daemon() as daemon:
            url = f"ws://{daemon.places['websocket']}/"
            asking = subprocess.Popen(
                ["node", *switches, "--input-type=module", "-e", script, url],
                cwd=CLIENT,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert asking.stdout is not None
            group_id = asking.stdout.readline().strip()
            command = ["node", *switches, "examples/bot.js", url, group_id]
            bot = subprocess.Popen(command, cwd=CLIENT, stdout=subprocess.PIPE, text=True)
            try:
                heard, _ = asking.communicate(timeout=60)
                self.assertEqual(heard.splitlines(), ["bot", "ann said: hi"])
                bot.send_signal(signal.SIGINT)
                said, _ = bot.communicate(timeout=60)
                self.assertRegex(said, rf"^in group {group_id}\nCLOSED: ")
                self.assertEqual(bot.returncode, 0)
            finally:
                for process in (asking, bot):
                    process.kill()
                    process.communicate()


class BrowserTests(SynchronousTestCase):
    """Pages in headless Chromium, with a fresh profile."""

    def setUp(self) -> None:
        """Skip without a browser."""
        missing = missing_browser()
        if missing:
            raise SkipTest(missing)

    def page(self, daemon: Daemon, url: str) -> bytes:
        """A page that signs in at `url`, an expression."""
        return _PAGE.replace("HTTP", daemon.places["http"]).replace("URL_OF_NODE", url).encode()

    def open_tab(self, browser: Browser, url: str) -> str:
        """Open a page in a tab of its own, wait until it is online and return the tab."""
        tab = browser.new_tab()
        browser.go(url)
        browser.wait_for("return document.title === 'online'")
        return tab

    def test_two_tabs_in_a_group(self) -> None:
        """Two tabs of pages of another port load the module from the node, meet in a group and hear each other."""
        with (
            Daemon() as daemon,
            PageServer(lambda: self.page(daemon, repr(f"ws://{daemon.places['websocket']}/"))) as pages,
            Browser() as browser,
        ):
            one = self.open_tab(browser, f"{pages.url}?user=ann")
            group = browser.run("return chat.client.createGroup({ ttlSeconds: 60 })")
            two = self.open_tab(browser, f"{pages.url}?user=bob")
            browser.run("return chat.client.joinGroup(arguments[0], 'hello')", group)
            browser.run("return chat.client.broadcast(arguments[0], 'from bob \\u{1f600}')", group)
            browser.switch(one)
            browser.wait_for("return chat.heard.includes('bob: from bob \\u{1f600}')")
            browser.run("return chat.client.broadcast(arguments[0], 'from ann')", group)
            browser.switch(two)
            browser.wait_for("return chat.heard.includes('ann: from ann')")
            self.assertEqual(browser.errors(), [])
            browser.run("return chat.client.close()")
            browser.switch(one)
            self.assertIn("groupJoined", browser.run("return chat.heard"))

    def test_page_of_the_node_itself(self) -> None:
        """A page on the node's own HTTP port needs no address: the node says where its WebSocket is."""
        with Daemon() as daemon, Browser() as browser:
            browser.go(daemon.url("/health/live"))
            script = """
                const { Client } = await import("/meshrelay.js");
                const client = new Client({ user: "ann" });
                const connected = await client.connect();
                await client.close();
                return connected.userId;
            """
            self.assertEqual(browser.run(f"return (async () => {{ {script} }})()"), "ann")

    def test_chat(self) -> None:
        """The chat of the documentation works as it stands, between two tabs, without a word on the console."""
        with Daemon() as daemon, PageServer(lambda: self.chat(daemon)) as pages, Browser() as browser:
            tabs = []
            for _ in range(2):
                tabs.append(browser.new_tab())
                browser.go(pages.url)
                browser.wait_for("return document.querySelector('#state').textContent.startsWith('you are guest-')")
            browser.run(
                "document.querySelector('#message').value = '<b>hi</b>'; document.querySelector('button').click()"
            )
            browser.switch(tabs[0])
            browser.wait_for("return document.querySelectorAll('#lines li').length === 2")
            lines = browser.run("return [...document.querySelectorAll('#lines li')].map((line) => line.textContent)")
            self.assertRegex(lines[0], "^guest-.{1,6}: is here$")
            self.assertRegex(lines[1], "^guest-.{1,6}: <b>hi</b>$")
            self.assertEqual(browser.errors(), [])

    def chat(self, daemon: Daemon) -> bytes:
        """The page, with the ports of this daemon."""
        page = (CLIENT / "examples" / "chat.html").read_text("utf-8")
        for name, port in (("http", 7000), ("websocket", 7300)):
            self.assertIn(f"127.0.0.1:{port}", page)
            page = page.replace(f"127.0.0.1:{port}", daemon.places[name])
        return page.encode("utf-8")

    def test_page_that_comes_back(self) -> None:
        """A page that the browser puts aside and shows again goes on with its session; nothing is missing."""
        with (
            Daemon() as daemon,
            PageServer(lambda: self.page(daemon, repr(f"ws://{daemon.places['websocket']}/"))) as pages,
            Browser() as browser,
        ):
            one = self.open_tab(browser, f"{pages.url}?user=ann")
            group = browser.run("return chat.client.createGroup({ ttlSeconds: 60 })")
            two = self.open_tab(browser, f"{pages.url}?user=bob")
            browser.run("return chat.client.joinGroup(arguments[0])", group)
            browser.switch(one)
            browser.run("window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
            browser.wait_for("return chat.heard.includes('disconnected')")
            browser.switch(two)
            for number in range(20):
                browser.run("return chat.client.broadcast(arguments[0], arguments[1])", group, str(number))
            browser.switch(one)
            browser.run("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
            browser.wait_for("return chat.heard.includes('bob: 19')")
            heard = [line for line in browser.run("return chat.heard") if line.startswith("bob: ")]
            self.assertEqual(heard, [f"bob: {number}" for number in range(20)])
