"""The certificate of a listening place, read again while the place listens.

Twisted reads the PEM files of ``tls:`` and ``ssl:`` when the endpoint is made, and never again for names that it knows.
So what makes the connections is put behind something that can be told of another one: connections that are there keep
their context, new ones get the new certificate, and the port stays open.

::

    port --> PlaceCertificate.serverConnectionForTLS --> Twisted's for tls:, a context factory for ssl:
                                          ^ use(read())
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

__all__ = ["PlaceCertificate", "take_certificate"]

#: Where Twisted's endpoints keep what makes connections; that of ``tls:``, that of ``ssl:``.
_KEPT_AS = ("connectionCreator", "_sslContextFactory")


@implementer(IOpenSSLServerConnectionCreator)
class PlaceCertificate:
    """Makes the TLS connections of one place.

    :param place: the endpoint string.
    :param creator: what Twisted has made of it.
    """

    def __init__(self, place: str, creator: Any) -> None:
        self._place = place
        self._creator = creator

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """See `IOpenSSLServerConnectionCreator`."""
        made: SSL.Connection = self._creator.serverConnectionForTLS(protocol)
        return made

    def read(self) -> object:
        """Read the files again.

        :returns: for `use`.
        :raises ValueError: there is no certificate with its key in them; the text tells people why.
        """
        try:
            # Nothing listens by it, so that any object will do for the reactor.
            endpoint = _innermost(serverFromString(object(), self._place))
            creator = next(kept for kept in (getattr(endpoint, name, None) for name in _KEPT_AS) if kept is not None)
            connection = _trial(creator)
        except (ValueError, TypeError, LookupError, OSError, SSL.Error, crypto.Error) as error:
            raise ValueError(f"{self._place}: {error or type(error).__name__}") from None
        if connection.get_certificate() is None:
            raise ValueError(f"{self._place}: there is no certificate with its key and a DNS name")
        return creator

    def use(self, creator: object) -> None:
        """From now on connections are made by what `read` returned."""
        self._creator = creator


def take_certificate(endpoint: Any, place: str) -> PlaceCertificate | None:
    """Put a `PlaceCertificate` into an endpoint that does not listen yet; None: the place has no TLS."""
    endpoint = _innermost(endpoint)
    for name in _KEPT_AS:
        creator = getattr(endpoint, name, None)
        if creator is not None:
            certificate = PlaceCertificate(place, creator)
            setattr(endpoint, name, certificate)
            return certificate
    return None


def _innermost(endpoint: Any) -> Any:
    """Return what is behind ``haproxy:``."""
    while hasattr(endpoint, "_wrappedEndpoint"):
        endpoint = endpoint._wrappedEndpoint
    return endpoint


def _trial(creator: Any) -> SSL.Connection:
    """Make a connection for no protocol; only the creator of ``tls:`` can."""
    if hasattr(creator, "getContext"):
        return SSL.Connection(creator.getContext(), None)
    made: SSL.Connection = creator.serverConnectionForTLS(None)
    return made
