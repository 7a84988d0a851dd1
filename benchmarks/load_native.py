"""The load in C (load.c), built when it is first wanted and called through cffi.

Each class has the methods of its twin in `load_python`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from cffi import FFI  # type: ignore[import-untyped]

from benchmarks.built import HERE, build
from benchmarks.load_job import DIGITS, CastJob, TalkJob

__all__ = ["Cast", "Pairs", "Talk"]

_FUNCTIONS = """
struct cast *cast_new(const struct cast_job *job);
struct cast_figures *cast_figures(struct cast *cast);
void cast_run(struct cast *cast, uint64_t duration_ns, uint64_t window, uint64_t interval_ns, int is_timed);
void cast_free(struct cast *cast);
struct pairs *pairs_new(const struct cast_job *jobs, uint32_t count);
struct cast_figures *pairs_figures(struct pairs *pairs, uint32_t index);
void pairs_run(struct pairs *pairs, uint64_t duration_ns, uint64_t window, int is_timed);
void pairs_free(struct pairs *pairs);
struct talk *talk_new(const struct talk_job *job);
void talk_run(struct talk *talk, uint64_t duration_ns);
uint64_t talk_completed(const struct talk *talk);
uint64_t talk_failed(const struct talk *talk);
int talk_socket(const struct talk *talk, uint32_t index);
void talk_free(struct talk *talk);
"""


@cache
def _library() -> tuple[FFI, Any]:
    # The structs are told once, in the source.
    source = (HERE / "load.c").read_text()
    constants = {name: value.strip("()") for name, value in re.findall(r"#define (\w+) (.+)", source)}
    constants["HISTOGRAM_SLOTS"] = str(64 << int(constants["HISTOGRAM_BITS"]))
    structs = re.findall(r"^struct (?:cast_figures|cast_job|talk_step|talk_job) \{.*?^\};", source, re.M | re.S)
    text = re.sub(r"\[(\w+)\]", lambda match: f"[{constants.get(match[1], match[1])}]", "\n".join(structs))
    ffi = FFI()
    ffi.cdef(text + _FUNCTIONS)
    return ffi, ffi.dlopen(str(build("load.c", is_library=True)))


def _tell(ffi: FFI, told: Any, job: CastJob) -> list[Any]:
    """Fill in a ``struct cast_job``.

    :returns: what it points to; cffi keeps nothing of that alive.
    """
    members, message = ffi.new("int[]", list(job.members)), ffi.new("uint8_t[]", job.message)
    delivery, ignored = ffi.new("uint8_t[]", job.delivery), ffi.new("uint8_t[]", job.ignored)
    told.publisher = job.publisher
    told.members, told.member_count, told.check_every = members, len(job.members), job.check_every
    told.message, told.message_bytes, told.message_digits_at = message, len(job.message), job.digits_at
    told.digit_mask = list(job.digit_mask[:DIGITS])
    told.delivery, told.delivery_bytes = delivery, len(job.delivery)
    told.delivery_digits_at, told.is_websocket = job.delivery_digits_at, job.is_websocket
    told.ignored, told.ignored_bytes = ignored, len(job.ignored)
    told.varying_at, told.varying_bytes = job.varying
    return [members, message, delivery, ignored]


class Cast:
    """One publisher and its members, see `CastJob`."""

    def __init__(self, job: CastJob) -> None:
        self._ffi, self._c = _library()
        told = self._ffi.new("struct cast_job *")
        self._kept = _tell(self._ffi, told, job)
        self._cast = self._c.cast_new(told)
        if self._cast == self._ffi.NULL:
            raise MemoryError("the load")
        self._figures = self._c.cast_figures(self._cast)

    def run(self, seconds: float, window: int = 0, per_second: float = 0, is_timed: bool = False) -> None:
        """Publish for a time: at full speed within a window, or at a rate; with neither, read until all has come."""
        interval = int(1e9 / per_second) if per_second else 0
        self._c.cast_run(self._cast, int(seconds * 1e9), window, interval, is_timed)

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Messages sent, bytes of deliveries that came, wrong deliveries, closed connections."""
        figures = self._figures
        return figures.sent, figures.bytes, figures.wrong, figures.closed

    @property
    def parts(self) -> list[tuple[int, int, int, int]]:
        """The figures, as `Pairs` has them."""
        return [self.figures]

    @property
    def histogram(self) -> list[int]:
        """Times from due to read, for `percentile`."""
        return list(self._figures.histogram)

    def close(self) -> None:
        """Free what it has; the sockets stay."""
        self._c.cast_free(self._cast)


class Pairs:
    """Senders, each with one receiver: casts of one member each, in one loop."""

    def __init__(self, jobs: Sequence[CastJob]) -> None:
        self._ffi, self._c = _library()
        told = self._ffi.new("struct cast_job[]", len(jobs))
        self._kept = [_tell(self._ffi, one, job) for one, job in zip(told, jobs, strict=True)]
        self._pairs = self._c.pairs_new(told, len(jobs))
        if self._pairs == self._ffi.NULL:
            raise MemoryError("the load")
        self._figures = [self._c.pairs_figures(self._pairs, index) for index in range(len(jobs))]

    def run(self, seconds: float, window: int = 0, is_timed: bool = False) -> None:
        """Send for a time, each pair within its window; without one read until all has come."""
        self._c.pairs_run(self._pairs, int(seconds * 1e9), window, is_timed)

    @property
    def parts(self) -> list[tuple[int, int, int, int]]:
        """Of each pair: messages sent, bytes of deliveries that came, wrong deliveries, closed connections."""
        return [(figures.sent, figures.bytes, figures.wrong, figures.closed) for figures in self._figures]

    @property
    def histogram(self) -> list[int]:
        """Times from written to read of all pairs that check, for `percentile`."""
        return [sum(slot) for slot in zip(*(figures.histogram for figures in self._figures), strict=True)]

    def close(self) -> None:
        """Free what it has; the sockets stay."""
        self._c.pairs_free(self._pairs)


class Talk:
    """Connections in conversation, see `TalkJob`."""

    def __init__(self, job: TalkJob) -> None:
        self._ffi, self._c = _library()
        self._count = job.count
        self._kept: list[Any] = []
        told = self._ffi.new("struct talk_job *")
        told.port, told.again_from, told.at_once, told.count = job.port, job.again_from, job.at_once, job.count
        told.farewell, told.farewell_bytes = self._keep("uint8_t[]", job.farewell), len(job.farewell)
        told.step_count = len(job.steps)
        for step, c_step in zip(job.steps, told.steps, strict=False):
            ends, size = [], 0
            for variant in step.variants:
                size += len(variant)
                ends.append(size)
            c_step.bytes = self._keep("uint8_t[]", b"".join(step.variants))
            c_step.ends, c_step.variants = self._keep("uint32_t[]", ends), len(ends)
            c_step.answer_bytes, c_step.tail_bytes = step.answer_bytes, len(step.tail)
            c_step.tail = list(step.tail.ljust(8, b"\0"))
        self._talk = self._c.talk_new(told)
        if self._talk == self._ffi.NULL:
            raise MemoryError("the load")

    def _keep(self, kind: str, value: Any) -> Any:
        self._kept.append(self._ffi.new(kind, value))
        return self._kept[-1]

    def run(self, seconds: float) -> None:
        """Until the time is over, a connection fails, or all are open that stay open."""
        self._c.talk_run(self._talk, int(seconds * 1e9))

    @property
    def figures(self) -> tuple[int, int]:
        """Conversations completed, connections failed."""
        return self._c.talk_completed(self._talk), self._c.talk_failed(self._talk)

    def sockets(self) -> list[int]:
        """Descriptors of those that stay open; they are the caller's."""
        return [self._c.talk_socket(self._talk, index) for index in range(self._count)]

    def close(self) -> None:
        """Free what it has, and close what does not stay open."""
        self._c.talk_free(self._talk)
