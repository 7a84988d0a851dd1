"""Asks the HTTP port of a node where a UDP session is to be had, and with which secrets (client protocol, section
5)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from meshrelay.client.address import NodeAddress
from meshrelay.client.errors import ConnectFailed, SignInRefused
from meshrelay.client.links import Credentials
from meshrelay.client.options import ClientOptions

__all__ = ["MAX_ANSWER_BYTES", "UdpEndpoint", "decode_endpoint", "fetch_udp_endpoint", "http_agent"]

#: The answer has some 250 bytes.
MAX_ANSWER_BYTES = 16384

_SID_BYTES = 16
_KEY_BYTES = 16


class UdpEndpoint(msgspec.Struct, frozen=True):
    """The answer, decoded."""

    server_type: str = msgspec.field(name="serverType")
    server_host: str = msgspec.field(name="serverHost")
    server_port: int = msgspec.field(name="serverPort")
    #: 32 hex digits.
    sid: str
    encryption_key: str = msgspec.field(name="encryptionKey")
    encryption_iv: str = msgspec.field(name="encryptionIV")
    encryption_mac_key: str = msgspec.field(name="encryptionMacKey")

    @property
    def sid_bytes(self) -> bytes:
        """What stands in each packet."""
        return bytes.fromhex(self.sid)

    @property
    def secrets(self) -> tuple[bytes, bytes, bytes]:
        """Encryption key, IV and MAC key, 16 bytes each."""
        key, iv, mac_key = self.encryption_key, self.encryption_iv, self.encryption_mac_key
        return bytes.fromhex(key), bytes.fromhex(iv), bytes.fromhex(mac_key)

    def __repr__(self) -> str:
        return f"UdpEndpoint({self.server_host}:{self.server_port})"


_DECODER = msgspec.json.Decoder(UdpEndpoint)


def decode_endpoint(body: bytes) -> UdpEndpoint:
    """Read the answer.

    :raises ValueError: the node's fault.
    """
    endpoint = _DECODER.decode(body)
    sizes = (len(endpoint.sid_bytes), *map(len, endpoint.secrets))
    if sizes != (_SID_BYTES, _KEY_BYTES, _KEY_BYTES, _KEY_BYTES):
        raise ValueError(f"sid and secrets have {sizes} bytes")
    if not 0 < endpoint.server_port < 1 << 16:
        raise ValueError(f"serverPort is {endpoint.server_port}")
    return endpoint


class _BodyCollector(Protocol):
    """Gathers at most `MAX_ANSWER_BYTES`.

    :ivar body: fires with them; cancelling it closes the connection.
    """

    def __init__(self) -> None:
        self.body: Deferred[bytes] = Deferred(self._cancelled)
        self._done: Deferred[bytes] | None = self.body
        self._body = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_ANSWER_BYTES:
            self._fire(ValueError(f"the answer is over {MAX_ANSWER_BYTES} bytes"))
            self._drop()

    def _cancelled(self, _: object) -> None:
        # Nobody else would close it: the request itself has its answer.
        self._done = None
        self._drop()

    def _drop(self) -> None:
        # What a response gives to read from has no abortConnection.
        transport: Any = self.transport
        transport.stopProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        is_whole = reason.check(ResponseDone, PotentialDataLoss) is not None
        self._fire(bytes(self._body) if is_whole else ValueError("the answer broke off"))

    def _fire(self, result: bytes | Exception) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if isinstance(result, bytes):
            done.callback(result)
        else:
            done.errback(result)


def http_agent(reactor: Any, options: ClientOptions) -> IAgent:
    """Return what makes the HTTP call; one connection for each."""
    policy = BrowserLikePolicyForHTTPS(trustRoot=options.trust_root)
    agent: IAgent = Agent(reactor, contextFactory=policy, connectTimeout=options.connect_timeout_seconds)
    return agent


async def fetch_udp_endpoint(agent: IAgent, address: NodeAddress, credentials: Credentials) -> UdpEndpoint:
    """Ask where to send packets, and with which keys.

    :param credentials: with a user.
    :raises SignInRefused: the node does not take the user or token.
    :raises ConnectFailed: anything else that it answered. What the agent raises comes through.
    """
    scheme = "https" if address.is_tls else "http"
    url = f"{scheme}://{address.authority}/endpoint/type/UDP/user/{quote(credentials.user or '', safe='')}"
    if credentials.resume_sid:
        url += f"?resume={credentials.resume_sid}&received={credentials.received}"
    headers = Headers({b"Accept": [b"application/json"]})
    if credentials.token is not None:
        headers.addRawHeader(b"Authorization", b"Bearer " + credentials.token.encode("ascii", "replace"))
    response = await agent.request(b"GET", url.encode("ascii"), headers, None)
    collector = _BodyCollector()
    response.deliverBody(collector)
    try:
        body = await collector.body
        if response.code == 200:
            return decode_endpoint(body)
    except ValueError as error:
        raise ConnectFailed(address.url, f"the endpoint call: {error}") from None
    detail = f"HTTP status {response.code}: {body[:200].decode('utf-8', 'replace').strip()}"
    if response.code in (401, 403):
        raise SignInRefused(address.url, None, detail)
    raise ConnectFailed(address.url, detail)
