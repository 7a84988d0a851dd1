"""Perspective Broker under the links: the only place that knows ``twisted.spread``.

::

    socket --> BoundedBroker (guard, then banana) --proto_message--> NodeReference.remote_* --> IConnectionUser
    socket <-- BoundedBroker <--callRemote-- PbConnection <-- INodeConnection

PB has no bound on what a peer can make it build, no deadline and no heartbeat, and its answers may carry objects. So:
what comes in passes `BananaGuard`; of PB's messages only a call of one of five methods of one object with one string
of bytes, its answer and its error are taken; nothing but bytes goes out; deadlines and heartbeat are `mesh.strand`'s.
An error at the other end tells nothing (its own log does): it ends the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.spread import banana, jelly, pb
from zope.interface import implementer

from meshrelay.errors import RemoteProtocolError
from meshrelay.mesh.banana_guard import BananaGuard
from meshrelay.mesh.errors import LinkLost, LinkRefused
from meshrelay.mesh.interfaces import METHODS, Dial, IConnectionUser, INodeConnection
from meshrelay.mesh.rarely import Rarely
from meshrelay.mesh.tls import NodeCertificates, is_private_way, node_ids_of
from meshrelay.wire.node import Refusal, encode_refusal

__all__ = [
    "MAX_NOT_READY",
    "MAX_UNREAD_BYTES",
    "READY_SECONDS",
    "BoundedBroker",
    "NodeFactory",
    "NodeReference",
    "PbConnection",
    "dialer",
    "server_factory",
]

#: Bytes of answers that may wait for a peer that does not read; a window of batches is not counted, it has its bound.
MAX_UNREAD_BYTES = 4 * 1024 * 1024

#: Time for TLS and for agreeing on PB.
READY_SECONDS = 5.0

#: Connections on which that was not done yet; more are closed at once.
MAX_NOT_READY = 64

_ROOT = b"root"
_METHODS = frozenset(method.encode("ascii") for method in METHODS)

#: All that a malformed expression can make banana, jelly and PB raise.
_MALFORMED = (
    RemoteProtocolError,
    banana.BananaError,
    pb.ProtocolError,
    jelly.InsecureJelly,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)


class NodeReference(pb.Root):
    """The one object of this end that the other end can call."""

    def __init__(self, connection: PbConnection) -> None:
        self._connection = connection

    def remote_hello(self, data: bytes) -> Any:
        """Greeting: Hello, then Proof."""
        return self._connection.received("hello", data)

    def remote_batch(self, data: bytes) -> Any:
        """A batch; the answer acknowledges."""
        return self._connection.received("batch", data)

    def remote_call(self, data: bytes) -> Any:
        """A question."""
        return self._connection.received("call", data)

    def remote_ping(self, data: bytes) -> Any:
        """Are you there?"""
        return self._connection.received("ping", data)

    def remote_bye(self, data: bytes) -> Any:
        """The other end closes, and says why."""
        return self._connection.received("bye", data)


class BoundedBroker(pb.Broker):
    """A broker whose peer can make it hold a few megabytes at most."""

    #: A TCP, Unix or TLS one; the interfaces have no common name for what all of them can.
    transport: Any

    def __init__(self, is_client: bool, lost: Callable[[PbConnection, str], None]) -> None:
        # No class may cross the wire; a tuple of arguments must.
        security = jelly.SecurityOptions()
        security.allowTypes("tuple", "dictionary")
        pb.Broker.__init__(self, isClient=is_client, security=security)
        self._guard = BananaGuard()
        self._is_ended = False
        self.connection = PbConnection(self, lost)
        pb.Broker.setNameForLocal(self, _ROOT, NodeReference(self.connection))

    def connectionMade(self) -> None:
        """See `twisted.internet.protocol.Protocol`."""
        pb.Broker.connectionMade(self)
        if ITCPTransport.providedBy(self.transport):
            # Batches are made by the links; Nagle and late ACKs would hold each one up by up to 40 ms.
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self.connection, True)

    def dataReceived(self, chunk: bytes) -> None:
        """See `twisted.internet.protocol.Protocol`."""
        if not self._is_ended:
            self._take(chunk)

    def _take(self, data: bytes) -> None:
        self.connection.heard()
        try:
            self._guard.check(data)
            pb.Broker.dataReceived(self, data)
        except _MALFORMED as error:
            self.malformed(f"{type(error).__name__}: {error}")

    def malformed(self, problem: str) -> None:
        """The peer sent what no node sends: cut it off."""
        self.connection.abort(f"not the language of nodes: {problem}")

    def end(self) -> None:
        """Read nothing more."""
        self._is_ended = True
        self.buffer = b""
        self.listStack.clear()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `twisted.internet.protocol.Protocol`."""
        self.end()
        pb.Broker.connectionLost(self, reason)
        self.connection.lost(reason)

    def take_expression(self, sexp: Any) -> None:
        """Take one expression of PB: all but four kinds are refused."""
        if self._is_ended:
            return
        kind = sexp[0] if isinstance(sexp, list) and sexp else None
        if kind == b"message":
            self._check_message(*sexp[1:])
        elif kind == b"answer":
            self._check_answer(*sexp[1:])
        elif kind == b"error":
            raise RemoteProtocolError("an error inside the other node, its log has it")
        elif kind != b"version":
            raise RemoteProtocolError(f"expression {kind!r:.40}")
        pb.Broker.expressionReceived(self, sexp)

    # Banana's name for it.
    expressionReceived = take_expression

    def _check_message(self, number: Any, target: Any, name: Any, is_answered: Any, args: Any, keywords: Any) -> None:
        if type(number) is not int or target != _ROOT or name not in _METHODS or is_answered != 1:
            raise RemoteProtocolError(f"call of {name!r:.40}")
        if keywords != [b"dictionary"] or len(args) != 2 or args[0] != b"tuple" or type(args[1]) is not bytes:
            raise RemoteProtocolError(f"arguments of {name!r:.40}")

    def _check_answer(self, number: Any, answer: Any) -> None:
        if type(number) is not int or number not in (self.waitingForAnswers or ()) or type(answer) is not bytes:
            raise RemoteProtocolError("an answer to nothing, or not of bytes")


@implementer(INodeConnection, IPushProducer)
class PbConnection:
    """One connection as its strand sees it.

    :param lost_early: called when the connection ended before anybody used it.
    :ivar why: the first reason that we had to end it.
    """

    _log = Logger()

    def __init__(self, broker: BoundedBroker, lost_early: Callable[[PbConnection, str], None]) -> None:
        self._broker = broker
        self._lost_early = lost_early
        self._user: IConnectionUser | None = None
        self._is_lost = False
        self.why = ""
        self._is_paused = False
        self._unread_bytes = 0

    @property
    def peer(self) -> str:
        """See `INodeConnection`."""
        address: Any = self._broker.transport.getPeer()
        host = getattr(address, "host", None)
        if host is not None:
            return f"{host}:{address.port}"
        # The accepting end of a Unix socket has no name.
        return (getattr(address, "name", None) or b"unix").decode("utf-8", "replace")

    @property
    def names(self) -> tuple[str, ...] | None:
        """See `INodeConnection`."""
        certificate = getattr(self._broker.transport, "getPeerCertificate", lambda: None)()
        return None if certificate is None else node_ids_of(certificate.to_cryptography())

    def attach(self, user: IConnectionUser) -> None:
        """See `INodeConnection`."""
        self._user = user

    def heard(self) -> None:
        """Bytes arrived."""
        if self._user is not None:
            self._user.heard()

    def received(self, method: str, data: bytes) -> bytes | Deferred[bytes]:
        """The other end calls. Never raises, and the Deferred never fails."""
        if self._user is None:
            return b""
        # PB would send the text of what is raised to the peer.
        answer = maybeDeferred(self._user.received, method, data)
        return answer.addCallbacks(self._answer, self._failed)

    def _failed(self, failure: Failure) -> bytes:
        self._log.failure("a call of {peer} failed", failure=failure, peer=self.peer)
        self.abort("internal error")
        return b""

    def _answer(self, answer: bytes) -> bytes:
        if self._is_paused:
            self._unread_bytes += len(answer) + 16
            if self._unread_bytes > MAX_UNREAD_BYTES:
                self.abort("it asks and does not read the answers")
        return answer

    def call(self, method: str, data: bytes) -> Deferred[bytes]:
        """See `INodeConnection`."""
        try:
            answer: Deferred[bytes] = pb.Broker.remoteForName(self._broker, _ROOT).callRemote(method, data)
        except pb.DeadReferenceError:
            answer = Deferred()
            answer.errback(Failure(LinkLost("", "the connection is closed")))
            return answer
        return answer.addErrback(self._call_failed)

    def _call_failed(self, failure: Failure) -> Failure:
        if failure.check(pb.PBConnectionLost, pb.DeadReferenceError):
            return Failure(LinkLost("", self.why or "the connection was lost"))
        return failure

    def finish(self) -> None:
        """See `INodeConnection`."""
        if not self._is_lost:
            self._broker.transport.unregisterProducer()
            self._broker.transport.loseConnection()

    def abort(self, reason: str) -> None:
        """See `INodeConnection`."""
        if not self._is_lost:
            self.why = self.why or reason
            self._broker.end()
            self._broker.transport.abortConnection()

    def lost(self, failure: Failure) -> None:
        """The socket is closed."""
        self._is_lost = True
        user, self._user = self._user, None
        reason = self.why or _reason(failure)
        if user is not None:
            user.connection_lost(reason)
        else:
            self._lost_early(self, reason)

    def pauseProducing(self) -> None:
        """See `IPushProducer`: the peer does not read as fast as we write."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """See `IPushProducer`."""
        self._is_paused = False
        self._unread_bytes = 0

    def stopProducing(self) -> None:
        """See `IPushProducer`."""


def _reason(failure: Failure) -> str:
    """Tell why a connection ended in words fit for a log: OpenSSL's are lists of tuples."""
    value: Any = failure.value
    if type(value).__module__.startswith("OpenSSL") and value.args and isinstance(value.args[0], list):
        return "TLS: " + "; ".join(str(entry[-1]) for entry in value.args[0])
    return failure.getErrorMessage()


class NodeFactory(Factory):
    """Makes the brokers of one end.

    :param ready: called with each connection on which PB can be spoken.
    :param lost: called with each one that ended before, and why.
    :param insecure: True: links over loopback may be in the clear. A Unix socket may always; what leaves the
        machine never.
    :ivar refused: connections that ended before PB could be spoken.
    """

    noisy = False
    unsafeTracebacks = False
    _log = Logger()

    def __init__(
        self,
        is_client: bool,
        clock: IReactorTime,
        insecure: bool,
        ready: Callable[[PbConnection], None],
        lost: Callable[[PbConnection, str], None],
    ) -> None:
        self._is_client = is_client
        self._clock = clock
        self._insecure = insecure
        self._ready = ready
        self._lost = lost
        #: Connections that are not ready, and what cuts them off.
        self._waiting: dict[PbConnection, IDelayedCall] = {}
        self.refused = 0

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See `twisted.internet.protocol.Factory`."""
        if len(self._waiting) >= MAX_NOT_READY:
            self.refused += 1
            return None
        return self._build()

    def _build(self) -> BoundedBroker:
        broker = BoundedBroker(self._is_client, self._lost_early)
        # PB asks it for two things only.
        broker.factory = cast("Any", self)
        problem = f"nothing to talk about within {READY_SECONDS:g} seconds"
        late = self._clock.callLater(READY_SECONDS, broker.connection.abort, problem)
        self._waiting[broker.connection] = late
        return broker

    def broker_ready(self, broker: BoundedBroker) -> None:
        """Both ends agreed on PB."""
        connection = broker.connection
        self._over(connection)
        if connection.names is not None or is_private_way(broker.transport.getPeer(), self._insecure):
            self._ready(connection)
            return
        problem = f"a link in the clear with {connection.peer}"
        connection.call("bye", encode_refusal(Refusal.PLAIN, problem)).addErrback(lambda _: None)
        connection.why = str(LinkRefused(Refusal.PLAIN, problem))
        connection.finish()

    # PB's name for it, on either end.
    clientConnectionMade = broker_ready

    def _lost_early(self, connection: PbConnection, reason: str) -> None:
        self._over(connection)
        self.refused += 1
        self._lost(connection, reason)

    def _over(self, connection: PbConnection) -> None:
        late = self._waiting.pop(connection, None)
        if late is not None and late.active():
            late.cancel()


def server_factory(
    accepted: Callable[[INodeConnection], None],
    clock: IReactorTime,
    certificates: NodeCertificates | None,
    insecure: bool = False,
) -> IProtocolFactory:
    """Return what listens for other nodes, for any stream endpoint.

    :param accepted: `meshrelay.mesh.links.Links.accepted`.
    :param certificates: None = without TLS.
    :param insecure: links over loopback may be in the clear.
    """
    log = Logger(namespace=__name__)
    rarely = Rarely(clock)

    def lost(connection: PbConnection, reason: str) -> None:
        # The port of who dials is another one each time.
        if rarely.is_due(connection.peer.rpartition(":")[0]):
            log.warn("no link from {peer}: {reason}", peer=connection.peer, reason=reason)

    factory = NodeFactory(False, clock, insecure, accepted, lost)
    if certificates is None:
        return factory
    return TLSMemoryBIOFactory(certificates.for_server(), False, factory)


def dialer(
    endpoint: IStreamClientEndpoint,
    clock: IReactorTime,
    certificates: NodeCertificates | None,
    insecure: bool = False,
    host: str | None = None,
) -> Dial:
    """Return what opens a connection to one node.

    :param certificates: None = without TLS.
    :param host: what the certificate must be for, when it is not known which node will answer.
    """

    def dial() -> Deferred[INodeConnection]:
        brokers: list[BoundedBroker] = []

        def cancel(_: object) -> None:
            connecting.cancel()
            for broker in brokers:
                broker.connection.abort("given up")

        result: Deferred[INodeConnection] = Deferred(cancel)

        def ready(connection: PbConnection) -> None:
            if not result.called:
                result.callback(connection)

        def lost(connection: PbConnection, reason: str) -> None:
            if not result.called:
                result.errback(LinkLost("", reason))

        factory = NodeFactory(True, clock, insecure, ready, lost)
        way = endpoint if certificates is None else wrapClientTLS(certificates.for_client(host), endpoint)
        connecting: Deferred[Any] = way.connect(factory)
        connecting.addCallbacks(brokers.append, lambda failure: None if result.called else result.errback(failure))
        return result

    return dial
