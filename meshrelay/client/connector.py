"""Keeps one signed-in connection to a node: opens links, drives the machine and its times, comes back after a break.

::

                connect            link opened, HELLO answered
    IDLE ------------------> CONNECTING --------------------------> ONLINE
      ^                        |    ^                                  |
      |         gives up, or   |    |  after the backoff's delay       | broken
      +------- close ----------+    +------------- WAITING <-----------+
                               +-- failed, may try again --^

The program sees only the machine's events; how often and where was tried is nobody's business but the log's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum, unique
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferTimeoutError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import fire_all
from meshrelay.client.address import NodeAddress
from meshrelay.client.errors import ConnectFailed, NotConnected, SignInRefused
from meshrelay.client.events import Connected, Disconnected, Event
from meshrelay.client.identity import Identity, LinkTraits
from meshrelay.client.links import Credentials, Link, LinkReceiver, MovableLink, PeerSocket, open_link
from meshrelay.client.machine import ClientMachine, Output, SignInFailed, State
from meshrelay.client.options import ClientOptions
from meshrelay.client.requests import Settled
from meshrelay.client.unsent import Unsent
from meshrelay.errors import CommandError, DeliveryError
from meshrelay.machine.backoff import Backoff

__all__ = ["Connector", "ConnectorState", "LinkOpener", "TokenSource"]

#: A token, or what gives a fresh one for each try.
TokenSource = str | Callable[[], str | Awaitable[str]] | None

#: How long `close` waits until what was written is out.
_CLOSE_SECONDS = 2.0

#: A connection that was up for so long was a sound one: the next break begins with short delays again. One that breaks
#: at once each time is tried less and less often.
_STEADY_SECONDS = 5.0

_CLOSED_HERE = "closed by this program"

_Waiter = Deferred[bytes]


@unique
class ConnectorState(Enum):
    """See the module."""

    IDLE = "idle"
    CONNECTING = "connecting"
    ONLINE = "online"
    WAITING = "waiting"


def _pass_over_timeout(failure: Failure) -> None:
    failure.trap(DeferTimeoutError)


class _Ears:
    """What one link talks to. Deaf once the connector has moved on to another link."""

    def __init__(self, connector: Connector) -> None:
        self._connector: Connector | None = connector

    def stop(self) -> None:
        self._connector = None

    def data_received(self, data: bytes, is_reliable: bool = True) -> None:
        if self._connector is not None:
            self._connector.data_received(data, is_reliable)

    def heard(self) -> None:
        if self._connector is not None:
            self._connector.heard()

    def link_lost(self, code: int | None, text: str) -> None:
        if self._connector is not None:
            self._connector.link_lost(code, text)

    def writing_paused(self) -> None:
        if self._connector is not None:
            self._connector.writing_paused()

    def writing_resumed(self) -> None:
        if self._connector is not None:
            self._connector.writing_resumed()


LinkOpener = Callable[[Any, NodeAddress, LinkReceiver, Credentials, ClientOptions], "Deferred[tuple[Link, LinkTraits]]"]


class Connector:
    """See the module.

    :param identity: who signs in; its `reconnect` decides whether breaks are mended.
    :param tell: called with each event.
    :param opener: `meshrelay.client.links.open_link`, or its twin of a test.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        address: NodeAddress,
        identity: Identity,
        token: TokenSource,
        options: ClientOptions,
        tell: Callable[[Event], None],
        opener: LinkOpener = open_link,
    ) -> None:
        self.state = ConnectorState.IDLE
        self._reactor = reactor
        self._address = address
        self._identity = identity
        self._token = token
        self._options = options
        self._tell = tell
        self._opener = opener
        self._machine: ClientMachine[_Waiter] = ClientMachine(identity, options.max_pending_requests)
        self._backoff = Backoff(options.retry_base_seconds, options.retry_cap_seconds, options.uniform)
        self._ears = _Ears(self)
        self._link: Link | None = None
        self._attempt: Deferred[None] | None = None
        self._connecting: list[Deferred[Connected]] = []
        self._was_online = False
        self._online_since = 0.0
        self._timer: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self._unsent = Unsent(options.max_unsent_bytes)
        self._connected: Connected | None = None

    def connect(self) -> Deferred[Connected]:
        """Sign in; at once with what is there when that is done already.

        :returns: fires when signed in; fails with `ConnectFailed` or `SignInRefused` when the client gives up, and with
            `NotConnected` when it is closed meanwhile.
        """
        done: Deferred[Connected] = Deferred(self._connecting_cancelled)
        if self.state is ConnectorState.ONLINE and self._connected is not None:
            done.callback(self._connected)
            return done
        self._connecting.append(done)
        if self.state is ConnectorState.IDLE:
            self._backoff.succeeded()
            self._try()
        return done

    def close(self) -> Deferred[None]:
        """Say GOODBYE and be IDLE. Open requests fail with `ConnectionLost`, whoever waits for `connect` with
        `NotConnected`. Between two connections too the program is told that nothing more comes.

        :returns: fires when what was written is out and the connection closed, or after two seconds; never fails.
        """
        outputs = self._machine.leave()
        self._write()
        closed = self._drop_link(is_abort=False)
        # The last Disconnected has promised a return.
        is_between = self._was_online and self.state is not ConnectorState.ONLINE
        self._be_idle(NotConnected(_CLOSED_HERE))
        self._take(outputs)
        if is_between:
            self._tell(Disconnected(None, _CLOSED_HERE, False))
        return closed

    def request(
        self, ver: int, cmd: int, payload: bytes, reliable: bool, timeout_seconds: float | None
    ) -> Deferred[bytes]:
        """Ask the node something.

        :returns: fires with the payload of the answer; fails with what the node refuses it for, with `TimedOut`, or
            with a `DeliveryError`.
        """
        waiter: _Waiter = Deferred(self._machine.forget)
        seconds = self._options.request_timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            self._unsent.check(len(payload))
            self._machine.request(
                waiter, ver, cmd, payload, reliable=reliable, timeout_seconds=seconds, now=self._reactor.seconds()
            )
        except (CommandError, DeliveryError) as error:
            waiter.errback(error)
        else:
            self._write()
            self._set_timer()
        return waiter

    def send(self, ver: int, cmd: int, payload: bytes, reliable: bool) -> None:
        """Tell the node something that it does not answer.

        :raises DeliveryError: nothing was sent.
        :raises MessageTooLarge: nothing was sent.
        """
        self._unsent.check(len(payload))
        self._machine.send(ver, cmd, payload, reliable=reliable)
        self._write()

    def when_drained(self) -> Deferred[None]:
        """Fire when little waits to be sent: at once, or when the transport has caught up.

        Fails with `NotConnected` when the connection breaks first.
        """
        return self._unsent.when_drained() if self.state is ConnectorState.ONLINE else fail(NotConnected())

    def rebind(self) -> bool:
        """Go on from another local address.

        :returns: False: there is no connection that can, or no way to the node at this moment.
        """
        return isinstance(self._link, MovableLink) and self._link.rebind()

    def peer_socket(self) -> PeerSocket | None:
        """Return the connection if peers can be spoken to by its socket; None: it is no UDP, or there is none."""
        return self._link if isinstance(self._link, PeerSocket) else None

    def data_received(self, data: bytes, is_reliable: bool) -> None:
        """Called by the link."""
        outputs = self._machine.receive(data, self._reactor.seconds(), is_reliable)
        self._write()
        self._take(outputs)
        if self._unsent.is_hopeless:
            self.link_lost(None, "the node does not read")
        self._set_timer()

    def heard(self) -> None:
        """Called by the link."""
        self._machine.heard(self._reactor.seconds())

    def link_lost(self, code: int | None, text: str) -> None:
        """Called by the link."""
        self._take(self._machine.link_lost(code, text))

    def writing_paused(self) -> None:
        """Called by the link."""
        self._unsent.pause()

    def writing_resumed(self) -> None:
        """Called by the link."""
        self._unsent.resume()

    def _try(self) -> None:
        self.state = ConnectorState.CONNECTING
        self._retry = None
        self._ears = ears = _Ears(self)
        self._attempt = Deferred.fromCoroutine(self._open(ears))
        self._attempt.addTimeout(self._options.connect_timeout_seconds, self._reactor)
        self._attempt.addErrback(self._attempt_failed, ears)

    async def _open(self, ears: _Ears) -> None:
        token = self._token() if callable(self._token) else self._token
        if token is not None and not isinstance(token, str):
            token = await token
        machine = self._machine
        credentials = Credentials(self._identity.user, token, machine.resume_sid, machine.received)
        self._link, traits = await self._opener(self._reactor, self._address, ears, credentials, self._options)
        machine.link_opened(traits, token, self._reactor.seconds())
        self._write()
        self._set_timer()

    def _attempt_failed(self, failure: Failure, ears: _Ears) -> None:
        if ears is not self._ears or self.state is not ConnectorState.CONNECTING:
            # Closed meanwhile; what the cancelled attempt says is of no interest.
            return
        error = failure.value
        if not isinstance(error, ConnectFailed):
            detail = failure.getErrorMessage() or type(error).__name__
            if isinstance(error, (DeferTimeoutError, ConnectTimeoutError)):
                detail = f"no answer within {self._options.connect_timeout_seconds:g} seconds"
            error = ConnectFailed(self._address.url, detail)
            error.__cause__ = failure.value
        self._failed(error, self._identity.reconnect and not isinstance(error, SignInRefused))

    def _failed(self, error: ConnectFailed, may_retry: bool) -> None:
        self._drop_link(is_abort=True)
        if may_retry and (self._was_online or self._options.retry_first):
            self._wait()
            self._log.debug("{error}, trying again", error=error)
            return
        if self._was_online:
            # The last Disconnected promised a return that does not happen.
            self._be_idle(error)
            self._tell(Disconnected(getattr(error, "close_code", None), error.detail, False))
        else:
            self._be_idle(error)

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Settled):
                self._settle(output)
            elif isinstance(output, SignInFailed):
                error = ConnectFailed(self._address.url, output.text)
                if output.is_refusal:
                    error = SignInRefused(self._address.url, output.code, output.text)
                self._failed(error, output.will_retry)
            elif isinstance(output, Connected):
                self._be_online(output)
            elif isinstance(output, Disconnected):
                self._be_offline(output)
            else:
                self._tell(output)

    @staticmethod
    def _settle(settled: Settled[_Waiter]) -> None:
        if settled.waiter.called:
            # Cancelled a moment ago, by whoever heard of another one's result.
            return
        if settled.error is None:
            settled.waiter.callback(settled.payload)
        else:
            settled.waiter.errback(settled.error)

    def _be_online(self, connected: Connected) -> None:
        self.state = ConnectorState.ONLINE
        self._was_online = True
        self._connected = connected
        self._online_since = self._reactor.seconds()
        connecting, self._connecting = self._connecting, []
        self._tell(connected)
        fire_all(connecting, connected)

    def _be_offline(self, event: Disconnected) -> None:
        if self.state is ConnectorState.ONLINE:
            if self._reactor.seconds() - self._online_since >= _STEADY_SECONDS:
                self._backoff.succeeded()
            # A node that gave a reason is alive and closes too; to a silent one nothing can be handed over.
            self._drop_link(is_abort=event.code is None)
            if event.will_retry:
                self._wait()
            else:
                self._be_idle(NotConnected(event.text))
        else:
            # Closed by the program when it heard that a request was lost.
            event = replace(event, will_retry=False)
        self._tell(event)

    def _wait(self) -> None:
        self.state = ConnectorState.WAITING
        self._retry = self._reactor.callLater(self._backoff.next_delay(), self._try)

    def _be_idle(self, error: Exception) -> None:
        self.state = ConnectorState.IDLE
        self._was_online = False
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        connecting, self._connecting = self._connecting, []
        fire_all(connecting, error)

    def _drop_link(self, is_abort: bool) -> Deferred[None]:
        self._ears.stop()
        self._connected = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._unsent.broken()
        link, self._link = self._link, None
        if link is None or is_abort:
            if link is not None:
                link.abort()
            return succeed(None)
        closed = link.close()
        closed.addTimeout(_CLOSE_SECONDS, self._reactor)
        return closed.addErrback(_pass_over_timeout)

    def _write(self) -> None:
        if self._link is None:
            return
        frames = self._machine.data_to_send(self._reactor.seconds())
        if frames:
            self._unsent.wrote(frames)
            self._link.write(frames)

    def _set_timer(self) -> None:
        deadline = self._machine.next_deadline()
        timer = self._timer
        if deadline is None or self._machine.state is State.OFFLINE:
            return
        if timer is not None and timer.active():
            # Waking too early is cheap, and moving the timer for each message is not.
            if timer.getTime() <= deadline:
                return
            timer.cancel()
        self._timer = self._reactor.callLater(max(0.0, deadline - self._reactor.seconds()), self._deadline_passed)

    def _deadline_passed(self) -> None:
        self._timer = None
        outputs = self._machine.deadline_passed(self._reactor.seconds())
        self._write()
        self._take(outputs)
        self._set_timer()

    def _connecting_cancelled(self, done: Deferred[Connected]) -> None:
        if done in self._connecting:
            self._connecting.remove(done)
        if not self._connecting and not self._was_online and self.state is not ConnectorState.IDLE:
            self.close()
