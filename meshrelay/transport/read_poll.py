"""Reads from all clients of a port in one call of the reactor's.

For each socket that has something to read the reactor makes a log context, looks up what it is and asks it for a name:
as much work as a small message itself. So the sockets of clients are in an epoll of our own, which the reactor sees as
one descriptor.

Only plain data is taken here. A socket with an error or a hang-up goes back to the reactor, which knows what to do;
``loseConnection``, pausing and the rest keep their meaning, for all of them start and stop reading by two methods.

It is with `direct_write` the place that knows something of Twisted's insides: ``tcp.Port.transport`` makes the
connection of an accepted socket, ``doRead`` returns how it ended, and ``_disconnectSelectable`` is told that.
"""

from __future__ import annotations

import select
from functools import partial
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["ReadPoll"]


class _PolledServer(tcp.Server):
    """The connection of one client. To begin and to stop reading means its place in the poll."""

    def __init__(self, poll: ReadPoll, *arguments: Any) -> None:
        # The last thing that the base class does is to begin reading.
        self._poll = poll
        super().__init__(*arguments)

    def read_once(self) -> ConnectionDone | ConnectionLost | None:
        """What `tcp.Connection` does in two calls. None: it goes on."""
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    #: See `IReadDescriptor`; `abortConnection` puts something else in its place.
    doRead = read_once  # type: ignore[assignment]

    def startReading(self) -> None:
        """See `IReadDescriptor`'s users."""
        self._poll.add(self)

    def stopReading(self) -> None:
        """See `IReadDescriptor`'s users."""
        self._poll.remove(self)
        super().stopReading()  # type: ignore[no-untyped-call]


@implementer(IReadDescriptor)
class ReadPoll:
    """What the reactor reads in place of many sockets. It is with the reactor only while there are any.

    :param reactor: one that watches file descriptors.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll: select.epoll | None = None
        self._connections: dict[int, _PolledServer] = {}
        #: Their numbers, also of those whose socket is closed.
        self._numbers: dict[_PolledServer, int] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def take_port(self, port: object) -> bool:
        """Read what is accepted by `port` from now on.

        :returns: False: it is no plain TCP port, or this system has no epoll; the reactor goes on reading.
        """
        if type(port) is not tcp.Port or not hasattr(select, "epoll"):
            return False
        port.transport = partial(_PolledServer, self)  # type: ignore[assignment]
        return True

    def add(self, connection: _PolledServer) -> None:
        """Read from `connection`."""
        if connection in self._numbers:
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)
        number = connection.fileno()
        self._epoll.register(number, select.EPOLLIN)
        self._numbers[connection] = number
        self._connections[number] = connection

    def remove(self, connection: _PolledServer) -> None:
        """Read no more from `connection`, whose socket is still open."""
        number = self._numbers.pop(connection, None)
        if number is None or self._epoll is None:
            return
        del self._connections[number]
        self._epoll.unregister(number)
        if not self._connections:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None

    def fileno(self) -> int:
        """See `IFileDescriptor`."""
        return self._epoll.fileno() if self._epoll is not None else -1

    def logPrefix(self) -> str:
        """See `ILoggingContext`."""
        return "ReadPoll"

    def doRead(self) -> None:
        """See `IReadDescriptor`."""
        if self._epoll is not None:
            self._read_all(self._epoll.poll(0))

    def _read_all(self, events: list[tuple[int, int]]) -> None:
        """Read once from each socket that has something."""
        connections = self._connections
        for number, event in events:
            connection = connections.get(number)
            if connection is None:
                continue  # what was read before this one ended it
            if event != select.EPOLLIN:
                self.remove(connection)
                self._reactor.addReader(connection)
                continue
            ended: Exception | None
            try:
                ended = connection.doRead()
            except Exception as error:  # noqa: BLE001 as in the reactor: it costs this connection
                self._log.failure("reading from a client failed")
                ended = error
            if ended is not None:
                self.remove(connection)
                self._reactor._disconnectSelectable(connection, ended, True)

    def connectionLost(self, reason: Failure) -> None:
        """See `IFileDescriptor`: the reactor stops, and asks all that it reads to end."""
        for connection in list(self._numbers):
            connection.connectionLost(reason)
