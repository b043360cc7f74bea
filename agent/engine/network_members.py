"""Members of a create body that belong to the network which the engine makes for a container. Pure.

Tests: ``tests/unit/engine/test_loopback_only.py``, ``tests/unit/engine/test_warm_network.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMBERS: Final = {
    "macaddress": "MAC address",
    "networkdisabled": "disableNetworking",
    "networkingconfig": "networks of the engine",
    "links": "links",
    "extrahosts": "extraHosts",
    "dns": "dnsServers",
    "dnssearch": "dnsSearchDomains",
    "dnsoptions": "options for name servers",
    "publishallports": "published ports",
    "runtime": "runtime",
}
"""Their names in lower case, with their common names. None is in both halves of a body."""


def first_set(body: Mapping[str, Any], members: Mapping[str, str]) -> str:
    """Return the common name of the first of these members that has a value; empty if none has.

    The engine takes members in upper and lower case alike.
    """
    halves = (body, body["HostConfig"])
    given = (key.casefold() for half in halves for key, value in half.items() if value)
    return next((members[key] for key in given if key in members), "")
