"""A real `twistd meshrelay` in a process of its own, for tests that claim to have tried one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Daemon", "run_until_exit"]

ROOT = Path(__file__).resolve().parents[2]

#: Every port free; tests override what they need.
FREE_PORTS = {
    "tcp": "tcp:0:interface=127.0.0.1",
    "udp": "udp:0:interface=127.0.0.1",
    "websocket": "tcp:0:interface=127.0.0.1",
    "http": "tcp:0:interface=127.0.0.1",
}

#: Longest waits for a start, for a page and for an end.
START_SECONDS = 120.0
ANSWER_SECONDS = 30.0
END_SECONDS = 60.0


def _twistd() -> list[str]:
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]


def _value(value: Any) -> str:
    # JSON strings, numbers, booleans and arrays of them are TOML; its objects are not.
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value)


def _toml(config: dict[str, dict[str, Any]]) -> str:
    sections = []
    for section, keys in config.items():
        lines = [f"{key} = {_value(value)}" for key, value in keys.items()]
        sections.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(sections) + "\n"


class Daemon:
    """Runs from ``with`` to its end, which expects a clean exit.

    :param config: sections of the configuration; ports are free ones unless it says otherwise.
    :param python_path: more folders to import from, for an application module.
    """

    def __init__(self, config: dict[str, dict[str, Any]] | None = None, python_path: str = "") -> None:
        listen = {**FREE_PORTS, **(config or {}).get("listen", {})}
        self._config = {**(config or {}), "listen": listen}
        self._python_path = python_path
        self._directory = tempfile.TemporaryDirectory()
        self.log_path = Path(self._directory.name) / "log"
        self.config_path = Path(self._directory.name) / "meshrelay.toml"
        self.process: subprocess.Popen[bytes] | None = None
        self.places: dict[str, str] = {}

    def __enter__(self) -> Daemon:
        self.config_path.write_text(_toml(self._config))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MESHRELAY_")}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), self._python_path]))
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*_twistd(), "meshrelay", "--config", str(self.config_path)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory.name,
                env=environ,
            )
        self._wait_until_ready()
        return self

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            match = re.search(r" ready (node=.*)", self.log)
            if match:
                self.places = dict(pair.split("=", 1) for pair in match[1].split())
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(f"the daemon did not get ready:\n{self.log}")

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self.log_path.read_text(errors="replace")

    def address(self, name: str) -> tuple[str, int]:
        """Host and port of a listening place."""
        host, port = self.places[name].rsplit(":", 1)
        return host, int(port)

    def url(self, path: str) -> str:
        """An URL of the HTTP port."""
        return f"http://{self.places['http']}{path}"

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and body of a GET, the body decoded where it is JSON."""
        request = urllib.request.Request(self.url(path), headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                status, body, kind = answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            status, body, kind = error.code, error.read(), error.headers["Content-Type"]
        return status, json.loads(body) if kind.startswith("application/json") else body.decode()

    def metric(self, name: str) -> float:
        """The value of one sample, named with its labels as on the page."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(name + " "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {name}")

    def memory_bytes(self) -> int:
        """What the process has in memory (RSS)."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def terminate(self, timeout: float = END_SECONDS) -> int:
        """Send SIGTERM and return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        try:
            if self.process.poll() is None:
                self.terminate()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            log = self.log
            self._directory.cleanup()
        if error is None:
            assert self.process.returncode == 0, f"the daemon ended with {self.process.returncode}:\n{log}"
            assert "Traceback" not in log, f"the daemon logged a failure:\n{log}"


def run_until_exit(config_text: str, seconds: float = END_SECONDS) -> tuple[int, str, str]:
    """Start a daemon that is expected to end by itself.

    :returns: exit status, standard output, standard error.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "meshrelay.toml"
        path.write_text(config_text)
        done = subprocess.run(
            [*_twistd(), "meshrelay", "--config", str(path)],
            capture_output=True,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=seconds,
            check=False,
        )
    return done.returncode, done.stdout.decode(), done.stderr.decode()
