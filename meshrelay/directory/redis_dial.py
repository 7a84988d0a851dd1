"""One signed-in connection to the Redis server that takes writes, on the protocol classes of txredisapi.

Only its protocols are used: its pools and its Sentinel client bind to the global reactor, wait without a deadline and
come back in lockstep; `meshrelay.directory.redis_link` does that part.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.redis_url import RedisPlace, parse_redis_url
from meshrelay.errors import ConfigError, ConfigProblem

__all__ = [
    "CONNECT_ERRORS",
    "EndpointMaker",
    "Prepare",
    "RedisConnection",
    "RedisDialer",
    "TlsMaker",
    "default_tls",
    "load_redis_library",
    "make_endpoints",
    "open_dialer",
]

#: ``make(host, port)`` -> where to connect to.
EndpointMaker: TypeAlias = Callable[[str, int], IStreamClientEndpoint]
#: ``make(host)`` -> how to check the server called so, and what to show it.
TlsMaker: TypeAlias = Callable[[str], IOpenSSLClientConnectionCreator]
#: ``prepare(protocol)`` does what a connection needs after the sign-in.
Prepare: TypeAlias = Callable[[Any], Awaitable[object]]

#: What a connection may fail with that is nobody's bug.
CONNECT_ERRORS = (OSError, ConnectError, ConnectionClosed, DNSLookupError, DeferredTimeoutError)

#: Sentinels are asked one after another; each has this part of the time for the whole connection.
_SENTINEL_SHARE = 0.25


def load_redis_library() -> Any:
    """Import txredisapi, late: the module chooses the reactor where none is chosen yet.

    :raises ConfigError: it is not installed.
    """
    try:
        return import_module("txredisapi")
    except ImportError:
        problem = "needs txredisapi: pip install 'meshrelay[redis]'"
        raise ConfigError([ConfigProblem("mesh.directory", problem)]) from None


def make_endpoints(reactor: Any, timeout_seconds: float, tls: TlsMaker | None = None) -> EndpointMaker:
    """Endpoints on real sockets.

    :param tls: None = in the clear.
    """

    def make(host: str, port: int) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = HostnameEndpoint(reactor, host, port, timeout=timeout_seconds)
        return endpoint if tls is None else wrapClientTLS(tls(host), endpoint)

    return make


def default_tls(host: str) -> IOpenSSLClientConnectionCreator:
    """Trust the authorities of the platform, show no certificate."""
    return optionsForClientTLS(host)


def open_dialer(reactor: Any, url: str, timeout_seconds: float, tls: TlsMaker | None = None) -> tuple[RedisDialer, Any]:
    """Return what connects to the server of a URL, and txredisapi; nothing is connected yet.

    :param url: see `meshrelay.directory.redis_url`.
    :param tls: used when the URL says TLS; None = trust the authorities of the platform.
    :raises ConfigError: the URL is wrong, or txredisapi is not installed.
    """
    place = parse_redis_url(url)
    library = load_redis_library()
    endpoints = make_endpoints(reactor, timeout_seconds, (tls or default_tls) if place.is_tls else None)
    return RedisDialer(reactor, library, place, endpoints, timeout_seconds), library


@dataclass(frozen=True, slots=True)
class RedisConnection:
    """A connection that is ready for commands.

    :ivar protocol: a RedisProtocol or SubscriberProtocol of txredisapi; strings come out as bytes.
    :ivar address: of the server.
    :ivar run_id: names the life of the server process; empty when this user may not see it.
    """

    protocol: Any
    address: tuple[str, int]
    run_id: str


class RedisDialer:
    """Makes connections; each call of `connect` makes one.

    :param library: what `load_redis_library` returned.
    :param timeout_seconds: the time that the caller gives to `connect`; it sets that deadline, not the dialer.
    """

    def __init__(
        self, clock: IReactorTime, library: Any, place: RedisPlace, endpoints: EndpointMaker, timeout_seconds: float
    ) -> None:
        self._clock = clock
        self._library = library
        self._place = place
        self._endpoints = endpoints
        self._timeout_seconds = timeout_seconds
        #: The Sentinel to ask first: the last one that knew an answer.
        self._first_sentinel = 0

    async def connect(self, protocol_class: Any, prepare: Prepare | None = None) -> RedisConnection:
        """Connect to the master and sign in. Cancelling closes what is open.

        :param protocol_class: RedisProtocol or SubscriberProtocol of txredisapi.
        :raises DirectoryUnavailable: no master is known, or it did not let us in.
        """
        host, port = await self.find_master()
        protocol = await self._open(protocol_class, host, port)
        is_ready = False
        try:
            run_id = await self._sign_in(protocol)
            if prepare is not None:
                await prepare(protocol)
            is_ready = True
        finally:
            # Not an except: a cancelled attempt must not leave a connection behind, either.
            if not is_ready:
                protocol.transport.abortConnection()
        return RedisConnection(protocol, (host, port), run_id)

    async def find_master(self) -> tuple[str, int]:
        """Where writes go, as Sentinel says it now or the configuration said it.

        :raises DirectoryUnavailable: no Sentinel knows.
        """
        addresses = self._place.addresses
        if not self._place.service:
            return addresses[0]
        problems = []
        for _ in addresses:
            host, port = addresses[self._first_sentinel % len(addresses)]
            try:
                return await self._ask_sentinel(host, port)
            except (DirectoryUnavailable, self._library.RedisError, *CONNECT_ERRORS) as error:
                problems.append(f"{host}:{port}: {error}")
                self._first_sentinel += 1
        raise DirectoryUnavailable(f"no Sentinel names a master of {self._place.service} ({'; '.join(problems)})")

    async def _ask_sentinel(self, host: str, port: int) -> tuple[str, int]:
        share = self._timeout_seconds * _SENTINEL_SHARE
        asked = Deferred.fromCoroutine(self._sentinel_answer(host, port))
        answer = await asked.addTimeout(share, self._clock)
        if not answer:
            raise DirectoryUnavailable("knows no such service")
        master, master_port = answer
        return master.decode("ascii"), int(master_port)

    async def _sentinel_answer(self, host: str, port: int) -> Any:
        protocol = await self._open(self._library.RedisProtocol, host, port)
        try:
            return await protocol.sentinel_get_master_addr_by_name(self._place.service)
        finally:
            protocol.transport.abortConnection()

    def _open(self, protocol_class: Any, host: str, port: int) -> Deferred[Any]:
        def make() -> Any:
            # Sign-in is ours: the protocol's own would need its factory to say why it failed.
            protocol = protocol_class(charset=None, convertNumbers=False)
            protocol.callLater = self._clock.callLater
            return protocol

        factory = Factory.forProtocol(make)
        factory.noisy = False
        return self._endpoints(host, port).connect(factory)

    async def _sign_in(self, protocol: Any) -> str:
        if self._place.password:
            await protocol.auth(self._place.password, self._place.user or None)
        if self._place.db:
            await protocol.execute_command("SELECT", self._place.db)
        try:
            info = _read_info(await protocol.execute_command("INFO"))
        except self._library.ResponseError as error:
            # Hosted servers may keep INFO to themselves; a failed-over one is then noticed by its first refusal.
            if str(error).startswith("NOPERM"):
                return ""
            raise
        if info.get("loading") == "1":
            raise DirectoryUnavailable("the server is loading its data")
        if info.get("role", "master") != "master":
            raise DirectoryUnavailable("the server is a replica")
        return info.get("run_id", "")


def _read_info(answer: bytes | str) -> dict[str, str]:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
