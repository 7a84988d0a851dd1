"""The page of the documentation in a browser, with the bundle of npm's package: a peer among ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.integration.cluster import free_port
from tests.interop.overlay_kit import OverlayTests
from tests.interop.peer_relay_programs import ROOT, packages
from tests.interop.webrtc_browser import FLAGS, START_SECONDS, missing_reason

PAGE = ROOT / "docs" / "examples" / "overlay_chat.html"

SECONDS = 60.0


class PageTests(OverlayTests):
    """What readers copy does what it says."""

    def setUp(self) -> None:
        """A browser, and a place on the web with the page and the bundle in it."""
        super().setUp()
        reason = missing_reason()
        if reason:
            self.skipTest(reason)
        directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(directory.cleanup)
        shutil.copy(PAGE, directory.name)
        shutil.copy(packages() / "peer-relay" / "bundle.js", directory.name)
        self.web, self.driver = free_port(), free_port()
        server = ("-m", "http.server", "--bind", "127.0.0.1", "--directory", directory.name, str(self.web))
        self.start(sys.executable, *server)
        self.start("chromedriver", f"--port={self.driver}")
        self.until(lambda: self.ask("GET", "/status")["ready"])
        arguments = [*FLAGS, f"--user-data-dir={directory.name}/profile"]
        chosen = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
        session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": chosen}})["sessionId"]
        self.session = f"/session/{session}"
        self.addCleanup(self.ask, "DELETE", self.session)

    def start(self, *command: str) -> None:
        """Start a program that runs until the test ends."""
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait, START_SECONDS)
        self.addCleanup(process.terminate)

    def until(self, is_so: Callable[[], Any]) -> Any:
        """Wait for something, and return it."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                found = is_so()
            except OSError:
                found = None
            if found:
                return found
            self.assertLess(time.monotonic(), deadline, "it took too long")
            time.sleep(0.05)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the browser."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.driver}{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=START_SECONDS) as answer:
            return json.load(answer)["value"]

    def run_script(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, and return what it returns."""
        return self.ask("POST", f"{self.session}/execute/sync", {"script": script, "args": list(arguments)})

    def shown(self) -> list[str]:
        """Lines that the page shows."""
        text: str = self.run_script("return document.getElementById('log').textContent")
        return text.splitlines()

    def test_page(self) -> None:
        """The page links with our hub, writes to another peer of ours, and shows what that writes."""
        hub = self.own.make("hub", port=0)
        other = self.own.make("other", bootstrap=[hub])
        self.ask("POST", f"{self.session}/url", {"url": f"http://127.0.0.1:{self.web}/{PAGE.name}?{hub.url}"})
        self.until(lambda: f"linked with {hub.peer_id}" in self.shown())
        page_id = self.shown()[0].removeprefix("this is ")
        hub.wait_linked(other)
        fill = "for (const id in arguments[0]) document.getElementById(id).value = arguments[0][id];"
        self.run_script(f"{fill} document.forms[0].requestSubmit()", {"to": other.peer_id, "text": "from the page"})
        self.assertEqual(other.next_message(), ("from the page", page_id))
        other.send(page_id, ["from", "Python"])
        self.until(lambda: f'{other.peer_id}: ["from","Python"]' in self.shown())
