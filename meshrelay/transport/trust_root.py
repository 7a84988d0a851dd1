"""A file with certificates of authorities -> what Twisted trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509
from twisted.internet.ssl import Certificate, trustRootFromCertificates

__all__ = ["read_trust_root"]


def read_trust_root(ca_file: str) -> Any:
    """Return the ``trustRoot`` for `twisted.internet.ssl.optionsForClientTLS`: these authorities and no others.

    :param ca_file: one or more certificates in PEM.
    :raises OSError: it cannot be read.
    :raises ValueError: there is no certificate in it.
    """
    authorities = load_pem_x509_certificates(Path(ca_file).read_bytes())
    return trustRootFromCertificates([Certificate(X509.from_cryptography(found)) for found in authorities])
