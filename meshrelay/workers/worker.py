"""A worker: the node inside a process that a supervisor has started, and the leash between the two.

::

    supervisor --"cut", "reload", end of file--> standard input --> Leash --> WorkerNode
    supervisor <--{"places": {...}}------------- descriptor 3 <---- Leash <-- WorkerNode, when it is ready
    supervisor <--"alive"----------------------- descriptor 3 <---- Leash <-- WorkerNode, while it comes round
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from twisted.application.service import MultiService
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import stop_reactor
from meshrelay.errors import ConfigError
from meshrelay.http.console import Console
from meshrelay.http.console_state import StateSources
from meshrelay.http.metrics import make_registry, metrics_text
from meshrelay.service import Node
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.workers.console import OfSupervisor, answer_parts, share_tickets
from meshrelay.workers.metrics import answer_metrics
from meshrelay.workers.output import STANDARD_ERROR, STANDARD_OUTPUT, LineCutter
from meshrelay.workers.plan import WorkerPlan, read_plan
from meshrelay.workers.pool import CUT, RELOAD
from meshrelay.workers.worker_process import BEAT, BEAT_SECONDS, READY_DESCRIPTOR, ReadyWorker

__all__ = ["Leash", "WorkerNode", "make_worker"]

_STANDARD_INPUT = 0


class Leash(Protocol):
    """What the supervisor tells, and what it is told.

    :param commands: what each line does.
    :param cut_loose: called once, when the supervisor is dead.
    """

    _log = Logger()

    def __init__(self, commands: Mapping[str, Callable[[], object]], cut_loose: Callable[[], object]) -> None:
        self._commands = commands
        self._cut_loose = cut_loose
        self._lines = LineCutter(self._line_received)

    def dataReceived(self, data: bytes) -> None:
        """See `Protocol`."""
        self._lines.data_received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `Protocol`: the end of standard input."""
        self._cut_loose()

    def say_ready(self, places: Mapping[str, str]) -> None:
        """Tell the supervisor that clients can come."""
        self._say(msgspec.json.encode(ReadyWorker(dict(places))))

    def say_alive(self) -> None:
        """Tell the supervisor that this process comes round."""
        self._say(BEAT.encode())

    def _say(self, line: bytes) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.write(line + b"\n")

    def _line_received(self, line: str) -> None:
        command = self._commands.get(line)
        if command is None:
            self._log.error("the supervisor says {line}, which means nothing here", line=line)
        else:
            command()


class WorkerNode(Node):
    """See `Node`.

    :param connect: connects the leash to the process's own descriptors.
    """

    def __init__(self, plan: WorkerPlan, reactor: Any, connect: Callable[[Leash], object]) -> None:
        super().__init__(plan.worker_config(), reactor, plan.ticket_key)
        self.places = ListeningPlaces(reactor, plan.shared_ports)
        self._plan = plan
        self._connect = connect
        commands = {CUT.decode(): super().cut_drain, RELOAD.decode(): self._read_plan_again}
        self._leash = Leash(commands, self._cut_loose)

    def _listen(self) -> None:
        super()._listen()
        answer_metrics(self.cluster.nodes, partial(metrics_text, make_registry(self._metric_sources())))
        self._connect(self._leash)

    def _open_console(self, sources: StateSources) -> Console | None:
        nodes = self.cluster.nodes
        supervisor = OfSupervisor(nodes, self._reactor, self._plan.supervisor_id)
        part = sources._replace(read_cluster=None)
        console = self.console.open(part, self.place, self._dispatcher, lambda own: supervisor)
        if console is not None:
            answer_parts(nodes, console)
            share_tickets(nodes, console.tickets, self._plan.other_ids)
        return console

    def _ready(self) -> None:
        # Linked by now. The supervisor says it for all: programs wait for the one line that begins with "ready".
        if self.running:
            self._is_ready = True
            self._leash.say_ready(self.places.addresses())
            self._beat()

    def _beat(self) -> None:
        # To the end of the process: one that drains comes round as well.
        self._leash.say_alive()
        self._reactor.callLater(BEAT_SECONDS, self._beat)

    def cut_drain(self) -> None:
        """Do nothing: a service manager sends its signal to every process of a service, and the supervisor one more.

        Who wants the drain cut tells the supervisor.
        """

    def _read_plan_again(self) -> None:
        try:
            self.reload(read_plan(str(self._plan.path)).worker_config())
        except ConfigError as error:
            for problem in error.problems:
                self._log.error("reload: nothing changed: {problem}", problem=problem)

    def _cut_loose(self) -> None:
        """The supervisor is dead: nobody reads the log, starts others again or tells where users are. Drain and end."""
        if not self.running:
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (STANDARD_OUTPUT, STANDARD_ERROR):
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
        # Sockets that are connected stay so without their files.
        shutil.rmtree(self._plan.directory, ignore_errors=True)
        stop_reactor(self._reactor)


def make_worker(plan_path: str, reactor: Any) -> MultiService:
    """Build the node of a worker.

    :param plan_path: what the supervisor has written for it.
    :raises ConfigError: the plan cannot be read, or a file that the configuration names cannot be used.
    """
    top = MultiService()

    def connect(leash: Leash) -> StandardIO:
        return StandardIO(leash, _STANDARD_INPUT, READY_DESCRIPTOR, reactor)  # type: ignore[call-arg]

    node = WorkerNode(read_plan(plan_path), reactor, connect)
    node.setName("node")  # type: ignore[no-untyped-call]
    node.setServiceParent(top)  # type: ignore[no-untyped-call]
    return top
