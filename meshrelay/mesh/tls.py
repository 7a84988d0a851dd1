"""TLS between nodes: files of certificates to what endpoints are wrapped in, and a peer's certificate to its node IDs.

Both ends show a certificate of the one private CA, before a byte of Perspective Broker is read. What a certificate
proves is a node ID: the URI ``meshrelay:node/ID`` among its subject alternative names, with ``%3A`` for a colon,
compared letter by letter (a node ID may hold what no DNS name may, and case counts). Hosts are not looked at when the
ID of the dialled node is known, because nodes move; who dials an address without knowing who is there names the host,
and service-identity checks it as for any TLS server (RFC 9525).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from meshrelay.config.listening import is_loopback
from meshrelay.errors import ConfigError, ConfigProblem

__all__ = ["NODE_URI_PREFIX", "NodeCertificates", "is_private_way", "node_ids_of", "node_uri"]

#: In front of the node ID.
#: One colon and no host: service-identity (24.2) reads all URIs of a certificate and stumbles over others.
NODE_URI_PREFIX = "meshrelay:node/"


def node_uri(node_id: str) -> str:
    """Return the name that the certificate of a node must hold."""
    return NODE_URI_PREFIX + quote(node_id, safe="")


def node_ids_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the node IDs that a certificate is for; none in one that is not a node's."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return tuple(unquote(uri[len(NODE_URI_PREFIX) :]) for uri in uris if uri.startswith(NODE_URI_PREFIX))


def is_private_way(address: IAddress, insecure: bool) -> bool:
    """True: a link with this address may do without TLS.

    That of a Unix socket may: only this machine's users who may open the file come in. Over loopback anybody on the
    machine does, hence `insecure` must have been said. What leaves the machine may not.
    """
    if isinstance(address, UNIXAddress):
        return True
    return insecure and is_loopback(str(getattr(address, "host", "")))


@dataclass(frozen=True, slots=True, repr=False)
class NodeCertificates:
    """The certificate of this node, its key, and the CA of all nodes."""

    authority: x509.Certificate
    certificate: x509.Certificate
    key: PrivateKeyTypes

    @classmethod
    def from_pem(cls, authority: bytes, certificate: bytes, key: bytes) -> NodeCertificates:
        """Read the three files of section ``[mesh]``.

        :raises ConfigError: one cannot be used, or certificate and key are not a pair.
        """
        root = _read_certificate("mesh.ca_file", authority)
        own = _read_certificate("mesh.certificate_file", certificate)
        try:
            private = load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise _problem("mesh.key_file", "holds no private key without a password") from None
        if private.public_key() != own.public_key():
            raise _problem("mesh.key_file", "is not the key of mesh.certificate_file")
        try:
            own.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            raise _problem("mesh.certificate_file", "was not issued by the CA of mesh.ca_file") from None
        return cls(root, own, private)

    @property
    def node_ids(self) -> tuple[str, ...]:
        """Who this node may say it is."""
        return node_ids_of(self.certificate)

    def _options(self) -> dict[str, Any]:
        # Twisted names pyOpenSSL's own types; those of cryptography are what pyOpenSSL wants today.
        return {"privateKey": self.key, "certificate": self.certificate, "raiseMinimumTo": TLSVersion.TLSv1_3}

    def _trust_root(self) -> Any:
        return trustRootFromCertificates([Certificate.loadPEM(self.authority.public_bytes(Encoding.PEM))])

    def for_server(self) -> CertificateOptions:
        """What accepts nodes with a certificate of the CA, and no one else."""
        return CertificateOptions(**self._options(), trustRoot=self._trust_root())

    def for_client(self, host: str | None = None) -> Any:
        """What connects to nodes with a certificate of the CA.

        :param host: name or IP address that the certificate must hold; None = its node ID is checked instead.
        """
        if host is None:
            return CertificateOptions(**self._options(), trustRoot=self._trust_root())
        return optionsForClientTLS(host, trustRoot=self._trust_root(), extraCertificateOptions=self._options())


def _read_certificate(path: str, pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise _problem(path, "holds no PEM certificate") from None


def _problem(path: str, problem: str) -> ConfigError:
    return ConfigError([ConfigProblem(path, problem)])
