"""What both wires of the agents share: who they are, what they are wanted to run, who is there.

An agent may come by either wire (``wire.http``, ``controlplane.ecs``) and even change it: the
instances, their leases, their bells and their orders are the same. Built once by ``server``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from agent.controlplane.agents.assignments import Orders
from agent.controlplane.agents.leases import Leases
from agent.controlplane.agents.new_hosts import NewHosts
from agent.controlplane.agents.registration import Registry
from agent.controlplane.agents.wakeups import Bells

if TYPE_CHECKING:
    from agent.controlplane.agents.tokens import Gate
    from agent.controlplane.history import History
    from agent.controlplane.parts import Services

LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Station:
    """The shared parts; ``bells.run`` must run while agents are served."""

    services: Services
    gate: Gate
    control_id: str
    """Names the store towards agents."""
    registry: Registry
    leases: Leases
    bells: Bells
    orders: Orders
    history: History

    @classmethod
    def build(
        cls,
        services: Services,
        gate: Gate,
        *,
        control_id: str,
        history: History,
        lease_s: float = LEASE_S,
    ) -> Self:
        """Build the parts around one store."""
        return cls(
            services=services,
            gate=gate,
            control_id=control_id,
            registry=Registry(
                services,
                history,
                new_hosts=NewHosts(services, note=gate.note) if gate.file is None else None,
            ),
            leases=Leases(services.store, ttl_s=lease_s, clock=services.clock),
            bells=Bells(services.store),
            orders=Orders(services),
            history=history,
        )
