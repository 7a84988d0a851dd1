"""What links between nodes must promise, as a check that knows nothing of what carries them.

Run on the real connection (Perspective Broker) and on the one in memory, so that tests with the second one say
something about the first. A failed check is an AssertionError with the case that broke.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from meshrelay.errors import LocalProtocolError
from meshrelay.mesh.errors import CallFailed, LinkLost
from meshrelay.mesh.interfaces import Dial
from meshrelay.mesh.link import LinkState, NodeLink
from meshrelay.mesh.links import Links
from meshrelay.testing.memory_mesh import RecordingObserver
from meshrelay.wire.node import MAX_MESSAGE_BYTES

__all__ = ["CallFailedOnPurpose", "LinksUnderTest", "check_links"]


@dataclass(frozen=True, slots=True)
class LinksUnderTest:
    """Two fresh nodes "left" and "right" with the same secret and the usual options, not linked yet.

    :ivar dial: opens a connection from left to right.
    :ivar cut: breaks all connections; both ends see it.
    :ivar run: lets that many seconds pass on both.
    """

    left: Links
    right: Links
    left_observer: RecordingObserver
    right_observer: RecordingObserver
    dial: Dial
    cut: Callable[[], object]
    run: Callable[[float], object]

    def linked(self) -> tuple[NodeLink, NodeLink]:
        """Link them and return both links."""
        left = self.left.keep("right", self.dial)
        self.run(1)
        right = self.right.find("left")
        _expect(right is not None and right.state is LinkState.UP, "the acceptor's link is not up")
        _expect(left.state is LinkState.UP, f"the dialer's link is {left.state}")
        assert right is not None
        return left, right


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def check_links(make: Callable[[], LinksUnderTest]) -> None:
    """Check links; `make` is called for each promise."""
    for check in (_both_ways, _waits_until_linked, _sizes, _cut_loses_nothing, _calls, _calls_of_a_cut, _end):
        check(make())


def _both_ways(case: LinksUnderTest) -> None:
    left, right = case.linked()
    for number in range(1000):
        left.send(number % 100, b"to the right %d" % number)
        right.send(7, b"to the left %d" % number)
    case.run(1)
    expected = [(number % 100, b"to the right %d" % number) for number in range(1000)]
    _expect(case.right_observer.messages.get("left") == expected, "messages to the acceptor came otherwise")
    expected = [(7, b"to the left %d" % number) for number in range(1000)]
    _expect(case.left_observer.messages.get("right") == expected, "messages to the dialer came otherwise")
    _expect(left.sender.unacknowledged_batches == 0, "batches were not acknowledged")
    _expect(left.rtt_seconds is not None and right.rtt_seconds is not None, "the round trip is not known")


def _waits_until_linked(case: LinksUnderTest) -> None:
    link = case.left.keep("right", case.dial)
    link.send(1, b"early")
    case.run(1)
    _expect(case.right_observer.messages == {"left": [(1, b"early")]}, "what was sent before the link came up is lost")
    _expect(case.right_observer.events == [("up", "left")], f"{case.right_observer.events}")


def _sizes(case: LinksUnderTest) -> None:
    left, _ = case.linked()
    sizes = (0, 1, 100_000, 131_000, MAX_MESSAGE_BYTES, 3, MAX_MESSAGE_BYTES, 0)
    for size in sizes:
        left.send(1, b"x" * size)
    case.run(2)
    came = [len(payload) for _, payload in case.right_observer.messages.get("left", [])]
    _expect(came == list(sizes), f"sizes {came}")
    try:
        left.send(1, b"x" * (MAX_MESSAGE_BYTES + 1))
    except LocalProtocolError:
        return
    raise AssertionError("a message over the limit was taken")


def _cut_loses_nothing(case: LinksUnderTest) -> None:
    left, right = case.linked()
    count = 0
    for turn in range(6):
        for _ in range(500):
            left.send(1, b"%d" % count)
            right.send(1, b"%d" % count)
            count += 1
        # Queued, written, delivered, acknowledged: each is found by one of the cuts.
        case.run(0.01 * (turn % 4))
        case.cut()
        case.run(3)
    expected = [(1, b"%d" % number) for number in range(count)]
    for observer, node in ((case.right_observer, "left"), (case.left_observer, "right")):
        came = observer.messages.get(node, [])
        _expect(came == expected, f"{len(came)} of {count} came from {node} over 6 cuts, or in another order")
        ups, downs = observer.events.count(("up", node)), observer.events.count(("down", node))
        _expect((ups, downs) == (7, 6), f"told of {ups} ups and {downs} downs")
        _expect(("reset", node) not in observer.events, "told of another incarnation")


def _result(call: Deferred[Any]) -> list[object]:
    results: list[object] = []
    call.addBoth(results.append)
    return results


def _calls(case: LinksUnderTest) -> None:
    left, right = case.linked()
    there, back = _result(left.call("echo", b"over there")), _result(right.call("echo", b""))
    case.run(0.5)
    _expect((there, back) == ([b"over there"], [b""]), f"{there!r} {back!r}")
    _expect(case.right_observer.calls == [("left", "echo", b"over there")], f"{case.right_observer.calls!r}")
    case.right_observer.answer = lambda name, _: fail(CallFailedOnPurpose()) if name == "fail" else Deferred()
    failed = _result(left.call("fail", b""))
    case.run(0.5)
    _expect(isinstance(failed[0], Failure) and failed[0].check(CallFailed) is not None, f"{failed!r}")
    _expect("the password" not in str(failed[0]), "the text of a failure went to the other node")
    slow = _result(left.call("slow", b""))
    case.run(7)
    _expect(isinstance(slow[0], Failure) and slow[0].check(CallFailed) is not None, f"{slow!r}")
    _expect(left.state is LinkState.UP, "a slow call cost the link")


class CallFailedOnPurpose(Exception):
    """What the other end raises in the check. It is logged there, once."""

    def __str__(self) -> str:
        return "the password is 1234"


def _calls_of_a_cut(case: LinksUnderTest) -> None:
    left, _ = case.linked()
    case.right_observer.answer = lambda *_: Deferred()
    waiting = _result(left.call("never", b""))
    case.run(0.1)
    case.cut()
    case.run(0.1)
    _expect(len(waiting) == 1 and isinstance(waiting[0], Failure), f"{waiting!r}")
    failure = waiting[0]
    _expect(isinstance(failure, Failure) and failure.check(LinkLost) is not None, f"{waiting!r}")


def _end(case: LinksUnderTest) -> None:
    left, right = case.linked()
    gone = _result(case.left.stop())
    case.run(1)
    _expect(gone == [None], "the end of all connections was not told")
    _expect(left.state is LinkState.STOPPED, f"{left.state}")
    _expect(right.state is LinkState.IDLE, f"{right.state}")
    _expect(case.right_observer.events == [("up", "left"), ("down", "left")], f"{case.right_observer.events}")
    _expect("stops" in case.right_observer.reasons[0] or "wanted" in case.right_observer.reasons[0], "no reason told")
