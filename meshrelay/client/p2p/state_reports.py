"""Tells the node how peers are reached (LINK_STATE): the latest state of each, gathered for a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from meshrelay.wire.link_commands import LinkReport, LinkState, encode_report
from meshrelay.wire.sync_bytes import MAX_LINK_USERS

__all__ = ["REPORT_SECONDS", "StateReports"]

#: A start and a punch that works at once are one report.
REPORT_SECONDS = 0.1


class StateReports:
    """See the module. What it holds is bounded by the links there are.

    :param send: sends the payload of one LINK_STATE.
    """

    def __init__(self, reactor: Any, send: Callable[[bytes], None]) -> None:
        self._reactor = reactor
        self._send = send
        self._states: dict[str, dict[str, LinkState]] = {}
        self._timer: IDelayedCall | None = None

    def note(self, room_id: str, user_id: str, state: LinkState) -> None:
        """The peer is reached in another way now."""
        self._states.setdefault(room_id, {})[user_id] = state
        if self._timer is None:
            self._timer = self._reactor.callLater(REPORT_SECONDS, self._report)

    def stop(self) -> None:
        """Forget what was not said."""
        self._states.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _report(self) -> None:
        self._timer = None
        rooms, self._states = self._states, {}
        for room_id, states in rooms.items():
            pairs = tuple(states.items())
            for start in range(0, len(pairs), MAX_LINK_USERS):
                self._send(encode_report(LinkReport(room_id, pairs[start : start + MAX_LINK_USERS])))
