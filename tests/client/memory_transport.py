"""A TCP transport in memory, with what `StringTransport` lacks of one."""

from __future__ import annotations

from twisted.internet.testing import StringTransport

__all__ = ["MemoryTransport"]


class MemoryTransport(StringTransport):
    """Remembers what was written.

    :ivar is_aborted: it was closed at once.
    """

    is_aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See `ITCPTransport`."""

    def abortConnection(self) -> None:
        """See `ITCPTransport`."""
        self.is_aborted = True

    def unregisterProducer(self) -> None:
        """As a real one: nothing happens when there is none."""
        if self.producer is not None:
            super().unregisterProducer()
