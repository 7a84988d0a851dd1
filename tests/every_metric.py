"""All families of samples that a node can have, as one in memory tells them: for the page about them, and for tests."""

from __future__ import annotations

import tempfile
from pathlib import Path

from prometheus_client.metrics_core import Metric

from meshrelay.config.schema import Config, MeshConfig, NodeConfig, OverlayConfig, RelayConfig
from meshrelay.http.mesh_metrics import DIRECTORY_COUNTERS, DIRECTORY_GAUGES, DirectoryCollector
from meshrelay.service import Node
from tests.transport.port_reactor import PortReactor

__all__ = ["every_family", "node_with_everything", "sample_names"]


def node_with_everything() -> Node:
    """Return a node with all its parts, and its ports open in memory only."""
    with tempfile.TemporaryDirectory() as directory:
        secret = Path(directory) / "secret"
        secret.write_text("x" * 40)
        mesh = MeshConfig(
            listen="tcp:1:interface=127.0.0.1", directory="pb:127.0.0.1:9", secret_file=str(secret), insecure=True
        )
        relay = RelayConfig(listen="tcp:2:interface=127.0.0.1", exposed_address="rel://127.0.0.1:2")
        overlay = OverlayConfig(listen="tcp:3:interface=127.0.0.1")
        node = Node(Config(node=NodeConfig(id="n1"), mesh=mesh, relay=relay, overlay=overlay), PortReactor())
    node.cluster.listen(node.places)
    node.relay.listen(node.places, node.cluster)
    node.overlay.listen(node.places, node.cluster.nodes, node.direct)
    return node


def every_family() -> list[Metric]:
    """Return the families of such a node, and of every kind of directory."""
    families = {(family.name, family.type): family for family in node_with_everything().metrics().collect()}
    names = dict.fromkeys([*DIRECTORY_GAUGES, *DIRECTORY_COUNTERS], 0)
    families.update(((family.name, family.type), family) for family in DirectoryCollector(lambda: names).collect())
    return [families[key] for key in sorted(families)]


def sample_names(family: Metric) -> set[str]:
    """Return the names under which a family's samples are found."""
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}
    return {family.name + end for end in ends.get(family.type, ("",))}
