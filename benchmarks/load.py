"""One job of the load in a process of its own: a job in JSON -> figures in JSON.

``python -m benchmarks.load '{"mode": "cast", ...}'``, as `run` calls it. The processor time of the server, of the load
and of everything else on the machine is read here, around exactly what is measured.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.dialects import MESSAGE_BYTES, Dialect, dialect_named, read_quiet, strip_websocket
from benchmarks.load_job import CastJob, TalkJob, TalkStep, percentile

__all__ = ["main"]

#: Connections that sign in at the same time.
AT_ONCE = 256

#: Sign-ins are measured with so many users in turn.
USERS = 2000

#: Signing everybody in may take so long, and so does what is on its way at the end.
OPEN_SECONDS = 60.0
DRAIN_SECONDS = 5.0

#: One of so many members or receivers checks every byte where as much is sent as is taken.
CHECK_EVERY = 16

#: A server that delivers less than this part of what was due is behind.
SUSTAINED = 0.98


class Server:
    """What is known of the server's process."""

    def __init__(self, pid: int) -> None:
        self._directory = Path(f"/proc/{pid}")

    @property
    def processor_seconds(self) -> float:
        """User and system time of all its threads."""
        fields = (self._directory / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_bytes(self) -> int:
        """RSS."""
        return int((self._directory / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _machine_seconds() -> float:
    """What all processes together have spent, and what the host has taken away."""
    user, nice, system, _, _, _, _, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Processor time from its making on, as parts of one processor, or seconds."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._begin = self._read()

    def _read(self) -> tuple[float, float, float, float]:
        return time.monotonic(), self._server.processor_seconds, time.process_time(), _machine_seconds()

    def stop(self) -> tuple[float, float, dict[str, float]]:
        """Seconds that have passed, those that the server spent, and how busy everything was."""
        seconds, server, own, machine = (now - then for now, then in zip(self._read(), self._begin, strict=True))
        foreign = max(0.0, machine - server - own)
        busy = {"server_busy": server / seconds, "load_busy": own / seconds, "foreign_busy": foreign / seconds}
        return seconds, server, busy


def _is_closed(number: int) -> bool:
    """Whether a connection has ended; what waits in it to be read is taken out."""
    with socket.socket(fileno=os.dup(number)) as connection:
        connection.setblocking(False)
        try:
            while connection.recv(65536):
                pass
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True


def _sums(parts: Sequence[tuple[int, int, int, int]]) -> tuple[int, int, int, int]:
    """Sent, bytes, wrong and closed of all."""
    sent, came, wrong, closed = map(sum, zip(*parts, strict=True))
    return sent, came, wrong, closed


def _names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:06}" for number in range(count)]


class Load:
    """The load of one job.

    :param job: ``server`` (its dialect), ``port``, ``pid``, ``secret``, ``python`` (use the Python load), and what the
        mode needs.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.port: int = job["port"]
        self.server = Server(job["pid"])
        self.dialect: Dialect = dialect_named(job["server"], job["secret"])
        if job["python"]:
            from benchmarks import load_python as kind
        else:
            from benchmarks import load_native as kind  # type: ignore[no-redef]
        self.kind: Any = kind

    def rehearse(self, users: list[str]) -> tuple[socket.socket, list[TalkStep]]:
        """Sign the last of the users in, and learn the steps."""
        return self.dialect.rehearse(self.port, self.dialect.sign_in(users), len(users) - 1)

    def open(self, steps: list[TalkStep], count: int) -> list[int]:
        """Connections that have gone through the steps and stay."""
        talk = self.kind.Talk(TalkJob(self.port, steps, -1, min(AT_ONCE, count), count))
        talk.run(OPEN_SECONDS)
        completed, failed = talk.figures
        if failed or completed != count:
            raise RuntimeError(f"{completed} of {count} connections opened, {failed} failed")
        sockets: list[int] = talk.sockets()
        talk.close()
        return sockets

    def cast(self) -> dict[str, Any]:
        """Publish to a group: ``members``, ``window`` or ``per_second``, ``warm_seconds``, ``seconds``."""
        job, members = self.job, self.job["members"]
        publisher, _ = self.rehearse(["p000000"])
        self.dialect.found(publisher)
        # The last user is the rehearsing one, and the first one of the members in the end.
        first, steps = self.rehearse(_names("m", members))
        for said in self.dialect.join():
            steps.append(self.dialect.rehearse_step(first, [said], 0))
        others = self.open(steps, members - 1) if members > 1 else []
        message, digits_at, mask = self.dialect.published()
        publisher.sendall(message)
        delivery = self._learn_delivery(first)
        for number in others:
            with socket.socket(fileno=os.dup(number)) as other:
                self._read_first(other, len(delivery))
        is_paced = bool(job.get("per_second"))
        cast = self.kind.Cast(
            CastJob(
                publisher=publisher.fileno(),
                members=[first.fileno(), *others],
                check_every=1 if is_paced else CHECK_EVERY,
                message=message,
                digits_at=digits_at,
                digit_mask=mask,
                delivery=delivery,
                delivery_digits_at=delivery.index(b"x" * (MESSAGE_BYTES - 16)) - 16,
                is_websocket=self.dialect.is_websocket,
                ignored=self.dialect.ignored,
                varying=self.dialect.varying,
            )
        )
        how = {"window": job.get("window", 0), "per_second": job.get("per_second", 0)}
        return self._run(cast, how, is_paced, members, len(delivery))

    def _learn_delivery(self, first: socket.socket) -> bytes:
        delivery = read_quiet(first)
        if self.dialect.is_websocket:
            delivery = strip_websocket(delivery)
        while self.dialect.ignored and delivery.startswith(self.dialect.ignored):
            delivery = delivery[len(self.dialect.ignored) :]
        return delivery

    def _read_first(self, other: socket.socket, size: int) -> bytes:
        # A message of which the length is known: no waiting until it is quiet.
        other.settimeout(DRAIN_SECONDS)
        wanted = size + ((2 if size < 126 else 4) if self.dialect.is_websocket else 0)
        data = b""
        while len(data) < wanted or (self.dialect.ignored and data.endswith(self.dialect.ignored[:-1])):
            data += other.recv(wanted - len(data))
            if self.dialect.ignored:
                data = data.removeprefix(self.dialect.ignored)
        other.setblocking(False)
        return data[-size:]

    def _run(
        self, load: Any, how: dict[str, float], is_timed: bool, members: int, delivery_bytes: int
    ) -> dict[str, Any]:
        load.run(self.job["warm_seconds"], **how)
        before, watch = _sums(load.parts), Watch(self.server)
        load.run(self.job["seconds"], **how, is_timed=is_timed)
        seconds, server, busy = watch.stop()
        after = _sums(load.parts)
        delivered = (after[1] - before[1]) / delivery_bytes
        load.run(DRAIN_SECONDS)
        # Of each pair: what one has too much must not hide what another one lacks.
        lacking = [sent * members * delivery_bytes - came for sent, came, _, _ in load.parts]
        _, _, wrong, closed = _sums(load.parts)
        histogram = load.histogram
        return {
            "deliveries_per_second": delivered / seconds,
            "sent_per_second": (after[0] - before[0]) / seconds,
            "server_us": 1e6 * server / max(1.0, delivered),
            **busy,
            # A server that falls behind may still have it. NATS' own PINGs are counted where only bytes are.
            "missing_deliveries": sum(max(0, round(missing / delivery_bytes)) for missing in lacking),
            "surplus_bytes": sum(max(0, -missing) for missing in lacking),
            "wrong": wrong,
            "closed": closed,
            "is_sustained": delivered >= SUSTAINED * (after[0] - before[0]) * members,
            "p50_ms": percentile(histogram, 0.5),
            "p99_ms": percentile(histogram, 0.99),
        }

    def pairs(self) -> dict[str, Any]:
        """Direct messages: ``pairs``, ``window`` on their way of each, ``warm_seconds``, ``seconds``.

        With one on its way each is timed, and all receivers check.
        """
        count, window = self.job["pairs"], self.job["window"]
        receivers, senders = _names("r", count), _names("s", count)
        # The receivers first: what is sent has to find them.
        receiving = self._open_all(self.dialect.receiving(receivers), count)
        sending = self._open_all(self.dialect.sending(senders), count)
        learned = b""
        jobs = []
        # The last pair shows what a delivery looks like, the others' differ from it in the names alone.
        for index in reversed(range(count)):
            message, digits_at, mask = self.dialect.directed(receivers[index])
            sending[index].sendall(message)
            learned = learned or self._learn_delivery(receiving[index])
            delivery = learned.replace(receivers[-1].encode(), receivers[index].encode())
            delivery = delivery.replace(senders[-1].encode(), senders[index].encode())
            if index < count - 1:
                came = self._read_first(receiving[index], len(delivery))
                begin, size = self.dialect.varying
                same = came[:begin] + delivery[begin : begin + size] + came[begin + size :]
                assert same == delivery, f"{came!r} instead of {delivery!r}"
            jobs.append(
                CastJob(
                    publisher=sending[index].fileno(),
                    members=[receiving[index].fileno()],
                    check_every=int(window == 1 or index % CHECK_EVERY == 0),
                    message=message,
                    digits_at=digits_at,
                    digit_mask=mask,
                    delivery=delivery,
                    delivery_digits_at=delivery.index(b"x" * (MESSAGE_BYTES - 16)) - 16,
                    is_websocket=self.dialect.is_websocket,
                    ignored=self.dialect.ignored,
                    varying=self.dialect.varying,
                )
            )
        return self._run(self.kind.Pairs(jobs), {"window": window}, window == 1, 1, len(learned))

    def _open_all(self, steps: list[list[bytes]], count: int) -> list[socket.socket]:
        # The last one alone, to learn, then the others.
        last, learned = self.dialect.rehearse(self.port, steps, count - 1)
        others = self.open(learned, count - 1) if count > 1 else []
        return [*(socket.socket(fileno=number) for number in others), last]

    def sign_ins(self) -> dict[str, Any]:
        """Connect, sign in, leave, over and over: ``seconds``."""
        users = _names("s", USERS)
        _, steps = self.rehearse(users)
        # The rehearsing user stays; no one else may be it.
        steps = [
            TalkStep(s.variants[:-1] if len(s.variants) > 1 else s.variants, s.answer_bytes, s.tail) for s in steps
        ]
        return self._talk(TalkJob(self.port, steps, 0, AT_ONCE, AT_ONCE, self.dialect.farewell))

    def joins(self) -> dict[str, Any]:
        """Members who join and leave one group, over and over: ``seconds``."""
        founder, _ = self.rehearse(["p000000"])
        self.dialect.found(founder)
        first, steps = self.rehearse(_names("j", AT_ONCE + 1))
        again_from = len(steps)
        for said in (*self.dialect.join(), *self.dialect.leave()):
            steps.append(self.dialect.rehearse_step(first, [said], 0))
        return self._talk(TalkJob(self.port, steps, again_from, AT_ONCE, AT_ONCE))

    def _talk(self, told: TalkJob) -> dict[str, Any]:
        talk = self.kind.Talk(told)
        talk.run(self.job["warm_seconds"])
        before, watch = talk.figures[0], Watch(self.server)
        talk.run(self.job["seconds"])
        seconds, server, busy = watch.stop()
        completed, failed = talk.figures
        figures = {
            "per_second": (completed - before) / seconds,
            "server_us": 1e6 * server / max(1, completed - before),
            **busy,
            "failed": failed,
        }
        talk.close()
        return figures

    def idle(self) -> dict[str, Any]:
        """Clients that are signed in and say nothing: ``clients``, ``seconds``."""
        count = self.job["clients"]
        users = _names("i", count + 1)
        _, steps = self.rehearse(users)
        # The first connections fill what the start has left free.
        warm = self.open(steps, count // 4)
        time.sleep(0.5)
        before = self.server.memory_bytes
        steps = [TalkStep(s.variants[len(warm) :] or s.variants, s.answer_bytes, s.tail) for s in steps]
        rest = count - len(warm)
        sockets = warm + self.open(steps, rest)
        time.sleep(2)
        memory = (self.server.memory_bytes - before) / rest
        watch = Watch(self.server)
        time.sleep(self.job["seconds"])
        busy = watch.stop()[2]
        return {"kib_each": memory / 1024, **busy, "closed": sum(map(_is_closed, sockets)), "clients": count}


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.alarm(int(job["limit_seconds"]))
    load = Load(job)
    modes = {
        "cast": load.cast,
        "pairs": load.pairs,
        "sign_ins": load.sign_ins,
        "joins": load.joins,
        "idle": load.idle,
    }
    return modes[job["mode"]]()


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
