"""The relay: one pair of NetBird's own clients through our daemon and through NetBird's own server, and idle peers.

``python -m benchmarks.relay``; about a minute. Needs Go once, to build NetBird's programs. Writes the figures to
results/relay.json and the table into README.md.

Both servers run alone, one after the other, in turns; the clients are the same two programs for both. One sends
messages of 1,000 bytes over WebSocket, the other sends each of them back: every echo passes the server twice.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.page import write_between
from meshrelay.wire.relay import encode_auth, peer_id_of
from meshrelay.wire.websocket_decoder import unmask
from tests.integration.daemon import Daemon
from tests.interop.netbird_programs import NetBirdPeer, NetBirdServer

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

PAYLOAD_BYTES = 1000
#: Messages on their way -> how many are sent.
WINDOWS = {64: 40_000, 1: 5_000}
#: Of the runs of each server the middle one counts.
RUNS = 5

IDLE_PEERS = 10_000
#: Peers that connect before the first of them is waited for.
_AT_ONCE = 200

#: What is wanted: at least so much of the throughput, at most so much of the latency, at most so much memory.
THROUGHPUT, LATENCY, IDLE_MIB = 0.6, 2.0, 200.0

_BEGIN, _END = "<!-- relay: written by relay.py -->", "<!-- relay: end -->"

_TCP = "tcp:0:interface=127.0.0.1"
_MASK = b"mask"

_REQUEST = (
    b"GET /relay HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def measure_pair(url: str) -> dict[str, dict[str, float]]:
    """One pair through the relay at a URL: window -> figures of NetBird's client."""
    with NetBirdPeer("alice", url) as alice, NetBirdPeer("bob", url) as bob:
        for peer in (alice, bob):
            peer.ask("connect")
        bob.ask("open", peer="alice", on_message="echo")
        alice.ask("open", peer="bob")
        alice.ask("measure", peer="bob", count=2000, size=PAYLOAD_BYTES, window=16)
        return {
            str(window): alice.ask("measure", peer="bob", count=count, size=PAYLOAD_BYTES, window=window)
            for window, count in WINDOWS.items()
        }


def measure_pairs() -> dict[str, list[dict[str, dict[str, float]]]]:
    """All runs, the two servers by turns, so that a disturbance meets both."""
    runs: dict[str, list[dict[str, dict[str, float]]]] = {"meshrelay": [], "netbird": []}
    for _ in range(RUNS):
        with Daemon({"relay": {"listen": _TCP}}) as daemon:
            runs["meshrelay"].append(measure_pair(f"rel://{daemon.places['relay']}"))
        with NetBirdServer() as server:
            runs["netbird"].append(measure_pair(server.url))
    return runs


def _auth(number: int) -> bytes:
    message = encode_auth(peer_id_of(str(number)), b"")
    return bytes((0x82, 0x80 | len(message))) + _MASK + unmask(message, _MASK)


def _wait_for_answer(peer: socket.socket) -> None:
    received = b""
    while b"\x01\x07rel://" not in received:
        data = peer.recv(4096)
        if not data:
            raise RuntimeError("a peer was not let in")
        received += data


def measure_idle() -> dict[str, float]:
    """The memory of a daemon, without peers and with many that say nothing, in MiB."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with Daemon({"relay": {"listen": _TCP}}) as daemon, ExitStack() as peers:
        empty = daemon.memory_bytes()
        waiting = []
        for number in range(IDLE_PEERS):
            peer = peers.enter_context(socket.create_connection(daemon.address("relay")))
            peer.sendall(_REQUEST + _auth(number))
            waiting.append(peer)
            if len(waiting) == _AT_ONCE:
                for each in waiting:
                    _wait_for_answer(each)
                waiting.clear()
        if daemon.metric('relay_peers{transport="ws"}') != IDLE_PEERS:
            raise RuntimeError("not all peers are there")
        return {"empty": empty / 2**20, "full": daemon.memory_bytes() / 2**20}


def _middle(runs: list[dict[str, dict[str, float]]], window: int, key: str) -> float:
    return sorted(run[str(window)][key] for run in runs)[len(runs) // 2]


def goals(figures: dict[str, Any]) -> list[tuple[str, str, float, bool]]:
    """What is wanted: title, how much, what was measured, whether that is enough."""
    own, other = figures["pair"]["meshrelay"], figures["pair"]["netbird"]
    rate = _middle(own, 64, "messages_per_second") / _middle(other, 64, "messages_per_second")
    late = _middle(own, 1, "p50_ms") / _middle(other, 1, "p50_ms")
    mib = figures["idle"]["full"]
    return [
        ("echoes a second, 64 on their way / NetBird's", f"≥ {THROUGHPUT}", rate, rate >= THROUGHPUT),
        ("p50, one on its way / NetBird's", f"≤ {LATENCY}", late, late <= LATENCY),
        (f"MiB with {IDLE_PEERS:,} idle peers", f"≤ {IDLE_MIB:.0f}", mib, mib <= IDLE_MIB),
    ]


def table(figures: dict[str, Any]) -> str:
    """The figures as tables in Markdown."""
    lines = [
        f"Measured on {figures['date']}: {figures['machine']}. Messages of {PAYLOAD_BYTES:,} bytes, the middle one of "
        f"{RUNS} runs:",
        "",
        "| server | echoes a second, 64 on their way | p50, ms | p99, ms | p50 with one on its way, ms | p99, ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, title in (("meshrelay", "meshrelay"), ("netbird", "NetBird's own")):
        runs = figures["pair"][name]
        cells = [f"{_middle(runs, 64, 'messages_per_second'):,.0f}"]
        cells += [f"{_middle(runs, window, key):.3f}" for window in WINDOWS for key in ("p50_ms", "p99_ms")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    idle = figures["idle"]
    each = (idle["full"] - idle["empty"]) * 1024 / IDLE_PEERS
    lines += [
        "",
        f"A daemon with {IDLE_PEERS:,} idle peers has {idle['full']:.0f} MiB, {each:.1f} KiB for each.",
        "",
        "| goal | wanted | measured | |",
        "|---|---:|---:|---|",
    ]
    for title, wanted, measured, is_reached in goals(figures):
        lines.append(f"| {title} | {wanted} | {measured:,.2f} | {'reached' if is_reached else 'not reached'} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="NetBird's clients through our relay and through NetBird's own.")
    parser.add_argument("--table", action="store_true", help="only write the table of what was measured before")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    stored = RESULTS / "relay.json"
    if not arguments.table:
        figures = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "pair": measure_pairs(),
            "idle": measure_idle(),
        }
        stored.write_text(json.dumps(figures, indent=1) + "\n")
    figures = json.loads(stored.read_text())
    write_between(HERE / "README.md", _BEGIN, _END, table(figures))
    print(table(figures))


if __name__ == "__main__":
    main()
