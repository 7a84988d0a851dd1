"""A WebRTC connection in memory: what `meshrelay.transport.overlay_webrtc` needs of one, without a network."""

from __future__ import annotations

import asyncio

from meshrelay.transport.overlay_signal import Description
from meshrelay.transport.overlay_webrtc_link import NotConnected, StackOwner, Tasks, WrtcCounters, WrtcOptions

__all__ = ["MemoryStack"]


class MemoryStack:
    """Opens when the test says so.

    :ivar sent: messages that were sent.
    """

    def __init__(
        self, owner: StackOwner, label: str, options: WrtcOptions, counters: WrtcCounters, tasks: Tasks
    ) -> None:
        self.owner = owner
        self.label = label
        self.options = options
        self.max_message_bytes = 262_144
        self.waiting_bytes = 0
        self.remote_address = "192.0.2.1:9"
        self.taken: list[Description] = []
        self.candidates: list[str] = []
        self.sent: list[str] = []
        self.is_open = False
        self.is_connecting = False
        self.is_channel_closed = False
        self.stop_count = 0
        #: What `connect` raises.
        self.failure: Exception | None = None

    def take(self, description: Description) -> bool:
        """See `Stack`; "bad" makes no sense."""
        if self.taken or description.sdp == "bad" or description.is_offer is bool(self.label):
            return False
        self.taken.append(description)
        return True

    def add_candidate(self, text: str) -> bool:
        """See `Stack`; "bad" makes no sense."""
        self.candidates.append(text)
        return text != "bad"

    async def describe(self) -> Description:
        """See `Stack`."""
        await asyncio.sleep(0)
        return Description(bool(self.label), "mine")

    async def connect(self) -> None:
        """See `Stack`."""
        self.is_connecting = True
        if self.failure is not None:
            raise self.failure

    def open(self) -> None:
        """The channel opens."""
        self.is_open = True
        self.owner.stack_opened()

    def send(self, text: str) -> bool:
        """See `Stack`."""
        self.sent.append(text)
        return self.is_open

    def close_channel(self) -> None:
        """See `Stack`."""
        self.is_channel_closed = True

    async def stop(self) -> None:
        """See `Stack`."""
        self.stop_count += 1
        await asyncio.sleep(0)


def unreachable() -> NotConnected:
    """What a stack raises that finds no way."""
    return NotConnected("nobody there")
