"""The tree of pages -> the factory of the HTTP port, with the bounds of every connection.

twisted.web is told here what it leaves open: a request must be whole in time however slowly its bytes drip in, has no
body unless its page takes one, and tells nobody which versions run here.

===================  ==============================================================================
bound                what happens beyond
===================  ==============================================================================
MAX_CONNECTIONS      the oldest that is not being answered is closed, else the new one; counted as refused
REQUEST_SECONDS      a connection without a whole request for this long is closed
MAX_HEADER_BYTES     400 and closed
MAX_HEADERS          400 and closed
body                 413 and closed, before the body is read; see `Page.refuse_body`
===================  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from meshrelay.counters import NodeCounters
from meshrelay.http.admin import AdminAccess
from meshrelay.http.admin_api import AdminApi, AdminApiPage
from meshrelay.http.admin_direct import DirectPage, ServerMessages
from meshrelay.http.admin_links import LinkPages, LinksPage
from meshrelay.http.admin_overlay import OverlayPage, OverlayPages
from meshrelay.http.chooser import Chooser, Cluster, Endpoints, NoCluster
from meshrelay.http.client_script import load_script_pages
from meshrelay.http.cluster import ClusterPage, ClusterStatus
from meshrelay.http.console import Console, add_console
from meshrelay.http.endpoint import EndpointPage, EndpointRules
from meshrelay.http.health import DirectoryProbe, NodePhase, health_pages
from meshrelay.http.metrics import MetricsPage, metrics_text
from meshrelay.http.page import NO_BODY_ANSWER, Branch, Page, error_answer, send_answer
from meshrelay.http.relay_health import RelayHealth, RelayHealthPage
from meshrelay.session.auth import Authenticator

__all__ = [
    "MAX_CONNECTIONS",
    "MAX_HEADERS",
    "MAX_HEADER_BYTES",
    "REQUEST_SECONDS",
    "HttpPages",
    "RelaySite",
    "make_site",
]

#: Connections at the same time. Each is short-lived; those of clients are counted elsewhere. One more takes the place
#: of the oldest that is not being answered, so that those who never ask keep nobody out.
MAX_CONNECTIONS = 1024

#: From connecting, or from the last answer, to the end of the next request.
REQUEST_SECONDS = 30.0

#: Request line and headers together; the longest token fits twice.
MAX_HEADER_BYTES = 16384

MAX_HEADERS = 64


@dataclass(frozen=True, slots=True)
class HttpPages:
    """What the pages are made of."""

    endpoints: Endpoints
    authenticator: Authenticator
    #: False while the node starts and from the moment it drains.
    is_ready: Callable[[], bool]
    node_id: str
    #: Origins of web pages that may ask the endpoint page; "*" = any.
    allowed_origins: tuple[str, ...]
    registry: CollectorRegistry
    counters: NodeCounters
    #: The other nodes that clients may be sent to.
    cluster: Cluster = field(default_factory=NoCluster)
    #: True until the node is ready for the first time; tells people why it is not.
    is_starting: Callable[[], bool] = lambda: False
    #: Tried for each answer to "are you ready"; None = there is no directory that could be away.
    probe: DirectoryProbe | None = None
    #: None = there is no page of the cluster.
    cluster_status: ClusterStatus | None = None
    #: None = there is no page to send direct messages with.
    direct: ServerMessages | None = None
    #: None = there is no page about P2P links.
    links: LinkPages | None = None
    admin: AdminAccess = field(default_factory=AdminAccess)
    #: Makes the text of the metrics page within 5 seconds; None = it is made of `registry`.
    metrics_page: Callable[[], Deferred[bytes]] | None = None
    #: None = the node has no relay, and no page about it.
    relay: RelayHealth | None = None
    #: None = the node is no peer of the overlay, and there is no page about it.
    overlay: OverlayPages | None = None
    #: None = there is no admin API.
    api: AdminApi | None = None
    #: None = there are no pages for people.
    console: Console | None = None


class _Request(Request):
    """A request with a body only where its page takes one, answered without a Server header."""

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        channel: Any = self.channel
        if length != 0:
            channel.body_announced(self, length)

    def write(self, data: bytes) -> None:
        self.responseHeaders.removeHeader(b"Server")
        super().write(data)  # type: ignore[no-untyped-call]

    def processingFailed(self, reason: Failure) -> Failure:
        self._log.failure("a page failed", failure=reason)
        send_answer(self, error_answer(http.INTERNAL_SERVER_ERROR, "internal error"))
        return reason


class _Channel(http.HTTPChannel):
    """One connection. Made by `RelaySite`, which is its ``site``."""

    maxHeaders = MAX_HEADERS
    totalHeadersSize = MAX_HEADER_BYTES
    site: RelaySite
    _command: bytes
    _path: bytes
    _is_refused = False

    @property
    def is_answering(self) -> bool:
        """Whether a whole request is here, and its answer is not finished."""
        # twisted.web gives a request its method when all of it has come; until then it has that of its class.
        return bool(self.requests) and self.requests[0].method != _Request.method

    def resetTimeout(self) -> None:
        # Called by twisted.web for each read. A client that drips bytes must not get more time by it.
        pass

    def dataReceived(self, data: bytes) -> None:
        if not self._is_refused:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.connection_ended(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def body_announced(self, request: Request, length: int | None) -> None:
        """Let a body come, or answer that it is not taken, and close."""
        page = self.site.page_of(self._path)
        # What is not asked for by a method of the page is answered there, and not read here.
        is_post = page is not None and self._command == b"POST" and "POST" in page.methods
        answer = page.refuse_body(request, length) if page is not None and is_post else NO_BODY_ANSWER
        if answer is None:
            return
        # Nobody is told to go on sending what will not be read.
        request.requestHeaders.removeHeader(b"Expect")
        self._is_refused = True
        reason = HTTPStatus(answer.status).phrase
        headers = (("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body))), *answer.headers)
        lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        head = "\r\n".join([*lines, "Connection: close", "", ""])
        self.write(head.encode("ascii") + answer.body)  # type: ignore[no-untyped-call]
        self.loseConnection()  # type: ignore[no-untyped-call]


class RelaySite(Site):
    """The factory of the HTTP port. No access log: counters and the log say what matters."""

    noisy = False
    # twisted.web wraps the channel to negotiate HTTP/2 first; nothing here needs that.
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, root: Resource, endpoint: EndpointPage, clock: IReactorTime, counters: NodeCounters) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            root, requestFactory=_Request, timeout=REQUEST_SECONDS, reactor=clock, parsePOSTFormSubmission=False
        )
        self._counters = counters
        self._endpoint = endpoint
        #: In the order in which they came.
        self._channels: dict[_Channel, None] = {}

    def startFactory(self) -> None:
        """Override: without an access log there is no clock to keep for it."""

    def stopFactory(self) -> None:
        """Override: nothing was started."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Serve a connection, unless there are too many that are being answered."""
        if self.connections >= MAX_CONNECTIONS and not self._make_room():
            return None
        channel: _Channel = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        self._channels[channel] = None
        return channel

    def page_of(self, path: bytes) -> Page | None:
        """The page that is or begins at the first part of a path."""
        page = self.resource.children.get(path.partition(b"?")[0][1:].partition(b"/")[0])
        return page if isinstance(page, Page) else None

    def set_sign_in(self, authenticator: Authenticator, allowed_origins: tuple[str, ...]) -> None:
        """Decide by these who is answered from now on; for a configuration that was reloaded."""
        self._endpoint.set_sign_in(authenticator, allowed_origins)

    def connection_ended(self, channel: _Channel) -> None:
        """A connection is closed, or about to be."""
        self._channels.pop(channel, None)

    @property
    def connections(self) -> int:
        """Open now."""
        return len(self._channels)

    def _make_room(self) -> bool:
        """Close the oldest connection that is not being answered. False: all are."""
        self._counters.refused["http_connections"] += 1
        for channel in self._channels:
            if not channel.is_answering:
                self.connection_ended(channel)
                transport: Any = channel.transport
                transport.abortConnection()
                return True
        return False


def make_site(pages: HttpPages, clock: IReactorTime) -> RelaySite:
    """Return the factory of the HTTP port.

    :param clock: times the connections out.
    """
    root = Branch()
    chooser = Chooser(pages.node_id, pages.endpoints, pages.cluster, clock)
    rules = EndpointRules(pages.is_ready, pages.allowed_origins)
    endpoint = EndpointPage(chooser, pages.authenticator, rules)
    phase = NodePhase(pages.is_ready, pages.is_starting)
    root.putChild(b"endpoint", endpoint)
    health = health_pages(pages.node_id, phase, pages.probe)
    if pages.relay is not None:
        health.putChild(b"relay", RelayHealthPage(pages.relay))
    root.putChild(b"health", health)
    root.putChild(b"metrics", MetricsPage(pages.metrics_page or partial(metrics_text, pages.registry)))
    for name, page in load_script_pages().items():
        root.putChild(name.encode("ascii"), page)
    if pages.cluster_status is not None:
        root.putChild(b"cluster", ClusterPage(pages.cluster_status, pages.admin))
    if pages.direct is not None:
        root.putChild(b"direct", DirectPage(pages.direct, pages.admin))
    if pages.links is not None:
        root.putChild(b"links", LinksPage(pages.links, pages.admin))
    admin = Branch() if pages.api is None else AdminApiPage(pages.api, pages.admin)
    if pages.overlay is not None:
        admin.putChild(b"overlay", OverlayPage(pages.overlay, pages.admin))
    root.putChild(b"admin", admin)
    if pages.console is not None:
        add_console(root, admin, pages.console, pages.admin)
    return RelaySite(root, endpoint, clock, pages.counters)
