"""The listening places of the configuration: ports opened in order, and the addresses that they really have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from meshrelay.config.listening import parse_udp_place
from meshrelay.errors import ConfigError, ConfigProblem
from meshrelay.transport.place_certificate import PlaceCertificate, take_certificate
from meshrelay.transport.read_poll import ReadPoll
from meshrelay.transport.shared_port import SharedPort
from meshrelay.transport.stream_link import shown_address

__all__ = ["ListeningPlaces"]

#: Connections that the kernel may hold until we accept them; a reconnect storm must not be refused.
BACKLOG = 1024

#: Places whose key is in a section of their own.
_OWN_SECTIONS = ("mesh", "overlay", "relay")


class ListeningPlaces:
    """All open ports of a node, by name ("tcp", "udp", ...), in the order in which they were opened.

    :param shared_ports: name -> number of the TCP ports that other processes have open as well.
    """

    def __init__(self, reactor: Any, shared_ports: Mapping[str, int] | None = None) -> None:
        self._reactor = reactor
        self._shared_ports = shared_ports or {}
        self._ports: dict[str, IListeningPort] = {}
        self._certificates: dict[str, PlaceCertificate] = {}
        self._reads = ReadPoll(reactor)

    def listen_stream(self, name: str, place: str, factory: IProtocolFactory) -> None:
        """Open a stream port.

        :param place: a Twisted endpoint string; "" = none.
        :raises ConfigError: it cannot be opened; the problem names the key.
        """
        if not place:
            return
        shared_port = self._shared_ports.get(name)
        reactor = self._reactor if shared_port is None else SharedPort(self._reactor, shared_port)
        endpoint = serverFromString(reactor, place)
        if getattr(endpoint, "_backlog", None) == 50:
            endpoint._backlog = BACKLOG  # Twisted's default of 50, where the string does not say otherwise
        tls = take_certificate(endpoint, place)
        outcome: list[object] = []
        endpoint.listen(factory).addBoth(outcome.append)
        if not outcome:
            raise ConfigError([ConfigProblem(f"listen.{name}", f"{place} does not listen at once")])
        if isinstance(outcome[0], Failure):
            raise ConfigError([ConfigProblem(f"listen.{name}", outcome[0].getErrorMessage())])
        self._certificates.update({name: tls} if tls is not None else {})
        self._reads.take_port(outcome[0])
        self._ports[name] = outcome[0]  # type: ignore[assignment]

    def listen_datagram(self, name: str, place: str, protocol: DatagramProtocol) -> None:
        """Open a datagram port.

        :param place: ``udp:port:interface=address``; "" = none.
        :raises ConfigError: it cannot be opened; the problem names the key.
        """
        if not place:
            return
        parsed = parse_udp_place(place)
        try:
            port = self._reactor.listenUDP(parsed.port, protocol, interface=parsed.interface, maxPacketSize=2048)
        except Exception as error:
            raise ConfigError([ConfigProblem(f"listen.{name}", str(error))]) from error
        self._ports[name] = port

    def read_certificates(self) -> Mapping[str, object]:
        """Read the certificates of all places with TLS again.

        :returns: for `use_certificates`; until then nothing changes.
        :raises ConfigError: one cannot be used; each problem names the key and the place.
        """
        fresh: dict[str, object] = {}
        problems = []
        for name, certificate in self._certificates.items():
            try:
                fresh[name] = certificate.read()
            except ValueError as error:
                key = f"{name}.listen" if name in _OWN_SECTIONS else f"listen.{name}"
                problems.append(ConfigProblem(key, str(error)))
        if problems:
            raise ConfigError(problems)
        return fresh

    def use_certificates(self, fresh: Mapping[str, object]) -> None:
        """Show new connections what `read_certificates` has read; those that are there stay as they are."""
        for name, creator in fresh.items():
            self._certificates[name].use(creator)

    def host(self, name: str) -> Any:
        """The address of an open port, None if it is not open."""
        port = self._ports.get(name)
        return port.getHost() if port is not None else None

    def addresses(self) -> dict[str, str]:
        """name -> host:port, or the path of a Unix socket."""
        return {name: _shown(port.getHost()) for name, port in self._ports.items()}

    def close(self, *names: str) -> Deferred[Any]:
        """Close the named ports, or all; fires when they are closed."""
        ports = [self._ports.pop(name) for name in (names or tuple(self._ports)) if name in self._ports]
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)


def _shown(address: Any) -> str:
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", "")
        return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return shown_address(host, address.port)
