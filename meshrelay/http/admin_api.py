"""The pages below ``/admin``: a request -> one line of the table of routes -> an answer that is always JSON.

::

    request --access, site of its page, length, type--> body --> AdminActions --> 200 or 202
                                   `--> Problem: {"error", "code", "field", "limit"}

A web page of another site can neither read nor change anything: it is told by Origin and Sec-Fetch-Site, no form can
send the content types that are taken, and there is no CORS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred, FirstError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request

from meshrelay.components.direct import DirectMessages
from meshrelay.directory.interfaces import IDirectory
from meshrelay.errors import CommandError
from meshrelay.http.admin import AdminAccess
from meshrelay.http.admin_actions import AdminActions, AdminParts, Input
from meshrelay.http.admin_bodies import NewMessage
from meshrelay.http.admin_local import LocalNode, LocalParts, answer_calls
from meshrelay.http.admin_openapi import openapi_text
from meshrelay.http.admin_problems import Problem, problem_of
from meshrelay.http.admin_repeats import Repeats, fingerprint_of
from meshrelay.http.admin_routes import Route, methods_of, route_of
from meshrelay.http.headers import is_of_another_site, single_header
from meshrelay.http.page import JSON_TYPE, Answer, Page, json_answer

__all__ = ["AdminApi", "AdminApiPage", "make_admin_api"]

BYTES_TYPE = "application/octet-stream"

#: JSON may write one byte of a message as six characters; beside the message there is little.
_JSON_GROWTH = 6
_JSON_OVERHEAD_BYTES = 4096

_OPENAPI_PATH = ("openapi.json",)

#: The refusals of `AdminAccess`.
_ACCESS_CODES: Mapping[int, str] = {
    http.UNAUTHORIZED: "key_needed",
    http.FORBIDDEN: "not_allowed",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many_tries",
}


class AdminApi:
    """What the pages stand on.

    :ivar requests: that were let in.
    :ivar problems: of those, what was not done.
    """

    def __init__(self, actions: AdminActions, repeats: Repeats) -> None:
        self.actions = actions
        self.repeats = repeats
        self.requests = 0
        self.problems = 0

    @property
    def body_limit(self) -> int:
        """Bytes of the longest body that can make sense."""
        return self.actions.max_payload_bytes * _JSON_GROWTH + _JSON_OVERHEAD_BYTES

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {
            "requests": self.requests,
            "problems": self.problems,
            "repeat_keys": len(self.repeats),
            "repeats_replayed": self.repeats.replayed,
            "repeats_evicted": self.repeats.evicted,
        }


def make_admin_api(
    local: LocalParts,
    direct: DirectMessages,
    directory: IDirectory | None,
    read_nodes: Callable[[], Any],
    max_payload_bytes: int,
) -> AdminApi:
    """Build the API of a node, and let the others ask this node.

    :param directory: None = this node is alone.
    :param read_nodes: see `meshrelay.http.cluster.ClusterStatus.read`.
    """
    node = LocalNode(local)
    answer_calls(node, local.nodes)
    parts = AdminParts(node, local.rooms, direct, local.nodes, directory, read_nodes, local.clock, max_payload_bytes)
    return AdminApi(AdminActions(parts), Repeats(local.clock))


class AdminApiPage(Page):
    """``/admin`` and all below it that is no page of its own; see the module."""

    isLeaf = False
    _log = Logger()
    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "POST", "DELETE")

    def __init__(self, api: AdminApi, access: AdminAccess) -> None:
        super().__init__()
        self._api = api
        self._access = access

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See `twisted.web.resource.IResource.getChildWithDefault`."""
        return _Below(self)

    def refuse_body(self, request: Request, length: int | None) -> Answer | None:
        """See `Page.refuse_body`: that of a stranger, of a web page elsewhere, or too long; all before it comes."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            _check_source(request)
            is_json = _content_type(request) == JSON_TYPE
            limit = self._api.body_limit if is_json else self._api.actions.max_payload_bytes
            if length is None:
                raise Problem("length_required", "the request must have a Content-Length", "Content-Length")
            if length > limit:
                raise Problem("too_large", f"a body has at most {limit} bytes here", "body", limit)
        except Problem as problem:
            return problem.answer()
        return None

    def not_allowed(self, request: Request) -> Answer:
        """See `Page.not_allowed`: what Allow names depends on the path."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            path = _path_of(request)
        except Problem as problem:
            return problem.answer()
        allowed = ("GET", "HEAD") if path == _OPENAPI_PATH else methods_of(path)
        if not allowed:
            return Problem("no_such_path", "there is no such path, see /admin/openapi.json").answer()
        names = ", ".join(allowed)
        return Problem("method_not_allowed", f"use {names}").answer((("Allow", names),))

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See `Page.answer`."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        self._api.requests += 1
        try:
            answer = self._begin(request)
        except Problem as problem:
            self._api.problems += 1
            return problem.answer()
        return answer

    def _begin(self, request: Request) -> Answer | Deferred[Answer]:
        method = request.method.decode("latin-1")
        method = "GET" if method == "HEAD" else method
        path = _path_of(request)
        if path == _OPENAPI_PATH and method == "GET":
            return Answer(http.OK, openapi_text().encode("utf-8"))
        found = route_of(method, path)
        if found is None:
            self._api.problems += 1
            return self.not_allowed(request)
        route, variables = found
        body: object = None
        if route.method != "GET":
            _check_source(request)
        content = b""
        if route.method == "POST":
            content = request.content.read() if request.content is not None else b""
            body = _body_of(route, request, content)
        given = Input(variables, _query_of(route, request), body)
        key = single_header(request, "Idempotency-Key") if route.method == "POST" else None
        if key is None and route.method == "POST" and request.requestHeaders.hasHeader("Idempotency-Key"):
            raise Problem("bad_header", "Idempotency-Key must stand once", "Idempotency-Key")
        if key is None:
            return self._run(route, given)
        return self._run_once(route, given, key, _fingerprint(request, path, content))

    def _run_once(self, route: Route, given: Input, key: str, fingerprint: bytes) -> Answer | Deferred[Answer]:
        repeats = self._api.repeats
        before = repeats.begin(key, fingerprint)
        if before is not None:
            return before

        def ended(result: Any) -> Any:
            if isinstance(result, Answer) and result.status < http.MULTIPLE_CHOICE:
                repeats.done(key, fingerprint, result)
            else:
                repeats.failed(key, fingerprint)
            return result

        # Who is gone, or has waited too long, will ask again with the key: what was begun is done to its end and kept.
        told: Deferred[Answer] = Deferred()
        self._run(route, given).addBoth(ended).chainDeferred(told)
        return told

    def _run(self, route: Route, given: Input) -> Deferred[Answer]:
        return Deferred.fromCoroutine(self._result_of(route, given)).addErrback(self._failed, route)

    async def _result_of(self, route: Route, given: Input) -> Answer:
        return json_answer(route.status, await route.run(self._api.actions, given))

    def _failed(self, failure: Failure, route: Route) -> Answer:
        # A caller who is gone, or who waited for too long, has cancelled it.
        failure.trap(Exception)
        error = failure.value
        if isinstance(error, FirstError):
            # Of several nodes that were asked at once.
            error = error.subFailure.value
        if isinstance(error, CancelledError):
            raise error
        self._api.problems += 1
        if isinstance(error, CommandError):
            error = problem_of(error)
        if isinstance(error, Problem):
            return error.answer()
        self._log.failure("{operation} of the admin API failed", failure, operation=route.operation)
        return Problem("internal", "internal error, the log of the node has it").answer()

    def _refusal(self, request: Request) -> Answer | None:
        refusal = self._access.refusal(request)
        if refusal is None:
            return None
        text = msgspec.json.decode(refusal.body)["error"]
        return json_answer(refusal.status, {"error": text, "code": _ACCESS_CODES[refusal.status]}, refusal.headers)


def _check_source(request: Request) -> None:
    """Refuse what a page of another site sends.

    :raises Problem: one does.
    """
    if is_of_another_site(request):
        raise Problem("cross_site", "web pages of other sites may not do this", "Origin")


class _Below(Page):
    """A path below ``/admin``, as a leaf: names in it mean nothing to the tree of pages."""

    methods: ClassVar[tuple[str, ...]] = AdminApiPage.methods

    def __init__(self, page: AdminApiPage) -> None:
        super().__init__()
        self._page = page

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See `Page.answer`."""
        return self._page.answer(request)

    def not_allowed(self, request: Request) -> Answer:
        """See `Page.not_allowed`."""
        return self._page.not_allowed(request)


def _path_of(request: Request) -> tuple[str, ...]:
    """The decoded parts below ``/admin``."""
    parts = [*(request.prepath or [])[1:], *(request.postpath or [])]
    try:
        return tuple(part.decode("utf-8") for part in parts)
    except UnicodeDecodeError:
        raise Problem("bad_path", "the path must be percent-encoded UTF-8") from None


def _content_type(request: Request) -> str:
    """The type of the body, without what stands behind it."""
    return (single_header(request, "Content-Type") or "").partition(";")[0].strip().lower()


def _body_of(route: Route, request: Request, content: bytes) -> object:
    kind = _content_type(request)
    if route.takes_bytes and kind == BYTES_TYPE:
        kind_of_body: type[NewMessage] = route.body or NewMessage
        return kind_of_body(body=content)
    if kind != JSON_TYPE:
        kinds = f"{JSON_TYPE} or {BYTES_TYPE}" if route.takes_bytes else JSON_TYPE
        raise Problem("wrong_type", f"the Content-Type must be {kinds}", "Content-Type")
    if route.body is None:
        if content.strip() not in (b"", b"{}"):
            raise Problem("invalid_body", "the body must be {}", "body")
        return None
    try:
        return msgspec.json.decode(content, type=route.body)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$")
        # Unknown keys are named in the text alone.
        field = where.rstrip("`").lstrip(".") or _quoted(text) or "body"
        raise Problem("invalid_body", text, field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("invalid_body", f"the body is no JSON: {error}", "body") from None


def _quoted(text: str) -> str:
    parts = text.split("`")
    return parts[1] if text.startswith("Object contains unknown field") and len(parts) > 1 else ""


def _query_of(route: Route, request: Request) -> dict[str, str]:
    known = {parameter.name for parameter in route.query}
    found = {}
    arguments: Mapping[bytes, list[bytes]] = request.args or {}
    for raw_name, values in arguments.items():
        name = raw_name.decode("utf-8", "replace")
        if name not in known:
            raise Problem("bad_query", f"there is no parameter {name[:32]}", name[:32])
        if len(values) != 1:
            raise Problem("bad_query", f"{name} may stand once", name)
        try:
            found[name] = values[0].decode("utf-8")
        except UnicodeDecodeError:
            raise Problem("bad_query", f"{name} must be percent-encoded UTF-8", name) from None
    return found


def _fingerprint(request: Request, path: tuple[str, ...], content: bytes) -> bytes:
    # The address of the caller and the spelling of the path do not matter, what is asked for does.
    parts = [part.encode("utf-8") for part in path]
    return fingerprint_of(request.method, *parts, _content_type(request).encode("utf-8"), content)
