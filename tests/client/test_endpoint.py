"""Tests of `meshrelay.client.endpoint`."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.iweb import IAgent
from zope.interface import implementer

from meshrelay.client.address import parse_url
from meshrelay.client.endpoint import MAX_ANSWER_BYTES, UdpEndpoint, decode_endpoint, fetch_udp_endpoint
from meshrelay.client.errors import ConnectFailed, SignInRefused
from meshrelay.client.links import Credentials

ANSWER = {
    "serverType": "UDP",
    "serverHost": "127.0.0.1",
    "serverPort": 7100,
    "sid": "01" * 16,
    "encryptionKey": "02" * 16,
    "encryptionIV": "03" * 16,
    "encryptionMacKey": "04" * 16,
}


def answer(**changes: Any) -> bytes:
    """The answer of a node, with some members changed."""
    return json.dumps({**ANSWER, **changes}).encode()


class _Response:
    """A response whose body comes in pieces.

    :param reason: how it ends; None = it never does.
    """

    def __init__(self, code: int, pieces: list[bytes], reason: Exception | None) -> None:
        self.code = code
        self._pieces = pieces
        self._reason = reason
        self.is_aborted = False

    def stopProducing(self) -> None:
        self.is_aborted = True

    def deliverBody(self, protocol: Any) -> None:
        protocol.makeConnection(self)
        for piece in self._pieces:
            protocol.dataReceived(piece)
        if self._reason is not None:
            protocol.connectionLost(Failure(self._reason))


@implementer(IAgent)
class _RecordingAgent:
    """Answers every request alike and remembers it."""

    def __init__(self, code: int = 200, pieces: list[bytes] | None = None, reason: Exception | None = None) -> None:
        self.response = _Response(code, [answer()] if pieces is None else pieces, reason or ResponseDone())
        self.requests: list[tuple[bytes, bytes, Any]] = []

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[Any]:
        self.requests.append((method, uri, headers))
        return succeed(self.response)


class DecodeEndpointTests(SynchronousTestCase):
    """The answer."""

    def test_good(self) -> None:
        """Every field arrives, the secrets as bytes."""
        endpoint = decode_endpoint(answer(more="of a newer node"))
        self.assertEqual((endpoint.server_host, endpoint.server_port), ("127.0.0.1", 7100))
        self.assertEqual(endpoint.sid_bytes, b"\1" * 16)
        self.assertEqual(endpoint.secrets, (b"\2" * 16, b"\3" * 16, b"\4" * 16))

    def test_secrets_are_not_printed(self) -> None:
        """No log shows the secrets by accident."""
        self.assertNotIn("02", repr(decode_endpoint(answer())))

    def test_bad(self) -> None:
        """An answer that cannot be used is refused, whatever is wrong with it."""
        for bad in (
            b"",
            b"[]",
            b"\xff",
            answer(sid="00"),
            answer(encryptionKey="zz" * 16),
            answer(serverPort=0),
            answer(serverPort=70000),
            answer(serverPort="7100"),
            json.dumps({"serverType": "UDP"}).encode(),
        ):
            self.assertRaises(ValueError, decode_endpoint, bad)


class FetchTests(SynchronousTestCase):
    """The HTTP call."""

    def _fetch(self, agent: _RecordingAgent, credentials: Credentials | None = None) -> Any:
        address = parse_url("udp+http://127.0.0.1:7000")
        return Deferred.fromCoroutine(fetch_udp_endpoint(agent, address, credentials or Credentials("ann", None)))

    def test_given_up(self) -> None:
        """Who does not wait for the end of a body leaves no connection behind."""
        agent = _RecordingAgent(pieces=[b"{"])
        agent.response._reason = None
        fetching = self._fetch(agent)
        self.assertNoResult(fetching)
        fetching.cancel()
        self.failureResultOf(fetching, CancelledError)
        self.assertTrue(agent.response.is_aborted)

    def test_request(self) -> None:
        """The user is escaped, the token goes into the header, the session to go on with and what came in it into the
        query."""
        agent = _RecordingAgent()
        endpoint = self.successResultOf(self._fetch(agent, Credentials("a/b ü", "jwt", "ab" * 16, 17)))
        self.assertIsInstance(endpoint, UdpEndpoint)
        [(method, uri, headers)] = agent.requests
        self.assertEqual(method, b"GET")
        path = b"http://127.0.0.1:7000/endpoint/type/UDP/user/a%2Fb%20%C3%BC?resume=" + b"ab" * 16
        self.assertEqual(uri, path + b"&received=17")
        self.assertEqual(headers.getRawHeaders(b"authorization"), [b"Bearer jwt"])

    def test_no_session(self) -> None:
        """Without a session to go on with nothing is said of one."""
        agent = _RecordingAgent()
        self.successResultOf(self._fetch(agent))
        self.assertEqual(agent.requests[0][1], b"http://127.0.0.1:7000/endpoint/type/UDP/user/ann")

    def test_body_in_pieces(self) -> None:
        """The body may come in any cut."""
        pieces = [answer()[index : index + 7] for index in range(0, len(answer()), 7)]
        self.successResultOf(self._fetch(_RecordingAgent(pieces=pieces)))

    def test_refused(self) -> None:
        """401 and 403 are refused sign-ins."""
        for code in (401, 403):
            self.failureResultOf(self._fetch(_RecordingAgent(code, [b"no"])), SignInRefused)

    def test_other_status(self) -> None:
        """Any other status is a failed connect that may be tried again, with the text of the answer."""
        error = self.failureResultOf(self._fetch(_RecordingAgent(503, [b"starting"])), ConnectFailed).value
        self.assertNotIsInstance(error, SignInRefused)
        self.assertIn("503: starting", str(error))

    def test_endless_body(self) -> None:
        """A body without end is cut off at its bound."""
        agent = _RecordingAgent(pieces=[bytes(1024)] * (MAX_ANSWER_BYTES // 1024 + 1))
        error = self.failureResultOf(self._fetch(agent), ConnectFailed).value
        self.assertIn("over", str(error))
        self.assertTrue(agent.response.is_aborted)

    def test_broken_off(self) -> None:
        """A body that breaks off is a failed connect."""
        agent = _RecordingAgent(reason=ResponseFailed([]))
        self.failureResultOf(self._fetch(agent), ConnectFailed)
