"""The configuration of all -> the one of the supervisor, and a private file for each worker with its own.

The file is checked once, by the supervisor. A worker gets the result, and so one that is started again after somebody
broke the file is like the others. Each worker is a node of its own: limits count for each of them.

===================  ==========================  ==========================================================
key                  supervisor                  worker i, from 0
===================  ==========================  ==========================================================
node.id              ID                          ID-wi
listen.tcp           off                         the port of all, shared
listen.websocket     off                         the port of all, shared
listen.udp           off                         the configured port + i; 0 stays 0
listen.http          as configured               off
mesh.listen          unix:DIRECTORY/supervisor   unix:DIRECTORY/wi
mesh.directory       memory                      pb:unix:DIRECTORY/supervisor
mesh.*               the rest is off             the rest is off
overlay              as configured               no peer: the bridge leads to the supervisor's
group.static_groups  none                        as configured
app.module           none                        as configured
===================  ==========================  ==========================================================

A UDP port is not shared: the kernel would spread the packets of one session over all workers by the address that they
come from, and a client whose address changes would reach a worker that does not know it. The endpoint API tells each
client the port of its worker.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import msgspec
from twisted.internet.endpoints import quoteStringArgument

from meshrelay.config.keys import keys_by_section
from meshrelay.config.listening import parse_udp_place
from meshrelay.config.schema import Config, MeshConfig
from meshrelay.errors import ConfigError, ConfigProblem

__all__ = [
    "MAX_DIRECTORY_BYTES",
    "PLAN_VARIABLE",
    "SHARED_PLACES",
    "WorkerPlan",
    "keep_what_needs_a_restart",
    "read_plan",
    "supervisor_config",
    "supervisor_id",
    "worker_id",
    "write_plan",
]

#: Environment variable with the path of a worker's plan. Two underscores in a row would make it a key.
PLAN_VARIABLE = "MESHRELAY_WORKER"

#: Listening places whose port all workers have open.
SHARED_PLACES = ("tcp", "websocket")

#: Of a node ID, see the schema.
_MAX_ID_LENGTH = 64

#: "-w255" is the longest that a worker adds to the ID of its supervisor.
_MAX_SUPERVISOR_ID_LENGTH = _MAX_ID_LENGTH - len("-w255")

#: A path in a socket address of Linux has 107 bytes (unix(7)); "supervisor.sock" is the longest name in the directory.
MAX_DIRECTORY_BYTES = 107 - len("/supervisor.sock")


class WorkerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told by its supervisor."""

    #: From 0 up.
    index: int
    supervisor_id: str
    #: The private one, with the sockets of the links.
    directory: str
    #: Name of a listening place -> the TCP port that all workers share.
    shared_ports: dict[str, int]
    #: Of all processes; see `meshrelay.http.console_tickets.Tickets`.
    ticket_key: bytes
    #: As the operator wrote it.
    config: Config

    @property
    def node_id(self) -> str:
        """ID of the worker as a node."""
        return worker_id(self.supervisor_id, self.index)

    @property
    def other_ids(self) -> list[str]:
        """IDs of the other workers."""
        count = self.config.node.workers
        return [worker_id(self.supervisor_id, index) for index in range(count) if index != self.index]

    @property
    def socket_path(self) -> Path:
        """Where other workers link to this one."""
        return Path(self.directory) / f"w{self.index}.sock"

    @property
    def path(self) -> Path:
        """The file that this is written to."""
        return Path(self.directory) / f"w{self.index}.json"

    def worker_config(self) -> Config:
        """Return the configuration of the worker."""
        config = self.config
        replace = msgspec.structs.replace
        return replace(
            config,
            node=replace(config.node, id=self.node_id, workers=1),
            listen=replace(config.listen, http="", udp=_own_udp_place(config.listen.udp, self.index)),
            mesh=MeshConfig(listen=_unix_place(self.socket_path), directory=f"pb:unix:{_hub_socket(self.directory)}"),
            # One of each for the machine is enough; the supervisor has them.
            relay=replace(config.relay, listen="", quic=""),
            overlay=replace(config.overlay, listen="", bootstrap=(), public_url="", key_file=""),
        )


def supervisor_id(config: Config) -> str:
    """Return the ID of the supervisor: the configured one, or a new random one.

    :raises ConfigError: the workers' IDs would be too long.
    """
    if len(config.node.id) > _MAX_SUPERVISOR_ID_LENGTH:
        raise ConfigError(
            [ConfigProblem("node.id", f"must have at most {_MAX_SUPERVISOR_ID_LENGTH} characters with node.workers")]
        )
    random_part = secrets.token_hex(2)
    return config.node.id or f"{socket.gethostname()[: _MAX_SUPERVISOR_ID_LENGTH - 5]}-{random_part}"


def worker_id(of_supervisor: str, index: int) -> str:
    """Return the node ID of a worker."""
    return f"{of_supervisor}-w{index}"


def supervisor_config(config: Config, node_id: str, directory: str) -> Config:
    """Return the configuration of the supervisor's own node."""
    replace = msgspec.structs.replace
    return replace(
        config,
        node=replace(config.node, id=node_id, workers=1),
        listen=replace(config.listen, tcp="", udp="", websocket=""),
        # Nobody but this user can open the sockets: certificates, which name other nodes, and secrets are not needed.
        mesh=MeshConfig(listen=_unix_place(_hub_socket(directory)), directory="memory"),
        group=replace(config.group, static_groups=()),
        app=replace(config.app, module=""),
    )


def keep_what_needs_a_restart(old: Config, new: Config) -> Config:
    """Return `old` with those keys of `new` that a reload may change.

    A worker that is started again after a reload is like the others then.
    """
    sections = {}
    for section, keys in keys_by_section().items():
        theirs = getattr(new, section)
        changes = {name: getattr(theirs, name) for name, key in keys.items() if key.reload}
        sections[section] = msgspec.structs.replace(getattr(old, section), **changes)
    if old.auth.mode == "token" and new.auth.mode != "token":
        # The mode stays, and with it what tokens are checked by; as in `Node.reload`.
        sections["auth"] = msgspec.structs.replace(old.auth, allowed_origins=new.auth.allowed_origins)
    return Config(**sections)


def write_plan(plan: WorkerPlan) -> None:
    """Write the file of a worker, whole or not at all; only this user may read it."""
    unfinished = plan.path.with_suffix(".new")
    # The mode must hold from the first byte on.
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(plan))
    unfinished.replace(plan.path)


def read_plan(path: str) -> WorkerPlan:
    """Read the file of a worker.

    :raises ConfigError: it cannot be read; the supervisor has ended.
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=WorkerPlan)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError([ConfigProblem("node.workers", f"a worker cannot read its plan: {error}")]) from None


def _hub_socket(directory: str) -> Path:
    return Path(directory) / "supervisor.sock"


def _unix_place(path: Path) -> str:
    return f"unix:{quoteStringArgument(str(path))}:mode=600"


def _own_udp_place(place: str, index: int) -> str:
    parsed = parse_udp_place(place) if place else None
    if parsed is None or not parsed.port:
        return place
    interface = f":interface={quoteStringArgument(parsed.interface)}" if parsed.interface else ""
    return f"udp:{parsed.port + index}{interface}"
