"""The kernel's forwarding switches: the host's, and our bridge's. Blocks on ``/proc``.

The switch of the link on which a packet arrives decides whether it is forwarded. Setting the host's
switch sets that of every link; a link's own can be changed afterwards. Switches of other links are
left alone.

Tests: ``tests/integration/network/test_host_objects.py``,
``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

from pathlib import Path

from agent.errors import NetworkFailure

_IPV4 = Path("/proc/sys/net/ipv4")


def switches_off(bridge: str) -> list[str]:
    """Return the names, as in ``sysctl``, of the switches that are off.

    A missing bridge has none.
    """
    names = ["net.ipv4.ip_forward"]
    if bridge and (_IPV4 / "conf" / bridge).is_dir():
        names.append(f"net.ipv4.conf.{bridge}.forwarding")
    return [name for name in names if not _is_on(_path(name, bridge))]


def turn_on(bridge: str) -> None:
    """Turn on the switches that are off; idempotent.

    Raises:
        NetworkFailure: a switch cannot be set; the text names it.
    """
    for name in switches_off(bridge):
        try:
            _path(name, bridge).write_text("1", encoding="ascii")
        except OSError as error:
            raise NetworkFailure(f"{name} cannot be set to 1: {error}") from None


def _path(name: str, bridge: str) -> Path:
    return (
        _IPV4 / "ip_forward"
        if name.endswith("ip_forward")
        else _IPV4 / "conf" / bridge / "forwarding"
    )


def _is_on(path: Path) -> bool:
    try:
        return path.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
