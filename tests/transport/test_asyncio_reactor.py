"""Tests of `meshrelay.transport.asyncio_reactor`.

Each runs a loop of its own, never with a reactor that is installed globally: here that place is trial's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

# Else the first test would install one for its loop.
import twisted.internet.reactor  # noqa: F401, TID251
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from meshrelay.transport.asyncio_reactor import end_reactor, reactor_of_loop


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(debug=True) as runner:
        runner.run(coroutine)


@implementer(IResolutionReceiver)
class _Resolved:
    """Remembers what a resolver tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.is_complete = asyncio.Event()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self.told.append(resolutionInProgress.name)

    def addressResolved(self, address: IAddress) -> None:
        self.told.append(address)

    def resolutionComplete(self) -> None:
        self.is_complete.set()


class ReactorTests(SynchronousTestCase):
    """A reactor in somebody else's loop."""

    def test_calls(self) -> None:
        """Calls of the reactor happen while the loop runs."""

        async def main() -> None:
            reactor, is_own = reactor_of_loop(asyncio.get_running_loop())
            self.assertTrue(is_own)
            called = asyncio.Event()
            reactor.callLater(0, called.set)
            await asyncio.wait_for(called.wait(), 30)
            await end_reactor(asyncio.get_running_loop(), reactor)

        _run(main())

    def test_names(self) -> None:
        """Names are looked up by the loop; no thread of a reactor stays behind."""

        async def main() -> None:
            reactor, _ = reactor_of_loop(asyncio.get_running_loop())
            receiver = _Resolved()
            reactor.nameResolver.resolveHostName(receiver, "127.0.0.1", 80, [IPv4Address])
            await asyncio.wait_for(receiver.is_complete.wait(), 30)
            self.assertEqual(receiver.told, ["127.0.0.1", IPv4Address("TCP", "127.0.0.1", 80)])
            self.assertIsNone(reactor.threadpool)
            await end_reactor(asyncio.get_running_loop(), reactor)

        _run(main())
