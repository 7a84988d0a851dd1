"""The console of a node with workers: a supervisor and two workers in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher

from meshrelay.errors import ErrorCode, InternalError, MalformedFrame
from meshrelay.http.console import Console
from meshrelay.mesh.errors import LinkLost
from meshrelay.wire.commands import Command
from meshrelay.workers import console as workers_console
from meshrelay.workers.console import (
    ANSWER_SECONDS,
    PART_CALL,
    STATE_CALL,
    STATE_SECONDS,
    AllWorkers,
    OfSupervisor,
    answer_pages,
    answer_parts,
    share_tickets,
)
from tests.http.console_kit import WATCH, ConsoleTestCase


class Wires:
    """Calls between processes in memory; which are silent or gone the test says."""

    def __init__(self) -> None:
        self.handlers: dict[tuple[str, str], Callable[[str, bytes], Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.silent: set[str] = set()
        self.gone: set[str] = set()

    def of(self, node_id: str) -> Any:
        """The other nodes as this one sees them."""
        return _End(self, node_id)


class _End:
    def __init__(self, wires: Wires, node_id: str) -> None:
        self._wires = wires
        self._node_id = node_id

    def call(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """See `INodes`."""
        self._wires.calls.append((node_id, name))
        if node_id in self._wires.gone:
            return fail(LinkLost(node_id, "it is gone"))
        if node_id in self._wires.silent:
            return Deferred()
        return maybeDeferred(self._wires.handlers[node_id, name], self._node_id, payload)

    def answer(self, name: str, handler: Callable[[str, bytes], Any]) -> None:
        """See `INodes`."""
        self._wires.handlers[self._node_id, name] = handler


class WorkersTestCase(ConsoleTestCase):
    """The node of the kit is both workers; the supervisor has nobody."""

    def setUp(self) -> None:
        """Link them."""
        super().setUp()
        self.wires = Wires()
        self.all: AllWorkers
        self.supervisor = self.make_console(self.sources, self.widen)
        self.supervisor.history.startService()
        answer_pages(self.wires.of("s"), self.supervisor)
        part = self.sources._replace(read_cluster=None)
        self.worker = self.make_console(part, lambda own: OfSupervisor(self.wires.of("w0"), self.clock, "s"))
        for node_id in ("w0", "w1"):
            answer_parts(self.wires.of(node_id), self.worker)
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)

    def widen(self, own: Any) -> AllWorkers:
        """Make what the supervisor shows."""
        self.all = AllWorkers(own, self.wires.of("s"), self.clock, ["w0", "w1"], lambda: 4)
        return self.all


class AllWorkersTests(WorkersTestCase):
    """What the supervisor tells of all."""

    def state(self) -> Any:
        """What a page by HTTP is told."""
        return json.loads(self.successResultOf(self.all.state(0)))

    def test_sum(self) -> None:
        """The page shows all processes as one, and asks each once however many ask within a second."""
        self.node.sign_in("ann")
        for _ in range(3):
            state = self.state()
        self.assertEqual((state["users"]["count"], state["groups"]["count"]), (3, 4))
        self.assertEqual(self.wires.calls, [("w0", PART_CALL), ("w1", PART_CALL)])
        self.clock.advance(1)
        self.state()
        self.assertEqual(len(self.wires.calls), 4)

    def test_past(self) -> None:
        """The past of all is told as if it were one, and asked for piece by piece."""
        self.node.sign_in("ann")
        self.worker.history.startService()
        for _ in range(3):
            self.seconds(1)
            told = json.loads(self.successResultOf(self.all.everything(0)))
        at = told["columns"].index("sessions")
        # The session is counted by the supervisor and both workers, which are the same node here.
        self.assertEqual([sample[at] for sample in told["samples"]], [3, 3, 3])
        self.assertEqual([len(past) for past in self.all._pasts.values()], [3, 3])
        self.assertEqual(told["state"]["sample"], told["samples"][-1])

    def test_at_the_same_time(self) -> None:
        """Who asks while an answer is on its way gets the same one."""
        self.wires.silent = {"w1"}
        waiting = [self.all.state(0), self.all.everything(0)]
        for each in waiting:
            self.assertNoResult(each)
        self.assertEqual(len(self.wires.calls), 2)
        self.clock.advance(ANSWER_SECONDS)
        for each in waiting:
            self.successResultOf(each)

    def test_given_up(self) -> None:
        """Who does not wait any longer takes nothing from the others."""
        self.wires.silent = {"w1"}
        impatient, patient = self.all.state(0), self.all.state(0)
        impatient.cancel()
        self.failureResultOf(impatient)
        self.clock.advance(ANSWER_SECONDS)
        self.successResultOf(patient)

    def test_silent_worker(self) -> None:
        """A worker that does not answer, is gone or talks nonsense is left out, and the log says so."""
        self.node.sign_in("ann")
        self.wires.silent = {"w1"}
        coming = self.all.state(0)
        self.clock.advance(ANSWER_SECONDS)
        self.assertEqual(json.loads(self.successResultOf(coming))["users"]["count"], 2)
        self.wires.silent, self.wires.gone = set(), {"w1"}
        self.clock.advance(1)
        self.assertEqual(self.state()["users"]["count"], 2)
        self.wires.gone = set()
        for nonsense in (b"", b"{}", b'{"state": 1, "samples": []}'):
            self.wires.of("w1").answer(PART_CALL, lambda node_id, payload, answer=nonsense: answer)
            self.clock.advance(1)
            self.assertEqual(self.state()["users"]["count"], 2)
        logged = [str(formatEvent(event)) for event in self.observer]
        self.assertEqual(len([line for line in logged if line.startswith("w1 tells the console nothing")]), 5)

    def test_bug(self) -> None:
        """What goes wrong while adding up is logged and costs that one answer."""

        def broken(*arguments: Any) -> Any:
            raise ZeroDivisionError

        self.patch(workers_console, "sum_states", broken)
        self.failureResultOf(self.all.state(0), InternalError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.patch(workers_console, "sum_states", lambda own, parts, sample, count: dict(own))
        self.assertEqual(self.state()["node"], "n1")

    def test_nonsense(self) -> None:
        """Questions that are none are refused."""
        for node_id, name in (("w0", PART_CALL), ("s", STATE_CALL)):
            self.assertRaises(MalformedFrame, self.wires.handlers[node_id, name], "x", b"{")


class OfSupervisorTests(WorkersTestCase):
    """A page whose WebSocket is at a worker."""

    def open(self) -> Any:
        """Sign a console in at the worker."""
        # In the place of the feed that the kit has registered.
        self.node.dispatcher._table[1, Command.CONSOLE_WATCH] = self.worker.feed.command_table()[
            1, Command.CONSOLE_WATCH
        ]
        return self.open_console()

    def test_page(self) -> None:
        """It is told and pushed what the supervisor says of all, and stands among the consoles."""
        self.node.sign_in("ann")
        client = self.open()
        answer = self.watch(client)
        self.assertEqual((answer["state"]["users"]["count"], answer["state"]["cluster"]["count"]), (6, 1))
        self.seconds(3)
        states = self.states(client)
        self.assertEqual(([state["users"]["count"] for state in states], states[-1]["consoles"]), ([6, 6, 6], 2))

    def test_supervisor_away(self) -> None:
        """While the supervisor does not answer the page stands still, and a new one is told to try again."""
        client = self.open()
        self.watch(client)
        self.wires.gone = {"s"}
        self.seconds(2)
        self.assertEqual(self.states(client), [])
        late = self.open_console()
        self.assertEqual(late.refusal(Command.CONSOLE_WATCH, WATCH)[1], ErrorCode.TIMED_OUT)
        self.assertEqual(self.worker.feed.watcher_count, 1)
        self.wires.gone = set()
        self.seconds(1)
        self.assertEqual(len(self.states(client)), 1)

    def test_slow_supervisor(self) -> None:
        """A supervisor that takes long is asked for one state at a time."""
        client = self.open()
        self.watch(client)
        self.wires.calls.clear()
        self.wires.silent = {"s"}
        self.seconds(int(STATE_SECONDS))
        self.assertEqual([call for call in self.wires.calls if call[0] == "s"], [("s", STATE_CALL)])

    def test_tickets(self) -> None:
        """A ticket that was used at one worker is void at the others; one that is away takes nothing from it."""
        consoles: list[Console] = []
        for node_id, others in (("w0", ["w1", "w2"]), ("w1", ["w0", "w2"])):
            console = self.make_console(self.sources, tickets=self.tickets_of(node_id))
            share_tickets(self.wires.of(node_id), console.tickets, others)
            consoles.append(console)
        self.wires.gone = {"w2"}
        one, two = (console.tickets for console in consoles)
        ticket = one.issue()
        self.assertEqual(two.redeem(ticket.token), ticket.user)
        self.assertIsNone(one.redeem(ticket.token))
