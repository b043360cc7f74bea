"""Has the frames that a bridge forwards pass the rules of its host's IP stack. Blocks.

Tasks of one bridge reach each other without the host's IP stack, and the bridge family of nftables can track
connections only on kernels with an option of their own. The module ``br_netfilter``, which Docker uses for
its own networks, shows forwarded frames to the rules for packets; it is switched on for this bridge alone.
Source: ``net/bridge/br_netfilter_hooks.c``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.errors import NetworkFailure
from agent.network.kernel import nft

_LINKS: Final = Path("/sys/class/net")
_MODULE: Final = "br_netfilter"
_LOADED: Final = Path("/proc/sys/net/bridge")
_SWITCHES: Final = ("nf_call_iptables", "nf_call_ip6tables")


def why_not() -> str:
    """Return why this host cannot filter frames on bridges; empty if it can. Loads the module."""
    if _LOADED.exists():
        return ""
    try:
        nft.run("modprobe", _MODULE)
    except NetworkFailure as error:
        return str(error)
    if _LOADED.exists():
        return ""
    return (
        f"the kernel's module {_MODULE} cannot be loaded; install the kernel's extra modules, and "
        "restart the agent"
    )


def turn_on(bridge: str) -> None:
    """Have frames on a bridge pass the rules for packets; idempotent.

    Raises:
        NetworkFailure: the kernel cannot, or there is no such bridge.
    """
    problem = why_not()
    if problem:
        raise NetworkFailure(f"security groups cannot be enforced: {problem}")
    for switch in _paths(bridge):
        try:
            if switch.read_text().strip() != "1":
                switch.write_text("1")
        except OSError as error:
            raise NetworkFailure(f"{switch} cannot be set to 1: {error.strerror}") from None


def is_on(bridge: str) -> bool:
    """Return whether frames on a bridge pass the rules for packets."""
    try:
        return all(switch.read_text().strip() == "1" for switch in _paths(bridge))
    except OSError:
        return False


def _paths(bridge: str) -> list[Path]:
    return [_LINKS / bridge / "bridge" / switch for switch in _SWITCHES]
