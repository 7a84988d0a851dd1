"""One end of a WebRTC link in Chromium, told what to do by WebDriver; as `tests.integration.webrtc_ends.End` to a test.

Needs ``chromium`` and ``chromedriver``. The browser knows no network but the one that it is started in.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.nat_lab import Namespace

__all__ = ["BrowserEnd", "missing_reason"]

PAGE = Path(__file__).resolve().parent / "peer_relay" / "rtc_page.js"

START_SECONDS = 30.0
EVENT_SECONDS = 30.0

#: Without them it looks for updates, hides its addresses behind names of mDNS, or will not start as root.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
)


def missing_reason() -> str:
    """What is missing to run the browser, in the words of a skipped test; empty if nothing is."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"missing: {program}"
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BrowserEnd:
    """A browser with one page, from ``with`` to its end. The methods are those of `tests.integration.webrtc_ends.End`.

    :ivar signals: all that it said for the other end.
    """

    def __init__(self, is_initiator: bool, namespace: Namespace) -> None:
        self.signals: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.errors = ""
        self._carry: Callable[[dict[str, Any]], None] | None = None
        self._is_initiator = is_initiator
        self._namespace = namespace
        self._lock = threading.Lock()
        self._taken = 0
        self._session = ""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        self._port = self._namespace.call(_free_port)
        self._log = (Path(self._directory.name) / "log").open("wb")
        start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
        command = ["chromedriver", f"--port={self._port}"]
        self._process = self._namespace.call(start, command, stdout=self._log, stderr=self._log)
        try:
            self._begin()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def _begin(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._ask("GET", "/status")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        arguments = [*FLAGS, f"--user-data-dir={self._directory.name}/profile"]
        chosen = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
        self._session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": chosen}})["sessionId"]
        self._run(PAGE.read_text() + "\nwindow.startEnd(arguments[0]);", self._is_initiator)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        url = f"http://127.0.0.1:{self._port}{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)

        def fetch() -> Any:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=START_SECONDS
            ) as got:
                return json.load(got)["value"]

        return self._namespace.call(fetch)

    def _run(self, script: str, *arguments: Any) -> Any:
        body = {"script": script, "args": list(arguments)}
        return self._ask("POST", f"/session/{self._session}/execute/sync", body)

    def carry_signals_by(self, carry: Callable[[dict[str, Any]], None]) -> None:
        """Hand over all signals, whenever somebody waits for something."""
        self._carry = carry
        for signal in self.signals:
            carry(signal)

    def look(self) -> None:
        """Take what the page has said by now."""
        for line in self._run("return window.end.lines.splice(0)"):
            if "signal" not in line:
                self.events.append(line)
                continue
            self.signals.append(line["signal"])
            if self._carry is not None:
                self._carry(line["signal"])

    def order(self, **order: Any) -> None:
        """Tell the page what to do."""
        self._run("window.end.obey(arguments[0])", order)

    def wait(self, name: str, seconds: float = EVENT_SECONDS) -> dict[str, Any]:
        """Wait for an event and take it out of those that have come."""
        deadline = time.monotonic() + seconds
        while True:
            self.look()
            found = next((event for event in self.events if event["event"] == name), None)
            if found is not None:
                self.events.remove(found)
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"no {name} within {seconds} s among {self.events}")
            time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._session:
                self._ask("DELETE", f"/session/{self._session}")
        finally:
            self._process.terminate()
            self._process.wait(START_SECONDS)
            self._log.close()
            self._directory.cleanup()
