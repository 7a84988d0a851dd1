"""A program of others that a test drives by its standard input and output, from ``with`` to its end."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["DrivenProgram"]

STOP_SECONDS = 20.0


class DrivenProgram:
    """Expects a clean exit when it is told to end, and not before, unless it is killed. Its standard error is in `log`.

    :param name: what it is called when it ended badly; the beginning of its folder.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._directory = tempfile.TemporaryDirectory(prefix=f"{name}-")
        self._log_path = Path(self._directory.name) / "log"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._output_has_ended = False
        self._was_told = False
        self._killed = False
        self._reader_error: Exception | None = None
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.process = self._spawn()
        self._reader.start()
        try:
            self._started()
        except BaseException as error:
            self.kill()
            self.__exit__(type(error), error, None)
            raise
        return self

    def _spawn(self) -> subprocess.Popen[str]:
        """Start it; by `_popen`, wherever that is to run."""
        raise NotImplementedError

    def _popen(
        self, command: Sequence[str], environ: Mapping[str, str], directory: Path | None = None
    ) -> subprocess.Popen[str]:
        with self._log_path.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                errors="replace",
                cwd=directory,
                env=environ,
            )

    def _started(self) -> None:
        """Wait until it can be used."""

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                self._line_came(line)
        except Exception as error:  # noqa: BLE001
            # In a thread nobody would see it. What still comes has to be read: the program may wait for that.
            self._reader_error = error
            self.process.stdout.read()
        self._output_has_ended = True
        self._output_ended()

    def _line_came(self, line: str) -> None:
        """Take a line of its standard output; called in a thread."""
        raise NotImplementedError

    def _output_ended(self) -> None:
        """No more lines come; called in a thread."""
        raise NotImplementedError

    @property
    def log(self) -> str:
        """What it has written to its standard error so far."""
        return self._log_path.read_text(errors="replace")

    def stop(self) -> int:
        """End the program in the ordinary way, which takes leave of everybody, and return its exit status."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.allow_end()
        self.process.stdin.close()
        return self.process.wait(STOP_SECONDS)

    def allow_end(self) -> None:
        """From now on it may end by itself: it is about to be told so in its own words."""
        self._was_told = self._was_told or self._is_running()

    def _is_running(self) -> bool:
        assert self.process is not None
        # Who is ending closes its output first.
        return not self._output_has_ended and self.process.poll() is None

    def kill(self) -> None:
        """End the program at once: its connections break off."""
        assert self.process is not None
        # What had ended before was not killed: how it ended still counts.
        self._killed = self._killed or self._is_running()
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            if self.process.poll() is None:
                self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._reader.join(STOP_SECONDS)
            # Closing flushes, and a killed program takes nothing more.
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
            self.process.stdout.close()
            log = self.log
            self._directory.cleanup()
        if error is None:
            self._check(log)

    def _check(self, log: str) -> None:
        assert self.process is not None
        if not self._killed:
            assert self.process.returncode == 0, f"{self._name} ended with {self.process.returncode}:\n{log}"
            assert self._was_told, f"{self._name} ended before it was told to:\n{log}"
        assert self._reader_error is None, f"{self._name} said what was not understood: {self._reader_error!r}\n{log}"
        self._check_end()

    def _check_end(self) -> None:
        """Look at what else must hold once it has ended, killed or not."""
