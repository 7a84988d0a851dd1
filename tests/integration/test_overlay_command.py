"""``meshrelay overlay`` as processes, in the overlay of a daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest import TestCase

from meshrelay.peer_relay import Identity
from tests.integration.cluster import LOCAL
from tests.integration.daemon import Daemon
from tests.integration.test_direct import heard
from tests.integration.wire_clients import connect

SECONDS = 90.0
NOBODY = "55" * 20


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", "from meshrelay.cli import main; main()", "overlay", *arguments]


class CommandTests(TestCase):
    """The four commands, next to each other."""

    def setUp(self) -> None:
        """A daemon that is a bootstrap peer."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.daemon = stack.enter_context(
            Daemon({"overlay": {"listen": LOCAL, "key_file": str(self.directory / "key")}})
        )
        self.bootstrap = ("--bootstrap", f"ws://{self.daemon.places['overlay']}")
        self.daemon_id = self.daemon.get("/admin/overlay")[1]["id"]

    def run_command(self, name: str, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end: status, standard output, standard error."""
        done = subprocess.run(
            _command(name, *self.bootstrap, *arguments), capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def listen(self, *arguments: str) -> tuple[subprocess.Popen[str], str]:
        """Start a listener; returns it and its peer ID."""
        process = subprocess.Popen(
            _command("listen", *self.bootstrap, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, process)
        assert process.stderr is not None
        match = re.fullmatch(r"listening as ([0-9a-f]{40})\n", process.stderr.readline())
        assert match is not None
        return process, match[1]

    def end(self, process: subprocess.Popen[str]) -> None:
        """Leave nothing behind."""
        if process.poll() is None:
            process.kill()
        process.communicate()

    def test_send_and_listen(self) -> None:
        """What is sent is printed, text and JSON, with the sender, until there were as many as were asked for."""
        listener, peer_id = self.listen("--count", "2")
        key = str(self.directory / "sender")
        self.assertEqual(self.run_command("send", "--key-file", key, peer_id, "häuser\n"), (0, "", ""))
        self.assertEqual(self.run_command("send", "--key-file", key, "--json", peer_id, '{"a": [1]}'), (0, "", ""))
        out, err = listener.communicate(timeout=SECONDS)
        self.assertEqual((listener.returncode, err), (0, ""))
        first, second = map(json.loads, out.splitlines())
        self.assertEqual([first["data"], second["data"]], ["häuser\n", {"a": [1]}])
        self.assertEqual([first["is_verified"], second["is_verified"]], [True, True])
        # The key in the file makes the sender the same one in two processes.
        self.assertEqual(first["from"], second["from"])
        self.assertEqual(stat.S_IMODE(os.stat(key).st_mode), 0o600)

    def test_interrupted(self) -> None:
        """Ctrl-C ends a listener in peace."""
        listener, _ = self.listen()
        listener.send_signal(signal.SIGINT)
        out, err = listener.communicate(timeout=SECONDS)
        self.assertEqual((listener.returncode, out, err), (0, "", ""))

    def test_peers_and_trace(self) -> None:
        """Who is there, and by which way it is reached; the daemon proves who it is, and keeps its ID in a file."""
        _, peer_id = self.listen()
        status, out, err = self.run_command("peers", "--seconds", "1", "--json")
        self.assertEqual((status, err), (0, ""))
        found = {line["id"]: line for line in map(json.loads, out.splitlines())}
        self.assertLessEqual({self.daemon_id, peer_id}, set(found))
        self.assertTrue(found[self.daemon_id]["is_proved"])
        self.assertEqual(found[self.daemon_id]["transport"], "ws")
        status, out, err = self.run_command("trace", peer_id)
        self.assertEqual((status, err), (0, ""))
        *hops, summary = out.splitlines()
        self.assertEqual([hop.split()[1] for hop in hops[:2]], [peer_id, self.daemon_id])
        self.assertRegex(summary, r"^2 links, [0-9.]+ ms there and back$")

    def test_user(self) -> None:
        """A user of the daemon hears what is sent to the daemon for her."""
        ann = connect(self.daemon, "tcp", "ann")
        self.addCleanup(ann.close)
        key = str(self.directory / "me")
        me = Identity.load_or_create(key, os.urandom).peer_id.hex()
        text = json.dumps({"to": "ann", "data": "hello"})
        self.assertEqual(self.run_command("send", "--key-file", key, "--json", self.daemon_id, text), (0, "", ""))
        self.assertEqual(heard(ann), (f"peer:{me}", b"hello"))

    def test_errors(self) -> None:
        """What does not work ends with status 1 and one line that says why."""
        status, out, err = self.run_command("trace", NOBODY)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, f"meshrelay: {NOBODY} did not answer\n")
        for url, text in (
            ("ws://127.0.0.1:1", "could be reached within"),
            ("http://x", "http://x is no WebSocket URL"),
        ):
            done = subprocess.run(
                _command("peers", "--bootstrap", url), capture_output=True, text=True, timeout=SECONDS, check=False
            )
            self.assertEqual((url, done.returncode, done.stdout), (url, 1, ""))
            self.assertIn(text, done.stderr)
