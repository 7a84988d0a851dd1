"""Webhooks: what happens on this node is told to HTTP servers of the operator, after the fact.

::

    [webhooks] --> one HookQueue for each URL --HookPost--> the operator's server
    sessions, groups --HookEvents--'

It never holds up anything: noting an event is all that a session or a group waits for, and each URL has a queue of its
own, so that a server that does not answer costs no other one anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from random import SystemRandom
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from meshrelay.config.files import read_secret
from meshrelay.config.webhooks import WebhooksConfig
from meshrelay.errors import ConfigError, ConfigProblem
from meshrelay.http.webhook_events import HookEvent, HookEvents, Noted
from meshrelay.http.webhook_queue import HookLimits, HookQueue, HookSource

__all__ = ["STOP_SECONDS", "Webhooks", "make_webhooks"]

#: How long a node that stops waits for what is left to be sent.
STOP_SECONDS = 2.0
_STOP_CHECK_SECONDS = 0.05


class PostWithEnd(Protocol):
    """Posts, and has connections; `meshrelay.http.webhook_post.HookPost` is one."""

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Deferred[int]:
        """See `meshrelay.http.webhook_queue.Post`."""

    def close(self) -> Deferred[None]:
        """Close them."""


class Webhooks:
    """All webhooks of a node.

    :param post: sends; None: there are no webhooks.
    :ivar events: to be told of sessions, and to be let watch the groups.
    """

    name = "webhook"

    def __init__(self, config: WebhooksConfig, node_id: str, clock: Any, post: PostWithEnd | None) -> None:
        self._clock = clock
        self._post = post
        self._queues: dict[str, HookQueue] = {}
        if post is not None:
            limits = HookLimits(
                config.max_queue_events,
                config.max_queue_bytes,
                config.max_concurrent,
                config.tries,
                config.breaker_failures,
                config.breaker_seconds,
            )
            source = HookSource(node_id, secrets.token_hex(4), clock, post, SystemRandom().uniform)
            for number, url in enumerate(_urls(config)):
                self._queues[url] = HookQueue(number, url, limits, source)
        self.events = HookEvents(
            Noted(
                self._adders(config.connect),
                self._adders(config.disconnect),
                self._adders(config.join),
                self._adders(config.message),
                config.groups,
            ),
            clock.seconds,
        )

    def _adders(self, urls: tuple[str, ...]) -> tuple[Callable[[HookEvent], object], ...]:
        return tuple(self._queues[url].add for url in dict.fromkeys(urls) if url in self._queues)

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page, of all URLs together; the same keys at each call."""
        queues = self._queues.values()
        return {
            "webhook_events_sent": sum(queue.sent for queue in queues),
            "webhook_events_dropped": sum(queue.dropped for queue in queues),
            "webhook_events_given_up": sum(queue.given_up for queue in queues),
            "webhook_events_waiting": sum(queue.waiting_events for queue in queues),
            "webhook_bytes_waiting": sum(queue.waiting_bytes for queue in queues),
            "webhook_batches": sum(queue.batches for queue in queues),
            "webhook_posts": sum(queue.posts for queue in queues),
            "webhook_posts_failed": sum(queue.failed for queue in queues),
            "webhook_breakers_open": sum(queue.is_open for queue in queues),
            "webhook_breaker_openings": sum(queue.breaker_openings for queue in queues),
        }

    def stop(self) -> Deferred[None]:
        """Send what is left, for `STOP_SECONDS` at most. Fires when that is over, never fails."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ends_at = self._clock.seconds() + STOP_SECONDS
        for queue in self._queues.values():
            queue.flush()
        while self._clock.seconds() < ends_at and not all(queue.is_idle for queue in self._queues.values()):
            pause: Deferred[None] = Deferred()
            self._clock.callLater(_STOP_CHECK_SECONDS, pause.callback, None)
            await pause
        for queue in self._queues.values():
            queue.stop()
        await (self._post.close() if self._post is not None else succeed(None))


def _urls(config: WebhooksConfig) -> list[str]:
    """All URLs, each once, in the order of the file."""
    return list(dict.fromkeys([*config.connect, *config.disconnect, *config.join, *config.message]))


def make_webhooks(config: WebhooksConfig, node_id: str, reactor: Any) -> Webhooks:
    """Build the webhooks of a node; without any URL there is nothing that could be sent.

    :raises ConfigError: the secret cannot be read, or the extra is not installed.
    """
    post: PostWithEnd | None = None
    urls = _urls(config)
    if urls:
        try:
            # Here, as it needs an extra that whoever has no webhooks need not have.
            from meshrelay.http.webhook_post import HookPost
        except ImportError as error:
            problem = f'needs the extra webhooks: pip install "meshrelay[webhooks]" ({error})'
            raise ConfigError([ConfigProblem("webhooks", problem)]) from error
        secret = read_secret(config.secret_file) if config.secret_file else b""
        post = HookPost(reactor, secret, config.timeout_seconds, config.max_concurrent)
    return Webhooks(config, node_id, reactor, post)
