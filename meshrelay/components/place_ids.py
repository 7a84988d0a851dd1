"""IDs of places that belong to a node: who made it can be read from the ID, and nobody can guess another one.

52 characters: base32, lower case and without padding, of 16 bytes that name the node and 16 random ones.
"""

from __future__ import annotations

from base64 import b32decode, b32encode
from collections.abc import Callable
from hashlib import sha256

__all__ = ["home_key", "new_place_id", "node_key"]

KEY_BYTES = 16


def node_key(node_id: str) -> bytes:
    """Return the 16 bytes that name a node in the IDs that it makes."""
    return sha256(node_id.encode("utf-8")).digest()[:KEY_BYTES]


def home_key(place_id: str) -> bytes:
    """Return the `node_key` of the node that made an ID; of one that no node made, a key that no node has."""
    try:
        return b32decode(place_id.upper() + "====")[:KEY_BYTES]
    except ValueError:
        return b""


def new_place_id(key: bytes, random_bytes: Callable[[int], bytes]) -> str:
    """Return a new ID.

    :param key: the `node_key` of this node.
    :param random_bytes: ``random_bytes(n)`` -> n bytes that nobody can guess.
    """
    return b32encode(key + random_bytes(KEY_BYTES)).decode("ascii").rstrip("=").lower()
