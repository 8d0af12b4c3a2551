"""Where a request really comes from, when reverse proxies stand between the caller and us.

Werkzeug's ``ProxyFix`` counts proxies and believes whoever connects; here a forwarded header counts
only when the connection comes from an address that the operator named.
"""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]

SCHEMES = frozenset({"http", "https"})


class TrustedProxies:
    """A WSGI application behind ``networks``; with none, forwarded headers change nothing.

    ``REMOTE_ADDR`` becomes the right-most address of ``X-Forwarded-For`` that is not a trusted proxy:
    what stands left of it was written by the caller. The scheme follows ``X-Forwarded-Proto``.
    """

    def __init__(self, application: Application, networks: Sequence[Network]) -> None:
        self.application, self.networks = application, networks

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The answer of the application to the request as the caller made it."""
        peer = _address(environ.get("REMOTE_ADDR", ""))
        if peer:
            environ["REMOTE_ADDR"] = str(peer)
        if peer and self._trusts(peer):
            environ["REMOTE_ADDR"] = str(self._caller(peer, environ.get("HTTP_X_FORWARDED_FOR", "")))
            scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").strip().lower()
            if scheme in SCHEMES:
                environ["wsgi.url_scheme"] = scheme
        return self.application(environ, start_response)

    def _caller(self, peer: Address, forwarded: str) -> Address:
        """The nearest address that is not ours; the peer's own when the header is absent or malformed."""
        hops = [_address(hop) for hop in forwarded.split(",")]
        for hop in reversed(hops):
            if hop is None:
                return peer
            if not self._trusts(hop):
                return hop
        return hops[0] or peer

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def _address(text: str) -> Address | None:
    """The address that ``text`` spells; one of IPv4 in IPv6's clothes is one of IPv4."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id:
        return None  # a zone names an interface of the machine that wrote it
    return getattr(address, "ipv4_mapped", None) or address
