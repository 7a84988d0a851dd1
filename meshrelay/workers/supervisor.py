"""The supervisor: a node without clients that holds the ports, the directory and the pages of all workers.

It says ready when every worker has, once, and is linked. From then on it is ready while any worker is.

Of a worker that died it does not wait to see it: it knows. It takes it out of the directory at once, so that nobody is
sent there, its users are looked for where they are remembered, and the next process can have its ID.
"""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport

from meshrelay.config.listening import parse_stream_place
from meshrelay.config.schema import Config
from meshrelay.errors import ConfigError, ConfigProblem
from meshrelay.http.console import Console
from meshrelay.http.console_live import LiveNode
from meshrelay.http.console_state import StateSources
from meshrelay.http.console_tickets import TICKET_KEY_BYTES
from meshrelay.http.metrics import metrics_text
from meshrelay.service import Node
from meshrelay.transport.shared_port import HeldPort, hold_port
from meshrelay.workers.console import AllWorkers, answer_pages
from meshrelay.workers.metrics import WorkerMetrics
from meshrelay.workers.plan import (
    MAX_DIRECTORY_BYTES,
    SHARED_PLACES,
    WorkerPlan,
    keep_what_needs_a_restart,
    supervisor_config,
    supervisor_id,
    worker_id,
    write_plan,
)
from meshrelay.workers.pool import CUT, RELOAD, WorkerPool
from meshrelay.workers.worker_process import WorkerExit, WorkerProcess, WorkerProtocol

__all__ = ["Supervisor", "SupervisorParts"]


@dataclass(frozen=True, slots=True)
class SupervisorParts:
    """What a supervisor takes from outside."""

    #: Starts the process of a worker, which is to read its plan from this path.
    launch: Callable[[WorkerProtocol, Path], IProcessTransport]
    #: Lets this process end with a status once the reactor has stopped.
    exit_with: Callable[[int], object]
    #: `random.uniform`.
    uniform: Callable[[float, float], float]
    #: A directory that does not exist; it is made at the start and removed at the end.
    directory: str


class Supervisor(Node):
    """See `Node`; `config` is what the operator wrote.

    :raises ConfigError: no worker could be made of it.
    """

    def __init__(self, config: Config, reactor: Any, parts: SupervisorParts) -> None:
        node_id = supervisor_id(config)
        self._ticket_key = secrets.token_bytes(TICKET_KEY_BYTES)
        super().__init__(supervisor_config(config, node_id, parts.directory), reactor, self._ticket_key)
        self._worker_config = config
        self._parts = parts
        self._held: dict[str, HeldPort] = {}
        self._worker_ids = [worker_id(node_id, index) for index in range(config.node.workers)]
        self._is_stopping = False
        self.pool = WorkerPool(config.node.workers, config.node.drain_seconds, reactor, self, self._make_worker)

    def _set_up_application(self) -> None:
        """See `Node`: applications, plug-ins included, are the workers', and so is every group."""

    def _metrics_of_all(self) -> Callable[[], Deferred[bytes]]:
        own_page = partial(metrics_text, self.metrics())
        return WorkerMetrics(self.cluster.nodes, self._reactor, self._worker_ids, self.node_id, own_page).page

    def _open_console(self, sources: StateSources) -> Console | None:
        nodes, directory = self.cluster.nodes, self.cluster.directory

        def widen(own: LiveNode) -> AllWorkers:
            # The directory of the workers, which is in this process, knows each group once.
            return AllWorkers(own, nodes, self._reactor, self._worker_ids, lambda: directory.statistics()["groups"])

        console = self.console.open(sources, self._websocket_place, self._dispatcher, widen)
        if console is not None:
            answer_pages(nodes, console)
        return console

    def _websocket_place(self, server_type: str, asked_host: str) -> tuple[str, str, int] | None:
        """Where pages of the console reach some worker; see `meshrelay.http.endpoint.Endpoints.place`."""
        held, listen = self._held.get("websocket"), self._worker_config.listen
        if held is None or server_type != "WS":
            return None
        is_tls = parse_stream_place(listen.websocket).kind in ("tls", "ssl")
        return "WSS" if is_tls else "WS", listen.advertised_host or asked_host, held.number

    def _is_starting(self) -> bool:
        return super()._is_starting() and not self._is_stopping

    def _listen(self) -> None:
        self._make_directory()
        try:
            super()._listen()
            for name in SHARED_PLACES:
                if place := getattr(self._worker_config.listen, name):
                    self._held[name] = hold_port(name, place)
            self._write_plans()
        except ConfigError:
            self._clean_up()
            raise

    def _ready(self) -> None:
        # Only now: before, twistd may still fork, and nobody would reap a process.
        if self.running:
            self.pool.start()

    def all_ready(self, places: Mapping[str, str]) -> None:
        """See `SupervisorOfPool`."""
        # This end of a link may come up a moment after the other one.
        self.cluster.settled(self._worker_ids).addCallback(lambda _: self._say_ready(places))

    def _say_ready(self, places: Mapping[str, str]) -> None:
        if self._is_stopping:
            return
        shown = {**places, **self.places.addresses()}
        # Where only processes of this supervisor link to.
        shown.pop("mesh", None)
        self._say_places(shown, is_ready=self.pool.ready_count > 0)

    def serving_changed(self, is_serving: bool) -> None:
        """See `SupervisorOfPool`."""
        self._is_ready = is_serving
        if not is_serving:
            self._log.error("no worker is ready")

    def worker_ended(self, index: int) -> None:
        """See `SupervisorOfPool`."""
        self._withdraw(self._worker_ids[index])

    def _withdraw(self, node_id: str) -> None:
        """Take a worker that has no process out of the directory, where it would stay until its lease ends."""
        for record in self.cluster.records():
            if record.node_id == node_id:
                # Fails only when the directory was stopped, and then nobody asks it any more.
                self.cluster.directory.withdraw_node(node_id, record.incarnation).addErrback(lambda _: None)

    def start_failed(self, end: WorkerExit) -> None:
        """See `SupervisorOfPool`: end as a single node would that cannot start."""
        if sys.__stderr__ is not None:
            sys.__stderr__.write(end.errors)
        self._parts.exit_with(1)
        # At once, and not only by stopService in the next turn: no worker is to be started again.
        self.pool.stop()
        self._reactor.stop()

    def reload(self, config: Config) -> None:
        """See `Node.reload`; the workers do the same."""
        super().reload(config)
        self._worker_config = keep_what_needs_a_restart(self._worker_config, config)
        self._write_plans()
        self.pool.tell(RELOAD)

    def cut_drain(self) -> None:
        """See `Node.cut_drain`; no worker waits either."""
        self.pool.tell(CUT)
        super().cut_drain()

    def stopService(self) -> Deferred[None]:
        """Let the workers drain, then stop like a node, which the others need until then.

        :returns: fires when all that is done.
        """
        self._is_ready = False
        self._is_stopping = True
        return Deferred.fromCoroutine(self._stop_after_workers())

    async def _stop_after_workers(self) -> None:
        await self.pool.stop()
        await super().stopService()
        self._clean_up()

    def _make_directory(self) -> None:
        directory = self._parts.directory
        try:
            if len(directory.encode()) > MAX_DIRECTORY_BYTES:
                raise OSError(f"the path is too long for the address of a socket: {directory}")
            Path(directory).mkdir(mode=0o700)
        except OSError as error:
            problem = f"no directory for the sockets of the workers (TMPDIR says where): {error}"
            raise ConfigError([ConfigProblem("node.workers", problem)]) from None

    def _plan(self, index: int) -> WorkerPlan:
        return WorkerPlan(
            index=index,
            supervisor_id=self.node_id,
            directory=self._parts.directory,
            shared_ports={name: held.number for name, held in self._held.items()},
            ticket_key=self._ticket_key,
            config=self._worker_config,
        )

    def _write_plans(self) -> None:
        for index in range(self._worker_config.node.workers):
            write_plan(self._plan(index))

    def _make_worker(self, index: int, pool: WorkerPool) -> WorkerProcess:
        launch = partial(self._launch, index)
        return WorkerProcess(f"w{index}", launch, self._reactor, self._parts.uniform, pool)

    def _launch(self, index: int, protocol: WorkerProtocol) -> IProcessTransport:
        plan = self._plan(index)
        # Again: what tidies up old files may have taken it since.
        write_plan(plan)
        # One that was killed has left it behind, and the next one could not listen there.
        plan.socket_path.unlink(missing_ok=True)
        # The last that it sent may have been read after its end.
        self._withdraw(plan.node_id)
        return self._parts.launch(protocol, plan.path)

    def _clean_up(self) -> None:
        for held in self._held.values():
            held.close()
        shutil.rmtree(self._parts.directory, ignore_errors=True)
