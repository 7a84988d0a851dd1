"""``GET /endpoint/type/<type>/user/<user ID>[?resume=SID[&received=n]]``: where a client is to connect.

Source: client protocol, section 5; ``received`` is an addition of ours.

The request is authenticated like a HELLO. For UDP the answer holds the secrets of a new session: whoever can read it
can be that user, so beyond a trusted network the HTTP port needs TLS.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from twisted.logger import Logger
from twisted.web import http
from twisted.web.server import Request

from meshrelay.errors import AuthenticationError
from meshrelay.http.page import Answer, Page, error_answer, json_answer
from meshrelay.model import check_user_id
from meshrelay.session.auth import Authenticator, Identity

if TYPE_CHECKING:  # annotations only: the page reads four attributes and need not load the UDP transport
    from collections.abc import Callable

    from meshrelay.transport.udp import UdpCredentials

__all__ = ["SERVER_TYPES", "EndpointPage", "EndpointRules", "Endpoints", "Place"]

SERVER_TYPES = ("UDP", "TCP", "WS", "WSS")

#: A client that was told to come back later waits at least this long.
RETRY_AFTER_SECONDS = 5

#: For this long a browser need not ask again whether it may.
PREFLIGHT_SECONDS = 600

_SID = re.compile(r"[0-9a-fA-F]{32}")
_COUNT = re.compile(rb"[0-9]{1,10}")
_HOST_HEADER = re.compile(r"\[?(?P<host>[^\s/@\[\]]{1,253}?)\]?(:\d{1,5})?")


class Place(NamedTuple):
    """Where a server listens, as it stands in the answer."""

    server_type: str
    host: str
    port: int


class Endpoints(Protocol):
    """The listening places of the node, and the UDP sessions that wait for their first packet."""

    def place(self, server_type: str, asked_host: str) -> tuple[str, str, int] | None:
        """Where a client of this type is to connect.

        :param server_type: one of `SERVER_TYPES`.
        :param asked_host: the address on which the client reached this page; taken when no other is configured.
        :returns: server type, host and port; None when nothing of this type listens.
        """

    def reserve_udp(self, identity: Identity, resume: str, received: int | None) -> UdpCredentials:
        """Make the secrets of a UDP session; its first packet makes it live.

        :param resume: sid of an earlier session, 32 lower-case hex digits; "" = none.
        :param received: reliable pushes that the client has received in it, mod 2^32; None = it does not say.
        """


class EndpointRules(NamedTuple):
    """Who is answered.

    :ivar is_ready: False: nobody, the node starts or drains.
    :ivar allowed_origins: of web pages that may read the answer; "*" = any.
    """

    is_ready: Callable[[], bool]
    allowed_origins: tuple[str, ...]


class _Refusal(Exception):
    """The answer to a request that cannot be served; leaves this module never."""

    def __init__(self, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.answer = error_answer(status, text, headers)
        super().__init__(text)


class _Question(NamedTuple):
    server_type: str
    user_id: str
    #: "" = none.
    resume: str
    received: int | None


class EndpointPage(Page):
    """See the module. It takes everything below ``/endpoint``."""

    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "OPTIONS")
    _log = Logger()

    def __init__(self, endpoints: Endpoints, authenticator: Authenticator, rules: EndpointRules) -> None:
        super().__init__()
        self._endpoints = endpoints
        self._authenticator = authenticator
        self._rules = rules

    def set_sign_in(self, authenticator: Authenticator, allowed_origins: tuple[str, ...]) -> None:
        """Decide by these from now on; for a configuration that was reloaded."""
        self._authenticator = authenticator
        self._rules = self._rules._replace(allowed_origins=allowed_origins)

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        if request.method == b"OPTIONS":
            answer = Answer(http.NO_CONTENT, b"", headers=(("Allow", ", ".join(self.methods)),))
        else:
            try:
                answer = self._place(request)
            except _Refusal as refusal:
                answer = refusal.answer
        return answer._replace(headers=answer.headers + self._headers_for_browsers(request))

    def _place(self, request: Request) -> Answer:
        if not self._rules.is_ready():
            headers = (("Retry-After", str(RETRY_AFTER_SECONDS)),)
            raise _Refusal(http.SERVICE_UNAVAILABLE, "the node takes no clients now", headers)
        question = _read_question(request)
        identity = self._authenticate(request, question.user_id)
        place = self._endpoints.place(question.server_type, _asked_host(request))
        if place is None:
            raise _Refusal(http.NOT_FOUND, f"type {question.server_type} does not listen on this node")
        server_type, host, port = place
        body: dict[str, object] = {"serverType": server_type, "serverHost": host, "serverPort": port}
        # A HEAD must change nothing, and nobody would see the secrets.
        if question.server_type == "UDP" and request.method == b"GET":
            credentials = self._endpoints.reserve_udp(identity, question.resume, question.received)
            body["sid"] = credentials.sid.hex()
            body["encryptionKey"] = credentials.key.hex()
            body["encryptionIV"] = credentials.iv.hex()
            body["encryptionMacKey"] = credentials.mac_key.hex()
        return json_answer(http.OK, body)

    def _authenticate(self, request: Request, user_id: str) -> Identity:
        try:
            return self._authenticator.authenticate(user_id, _bearer_token(request))
        except AuthenticationError as error:
            peer = request.getClientAddress()
            self._log.info("endpoint call of {peer} refused: {detail}", peer=peer, detail=error.detail)
            headers = (("WWW-Authenticate", "Bearer"),)
            raise _Refusal(http.UNAUTHORIZED, "sign-in refused", headers) from None

    def _headers_for_browsers(self, request: Request) -> tuple[tuple[str, str], ...]:
        """What lets a web page of an allowed origin read the answer (Fetch standard, CORS protocol)."""
        allowed = self._rules.allowed_origins
        origin = _single_header(request, "Origin")
        vary = () if "*" in allowed else (("Vary", "Origin"),)
        if origin is None or not ("*" in allowed or origin.lower() in [one.lower() for one in allowed]):
            return vary
        headers = (*vary, ("Access-Control-Allow-Origin", "*" if "*" in allowed else origin))
        if request.method != b"OPTIONS":
            return headers
        return (
            *headers,
            ("Access-Control-Allow-Methods", "GET, HEAD"),
            ("Access-Control-Allow-Headers", "Authorization"),
            ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
        )


def _read_question(request: Request) -> _Question:
    path: list[bytes] = request.postpath or []
    if len(path) != 4 or path[0] != b"type" or path[2] != b"user":
        hint = "no such page, ask for /endpoint/type/<type>/user/<user ID> with a / in the user ID as %2F"
        raise _Refusal(http.NOT_FOUND, hint)
    server_type = path[1].decode("latin-1")
    if server_type not in SERVER_TYPES:
        known = ", ".join(SERVER_TYPES)
        raise _Refusal(http.NOT_FOUND, f"unknown type, known are {known}")
    try:
        user_id = check_user_id(path[3].decode("utf-8"))
    except UnicodeDecodeError:
        raise _Refusal(http.BAD_REQUEST, "user ID is not valid UTF-8") from None
    except ValueError as error:
        raise _Refusal(http.BAD_REQUEST, str(error)) from None
    return _Question(server_type, user_id, _read_resume(request), _read_received(request))


def _read_resume(request: Request) -> str:
    args: dict[bytes, list[bytes]] = request.args or {}
    values = args.get(b"resume", [])
    if not values:
        return ""
    resume = values[0].decode("latin-1")
    if len(values) > 1 or _SID.fullmatch(resume) is None:
        raise _Refusal(http.BAD_REQUEST, "resume must be one sid of 32 hex digits")
    return resume.lower()


def _read_received(request: Request) -> int | None:
    args: dict[bytes, list[bytes]] = request.args or {}
    values = args.get(b"received", [])
    if not values:
        return None
    if len(values) > 1 or not _COUNT.fullmatch(values[0]) or int(values[0]) >= 1 << 32:
        raise _Refusal(http.BAD_REQUEST, "received must be one number from 0 to 2^32 - 1")
    return int(values[0])


def _single_header(request: Request, name: str) -> str | None:
    """The value of a header that may stand once; None when it is missing, doubled, or no text."""
    values = request.requestHeaders.getRawHeaders(name.encode("ascii"), [])
    if len(values) != 1:
        return None
    try:
        return values[0].decode("utf-8").strip()
    except UnicodeDecodeError:
        return None


def _bearer_token(request: Request) -> str | None:
    """The token of ``Authorization: Bearer`` (RFC 6750); the word may be written in any case."""
    scheme, _, token = (_single_header(request, "Authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _asked_host(request: Request) -> str:
    host: str = getattr(request.getHost(), "host", "")
    if host:
        return host
    # A Unix socket has no address that a client could use; what it calls us it has reached.
    match = _HOST_HEADER.fullmatch(_single_header(request, "Host") or "")
    return match["host"] if match is not None else "localhost"
