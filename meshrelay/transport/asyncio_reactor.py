"""A Twisted reactor inside an asyncio loop that runs already: how asyncio programs use what is made for Twisted.

The loop has to be a selector loop, which on Windows is not the default one. A reactor is bound to one loop. When the
process has none yet, one for the running loop is installed as the global reactor, because parts of Twisted look for it
there and would otherwise install one that never runs. When the global reactor belongs to something else (another loop,
a Twisted program), the client makes a reactor of its own and leaves the global one alone. Signals stay with asyncio.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.main import installReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["end_reactor", "reactor_of_loop"]


@implementer(IHostResolution)
class _Resolution:
    """A look-up on its way."""

    def __init__(self, name: str, task: asyncio.Task[None]) -> None:
        self.name = name
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


@implementer(IHostnameResolver)
class _LoopResolver:
    """Looks names up through the loop. The reactor's own resolver has threads that outlive the loop and keep the
    process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        task = self._loop.create_task(self._resolve(resolutionReceiver, hostName, portNumber, addressTypes))
        resolution = _Resolution(hostName, task)
        resolutionReceiver.resolutionBegan(resolution)
        return resolution

    async def _resolve(self, receiver: IResolutionReceiver, name: str, port: int, types: Any) -> None:
        try:
            found = await self._loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError:
            # No address at all is how the caller is told.
            found = []
        for family, _, _, _, place in found:
            address: IAddress | None = None
            if family == socket.AF_INET:
                address = IPv4Address("TCP", str(place[0]), int(place[1]))
            elif family == socket.AF_INET6:
                address = IPv6Address("TCP", str(place[0]), int(place[1]))
            if address is not None and (types is None or isinstance(address, tuple(types))):
                receiver.addressResolved(address)
        receiver.resolutionComplete()


class _GuestReactor(AsyncioSelectorReactor):
    """A reactor in a loop that is not its own: it ends without ending the loop."""

    def crash(self) -> None:
        # The next class would stop the loop here.
        PosixReactorBase.crash(self)
        if self.waker is not None:
            self.removeReader(self.waker)  # type: ignore[no-untyped-call]
            self.waker.connectionLost(Failure(ConnectionDone()))
            self.waker = None


def reactor_of_loop(loop: asyncio.AbstractEventLoop) -> tuple[AsyncioSelectorReactor, bool]:
    """Return a reactor that runs inside `loop`, and whether it is the caller's alone: then he has to end it.

    :raises TypeError: the loop is none that a reactor can live in.
    """
    installed: Any = sys.modules.get("twisted.internet.reactor")
    if isinstance(installed, AsyncioSelectorReactor) and installed._asyncioEventloop is loop:
        return installed, False
    reactor = _GuestReactor(loop)
    reactor.installNameResolver(_LoopResolver(loop))
    if installed is None:
        installReactor(reactor)
    reactor.startRunning(installSignalHandlers=False)
    return reactor, installed is not None


async def end_reactor(loop: asyncio.AbstractEventLoop, reactor: AsyncioSelectorReactor) -> None:
    """End a reactor that was the caller's alone."""
    ended = loop.create_future()
    reactor.addSystemEventTrigger("after", "shutdown", ended.set_result, None)
    reactor.stop()
    await ended
