"""Rules between the keys of several nodes: workers of one machine, and linked nodes. Pure; see `checks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from meshrelay.config.listening import parse_stream_place, parse_udp_place
from meshrelay.config.schema import Config
from meshrelay.errors import ConfigProblem

__all__ = ["CLUSTER_RULES"]

#: Kinds of listening places that workers can share; `transport.shared_port` has the same.
SHARED_KINDS = ("tcp", "tcp6", "ssl", "tls")

#: 64 less what the ID of worker 255 has more.
MAX_SUPERVISOR_ID_LENGTH = 59

#: A frame must fit a message between nodes, together with what a cast of a group puts around it.
MAX_MESH_PAYLOAD_BYTES = 262_144

LAST_PORT = 65_535


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _check_shared_places(config: Config) -> Iterator[ConfigProblem]:
    """Workers share ports; the path of a Unix socket has one listener."""
    if config.node.workers == 1:
        return
    for name in ("tcp", "websocket"):
        text: str = getattr(config.listen, name)
        if text and _parses(parse_stream_place, text) and parse_stream_place(text).kind not in SHARED_KINDS:
            problem = f"{text} cannot be shared by workers: node.workers needs a TCP port"
            yield ConfigProblem(f"listen.{name}", problem)


def _check_udp_ports_of_workers(config: Config) -> Iterator[ConfigProblem]:
    """Each worker has the next port."""
    text = config.listen.udp
    if config.node.workers > 1 and text and _parses(parse_udp_place, text):
        last = parse_udp_place(text).port + config.node.workers - 1
        if last > LAST_PORT:
            yield ConfigProblem("listen.udp", f"the last worker would have port {last}, over {LAST_PORT}")


def _check_id_of_supervisor(config: Config) -> Iterator[ConfigProblem]:
    """Workers add "-w255" to it."""
    if config.node.workers > 1 and len(config.node.id) > MAX_SUPERVISOR_ID_LENGTH:
        problem = f"must have at most {MAX_SUPERVISOR_ID_LENGTH} characters with node.workers"
        yield ConfigProblem("node.id", problem)


def _check_mesh_of_workers(config: Config) -> Iterator[ConfigProblem]:
    """Workers are linked by sockets of a private directory; other machines could not reach them."""
    if config.node.workers == 1:
        return
    for name, alone in (("listen", ""), ("directory", "memory")):
        if getattr(config.mesh, name) != alone:
            yield ConfigProblem(f"mesh.{name}", f"must be {alone!r} with node.workers: workers use their supervisor's")


def _check_links(config: Config) -> Iterator[ConfigProblem]:
    """Nodes believe each other: without TLS a link must not leave this machine."""
    mesh = config.mesh
    files = {"ca_file": mesh.ca_file, "certificate_file": mesh.certificate_file, "key_file": mesh.key_file}
    missing = [name for name, path in files.items() if not path]
    if missing and len(missing) < len(files):
        yield ConfigProblem(f"mesh.{missing[0]}", "is needed: ca_file, certificate_file and key_file belong together")
        return
    if not mesh.listen or not _parses(parse_stream_place, mesh.listen):
        return
    place = parse_stream_place(mesh.listen)
    if place.kind == "unix":
        return
    if place.kind not in ("tcp", "tcp6"):
        yield ConfigProblem("mesh.listen", f"{place.kind}: must be tcp: or unix:, TLS comes from ca_file and its kin")
    elif mesh.insecure and not place.is_loopback:
        yield ConfigProblem("mesh.insecure", f"{mesh.listen} can be reached from other machines: links there need TLS")
    elif mesh.insecure and not missing:
        yield ConfigProblem("mesh.insecure", "is true, but there are certificates: take one of the two away")
    elif missing and not mesh.insecure:
        hint = "meshrelay ca init makes one; on loopback mesh.insecure = true does without"
        yield ConfigProblem("mesh.ca_file", f"is needed for links: {hint}")


def _check_payload(config: Config) -> Iterator[ConfigProblem]:
    has_links = config.mesh.listen or config.mesh.directory != "memory"
    if has_links and config.session.max_payload_bytes > MAX_MESH_PAYLOAD_BYTES:
        problem = f"may be at most {MAX_MESH_PAYLOAD_BYTES} where nodes are linked"
        yield ConfigProblem("session.max_payload_bytes", problem)


def _check_workers_payload(config: Config) -> Iterator[ConfigProblem]:
    if config.node.workers > 1 and config.session.max_payload_bytes > MAX_MESH_PAYLOAD_BYTES:
        yield ConfigProblem("session.max_payload_bytes", f"may be at most {MAX_MESH_PAYLOAD_BYTES} with node.workers")


#: (keys that the rule reads, what yields its problems).
CLUSTER_RULES: tuple[tuple[tuple[str, ...], Callable[[Config], Iterator[ConfigProblem]]], ...] = (
    (("node.workers", "listen.tcp", "listen.websocket"), _check_shared_places),
    (("node.workers", "listen.udp"), _check_udp_ports_of_workers),
    (("node.workers", "node.id"), _check_id_of_supervisor),
    (("node.workers", "mesh.listen", "mesh.directory"), _check_mesh_of_workers),
    (("node.workers", "session.max_payload_bytes"), _check_workers_payload),
    (
        ("mesh.listen", "mesh.insecure", "mesh.ca_file", "mesh.certificate_file", "mesh.key_file"),
        _check_links,
    ),
    (("mesh.directory", "mesh.listen", "session.max_payload_bytes"), _check_payload),
)
