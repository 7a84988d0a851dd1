"""What connections keep to, read from the configuration in one place."""

from __future__ import annotations

from typing import NamedTuple

from meshrelay.config.schema import SessionConfig

__all__ = ["ConnectionRules"]


class ConnectionRules(NamedTuple):
    """Times in seconds; see [session] of the configuration for each."""

    hello_timeout_seconds: float
    heartbeat_seconds: float
    tcp_ttl_seconds: float
    udp_ttl_seconds: float
    max_payload_bytes: int
    #: 0 = no limit.
    commands_per_second: float
    pending_commands: int
    max_connections: int

    @classmethod
    def of(cls, session: SessionConfig, max_connections: int) -> ConnectionRules:
        """Return the rules that [session] of the configuration says.

        :param max_connections: where it says 0.
        """
        return cls(
            hello_timeout_seconds=session.hello_timeout_seconds,
            heartbeat_seconds=session.heartbeat_seconds,
            tcp_ttl_seconds=session.tcp_ttl_seconds,
            udp_ttl_seconds=session.udp_ttl_seconds,
            max_payload_bytes=session.max_payload_bytes,
            commands_per_second=session.commands_per_second,
            pending_commands=session.pending_commands,
            max_connections=session.max_connections or max_connections,
        )

    def ttl_seconds(self, transport_name: str) -> float:
        """How long a client of this transport may say nothing."""
        return self.udp_ttl_seconds if transport_name == "udp" else self.tcp_ttl_seconds
