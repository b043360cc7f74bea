"""The kernel's forwarding switches: the host's, and our bridge's. Blocks on ``/proc``.

The switch of the link on which a packet arrives decides whether it is forwarded. Setting the host's
switch sets that of every link; a link's own can be changed afterwards. Switches of other links are
left alone.

A link that forwards IPv6 no longer takes its addresses and its default route from router advertisements,
unless ``accept_ra`` is 2. So before IPv6 forwarding is turned on, links that take them are told to go on.
Source: ``Documentation/networking/ip-sysctl.rst`` of Linux.

Tests: ``tests/integration/network/test_host_objects.py``,
``tests/integration/network/test_repairs.py``, ``tests/unit/network/host/test_forwarding.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.errors import NetworkFailure

_SYSCTLS: Final = Path("/proc/sys")
_TAKES_ADVERTISEMENTS, _ALSO_AS_ROUTER = "1", "2"


def switches_off(bridge: str, *, ipv6: bool = False, root: Path = _SYSCTLS) -> list[str]:
    """Return the names, as in ``sysctl``, of the switches that are off.

    A missing bridge has none.

    Args:
        bridge: name of the link on which packets of tasks arrive; empty if it has no switch of its own.
        ipv6: whether tasks have IPv6.
        root: where switches are.
    """
    return [
        name for name, path in _switches(bridge, ipv6=ipv6, root=root).items() if not _is_on(path)
    ]


def turn_on(bridge: str, *, ipv6: bool = False, root: Path = _SYSCTLS) -> None:
    """Turn on the switches that are off; idempotent. Takes the same as ``switches_off``.

    Raises:
        NetworkFailure: a switch cannot be set; the text names it.
    """
    switches = _switches(bridge, ipv6=ipv6, root=root)
    for name in switches_off(bridge, ipv6=ipv6, root=root):
        try:
            if name == _IPV6_OF_HOST:
                _go_on_with_advertisements(root)
            switches[name].write_text("1", encoding="ascii")
        except OSError as error:
            raise NetworkFailure(f"{name} cannot be set to 1: {error}") from None


_IPV6_OF_HOST: Final = "net.ipv6.conf.all.forwarding"


def _switches(bridge: str, *, ipv6: bool, root: Path) -> dict[str, Path]:
    conf = {"ipv4": root / "net/ipv4/conf", "ipv6": root / "net/ipv6/conf"}
    found = {"net.ipv4.ip_forward": root / "net/ipv4/ip_forward"}
    if ipv6:
        found[_IPV6_OF_HOST] = conf["ipv6"] / "all/forwarding"
    for family in ("ipv4", "ipv6") if ipv6 else ("ipv4",):
        if bridge and (conf[family] / bridge).is_dir():
            found[f"net.{family}.conf.{bridge}.forwarding"] = conf[family] / bridge / "forwarding"
    return found


def _go_on_with_advertisements(root: Path) -> None:
    for link in (root / "net/ipv6/conf").iterdir():
        try:
            takes = (link / "accept_ra").read_text(encoding="ascii").strip()
            if takes == _TAKES_ADVERTISEMENTS:
                (link / "accept_ra").write_text(_ALSO_AS_ROUTER, encoding="ascii")
        except FileNotFoundError:
            continue  # the link is gone meanwhile


def _is_on(path: Path) -> bool:
    try:
        return path.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
