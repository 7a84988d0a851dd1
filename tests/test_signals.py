"""What a daemon does when it is told something by signal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.error import ReactorNotRunning
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay import node_parts
from meshrelay.config.schema import Config, SessionConfig
from meshrelay.errors import ConfigError, ConfigProblem
from meshrelay.service import make_service
from meshrelay.signals import handle_signals
from meshrelay.transport.service_manager import ServiceManager


class SignalReactor(MemoryReactorClock):
    """Does what other threads ask for when its turn comes."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.stops = 0

    def callFromThread(self, function: Callable[..., object], *arguments: object) -> None:
        """See `IReactorFromThreads`."""
        self.asked.append((function, arguments))

    def stop(self) -> None:
        """See `IReactorCore`."""
        self.stops += 1

    def turn(self) -> None:
        """Let one turn pass."""
        asked, self.asked = self.asked, []
        for function, arguments in asked:
            function(*arguments)


class SignalTests(SynchronousTestCase):
    """A node whose process gets real signals."""

    def setUp(self) -> None:
        """A node that runs; its ports are off."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.before = signal.getsignal(signal.SIGTERM)
        self.patch(node_parts, "raise_open_files_limit", lambda: 1000)
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.reactor = SignalReactor()
        top: MultiService = make_service(Config(), self.reactor)
        self.node: Any = top.getServiceNamed("node")
        self.answers: list[Config | ConfigError] = []
        handle_signals(self.reactor, top, self.read_config)

    def read_config(self) -> Config:
        """Return or raise what the test has prepared."""
        answer = self.answers.pop(0)
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    def send(self, number: signal.Signals) -> None:
        """Send this process a signal, and let the reactor come round."""
        signal.raise_signal(number)
        self.reactor.turn()

    def log(self) -> list[str]:
        """Everything that was logged."""
        return [formatEvent(event) for event in self.observer]

    def run_reactor(self) -> None:
        """Let the reactor say that it runs."""
        for function, arguments, named in self.reactor.whenRunningHooks:
            function(*arguments, **named)

    def test_only_when_running(self) -> None:
        """Handlers are set when the reactor runs: it sets its own just before, and they must not win."""
        self.assertEqual(signal.getsignal(signal.SIGTERM), self.before)
        self.run_reactor()
        self.assertNotEqual(signal.getsignal(signal.SIGTERM), self.before)

    def test_not_inside_a_turn(self) -> None:
        """A signal is acted on in a turn of the reactor, never in the middle of whatever runs."""
        self.run_reactor()
        signal.raise_signal(signal.SIGTERM)
        self.assertEqual(self.reactor.stops, 0)
        self.reactor.turn()
        self.assertEqual(self.reactor.stops, 1)

    def stop_by(self, number: signal.Signals) -> None:
        """Check that one signal stops the node in order."""
        self.run_reactor()
        self.send(number)
        self.assertEqual(self.reactor.stops, 1)
        self.assertIn(f"{number.name}: stopping", self.log())

    def test_sigterm(self) -> None:
        """SIGTERM stops the reactor, which drains the node; the log names the signal."""
        self.stop_by(signal.SIGTERM)

    def test_sigint(self) -> None:
        """So does Ctrl-C."""
        self.stop_by(signal.SIGINT)

    def test_second(self) -> None:
        """The second one does not wait for clients, and does not stop the reactor again, which would raise."""
        self.run_reactor()
        self.node.reception.lingering.add("a client that does not close")
        self.send(signal.SIGTERM)
        stopped = self.node.stopService()
        self.assertNoResult(stopped)
        self.send(signal.SIGINT)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.stops, 1)
        self.assertIn("SIGINT again: not waiting any longer", self.log())

    def test_drains_already(self) -> None:
        """A signal to a node that the admin API drains raises nothing; the next one does not wait for clients."""
        self.run_reactor()

        def refuse() -> None:
            raise ReactorNotRunning

        self.patch(self.reactor, "stop", refuse)
        self.node.reception.lingering.add("a client that does not close")
        stopped = self.node.stopService()
        self.send(signal.SIGTERM)
        self.assertNoResult(stopped)
        self.send(signal.SIGTERM)
        self.successResultOf(stopped)

    def test_second_before_the_drain(self) -> None:
        """A second one that comes before the drain has begun does no harm."""
        self.run_reactor()
        self.send(signal.SIGTERM)
        self.send(signal.SIGTERM)
        self.assertEqual(self.reactor.stops, 1)

    def test_reload(self) -> None:
        """SIGHUP reads the configuration again and applies it."""
        self.run_reactor()
        self.answers = [Config(session=SessionConfig(heartbeat_seconds=7.0))]
        self.send(signal.SIGHUP)
        self.assertEqual(self.node.reception.rules.heartbeat_seconds, 7.0)
        self.assertEqual(self.reactor.stops, 0)

    def test_reload_of_a_wrong_configuration(self) -> None:
        """A wrong configuration changes nothing, every problem is logged, and a later right one is applied."""
        self.run_reactor()
        problems = [ConfigProblem("session.outbox_bytes", "must be >= 1024"), ConfigProblem("lisen", "unknown section")]
        self.answers = [ConfigError(problems), Config(session=SessionConfig(heartbeat_seconds=7.0))]
        before = self.node.reception.rules
        self.send(signal.SIGHUP)
        self.assertEqual(self.node.reception.rules, before)
        log = "\n".join(self.log())
        for problem in problems:
            self.assertIn(f"SIGHUP: nothing changed: {problem}", log)
        self.send(signal.SIGHUP)
        self.assertEqual(self.node.reception.rules.heartbeat_seconds, 7.0)


class RecordingManager(ServiceManager):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def ready(self, places: str = "") -> None:
        """See `ServiceManager`."""
        self.told.append(f"ready {places}".strip())

    def reloading(self) -> None:
        """See `ServiceManager`."""
        self.told.append("reloading")

    def stopping(self) -> None:
        """See `ServiceManager`."""
        self.told.append("stopping")


class ManagerTests(SynchronousTestCase):
    """What the one who started the process is told."""

    def test_life(self) -> None:
        """Ready with the ready line, reloading and ready at SIGHUP even when the file is wrong, then stopping."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.patch(node_parts, "raise_open_files_limit", lambda: 1000)
        reactor = SignalReactor()
        top = make_service(Config(), reactor)
        manager = RecordingManager()

        def read() -> Config:
            raise ConfigError([ConfigProblem("node.id", "is wrong")])

        handle_signals(reactor, top, read, manager)
        for function, arguments, named in reactor.whenRunningHooks:
            function(*arguments, **named)
        node: Any = top.getServiceNamed("node")
        node.when_ready.callback("node=n1 tcp=127.0.0.1:7200")
        signal.raise_signal(signal.SIGHUP)
        reactor.turn()
        for function, arguments, named in reactor.triggers["before"]["shutdown"]:
            function(*arguments, **named)
        self.assertEqual(manager.told, ["ready node=n1 tcp=127.0.0.1:7200", "reloading", "ready", "stopping"])
