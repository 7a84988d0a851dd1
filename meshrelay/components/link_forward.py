"""LINK_FORWARD: packets of clients for peers, many at a time, each user within limits (client protocol, section 3).

Only what is refused is answered. What is over the limit is dropped, as a network would do: the peers' own congestion
control is told by it.
"""

from __future__ import annotations

from meshrelay.background import Alarms
from meshrelay.components.hooks import Answers, PipelinedCommand
from meshrelay.components.link_edge import LinkEdge
from meshrelay.components.link_parts import LinkRules
from meshrelay.errors import CommandError, RateLimited
from meshrelay.interfaces import ISession
from meshrelay.machine.token_bucket import TokenBucket
from meshrelay.model import MAX_USER_ID_BYTES
from meshrelay.wire.buffer import GROUP_ID_BYTES, encode_str8
from meshrelay.wire.commands import BUILT_IN_VER, Command
from meshrelay.wire.datagram import MAX_DATAGRAM_BYTES
from meshrelay.wire.frame import FrameRun, encode_push
from meshrelay.wire.link_commands import decode_forward
from meshrelay.wire.link_node import PlanMember

__all__ = ["MAX_RUN_BYTES", "ForwardBudget", "LinkForward"]

#: Pushes for one peer that are handed on together.
MAX_RUN_BYTES = 32 * 1024

#: With its head.
LARGEST_PAYLOAD_BYTES = GROUP_ID_BYTES + 1 + MAX_USER_ID_BYTES + MAX_DATAGRAM_BYTES

#: What a client is told to wait that sends too much.
REFUSED_SECONDS = 0.1


class ForwardBudget:
    """What one user may send: so much a second, and as much at once.

    :param packets_per_second: 0 = no limit.
    :param bytes_per_second: 0 = no limit; a packet always fits.
    """

    __slots__ = ("_bytes", "_packets")

    def __init__(self, packets_per_second: int, bytes_per_second: int, now: float) -> None:
        self._packets = TokenBucket(packets_per_second, packets_per_second, now) if packets_per_second else None
        burst = max(bytes_per_second, LARGEST_PAYLOAD_BYTES)
        self._bytes = TokenBucket(bytes_per_second, burst, now) if bytes_per_second else None

    def take(self, size_bytes: int, now: float) -> bool:
        """Take one packet. False: it is over the limit."""
        if self._packets is not None and self._packets.take(now):
            return False
        return self._bytes is None or self._bytes.take_all(size_bytes, now)


class LinkForward:
    """The command.

    A packet counts with its head: room ID and peer.

    :ivar budgets: of the sessions that have sent something.
    """

    def __init__(self, edge: LinkEdge, alarms: Alarms, rules: LinkRules) -> None:
        self._edge = edge
        self._alarms = alarms
        self._rules = rules
        self.budgets: dict[ISession, ForwardBudget] = {}
        self.command = PipelinedCommand(BUILT_IN_VER, Command.LINK_FORWARD, self._run_many)

    def forget(self, session: ISession) -> None:
        """The session is over here."""
        self.budgets.pop(session, None)

    def _run_many(self, session: ISession, run: FrameRun, answers: Answers) -> None:
        payloads, request_ids = run.payloads, run.request_ids
        place = 0
        while place < len(payloads):
            end = _end_of_run(payloads, place)
            try:
                first = decode_forward(payloads[place])
                peer = self._edge.peer(first.group_id, session, first.user_id)
            except CommandError as error:
                for request_id in request_ids[place:end]:
                    answers.refuse(request_id, error)
            else:
                taken = self._take(session, payloads[place:end], request_ids[place:end], answers)
                self._hand_on(session, peer, taken)
            place = end

    def _take(self, session: ISession, payloads: list[bytes], request_ids: list[int], answers: Answers) -> list[bytes]:
        """Return the payloads that are within the limits of their sender."""
        budget = self._budget_of(session)
        now = self._alarms.now()
        taken = []
        for payload, request_id in zip(payloads, request_ids, strict=True):
            if budget.take(len(payload), now):
                taken.append(payload)
                continue
            self._edge.dropped["limit"] += 1
            if request_id:
                answers.refuse(request_id, RateLimited(REFUSED_SECONDS))
        return taken

    def _hand_on(self, session: ISession, peer: PlanMember, payloads: list[bytes]) -> None:
        """Hand packets to a peer; all are of one room."""
        sender_id = session.user.user_id
        sender = encode_str8(sender_id)
        pushes: list[bytes] = []
        size = 0
        for payload in payloads:
            body = payload[:GROUP_ID_BYTES] + sender + payload[_head_bytes(payload) :]
            pushes.append(encode_push(BUILT_IN_VER, Command.LINK_FORWARD, body))
            size += len(body)
            if size >= MAX_RUN_BYTES or payload is payloads[-1]:
                room_id = str(payload[:GROUP_ID_BYTES], "ascii")
                self._edge.forward(room_id, sender_id, peer, b"".join(pushes), len(pushes))
                pushes, size = [], 0

    def _budget_of(self, session: ISession) -> ForwardBudget:
        budget = self.budgets.get(session)
        if budget is None:
            rules = self._rules
            budget = self.budgets[session] = ForwardBudget(
                rules.forward_packets_per_second, rules.forward_bytes_per_second, self._alarms.now()
            )
        return budget


def _head_bytes(payload: bytes) -> int:
    """Size of what comes before the packet: gid and str8 peer."""
    return GROUP_ID_BYTES + 1 + payload[GROUP_ID_BYTES]


def _end_of_run(payloads: list[bytes], start: int) -> int:
    """Return the end of the payloads from `start` on that go to the same peer in the same room, each with a packet."""
    first = payloads[start]
    if len(first) <= GROUP_ID_BYTES:
        return start + 1
    size = _head_bytes(first)
    head = first[:size]
    end = start + 1
    while (
        end < len(payloads) and payloads[end].startswith(head) and 1 <= len(payloads[end]) - size <= MAX_DATAGRAM_BYTES
    ):
        end += 1
    return end
