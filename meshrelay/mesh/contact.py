"""The link to the node behind an address: the one that holds the directory, before any directory says who that is.

::

    address --contact--> whoever answers: its ID --link breaks--> contact again, with backoff

A node that was started anew has another ID, so it is the address that is kept and not the node. As soon as the
directory works, `meshrelay.mesh.membership` may dial the same node as well; it does not matter whose connection comes
up first.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.machine.backoff import Backoff
from meshrelay.mesh.interfaces import Dial
from meshrelay.mesh.links import Links
from meshrelay.mesh.nodes import Nodes

__all__ = ["DirectoryContact"]


class DirectoryContact:
    """Keeps a link to the node at one address.

    :param dial: connects to that address, whoever is there.
    :param changed: called with True when the node is linked and with False when it is not any more, in turns.
    :ivar node_id: who was found last; None = nobody yet.
    """

    _log = Logger()

    def __init__(
        self,
        links: Links,
        nodes: Nodes,
        dial: Dial,
        clock: IReactorTime,
        backoff: Backoff,
        changed: Callable[[bool], object],
    ) -> None:
        self._links = links
        self._nodes = nodes
        self._dial = dial
        self._clock = clock
        self._backoff = backoff
        self._changed = changed
        self.node_id: str | None = None
        self.is_up = False
        self._attempt: Deferred[str] | None = None
        self._timer: IDelayedCall | None = None
        self._is_running = False

    def start(self) -> None:
        """Contact the node now, and again whenever it is not linked."""
        self._is_running = True
        self._nodes.watch_links(self._link_changed)
        self._contact()

    def stop(self) -> None:
        """Contact it no more. A link that is up stays."""
        self._is_running = False
        self._give_up()

    def _contact(self) -> None:
        self._timer = None
        if self._is_linked():
            self._found_linked()
            return
        attempt = self._attempt = self._links.contact(self._dial)
        attempt.addCallbacks(self._answered, self._failed, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _answered(self, node_id: str, attempt: Deferred[str]) -> None:
        if self._attempt is not attempt:
            return
        self._attempt = None
        self.node_id = node_id
        if self._is_linked():
            self._found_linked()
        else:
            self._contact_later()

    def _failed(self, failure: Failure, attempt: Deferred[str]) -> None:
        if self._attempt is not attempt:
            return
        self._attempt = None
        # Once until it is found: a node that is away for hours would fill the log.
        if self._backoff.tries == 0:
            self._log.warn("the holder of the directory is not reached: {why}", why=failure.getErrorMessage())
        self._contact_later()

    def _contact_later(self) -> None:
        if self._is_running and self._timer is None:
            self._timer = self._clock.callLater(self._backoff.next_delay(), self._contact)

    def _is_linked(self) -> bool:
        return self.node_id is not None and self._nodes.is_up(self.node_id)

    def _found_linked(self) -> None:
        self._backoff.succeeded()
        if not self.is_up and self._is_running:
            self.is_up = True
            self._log.info("node {node} holds the directory", node=self.node_id)
            self._changed(True)

    def _link_changed(self, node_id: str, is_up: bool) -> None:
        if not self._is_running or node_id != self.node_id:
            return
        if is_up:
            # A contact that is under way goes on: the other end may prefer just that connection.
            self._found_linked()
            return
        if self.is_up:
            self.is_up = False
            self._changed(False)
        if self._attempt is None:
            self._contact_later()

    def _give_up(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
