"""``GET /endpoint/type/<type>/user/<user ID>[?resume=SID[&received=n]]``: where in the cluster a client is to connect.

Source: client protocol, section 5; ``received`` is an addition of ours.

The request is authenticated like a HELLO. For UDP the answer holds the secrets of a new session: whoever can read it
can be that user, so beyond a trusted network the HTTP port needs TLS.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web import http
from twisted.web.server import Request

from meshrelay.errors import AuthenticationError, MalformedPayload
from meshrelay.http.chooser import Chooser, NoPlaceNow, Question, TypeNotServed
from meshrelay.http.headers import asked_host, bearer_token, single_header
from meshrelay.http.page import Answer, Page, error_answer, json_answer, unavailable_answer
from meshrelay.http.placement import SERVER_TYPES
from meshrelay.model import check_user_id
from meshrelay.session.auth import Authenticator, Identity

__all__ = ["EndpointPage", "EndpointRules"]

#: For this long a browser need not ask again whether it may.
PREFLIGHT_SECONDS = 600

_SID = re.compile(r"[0-9a-fA-F]{32}")
_COUNT = re.compile(rb"[0-9]{1,10}")


class EndpointRules(NamedTuple):
    """Who is answered.

    :ivar is_ready: False: nobody, the node starts or drains.
    :ivar allowed_origins: of web pages that may read the answer; "*" = any.
    """

    is_ready: Callable[[], bool]
    allowed_origins: tuple[str, ...]


class _Refusal(Exception):
    """The answer to a request that cannot be served; leaves this module never."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.status)


def _refusal(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> _Refusal:
    return _Refusal(error_answer(status, text, headers))


class EndpointPage(Page):
    """See the module. It takes everything below ``/endpoint``."""

    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "OPTIONS")
    _log = Logger()

    def __init__(self, chooser: Chooser, authenticator: Authenticator, rules: EndpointRules) -> None:
        super().__init__()
        self._chooser = chooser
        self._authenticator = authenticator
        self._rules = rules

    def set_sign_in(self, authenticator: Authenticator, allowed_origins: tuple[str, ...]) -> None:
        """Decide by these from now on; for a configuration that was reloaded."""
        self._authenticator = authenticator
        self._rules = self._rules._replace(allowed_origins=allowed_origins)

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See `Page.answer`."""
        if request.method == b"OPTIONS":
            return self._for_browsers(
                Answer(http.NO_CONTENT, b"", headers=(("Allow", ", ".join(self.methods)),)), request
            )
        try:
            question = self._read_question(request)
        except _Refusal as refusal:
            return self._for_browsers(refusal.answer, request)
        return Deferred.fromCoroutine(self._place(question)).addCallback(self._for_browsers, request)

    def _read_question(self, request: Request) -> Question:
        """Read what is asked by a client that may ask it.

        :raises _Refusal: it may not, or it cannot be understood.
        """
        if not self._rules.is_ready():
            raise _Refusal(unavailable_answer("the node takes no clients now"))
        server_type, user_id = _read_path(request)
        return Question(
            server_type,
            resume=_read_resume(request),
            received=_read_received(request),
            identity=self._authenticate(request, user_id),
            asked_host=asked_host(request),
            # A HEAD must change nothing, and nobody would see the secrets.
            wants_secrets=request.method == b"GET",
        )

    async def _place(self, question: Question) -> Answer:
        try:
            place, secrets = await self._chooser.choose(question)
        except TypeNotServed as error:
            return error_answer(http.NOT_FOUND, str(error))
        except NoPlaceNow as error:
            return unavailable_answer(str(error))
        body: dict[str, object] = {
            "serverType": place.server_type,
            "serverHost": place.host,
            "serverPort": place.port,
        }
        if secrets is not None:
            body["sid"] = secrets.sid.hex()
            body["encryptionKey"] = secrets.key.hex()
            body["encryptionIV"] = secrets.iv.hex()
            body["encryptionMacKey"] = secrets.mac_key.hex()
        return json_answer(http.OK, body)

    def _authenticate(self, request: Request, user_id: str) -> Identity:
        try:
            return self._authenticator.authenticate(user_id, bearer_token(request))
        except AuthenticationError as error:
            peer = request.getClientAddress()
            self._log.info("endpoint call of {peer} refused: {detail}", peer=peer, detail=error.detail)
            headers = (("WWW-Authenticate", "Bearer"),)
            raise _refusal(http.UNAUTHORIZED, "sign-in refused", headers) from None
        except MalformedPayload as error:
            raise _refusal(http.BAD_REQUEST, error.text) from None

    def _for_browsers(self, answer: Answer, request: Request) -> Answer:
        return answer._replace(headers=answer.headers + self._headers_for_browsers(request))

    def _headers_for_browsers(self, request: Request) -> tuple[tuple[str, str], ...]:
        """What lets a web page of an allowed origin read the answer (Fetch standard, CORS protocol)."""
        allowed = self._rules.allowed_origins
        origin = single_header(request, "Origin")
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


def _read_path(request: Request) -> tuple[str, str]:
    """The type and the user ID."""
    path: list[bytes] = request.postpath or []
    if len(path) != 4 or path[0] != b"type" or path[2] != b"user":
        hint = "no such page, ask for /endpoint/type/<type>/user/<user ID> with a / in the user ID as %2F"
        raise _refusal(http.NOT_FOUND, hint)
    server_type = path[1].decode("latin-1")
    if server_type not in SERVER_TYPES:
        known = ", ".join(SERVER_TYPES)
        raise _refusal(http.NOT_FOUND, f"unknown type, known are {known}")
    try:
        user_id = check_user_id(path[3].decode("utf-8"))
    except UnicodeDecodeError:
        raise _refusal(http.BAD_REQUEST, "user ID is not valid UTF-8") from None
    except ValueError as error:
        raise _refusal(http.BAD_REQUEST, str(error)) from None
    return server_type, user_id


def _read_resume(request: Request) -> str:
    args: dict[bytes, list[bytes]] = request.args or {}
    values = args.get(b"resume", [])
    if not values:
        return ""
    resume = values[0].decode("latin-1")
    if len(values) > 1 or _SID.fullmatch(resume) is None:
        raise _refusal(http.BAD_REQUEST, "resume must be one sid of 32 hex digits")
    return resume.lower()


def _read_received(request: Request) -> int | None:
    args: dict[bytes, list[bytes]] = request.args or {}
    values = args.get(b"received", [])
    if not values:
        return None
    if len(values) > 1 or not _COUNT.fullmatch(values[0]) or int(values[0]) >= 1 << 32:
        raise _refusal(http.BAD_REQUEST, "received must be one number from 0 to 2^32 - 1")
    return int(values[0])
