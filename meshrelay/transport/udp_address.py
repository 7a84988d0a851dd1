"""An address that a UDP client has not shown to be its own yet: what may be sent there (RFC 9000, section 8).

Whoever copies a sealed packet and sends it with the address of somebody else must not make a node flood that one. So
until the client answers a PING from there, what goes there is bounded by what came from there.
"""

from __future__ import annotations

from meshrelay.wire.commands import CORE_VER, CoreCommand
from meshrelay.wire.frame import Frame, encode_push

__all__ = ["CHALLENGE_BYTES", "MAX_AMPLIFICATION", "UnprovedAddress"]

#: What may go to an unproved address, as a multiple of what came from it.
MAX_AMPLIFICATION = 3

#: Nobody guesses so much.
CHALLENGE_BYTES = 8


class UnprovedAddress:
    """See the module.

    :param challenge: `CHALLENGE_BYTES` that nobody can guess.
    """

    __slots__ = ("_budget_bytes", "_challenge")

    def __init__(self, challenge: bytes) -> None:
        self._challenge = challenge
        self._budget_bytes = 0

    @property
    def question(self) -> bytes:
        """The PING that only who is there can answer."""
        return encode_push(CORE_VER, CoreCommand.PING, self._challenge)

    def is_answer(self, frame: Frame) -> bool:
        """Whether a frame of the client proves that it is there."""
        return frame.ver == CORE_VER and frame.cmd == CoreCommand.PONG and frame.payload == self._challenge

    def received(self, size_bytes: int) -> None:
        """A packet of the client came from there."""
        self._budget_bytes += MAX_AMPLIFICATION * size_bytes

    def spend(self, size_bytes: int) -> bool:
        """Take so much from the budget. False: there is not so much, and nothing was taken."""
        if size_bytes > self._budget_bytes:
            return False
        self._budget_bytes -= size_bytes
        return True
