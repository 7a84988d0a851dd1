"""The console: pages for people at ``/`` and ``/console/``, and how their live data is had.

::

    browser --GET /, /console/...--> files of the package, no secret in them, for everybody
            --POST /admin/console/ticket--> {"url", "user", "token", "seconds"}     for operators, see `AdminAccess`
            --WebSocket, HELLO with the token--> `meshrelay.http.console_feed`
            --GET /admin/console/state--> the same without a WebSocket

The pages run under a content security policy that takes scripts and styles of this node alone, none of them inline,
and lets no text become markup. They cannot be framed. A page of another site gets no ticket: Origin and Sec-Fetch-Site
tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from typing import ClassVar, NamedTuple

from twisted.internet.defer import Deferred
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request

from meshrelay.http.admin import AdminAccess
from meshrelay.http.client_script import FilePage
from meshrelay.http.console_feed import ConsoleFeed
from meshrelay.http.console_history import History
from meshrelay.http.console_live import ConsoleSource, LiveNode
from meshrelay.http.console_rates import GroupRates
from meshrelay.http.console_state import ConsoleView, StateSources
from meshrelay.http.console_tickets import TICKET_SECONDS, Tickets
from meshrelay.http.headers import asked_host, host_header, is_of_another_site
from meshrelay.http.page import JSON_TYPE, Answer, Branch, Page, error_answer, json_answer
from meshrelay.transport.stream_link import shown_address

__all__ = [
    "INDEX",
    "TYPES",
    "Console",
    "ConsoleFile",
    "Place",
    "StatePage",
    "TicketPage",
    "Widen",
    "add_console",
    "make_console",
]

INDEX = "index.html"

#: Ending of a file -> its type. Files with others are not served.
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

#: What a file that pages of every origin may have says of itself.
_OPEN_HEADERS = ("Access-Control-Allow-Origin", "Cross-Origin-Resource-Policy")

_PLAIN_HOST = re.compile(r"[0-9A-Za-z._:-]+")

#: ``place("WS", host)`` -> type, host and port of the node's WebSockets; None = none listens.
Place = Callable[[str, str], tuple[str, str, int] | None]

#: This process -> what the console shows.
Widen = Callable[[LiveNode], ConsoleSource]


class Console(NamedTuple):
    """What the pages stand on.

    :ivar place: see `meshrelay.http.endpoint.Endpoints.place`.
    :ivar own: this process.
    :ivar source: what the pages show: `own`, or more where a node has several processes.
    """

    tickets: Tickets
    feed: ConsoleFeed
    history: History
    place: Place
    own: LiveNode
    source: ConsoleSource


def make_console(sources: StateSources, tickets: Tickets, place: Place, widen: Widen | None = None) -> Console:
    """Return the console of a node; nothing runs before it is started.

    :param widen: given this process, returns what is shown; None = this process.
    """
    clock, registry = sources.local.clock, sources.local.registry
    history = History(clock, sources.counters, lambda: len(registry))
    rates = GroupRates(sources.local.groups.table, clock)
    own = LiveNode(clock, ConsoleView(sources, history, rates), history, rates)
    source = own if widen is None else widen(own)
    return Console(tickets, ConsoleFeed(clock, own, source), history, place, own, source)


def websocket_url(request: Request, place: Place) -> str | None:
    """Where the page that sends `request` finds the node's WebSockets; None: none listen.

    The host is the one that the browser knows the node by, or the page would be one of another host to the WebSocket.
    """
    found = place("WS", asked_host(request))
    if found is None:
        return None
    scheme, _, port = found
    host = host_header(request)
    # It becomes a part of another header.
    host = host if _PLAIN_HOST.fullmatch(host) else asked_host(request)
    return f"{scheme.lower()}://{shown_address(host, port)}/"


class ConsoleFile(FilePage):
    """One file of the pages. It is for this site alone."""

    def __init__(self, body: bytes, content_type: str, place: Place) -> None:
        super().__init__(body, content_type)
        self._place = place

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        answer = super().answer(request)
        kept = tuple(header for header in answer.headers if header[0] not in _OPEN_HEADERS)
        return answer._replace(headers=(*kept, *self._rules(request)))

    def _rules(self, request: Request) -> tuple[tuple[str, str], ...]:
        url = websocket_url(request, self._place)
        policy = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self'",
                f"connect-src 'self' {url.rstrip('/') if url is not None else ''}".rstrip(),
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
                "require-trusted-types-for 'script'",
                "trusted-types 'none'",
            )
        )
        return (
            ("Content-Security-Policy", policy),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        )


class _OperatorPage(Page):
    """For operators, and for pages of this site. Abstract."""

    def __init__(self, console: Console, access: AdminAccess) -> None:
        super().__init__()
        self._console = console
        self._access = access

    def refusal(self, request: Request) -> Answer | None:
        """The answer to who may not ask; None: it may."""
        refusal = self._access.refusal(request)
        if refusal is not None:
            return refusal
        if request.postpath:
            return error_answer(http.NOT_FOUND, "no such page")
        if is_of_another_site(request):
            return error_answer(http.FORBIDDEN, "web pages of other sites may not do this")
        return None


class TicketPage(_OperatorPage):
    """``POST /admin/console/ticket``: a sign-in for one console."""

    methods: ClassVar[tuple[str, ...]] = ("POST",)

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        refusal = self.refusal(request)
        if refusal is not None:
            return refusal
        url = websocket_url(request, self._console.place)
        ticket = self._console.tickets.issue()
        return json_answer(
            http.CREATED, {"url": url, "user": ticket.user, "token": ticket.token, "seconds": TICKET_SECONDS}
        )


class StatePage(_OperatorPage):
    """``GET /admin/console/state``: what CONSOLE_WATCH answers."""

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See `Page.answer`."""
        refusal = self.refusal(request)
        if refusal is not None:
            return refusal
        return self._console.feed.read().addCallback(lambda body: Answer(http.OK, body, JSON_TYPE))


def add_console(root: Resource, admin: Resource, console: Console, access: AdminAccess) -> None:
    """Put the pages into the tree.

    :param admin: the page ``/admin``.
    :raises OSError: the package is not whole.
    """
    pages = Branch()
    for file in (files("meshrelay.http") / "static" / "console").iterdir():
        content_type = TYPES.get(file.name.rpartition(".")[2])
        if content_type is not None:
            page = ConsoleFile(file.read_bytes(), content_type, console.place)
            (root if file.name == INDEX else pages).putChild(b"" if file.name == INDEX else file.name.encode(), page)
    root.putChild(b"console", pages)
    operators = Branch()
    operators.putChild(b"ticket", TicketPage(console, access))
    operators.putChild(b"state", StatePage(console, access))
    admin.putChild(b"console", operators)
