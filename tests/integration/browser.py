"""A headless Chromium with a fresh profile, driven over the WebDriver protocol, and a server of one page for it.

Source: W3C WebDriver; chromedriver speaks it on a loopback port that it chooses itself.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["Browser", "PageServer", "missing_browser"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

_DRIVER_STARTS = 3

START_SECONDS = 60.0
SCRIPT_SECONDS = 60.0

_SWITCHES = (
    "--headless=new",
    # Containers have no user namespaces, and tests run as root in them.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
)


def _browser_path() -> str | None:
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def missing_browser() -> str:
    """Why there can be no browser; empty when there can."""
    if _browser_path() is None:
        return "missing: chromium"
    return "" if shutil.which("chromedriver") else "missing: chromedriver"


class Browser:
    """Runs from ``with`` to its end."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._driver: subprocess.Popen[str] | None = None
        self._base = ""
        self._session = ""

    def __enter__(self) -> Browser:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        # The port that it draws may be taken before it listens there; then it ends without a word.
        for _ in range(_DRIVER_STARTS):
            if self._start_driver():
                break
        options = {"binary": _browser_path(), "args": [*_SWITCHES, f"--user-data-dir={self._profile.name}"]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", **capabilities}}}
        self._session = f"/session/{self._call('POST', '/session', wanted, START_SECONDS)['sessionId']}"
        self._call("POST", f"{self._session}/timeouts", {"script": int(SCRIPT_SECONDS * 1000)})

    def _start_driver(self) -> bool:
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            match = re.search(r"started successfully on port (\d+)", line)
            if match:
                self._base = f"http://127.0.0.1:{match[1]}"
                return True
        self._driver.wait()
        self._driver.stdout.close()
        return False

    def stop(self) -> None:
        """End the browser and its driver, and throw the profile away."""
        if self._session:
            with contextlib.suppress(Exception):
                self._call("DELETE", self._session)
            self._session = ""
        if self._driver is not None:
            self._driver.terminate()
            try:
                self._driver.wait(10)
            except subprocess.TimeoutExpired:
                self._driver.kill()
                self._driver.wait()
            assert self._driver.stdout is not None
            self._driver.stdout.close()
            self._driver = None
        self._profile.cleanup()

    def _call(self, method: str, path: str, body: Any = None, timeout: float = SCRIPT_SECONDS + 5) -> Any:
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            value = json.loads(error.read())["value"]
            raise AssertionError(f"{value['error']}: {value['message']}") from None

    def go(self, url: str) -> None:
        """Open a page in this tab, and wait until it is loaded."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def new_tab(self) -> str:
        """Open a tab, go on in it and return its name."""
        handle: str = self._call("POST", f"{self._session}/window/new", {"type": "tab"})["handle"]
        self.switch(handle)
        return handle

    def switch(self, tab: str) -> None:
        """Go on in another tab."""
        self._call("POST", f"{self._session}/window", {"handle": tab})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a function body in the page; a promise that it returns is waited for.

        :raises AssertionError: it threw.
        """
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def wait_for(self, script: str, seconds: float = SCRIPT_SECONDS) -> None:
        """Run a script again and again until what it returns is true; it may throw while something is not there yet."""
        deadline = time.monotonic() + seconds
        while True:
            thrown = ""
            try:
                if self.run(script):
                    return
            except AssertionError as error:
                thrown = str(error)
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} seconds: {script}; {thrown}; errors: {self.errors()}")
            time.sleep(0.02)

    def errors(self) -> list[str]:
        """What stands on the consoles since the last call, except for favicons that nobody has."""
        entries = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if "favicon" not in entry["message"]]

    def screenshot(self) -> bytes:
        """A picture of the page, as the base64 of a PNG."""
        picture: str = self._call("GET", f"{self._session}/screenshot")
        return picture.encode()


class PageServer:
    """Serves one HTML page at every path of a free loopback port, from ``with`` to its end."""

    def __init__(self, make_page: Callable[[], bytes]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = make_page()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
