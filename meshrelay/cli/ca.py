"""``meshrelay ca``: a private certificate authority for the links between nodes, for those who have none.

::

    meshrelay ca init                            ca/ca.pem  ca/ca.key
    meshrelay ca issue n1 --host n1.example.com  ca/n1.pem  ca/n1.key

Each node gets ``ca.pem`` and its own two files (``[mesh] ca_file``, ``certificate_file``, ``key_file``). ``ca.key``
stays where certificates are made. A certificate (X.509, RFC 5280) names its node by the URI that `meshrelay.mesh.tls`
looks for, and its hosts for nodes that dial an address without knowing who is there.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshrelay.mesh.tls import node_uri

__all__ = ["command", "init_authority", "issue_certificate"]

AUTHORITY_DAYS = 3650
NODE_DAYS = 825

#: Clocks of nodes may be this far behind.
_BACKDATED = timedelta(hours=1)

#: As [node] id, but not empty; "ca" is the authority's own file name.
_NODE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as stream:
        stream.write(content)


def _write_pair(directory: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Write NAME.key, which its owner alone can read, and NAME.pem.

    :raises FileExistsError: one of them is there already; neither is changed.
    """
    paths = directory / f"{name}.key", directory / f"{name}.pem"
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} exists, and is not overwritten")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(paths[0], pem, 0o600)
    _write_new(paths[1], certificate.public_bytes(Encoding.PEM), 0o644)


def _builder(subject: str, days: float, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def init_authority(directory: Path, now: datetime, days: float = AUTHORITY_DAYS) -> None:
    """Make a new authority in `directory`, which is made if need be.

    :raises OSError: there is one already, or the files cannot be written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("meshrelay private CA", days, key, now)
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "meshrelay private CA")]))
    # It signs nodes and no further authorities.
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(is_authority=True), critical=True)
    _write_pair(directory, "ca", key, builder.sign(key, SHA256()))


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def issue_certificate(
    directory: Path, node_id: str, hosts: tuple[str, ...], now: datetime, days: float = NODE_DAYS
) -> None:
    """Make key and certificate of one node.

    :param hosts: names and IP addresses under which it is dialled.
    :raises OSError: there is no authority, the node has a certificate, or the files cannot be written.
    :raises ValueError: `node_id` or a host is none, or the authority cannot be read.
    """
    if _NODE_ID.fullmatch(node_id) is None or node_id == "ca":
        raise ValueError(f"{node_id!r} is no node ID: 1 to 64 letters, digits and . _ : -, and not ca")
    authority_key = load_pem_private_key((directory / "ca.key").read_bytes(), None)
    authority = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{directory / 'ca.key'} is not a key that ca init made")
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(node_uri(node_id))]
    names += [_host_name(host) for host in hosts]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(node_id, days, key, now)
        .issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        # A node dials and is dialled.
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    _write_pair(directory, node_id, key, builder.sign(authority_key, SHA256()))


_DIRECTORY = click.option(
    "--directory", type=click.Path(path_type=Path), default="ca", show_default=True, help="Where its files are."
)


@click.group(name="ca")
def command() -> None:
    """Make certificates for the links between nodes."""


@command.command(name="init")
@_DIRECTORY
@click.option("--days", type=click.IntRange(1, 36500), default=AUTHORITY_DAYS, show_default=True, help="Validity.")
def init_command(directory: Path, days: int) -> None:
    """Make a private certificate authority."""
    try:
        init_authority(directory, datetime.now(UTC), days)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{directory / 'ca.pem'} is for every node; keep {directory / 'ca.key'} secret, nodes do not need it")


@command.command(name="issue")
@click.argument("node")
@_DIRECTORY
@click.option("--host", "hosts", multiple=True, help="Name or IP address under which it is dialled; may be repeated.")
@click.option("--days", type=click.IntRange(1, 36500), default=NODE_DAYS, show_default=True, help="Validity.")
def issue_command(node: str, directory: Path, hosts: tuple[str, ...], days: int) -> None:
    """Make key and certificate of the node whose [node] id is NODE."""
    try:
        issue_certificate(directory, node, hosts, datetime.now(UTC), days)
    except FileNotFoundError as error:
        raise click.ClickException(f"{error.filename} is missing: meshrelay ca init comes first") from error
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    name = directory / node
    click.echo(f'[mesh]\nca_file = "{directory / "ca.pem"}"\ncertificate_file = "{name}.pem"\nkey_file = "{name}.key"')
