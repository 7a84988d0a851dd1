"""One POST to a webhook: signed, bounded in time and in what is read of the answer. The only user of treq.

::

    Meshrelay-Signature: t=1700000000,v1=<hex of HMAC-SHA256(secret, "1700000000." + body)>

Redirects are not followed: an answer that is none of 2xx has not taken the events.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from io import BytesIO
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Cooperator
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.iweb import IBodyProducer

from meshrelay import __version__

__all__ = ["MAX_ANSWER_BYTES", "HookPost", "signature"]

#: Of the answer's body, which nobody needs; beyond, the connection is closed.
MAX_ANSWER_BYTES = 65_536


class _Rest(Protocol):
    """What follows the head of an answer, read so that the connection can be used again, but not for ever.

    :ivar ended: fires when it is over; cancelling it closes the connection.
    """

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred(lambda _: self._cut())
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        """Count it."""
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES:
            self._cut()
            self._end()

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The answer is over; what it says is known from its status."""
        self._end()

    def _end(self) -> None:
        if not self.ended.called:
            self.ended.callback(None)


def signature(secret: bytes, body: bytes, seconds: int) -> str:
    """Return the value of Meshrelay-Signature.

    :param seconds: Unix time of the POST.
    """
    digest = hmac.new(secret, b"%d.%s" % (seconds, body), sha256).hexdigest()
    return f"t={seconds},v1={digest}"


class HookPost:
    """Posts; a `meshrelay.http.webhook_queue.Post`.

    :param secret: b"" = POSTs are not signed.
    :param timeout_seconds: from the first byte to the last of the answer.
    :param max_connections: that are kept open to one host.
    """

    def __init__(self, reactor: Any, secret: bytes, timeout_seconds: float, max_connections: int) -> None:
        self._reactor = reactor
        self._secret = secret
        self._timeout_seconds = timeout_seconds
        pool = HTTPConnectionPool(reactor, persistent=True)
        pool.maxPersistentPerHost = max_connections
        # A POST that failed on an old connection is tried again here, where that is counted.
        pool.retryAutomatically = False
        self._pool = pool
        self._agent = Agent(reactor, connectTimeout=timeout_seconds, pool=pool)
        self._cooperator = Cooperator(scheduler=partial(reactor.callLater, 0.0))

    def _producer(self, body: bytes) -> IBodyProducer:
        return FileBodyProducer(BytesIO(body), self._cooperator)

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Deferred[int]:
        """See `meshrelay.http.webhook_queue.Post`."""
        done = Deferred.fromCoroutine(self._post(url, body, headers))
        return done.addTimeout(self._timeout_seconds, self._reactor)

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        told: dict[bytes | str, bytes | str] = {
            "Content-Type": "application/json",
            "User-Agent": f"meshrelay/{__version__}",
        }
        told.update(headers)
        if self._secret:
            told["Meshrelay-Signature"] = signature(self._secret, body, int(self._reactor.seconds()))
        # Another one each time: it keeps what cookies it is given.
        client = HTTPClient(self._agent, data_to_body_producer=self._producer)
        response = await client.post(
            url, data=body, headers=told, allow_redirects=False, unbuffered=True, reactor=self._reactor
        )
        rest = _Rest()
        response.deliverBody(rest)
        await rest.ended
        return int(response.code)

    def close(self) -> Deferred[None]:
        """Close the connections that are kept; fires when they are closed."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed
