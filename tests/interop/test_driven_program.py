"""Programs of others that end badly, against tests that drive them: every such test has to fail.

The programs here are a few lines of Python each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue

from twisted.trial.unittest import SynchronousTestCase

from tests.interop import driven_program, netbird_programs, peer_relay_programs
from tests.interop.driven_program import DrivenProgram
from tests.interop.netbird_programs import NetBirdPeer, NetBirdServer, Programs
from tests.interop.peer_relay_programs import PeerProcess

#: Where a program is to be given up, and is: no test that passes waits for longer.
SHORT_SECONDS = 0.2
LONG_SECONDS = 30.0

READS_TO_ITS_END = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n"
ENDS_AT_ONCE = "print('ready', flush=True)\n"


class Tiny(DrivenProgram):
    """A program of a few lines that says so when it is ready."""

    def __init__(self, source: str) -> None:
        super().__init__("tiny")
        self._source = source
        self.lines: SimpleQueue[str | None] = SimpleQueue()

    def _spawn(self) -> subprocess.Popen[str]:
        return self._popen([sys.executable, "-c", self._source], os.environ)

    def _started(self) -> None:
        line = self.next_line()
        assert line == "ready", f"{line}\n{self.log}"

    def _line_came(self, line: str) -> None:
        if line.startswith("nonsense"):
            raise ValueError(line)
        self.lines.put(line.strip())

    def _output_ended(self) -> None:
        self.lines.put(None)

    def next_line(self) -> str | None:
        """Wait for the next line; None: no more come."""
        return self.lines.get(timeout=LONG_SECONDS)


class TinyPeers(PeerProcess):
    """A few lines in the place of a program that hosts peers."""

    def __init__(self, source: str, *, may_crash: bool = False) -> None:
        super().__init__(may_crash=may_crash)
        self._source = source

    def _command(self) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-c", self._source], {}


class EndTests(SynchronousTestCase):
    """How a program ends, and whether the test that drives it passes."""

    def run_tiny(self, source: str) -> Tiny:
        """Run a program to its end."""
        with Tiny(source) as program:
            pass
        return program

    def run_to_end(self, source: str) -> Tiny:
        """Run a program that ends by itself, and leave it only then."""
        with Tiny(source) as program:
            self.assertIsNone(program.next_line())
            assert program.process is not None
            program.process.wait(LONG_SECONDS)
        return program

    def check_fails(self, source: str, *wanted: str) -> None:
        """The end of a program that has ended by itself fails the test, in these words."""
        error = self.assertRaises(AssertionError, self.run_to_end, source)
        for text in wanted:
            self.assertIn(text, str(error))

    def test_clean(self) -> None:
        """A program that ends with 0 when it is told to passes, whether the test tells it or leaves that to the end."""
        self.run_tiny(READS_TO_ITS_END)
        with Tiny(READS_TO_ITS_END) as program:
            self.assertEqual(program.stop(), 0)

    def test_status(self) -> None:
        """Another exit status than 0 fails the test, with what the program wrote to its standard error."""
        failing = f"{READS_TO_ITS_END}sys.exit('what went wrong')"
        error = self.assertRaises(AssertionError, self.run_tiny, failing)
        self.assertIn("tiny ended with 1:\nwhat went wrong", str(error))

    def test_status_after_stop(self) -> None:
        """It does so as well where the test has stopped the program and did not look at the status."""
        with self.assertRaises(AssertionError), Tiny(f"{READS_TO_ITS_END}sys.exit(3)") as program:
            self.assertEqual(program.stop(), 3)

    def test_crash(self) -> None:
        """A program that dies of a signal or of an exception fails the test."""
        dying = f"import os, signal\n{ENDS_AT_ONCE}os.kill(os.getpid(), signal.SIGSEGV)"
        self.check_fails(dying, f"ended with {-signal.SIGSEGV}")
        self.check_fails(f"{ENDS_AT_ONCE}raise ValueError('a bug')", "ended with 1", "ValueError: a bug")

    def test_crash_then_killed(self) -> None:
        """Killing what has died already does not hide how it died."""
        with self.assertRaises(AssertionError), Tiny(f"{ENDS_AT_ONCE}raise SystemExit(4)") as program:
            self.assertIsNone(program.next_line())
            assert program.process is not None
            program.process.wait(LONG_SECONDS)
            program.kill()

    def test_early(self) -> None:
        """A program that ends before it was told to fails the test, also with status 0."""
        self.check_fails(ENDS_AT_ONCE, "ended before it was told to")

    def test_early_then_stopped(self) -> None:
        """Telling it to end when it has ended already is too late."""
        with self.assertRaises(AssertionError) as caught, Tiny(ENDS_AT_ONCE) as program:
            self.assertIsNone(program.next_line())
            assert program.process is not None
            program.process.wait(LONG_SECONDS)
            program.stop()
        self.assertIn("before it was told to", str(caught.exception))

    def test_allowed(self) -> None:
        """A program that is told to end in words of its own may end by itself."""
        with Tiny(f"{READS_TO_ITS_END}".replace("read()", "readline()")) as program:
            program.allow_end()
            assert program.process is not None
            assert program.process.stdin is not None
            program.process.stdin.write("end\n")
            program.process.stdin.flush()
            self.assertIsNone(program.next_line())
            program.process.wait(LONG_SECONDS)

    def test_killed(self) -> None:
        """A program that the test kills may end as it does."""
        with Tiny(READS_TO_ITS_END) as program:
            program.kill()
            assert program.process is not None
            self.assertEqual(program.process.returncode, -signal.SIGKILL)

    def test_never_ends(self) -> None:
        """A program that does not end when it is told to is killed, and fails the test."""
        self.patch(driven_program, "STOP_SECONDS", SHORT_SECONDS)
        program = Tiny(f"{READS_TO_ITS_END}import time\ntime.sleep({LONG_SECONDS})")
        with self.assertRaises(subprocess.TimeoutExpired), program:
            pass
        assert program.process is not None
        self.assertEqual(program.process.returncode, -signal.SIGKILL)

    def test_failed_test(self) -> None:
        """Where the test has failed by itself, its own error is the one that is seen, and the program is ended."""
        program = Tiny(f"{READS_TO_ITS_END}sys.exit(1)")
        with self.assertRaises(KeyError), program:
            raise KeyError
        assert program.process is not None
        self.assertEqual(program.process.returncode, 1)

    def test_not_understood(self) -> None:
        """A line that the test cannot read fails it, with the reason; the program is not left waiting for a reader."""
        much = "print('nonsense', flush=True)\nprint('x' * 1_000_000, flush=True)\n"
        error = self.assertRaises(AssertionError, self.run_tiny, f"print('ready')\n{much}import sys\nsys.stdin.read()")
        self.assertIn("ValueError('nonsense", str(error))

    def test_folder(self) -> None:
        """Nothing of a program is left on the disk, and what it wrote to its standard error can be read until then."""
        with Tiny(f"import sys\nprint('hello', file=sys.stderr, flush=True)\n{READS_TO_ITS_END}") as program:
            self.assertEqual(program.log, "hello\n")
            folder = Path(program._directory.name)
            self.assertTrue(folder.exists())
        self.assertFalse(folder.exists())


class StartTests(SynchronousTestCase):
    """Programs that do not get ready."""

    def check(self, program: DrivenProgram, wanted: str = "") -> None:
        """The program fails the test before it begins, with what it wrote, and is not left behind."""
        with self.assertRaises(AssertionError) as caught, program:
            self.fail("begun")
        self.assertIn(wanted, str(caught.exception))
        assert program.process is not None
        self.assertIsNotNone(program.process.poll())

    def netbird(self, source: str) -> None:
        """Put a few lines in the place of NetBird's programs."""
        script = Path(self.mktemp())
        script.write_text(f"#!{sys.executable}\n{source}")
        script.chmod(0o700)
        self.patch(netbird_programs, "programs", lambda: Programs(script.resolve(), script.resolve()))

    def test_ends_instead(self) -> None:
        """A program that ends instead of getting ready is told with its last words."""
        dying = "import sys\nsys.exit('no port')"
        self.netbird(dying)
        self.check(Tiny(dying), "no port")
        self.check(TinyPeers(dying), "no port")
        self.check(NetBirdServer(), "no port")

    def test_never_ready(self) -> None:
        """A program that never says that it is ready is given up, and killed."""
        silent = f"import time\ntime.sleep({LONG_SECONDS})"
        self.netbird(silent)
        for module in (peer_relay_programs, netbird_programs):
            self.patch(module, "START_SECONDS", SHORT_SECONDS)
        self.check(TinyPeers(silent), "no ready within")
        self.check(NetBirdServer(), "did not get ready")

    def test_says_something_else(self) -> None:
        """A program that begins with something else is not ready."""
        self.netbird("print('redy 1', flush=True)\nimport sys\nsys.stdin.read()")
        self.check(NetBirdServer(), "did not get ready")


class CommandTests(SynchronousTestCase):
    """Programs that end or fall silent while a test waits for them."""

    READY = "import json, sys\nprint(json.dumps({'event': 'ready'}), flush=True)\n"

    def check_asked(self, program: TinyPeers | NetBirdPeer) -> None:
        """Asking for something fails at once, each time, and so does the end."""
        with self.assertRaises(AssertionError) as caught, program:
            for _ in range(2):
                error = self.assertRaises(AssertionError, program.ask, "state", timeout=LONG_SECONDS)
                self.assertRegex(str(error), "has ended|ended: True")
        self.assertIn("before it was told to", str(caught.exception))

    def test_ends_when_asked(self) -> None:
        """A program that ends instead of answering fails whoever asked, and the test even if nobody minds."""
        line = "import sys\nsys.stdin.readline()"
        script = Path(self.mktemp())
        script.write_text(f"#!{sys.executable}\n{line}")
        script.chmod(0o700)
        self.patch(netbird_programs, "programs", lambda: Programs(script.resolve(), script.resolve()))
        self.check_asked(TinyPeers(f"{self.READY}{line}"))
        self.check_asked(NetBirdPeer("alice", "rel://127.0.0.1:1"))

    def test_silent(self) -> None:
        """A program that does not answer fails whoever asked, after a while."""
        with TinyPeers(f"{self.READY}sys.stdin.read()") as program:
            error = self.assertRaises(AssertionError, program.ask, "state", timeout=SHORT_SECONDS)
            self.assertIn("no answer within", str(error))
            error = self.assertRaises(AssertionError, program.wait_event, "linked", lambda event: True, SHORT_SECONDS)
            self.assertIn("no linked within", str(error))

    def test_told_of_a_crash(self) -> None:
        """A crash that a program of peers has survived and told of fails the test, unless the test is about crashes."""
        crashed = "print(json.dumps({'event': 'crashed', 'error': 'TypeError: it'}), flush=True)\nsys.stdin.read()"
        with self.assertRaises(AssertionError) as caught, TinyPeers(f"{self.READY}{crashed}") as program:
            program.wait_event("crashed", lambda event: True, LONG_SECONDS)
        self.assertEqual(str(caught.exception), "TypeError: it")
        with TinyPeers(f"{self.READY}{crashed}", may_crash=True) as program:
            program.wait_event("crashed", lambda event: True, LONG_SECONDS)

    def test_told_of_a_crash_and_killed(self) -> None:
        """Killing the program does not hide such a crash."""
        crashed = "print(json.dumps({'event': 'crashed', 'error': 'TypeError: it'}), flush=True)\nsys.stdin.read()"
        with self.assertRaises(AssertionError), TinyPeers(f"{self.READY}{crashed}") as program:
            program.wait_event("crashed", lambda event: True, LONG_SECONDS)
            program.kill()
