"""How two nodes find out whether they want to link: Hello and Proof, for both ends. Pure.

::

    dialer   --Hello-->   acceptor      who it is, which versions, a nonce
    dialer   <--Hello--   acceptor
    dialer   --Proof-->   acceptor      HMAC-SHA256 over both Hellos with the shared secret, where its batches stand
    dialer   <--Proof--   acceptor

The dialer proves itself first: a node shows a proof only to one that knows the secret, or that it chose to dial. Each
proof names its end, so that none can be sent back as one's own, and covers both Hellos whole: changing a version or
a feature on the way breaks it. Both ends may refuse; then the other one is told code and text.

The node ID is what a certificate is checked for: any node may move to any address, none may take another's name.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from meshrelay.errors import LocalProtocolError, RemoteProtocolError
from meshrelay.mesh.errors import LinkRefused
from meshrelay.wire.node import (
    NODE_PROTOCOL,
    Hello,
    Proof,
    Refusal,
    Resume,
    decode_answer,
    decode_hello,
    decode_proof,
    encode_hello,
    encode_proof,
    encode_welcome,
)

__all__ = ["AcceptorGreeting", "DialerGreeting", "NodeIdentity"]

_DIALER = b"meshrelay node link 1, dialer\0"
_ACCEPTOR = b"meshrelay node link 1, acceptor\0"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who this node is."""

    #: Unique in the cluster, 1 to 64 characters of ASCII.
    node_id: str
    #: 16 random bytes, made at each start.
    incarnation: bytes
    #: Bits of what this node can beyond the protocol version.
    features: int = 0
    #: Newest and oldest version of the link protocol.
    protocol: int = NODE_PROTOCOL
    min_protocol: int = 1

    def hello(self, nonce: bytes) -> Hello:
        """Return what this node says first."""
        return Hello(self.protocol, self.min_protocol, self.node_id, self.incarnation, self.features, nonce)


class _Greeting:
    """What both ends do alike.

    :param secret: shared by all nodes; empty = none, on both ends.
    :param nonce: 32 random bytes of this connection.
    :param names: node IDs that the peer's certificate holds; None = no certificate.
    :ivar peer: the other end's Hello, once it was accepted.
    """

    def __init__(self, identity: NodeIdentity, secret: bytes, nonce: bytes, names: tuple[str, ...] | None) -> None:
        self._identity = identity
        self._secret = secret
        self._names = names
        self._own = encode_hello(identity.hello(nonce))
        self._peers = b""
        self.peer: Hello | None = None

    def _check_peer(self, data: bytes) -> Hello:
        peer = decode_hello(data)
        own = self._identity
        if peer.min_protocol > own.protocol or peer.protocol < own.min_protocol:
            ours, theirs = f"{own.min_protocol} to {own.protocol}", f"{peer.min_protocol} to {peer.protocol}"
            raise LinkRefused(Refusal.VERSION, f"{own.node_id} speaks versions {ours}, {peer.node_id} {theirs}")
        if self._names is not None and peer.node_id not in self._names:
            names = ", ".join(self._names) or "no node"
            raise LinkRefused(Refusal.WRONG_NODE, f"node {peer.node_id} shows the certificate of {names}")
        if peer.node_id == own.node_id:
            if peer.incarnation == own.incarnation:
                raise LinkRefused(Refusal.SELF, f"node {own.node_id} dialled itself")
            raise LinkRefused(Refusal.TWICE, f"two nodes have the ID {own.node_id}")
        self._peers, self.peer = data, peer
        return peer

    def _proof(self, end: bytes, dialers: bytes, acceptors: bytes) -> bytes:
        # Lengths keep one Hello from passing for the begin of the other.
        sizes = len(dialers).to_bytes(4, "big") + len(acceptors).to_bytes(4, "big")
        return hmac.digest(self._secret, end + sizes + dialers + acceptors, "sha256")

    def _check_proof(self, expected: bytes, data: bytes) -> Resume:
        proof = decode_proof(data)
        if not hmac.compare_digest(expected, proof.proof):
            assert self.peer is not None
            raise LinkRefused(Refusal.SECRET, f"{self.peer.node_id} and {self._identity.node_id} differ in the secret")
        return proof.resume


class DialerGreeting(_Greeting):
    """The end that opened the connection."""

    def hello(self) -> bytes:
        """Return what to say first."""
        return self._own

    def hello_answered(self, answer: bytes, expected_node_id: str | None) -> Hello:
        """Read the answer to `hello`.

        :param expected_node_id: who was dialled; None = whoever is there.
        :raises LinkRefused: one of the two does not want the link.
        :raises RemoteProtocolError: the peer's fault.
        """
        content = decode_answer(answer)
        if not isinstance(content, bytes):
            raise LinkRefused(*content, is_peers=True)
        peer = self._check_peer(content)
        if expected_node_id is not None and peer.node_id != expected_node_id:
            raise LinkRefused(Refusal.WRONG_NODE, f"{expected_node_id} was dialled, {peer.node_id} answered")
        return peer

    def proof(self, resume: Resume) -> bytes:
        """Return what to say second."""
        return encode_proof(Proof(self._proof(_DIALER, self._own, self._peers), resume))

    def proof_answered(self, answer: bytes) -> Resume:
        """Read the answer to `proof`: where the other end stands.

        :raises LinkRefused: one of the two does not want the link.
        :raises RemoteProtocolError: the peer's fault.
        """
        content = decode_answer(answer)
        if not isinstance(content, bytes):
            raise LinkRefused(*content, is_peers=True)
        return self._check_proof(self._proof(_ACCEPTOR, self._own, self._peers), content)


class AcceptorGreeting(_Greeting):
    """The end that was connected to."""

    def hello_received(self, data: bytes) -> bytes:
        """Take the dialer's Hello.

        :returns: the answer.
        :raises LinkRefused: we do not want the link.
        :raises RemoteProtocolError: the peer's fault.
        """
        if self.peer is not None:
            raise RemoteProtocolError("a second Hello")
        self._check_peer(data)
        return encode_welcome(self._own)

    def proof_received(self, data: bytes) -> Resume:
        """Take the dialer's Proof.

        :returns: where it stands.
        :raises LinkRefused: it does not know the secret.
        :raises RemoteProtocolError: the peer's fault.
        """
        if self.peer is None:
            raise RemoteProtocolError("a Proof before a Hello")
        return self._check_proof(self._proof(_DIALER, self._peers, self._own), data)

    def welcome(self, resume: Resume) -> bytes:
        """Return the answer to a Proof that was right."""
        if self.peer is None:
            raise LocalProtocolError("a welcome before a Hello")
        return encode_welcome(encode_proof(Proof(self._proof(_ACCEPTOR, self._peers, self._own), resume)))
