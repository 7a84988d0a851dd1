"""One port number for several processes: stand-ins for a reactor that endpoint strings of Twisted can be opened on.

::

    supervisor   hold_port(place)     binds the number and does not listen: nobody else gets it, and no connection
    worker       SharedPort(reactor)  listens on that number beside the other workers; the kernel spreads connections

Both give ``serverFromString`` something whose ``listenTCP`` differs and let Twisted do the rest, so that whatever ends
in a TCP port can be shared, with TLS or behind a proxy too. SO_REUSEPORT shares a port between processes of one user
only (socket(7)). Connections that wait to be accepted by a worker that ends are reset; their clients come again.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory
from twisted.internet.tcp import makeBinding
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from meshrelay.config.listening import parse_stream_place
from meshrelay.errors import ConfigError, ConfigProblem

__all__ = ["SHARED_KINDS", "HeldPort", "SharedPort", "hold_port"]

#: Kinds of listening places that have a port, see `meshrelay.config.listening.StreamPlace`.
SHARED_KINDS = ("tcp", "tcp6", "ssl", "tls")


class HeldPort:
    """A port number that is taken as long as this object is not closed."""

    def __init__(self, held: socket.socket) -> None:
        self._socket = held
        #: 1 to 65535.
        self.number: int = held.getsockname()[1]

    def close(self) -> None:
        """Give the number back. A second call does nothing."""
        self._socket.close()


class _TcpOnly:
    """Serves endpoints that end in ``listenTCP`` or ``listenSSL``, and no others."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See `IReactorTCP`."""
        raise NotImplementedError

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See `IReactorSSL`."""
        return self.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory), backlog, interface)


class SharedPort(_TcpOnly):
    """Opens one TCP port beside other processes that have it open as well.

    :param reactor: where it is really opened.
    :param number: the port; it takes the place of the one in the endpoint string, which may be 0.
    """

    def __init__(self, reactor: Any, number: int) -> None:
        self._reactor = reactor
        self._number = number

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See `IReactorTCP`."""
        binding = makeBinding(interface, self._number, reuseAddress=True, reusePort=True)
        return self._reactor.listenTCP(binding, factory, backlog, interface)


class _Holder(_TcpOnly):
    """Binds and does not listen."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> HeldPort:
        """See `IReactorTCP`."""
        return HeldPort(_hold(port, interface))


def hold_port(name: str, place: str) -> HeldPort:
    """Take the TCP port of a listening place for the workers of this process.

    :param name: of the place, for the problem: "tcp" is ``listen.tcp``.
    :param place: a Twisted endpoint string; port 0 takes any free one.
    :raises ConfigError: somebody has it, or the place has no port that can be shared.
    """
    outcome: list[object] = []
    problem = "cannot be shared by workers"
    try:
        if parse_stream_place(place).kind in SHARED_KINDS:
            serverFromString(_Holder(), place).listen(ServerFactory()).addBoth(outcome.append)
    except (OSError, ValueError) as error:
        # A certificate that cannot be read, for example.
        problem = f"cannot be opened: {error}"
    if outcome and isinstance(outcome[0], HeldPort):
        return outcome[0]
    if outcome and isinstance(outcome[0], Failure):
        problem = f"cannot be opened: {outcome[0].getErrorMessage()}"
    raise ConfigError([ConfigProblem(f"listen.{name}", f"{place} {problem}")])


def _hold(port: int, interface: str) -> socket.socket:
    """Bind a socket that keeps the number; IPv6 interfaces with a scope are resolved as Twisted does."""
    is_ipv6 = isIPv6Address(interface)
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            interface or None,
            port,
            socket.AF_INET6 if is_ipv6 else socket.AF_INET,
            socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
        if port:
            # Another supervisor of this user would share its port with us without a word; this one does not.
            with _bound(family, kind, address, is_shared=False):
                pass
        return _bound(family, kind, address, is_shared=True)
    except OSError as error:
        raise CannotListenError(interface, port, error) from None


def _bound(family: int, kind: int, address: Any, is_shared: bool) -> socket.socket:
    opened = socket.socket(family, kind)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    return opened
