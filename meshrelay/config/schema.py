"""What can be configured: one frozen struct for each section, holding type, default, range and meaning of each key.

This is the only place of defaults. The metadata is read by ``keys``, from which the loader takes the ranges and
``sample`` makes ``etc/meshrelay.toml`` and the reference page, so a key is described once.

The structs are msgspec's because it checks the ranges that are written here; frozen dataclasses would need a second
description of each range. They are compared by value and changed by `msgspec.structs.replace`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from meshrelay.config.describing import describe as _key
from meshrelay.config.describing import describe_made_file as _made_file
from meshrelay.config.history import GroupHistory
from meshrelay.config.listening import LISTEN_FORMS, UDP_FORM
from meshrelay.config.webhooks import WebhooksConfig

__all__ = [
    "GROUP_ID_LENGTH",
    "MIN_INTERVAL_MS",
    "AppConfig",
    "AuthConfig",
    "Config",
    "DirectConfig",
    "GroupConfig",
    "HttpConfig",
    "LinkConfig",
    "ListenConfig",
    "MeshConfig",
    "NodeConfig",
    "OverlayConfig",
    "RelayConfig",
    "RoomConfig",
    "SessionConfig",
    "StaticGroup",
]

#: Characters of a group ID, each one ASCII.
GROUP_ID_LENGTH = 52

#: A merging interval below this counts as 0, no merging.
MIN_INTERVAL_MS = 100

#: Shortest time that may be set where 0 would make no sense.
_SOON = 0.01

#: The relay pushes frames through links whose batches must hold one whole, and reads each into memory.
_LARGEST_PAYLOAD = 1 << 24


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process itself."""

    id: Annotated[
        str,
        _key(
            "name of this node, must be unique in the cluster",
            pattern=r"[A-Za-z0-9._:-]{0,64}",
            form="at most 64 letters, digits and . _ : -",
            empty="host name plus 4 random hex digits",
        ),
    ] = ""
    workers: Annotated[int, _key("processes that share the ports; more than 1 adds a supervisor", ge=1, le=256)] = 1
    drain_seconds: Annotated[
        float,
        _key(
            "time over which a stopping node says goodbye to its clients",
            ge=0,
            le=3600,
            empty="all at once",
        ),
    ] = 10.0


class ListenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where clients come in: Twisted endpoint strings, port 0 for any free one."""

    tcp: Annotated[str, _key(f"plain TCP clients: {LISTEN_FORMS}", empty="off")] = "tcp:7200:interface=127.0.0.1"
    udp: Annotated[str, _key(f"UDP clients: {UDP_FORM}", empty="off")] = "udp:7100:interface=127.0.0.1"
    websocket: Annotated[str, _key(f"WebSocket clients, path /: {LISTEN_FORMS}", empty="off")] = (
        "tcp:7300:interface=127.0.0.1"
    )
    http: Annotated[str, _key(f"endpoint, health and metrics over HTTP: {LISTEN_FORMS}", empty="off")] = (
        "tcp:7000:interface=127.0.0.1"
    )
    advertised_host: Annotated[
        str,
        _key(
            "host name or address that the endpoint answer gives to clients",
            pattern=r"[^\s/@\[\]]{0,253}",
            form="a host name or an IP address, without scheme and brackets",
            empty="the address it was asked on",
        ),
    ] = ""


Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]

Origin = Annotated[
    str,
    _key(
        "an origin",
        pattern=r"\*|null|[a-z][a-z0-9+.-]*://[^\s/*A-Z]+",
        form='"*" or scheme://host[:port] in lower case, without a path',
    ),
]


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How users sign in."""

    mode: Annotated[
        Literal["open", "token"],
        _key('"open" = anybody is who they say, "token" = a signed JWT whose sub is the user ID'),
    ] = "open"
    algorithms: Annotated[
        tuple[Algorithm, ...],
        _key("signatures that are taken; HS* and the others cannot be mixed", reload=True),
    ] = ("HS256",)
    secret_file: Annotated[
        str, _key("file with the secret of HS*, at least 32 bytes for HS256", empty="none", reload=True, file=True)
    ] = ""
    public_key_file: Annotated[
        str, _key("PEM file with the public key of RS*, PS*, ES* or EdDSA", empty="none", reload=True, file=True)
    ] = ""
    audience: Annotated[str, _key("aud that a token must have", empty="not looked at", reload=True)] = ""
    issuer: Annotated[str, _key("iss that a token must have", empty="not looked at", reload=True)] = ""
    insecure: Annotated[bool, _key('true allows mode "open" beyond loopback')] = False
    allowed_origins: Annotated[
        tuple[Origin, ...],
        _key('origins of web pages that may open a WebSocket, "*" = any', empty="same host", reload=True),
    ] = ()


class SessionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one client. A reload applies to sessions that start afterwards."""

    hello_timeout_seconds: Annotated[float, _key("time from connecting to HELLO", ge=_SOON, le=3600, reload=True)] = (
        10.0
    )
    heartbeat_seconds: Annotated[float, _key("time between the PINGs of the node", ge=_SOON, le=86400, reload=True)] = (
        25.0
    )
    tcp_ttl_seconds: Annotated[
        float, _key("silence after which a TCP or WebSocket client is gone", ge=_SOON, le=86400, reload=True)
    ] = 120.0
    udp_ttl_seconds: Annotated[
        float, _key("silence after which a UDP client is gone", ge=_SOON, le=86400, reload=True)
    ] = 10.0
    resume_seconds: Annotated[
        float,
        _key("time for which a lost client may resume its session", ge=0, le=86400, empty="no resume", reload=True),
    ] = 30.0
    replay_bytes: Annotated[
        int,
        _key(
            "bytes kept for each session that asked for acks, or that is away",
            ge=0,
            le=1 << 30,
            empty="nothing is replayed",
            reload=True,
        ),
    ] = 262_144
    max_payload_bytes: Annotated[int, _key("largest payload of one frame, in bytes", ge=64, le=_LARGEST_PAYLOAD)] = (
        65_536
    )
    outbox_bytes: Annotated[
        int,
        _key("bytes that may wait for a client that reads slowly", ge=1024, le=1 << 32),
    ] = 1_048_576
    slow_consumer: Annotated[
        Literal["disconnect", "drop_oldest", "drop_newest"], _key("what happens over outbox_bytes")
    ] = "disconnect"
    commands_per_second: Annotated[
        int, _key("commands a client may send; twice that at once", ge=0, le=1_000_000, empty="no limit", reload=True)
    ] = 0
    max_connections: Annotated[
        int,
        _key(
            "connections of clients at a time",
            ge=0,
            le=10_000_000,
            empty="the limit of open files minus 100",
            reload=True,
        ),
    ] = 0
    hook_timeout_seconds: Annotated[
        float, _key("longest time that a hook or a custom command may take", ge=_SOON, le=3600)
    ] = 10.0
    retransmit_floor_seconds: Annotated[
        float, _key("shortest time after which an unacknowledged UDP packet is sent again", ge=_SOON, le=10)
    ] = 0.05
    retransmit_tries: Annotated[
        int, _key("times that a UDP packet is sent again before its client is gone", ge=1, le=100)
    ] = 10
    receive_window_packets: Annotated[
        int, _key("UDP packets of one client that may wait for an earlier one", ge=1, le=65_535)
    ] = 1024
    pending_commands: Annotated[
        int,
        _key(
            "commands of one client that may wait behind a slow one before reading pauses",
            ge=1,
            le=65_536,
            reload=True,
        ),
    ] = 64


class StaticGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group that exists from start to stop."""

    group_id: Annotated[
        str,
        _key(
            "ID of the group",
            pattern=rf"[\x21-\x7e]{{{GROUP_ID_LENGTH}}}",
            form=f"exactly {GROUP_ID_LENGTH} ASCII characters without spaces",
        ),
    ]
    interval_ms: Annotated[
        int,
        _key(f"merging interval in milliseconds; below {MIN_INTERVAL_MS} it is 0", ge=0, le=65_535, empty="no merging"),
    ] = 0

    def __post_init__(self) -> None:
        if 0 < self.interval_ms < MIN_INTERVAL_MS:
            msgspec.structs.force_setattr(self, "interval_ms", 0)


class GroupConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Groups."""

    remote_join_tries: Annotated[
        int,
        _key("other nodes that are asked when the home node of a group has lost it", ge=0, le=1000, empty="none"),
    ] = 4
    relay_limit: Annotated[
        int, _key("node links that a broadcast is written to at once; those nodes pass it on", ge=1, le=1000)
    ] = 2
    send_interval_ms: Annotated[
        int,
        _key("merging interval in milliseconds on nodes that hold a replica", ge=0, le=65_535, empty="no merging"),
    ] = 300
    static_groups: Annotated[
        tuple[StaticGroup, ...],
        _key('groups that always exist: [{ group_id = "52 characters", interval_ms = 200 }]', empty="none"),
    ] = ()
    max_groups: Annotated[
        int, _key("groups on this node, static ones apart; the next one is refused", ge=0, le=100_000_000)
    ] = 100_000
    max_groups_per_user: Annotated[
        int, _key("groups that one user may be in; a list of them must fit one frame", ge=1, le=1_000_000)
    ] = 1000
    history: Annotated[
        tuple[GroupHistory, ...],
        _key('groups that keep messages: [{ pattern = "*", history_size = 100 }], the same on all nodes', empty="none"),
    ] = ()
    history_bytes: Annotated[
        int,
        _key(
            "memory for the messages of all groups, without Redis; no group takes over an eighth",
            ge=1 << 16,
            le=1 << 40,
        ),
    ] = 67_108_864
    presence_max_members: Annotated[
        int, _key("members up to which a group tells who is there; a larger one says how many", ge=0, le=100_000)
    ] = 1000
    expose_commands: Annotated[bool, _key("false: clients cannot use the group commands, only the application")] = True


class DirectConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Direct messages."""

    cache_seconds: Annotated[
        float, _key("time for which the node of a peer is remembered", ge=0, le=86400, empty="not remembered")
    ] = 300.0
    lookup_timeout_seconds: Annotated[float, _key("longest time that looking up a user may take", ge=_SOON, le=60)] = (
        3.0
    )
    max_channels: Annotated[
        int,
        _key("peers that are remembered, of all users of a node; the longest unused go", ge=1, le=100_000_000),
    ] = 1_000_000
    expose_commands: Annotated[bool, _key("false: clients cannot use the commands, only the application")] = True


class RoomConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rooms."""

    max_members: Annotated[int, _key("most members that a room may be made for", ge=1, le=65_535)] = 1000
    max_rooms: Annotated[int, _key("rooms on this node; the next one is refused", ge=0, le=10_000_000)] = 100_000
    max_rooms_per_user: Annotated[int, _key("rooms that one user may be in", ge=1, le=1000)] = 100
    expose_commands: Annotated[bool, _key("false: clients cannot use the room commands, only the application")] = True


class LinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """P2P links."""

    max_link_members: Annotated[int, _key("members of one link group", ge=2, le=255)] = 8
    allow_private: Annotated[bool, _key("true: clients may be told each other's private addresses")] = True
    forward_packets_per_second: Annotated[
        int,
        _key("packets that one user may send through the node to peers", ge=0, le=1_000_000, empty="no limit"),
    ] = 2000
    forward_bytes_per_second: Annotated[
        int,
        _key("bytes that one user may send through the node to peers", ge=0, le=1 << 32, empty="no limit"),
    ] = 2_097_152
    expose_commands: Annotated[bool, _key("false: clients cannot use the link commands, only the application")] = True


class MeshConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Links to the other nodes."""

    listen: Annotated[str, _key("where other nodes link to: tcp:6779:interface=127.0.0.1", empty="no links")] = ""
    directory: Annotated[
        str,
        _key(
            "where nodes find users and groups; pb: is the memory directory of another node",
            pattern=r"memory|pb:\S+:\d+|pb:unix:\S+|rediss?://\S+|rediss?\+sentinel://\S+",
            form='"memory", "pb:host:port", "redis://host:port/db" or '
            '"redis+sentinel://host:port,host:port/service/db"',
        ),
    ] = "memory"
    advertised_address: Annotated[
        str,
        _key(
            "where other nodes reach this one, if not where it listens",
            pattern=r"|[^\s/]+:\d+",
            form="host:port",
            empty="as in listen; the host name where that says all addresses",
        ),
    ] = ""
    ca_file: Annotated[str, _key("PEM file of the private CA of all nodes", empty="none", file=True)] = ""
    certificate_file: Annotated[str, _key("PEM file of this node's certificate", empty="none", file=True)] = ""
    key_file: Annotated[str, _key("PEM file of this node's private key", empty="none", file=True)] = ""
    secret_file: Annotated[str, _key("secret that both ends of a link must know", empty="none", file=True)] = ""
    insecure: Annotated[bool, _key("true: no TLS; refused when listen is not loopback")] = False


class RelayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A relay server that NetBird peers can use."""

    listen: Annotated[
        str, _key("where peers come in by WebSocket, path /relay: tcp:33080:interface=127.0.0.1", empty="off")
    ] = ""
    quic: Annotated[
        str,
        _key("where peers come in by QUIC: udp:33080:interface=127.0.0.1, needs the extra quic", empty="off"),
    ] = ""
    exposed_address: Annotated[
        str,
        _key(
            "address by which peers know this relay",
            pattern=r"|rels?://[^\s/]+",
            form="rel://host:port or rels://host:port",
            empty="made from listen",
        ),
    ] = ""
    secret_file: Annotated[
        str,
        _key("secret that peers' tokens are signed with", empty="every token is accepted, loopback only", file=True),
    ] = ""
    certificate_file: Annotated[
        str, _key("PEM file of the certificate for quic; a chain is sent as it is", empty="none", file=True)
    ] = ""
    key_file: Annotated[str, _key("PEM file of the private key for quic", empty="none", file=True)] = ""


Bootstrap = Annotated[str, _key("a peer", pattern=r"wss?://[^\s/]+(/\S*)?", form="ws://host:port or wss://host:port")]
Stun = Annotated[
    str, _key("a STUN server", pattern=r"stun:([^\s:/\[\]]+|\[[^\s/\[\]]+\]):\d{1,5}", form="stun:host:port")
]
Network = Annotated[str, _key("a network", pattern=r"[0-9A-Fa-f.:]+(/\d{1,3})?", form="such as 10.0.0.0/8")]
Address = Annotated[str, _key("an address", pattern=r"[0-9A-Fa-f.:]+", form="an IP address")]


class OverlayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A peer of the peer-relay overlay. The node is one when listen or bootstrap is set."""

    listen: Annotated[str, _key("where peers come in by WebSocket: tcp:7400:interface=127.0.0.1", empty="off")] = ""
    bootstrap: Annotated[tuple[Bootstrap, ...], _key("peers that are asked for others", empty="wait to be found")] = ()
    public_url: Annotated[
        str,
        _key(
            "URL by which other peers reach this one; needs listen",
            pattern=r"|wss?://[^\s/]+(/\S*)?",
            form="ws://host:port or wss://host:port",
            empty="not told",
        ),
    ] = ""
    key_file: Annotated[
        str,
        _made_file(
            "file with the key that the peer ID is made of; written when there is none", "another ID at each start"
        ),
    ] = ""
    bridge: Annotated[
        bool,
        _key(
            "true: users and peers can write to each other, and user IDs that begin with peer: are peers; "
            "the same on all nodes of a cluster"
        ),
    ] = True
    bridge_messages_per_second: Annotated[
        int, _key("messages that one peer may send to users", ge=0, le=1_000_000, empty="no limit")
    ] = 100
    unsigned: Annotated[
        Literal["accept", "refuse"],
        _key("refuse: no links with peers that do not prove who they are, as those of npm cannot, and no messages"),
    ] = "accept"
    max_links: Annotated[int, _key("links to other peers", ge=1, le=1_000_000)] = 1000
    dial_networks: Annotated[
        tuple[Network, ...],
        _key(
            "networks that may always be dialled",
            empty="public addresses; private ones and this machine where the node is there itself",
        ),
    ] = ()
    webrtc: Annotated[
        bool, _key("true: links by WebRTC as well, with the extra webrtc and twistd --reactor=asyncio")
    ] = True
    stun: Annotated[tuple[Stun, ...], _key("STUN servers for WebRTC", empty="none")] = ()
    webrtc_addresses: Annotated[
        tuple[Address, ...], _key("local addresses for WebRTC", empty="all of the machine, but not loopback")
    ] = ()


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the HTTP port offers to operators."""

    admin_key_file: Annotated[
        str,
        _key("file with the key of the admin API and the console", empty="both on loopback only", file=True),
    ] = ""
    console: Annotated[bool, _key("false: no console pages")] = True


class AppConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Your own code inside the node."""

    module: Annotated[
        str,
        _key(
            "module whose setup(relay) is called before the node listens",
            pattern=r"|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*",
            form='the dotted name of a Python module: "mygame.app"',
            empty="none",
        ),
    ] = ""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything: one attribute for each section of the file."""

    node: NodeConfig = msgspec.field(default_factory=NodeConfig)
    listen: ListenConfig = msgspec.field(default_factory=ListenConfig)
    auth: AuthConfig = msgspec.field(default_factory=AuthConfig)
    session: SessionConfig = msgspec.field(default_factory=SessionConfig)
    group: GroupConfig = msgspec.field(default_factory=GroupConfig)
    dm: DirectConfig = msgspec.field(default_factory=DirectConfig)
    room: RoomConfig = msgspec.field(default_factory=RoomConfig)
    link: LinkConfig = msgspec.field(default_factory=LinkConfig)
    mesh: MeshConfig = msgspec.field(default_factory=MeshConfig)
    relay: RelayConfig = msgspec.field(default_factory=RelayConfig)
    overlay: OverlayConfig = msgspec.field(default_factory=OverlayConfig)
    http: HttpConfig = msgspec.field(default_factory=HttpConfig)
    webhooks: WebhooksConfig = msgspec.field(default_factory=WebhooksConfig)
    app: AppConfig = msgspec.field(default_factory=AppConfig)
