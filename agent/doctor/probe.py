"""Tries the kernel features that the agent needs, in a temporary network namespace.

Runs as a separate process (``python -m agent.doctor.probe``), because leaving a namespace cannot be
undone. It creates nothing unless it has left the namespace that it was started in. Prints one JSON
object that maps each feature to its error, or to an empty text.

Tests: ``tests/integration/doctor/test_doctor.py``.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

NAMESPACE = "network namespace"
BRIDGE_RULES = "nftables for bridges"
_CLONE_NEWNET = 0x40000000
_NAMESPACE = Path("/proc/self/ns/net")
_NFT_LIMIT_S = 5.0
_LINK, _PEER, _BRIDGE, _TABLE = "probe0", "probe1", "probebr0", "probe"


_RULES = f"""
    table inet {_TABLE} {{
      set pools {{ type ipv4_addr; flags interval; elements = {{ 10.0.0.0/8 }}; }}
      chain sources {{ type filter hook prerouting priority -300;
        iifname "{_BRIDGE}" ip saddr != @pools drop; }}
      chain between {{ type filter hook forward priority -10;
        ct state established accept; ct status dnat accept; }}
      chain outside {{ type nat hook postrouting priority 100;
        ip saddr @pools ip daddr != @pools masquerade; }}
    }}
    """
_BRIDGE_RULES = f"""
    table bridge {_TABLE} {{
      set ports {{ type ifname . ether_addr . ipv4_addr; }}
      chain frames {{ type filter hook prerouting priority -300;
        ether type ip meta pkttype {{ host, other }} iifname . ether saddr . ip saddr @ports accept;
        arp plen 4 iifname . arp saddr ether . arp saddr ip @ports accept; counter drop; }}
    }}
    """


def main() -> int:
    """Leave the namespace, try each feature, and print the results."""
    found = {NAMESPACE: leave_namespace()}
    if not found[NAMESPACE]:
        found |= {"veth": _veth(), "bridge": _bridge(), "nftables": _nftables(_RULES)}
        if not found["nftables"]:
            found[BRIDGE_RULES] = _nftables(_BRIDGE_RULES)
    sys.stdout.write(json.dumps(found))
    return 0


def leave_namespace() -> str:
    """Move this process into an empty network namespace; return the error, or an empty text."""
    before = _NAMESPACE.readlink()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        return os.strerror(ctypes.get_errno())
    # The next steps must never touch the host's own links and rules, whatever libc returned.
    return "" if _NAMESPACE.readlink() != before else "the namespace stayed the same"


def _veth() -> str:
    return _link(_LINK, kind="veth", peer={"ifname": _PEER})


def _bridge() -> str:
    return _link(_BRIDGE, kind="bridge")


def _link(name: str, **what: object) -> str:
    from pyroute2 import IPRoute  # noqa: PLC0415 - only after leaving the namespace
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        with IPRoute() as netlink:
            netlink.link("add", ifname=name, **what)
    except NetlinkError as error:
        return str(error.args[1] if len(error.args) > 1 else error)
    except OSError as error:
        return str(error.strerror or error)
    return ""


def _nftables(rules: str) -> str:
    """Create a table with the features of the agent's table; return the error, if any."""
    try:
        done = subprocess.run(
            ["nft", "-f", "-"],
            input=rules,
            capture_output=True,
            text=True,
            timeout=_NFT_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        return "nft is not installed"
    except subprocess.TimeoutExpired:
        return f"nft did not answer within {_NFT_LIMIT_S:g} s"
    lines = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (lines[0] if lines else f"exit code {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
