"""Whether tasks of this host can have IPv6 addresses that other hosts reach; also for ``ecs-agent doctor``."""

from __future__ import annotations

from agent.model.fleet import ROUTES
from agent.network.drivers.leases import SMALLEST_MTU, SWITCHES, why_without_ipv6


def why_none(driver: str, mtu: int, address: str) -> str:
    """Return why they cannot, with the way to mend it; empty if they can. Blocks on ``/proc``.

    Args:
        driver: ``ECS_FLEET_NETWORK``.
        mtu: ``ECS_TASK_MTU``; 0 if it is not set.
        address: IPv6 address of this host towards others; empty without one.
    """
    problem = why_without_ipv6(SWITCHES)
    if problem:
        return problem
    if 0 < mtu < SMALLEST_MTU:
        return f"IPv6 needs an MTU of {SMALLEST_MTU}; raise ECS_TASK_MTU={mtu}"
    if driver == ROUTES and not address:
        return (
            "ECS_FLEET_NETWORK=routes needs an IPv6 address of this host in the network of the hosts; give it "
            "one, or set ECS_HOST_IPV6_ADDRESS, and restart the agent"
        )
    return ""
