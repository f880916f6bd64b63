"""Refuses connections into private networks for addresses from outside, such as a manifest's (SSRF).

Else a manifest could fetch what only this machine reaches: a cloud's metadata service, a router, a local database.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any

import httpx2

from mer_ray.errors import TrackError
from mer_ray.io.identity import one_line

_METADATA = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "192.0.0.192")))
"""Services of clouds (Azure, Oracle) at addresses outside the reserved ranges."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_private(host: str) -> bool:
    """Whether a name or an IP address, in any spelling, is of this machine or of a private or reserved range.

    That is loopback, link-local, RFC 1918, unique local, shared (CGNAT), unspecified, multicast and reserved. IPv6
    addresses that contain an IPv4 address (mapped, 6to4, NAT64) are private if that is. Other names are not looked up.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))  # 127.1, 0x7f000001
        except (OSError, UnicodeError):
            return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_private(str(inner))
        if address.is_site_local:
            return True
    return not address.is_global or address.is_multicast or address.is_reserved or address in _METADATA


class Guard:
    """Raises TrackError (``private_address``) for requests of an httpx2 client into private networks.

    `request` is the client's hook, called for redirects too; `trace` is the requests' ``trace`` extension. The address
    of the connected socket is checked before a byte is sent: whatever the name resolved to, and when. A proxy itself
    may be private; behind it, only addresses that are written as such are seen here.
    """

    def __init__(self, shown: str) -> None:
        """shown: the first address, for messages."""
        self._shown, self._host, self._is_direct = shown, "", True

    def request(self, request: httpx2.Request) -> None:
        """Check the host as it is written."""
        self._host = request.url.raw_host.decode("ascii")
        if is_private(self._host):
            raise self._refused(self._host)

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Check the address of a new connection, unless it is to a proxy."""
        if event.endswith("connect_tcp.started"):
            self._is_direct = info["host"] == self._host
        elif event.endswith("connect_tcp.complete") and self._is_direct:
            stream = info["return_value"]
            address = str(stream.get_extra_info("server_addr")[0])
            if is_private(address):
                stream.close()
                raise self._refused(f"{self._host} ({address})")

    def _refused(self, host: str) -> TrackError:
        text = f"leads to {one_line(host, 120)}, in a private network: refused without acquire.allow_private=true"
        return TrackError("private_address", f"{self._shown} {text}")
