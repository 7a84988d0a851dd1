"""Processes that live in memory only."""

from __future__ import annotations

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from meshrelay.workers.worker_process import READY_DESCRIPTOR, WorkerProtocol

__all__ = ["FakeProcess", "Launcher"]

READY = b'{"places": {"tcp": "127.0.0.1:7200"}}\n'


class FakeProcess:
    """What spawnProcess returns.

    :ivar told: what was written to its standard input.
    :ivar signals: the signals that it was sent.
    """

    def __init__(self, protocol: WorkerProtocol) -> None:
        self.protocol = protocol
        self.told = b""
        self.signals: list[str] = []
        self.is_alive = True
        self.are_pipes_closed = False
        protocol.makeConnection(self)

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        """See `IProcessTransport`."""
        assert descriptor == 0
        self.told += data

    def signalProcess(self, name: str) -> None:
        """See `IProcessTransport`."""
        if not self.is_alive:
            raise ProcessExitedAlready
        self.signals.append(name)

    def loseConnection(self) -> None:
        """See `IProcessTransport`."""
        self.are_pipes_closed = True

    def say_ready(self, data: bytes = READY) -> None:
        """The process writes where it says that it is ready."""
        self.protocol.childDataReceived(READY_DESCRIPTOR, data)

    def exit(self, status: int = 0, signal: int | None = None, are_pipes_open: bool = False) -> None:
        """The process ends.

        :param are_pipes_open: something that it has started holds its pipes.
        """
        self.is_alive = False
        done = status == 0 and signal is None
        reason = Failure(ProcessDone(0) if done else ProcessTerminated(None if signal else status, signal, 0))
        self.protocol.processExited(reason)
        if not are_pipes_open:
            self.protocol.processEnded(reason)


class Launcher:
    """Starts fake processes.

    :ivar started: all of them, oldest first.
    :ivar refuses: True: the system has no room for another process.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.started: list[FakeProcess] = []
        self.refuses = False

    def launch(self, protocol: WorkerProtocol) -> FakeProcess:
        """Start one."""
        if self.refuses:
            raise OSError("no room")
        self.started.append(FakeProcess(protocol))
        return self.started[-1]
