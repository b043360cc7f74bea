"""What the two protocols of agents share: registration, leases, wake-ups and orders.

An agent may use either protocol (``agents.longpoll``, ``agents.amazon``), and even change it: the
instances, leases, wake-ups and orders are the same. Built once by ``server``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from agent.controlplane.agents.assignments import AssignmentReader
from agent.controlplane.agents.incumbents import Incumbents
from agent.controlplane.agents.leases import Leases
from agent.controlplane.agents.new_hosts import NewHosts
from agent.controlplane.agents.registration import InstanceRegistry
from agent.controlplane.discovery.feed import NamesOfHosts
from agent.controlplane.fleet_network.members import FleetMembers
from agent.controlplane.fleet_network.peers import FleetPeers
from agent.controlplane.security_groups.group_view import GroupsOfHosts

if TYPE_CHECKING:
    from agent.controlplane.agents.bound_hosts import Refusals
    from agent.controlplane.agents.tokens import AgentTokens
    from agent.controlplane.agents.wakeups import WakeUps
    from agent.controlplane.fleet_network.ranges import RangePlan
    from agent.controlplane.history import History
    from agent.controlplane.parts import Parts
    from agent.controlplane.pki.certificates import Certificates

LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class AgentParts:
    """The shared parts; ``wakeups.run`` must run while agents are served."""

    parts: Parts
    agent_tokens: AgentTokens
    control_id: str
    """Identifies the store to agents."""
    registry: InstanceRegistry
    leases: Leases
    wakeups: WakeUps
    orders: AssignmentReader
    history: History
    groups: GroupsOfHosts
    """Its ``run`` must run while agents are served, too; likewise those of ``fleet`` and ``names``."""
    fleet: FleetPeers
    names: NamesOfHosts
    certificates: Certificates | None = None
    """What control signs; None where it has no TLS."""

    async def keep_certificates(self) -> None:
        """Renew what control signs for itself, until cancelled; returns where it signs nothing."""
        if self.certificates is not None:
            await self.certificates.run()

    @classmethod
    def build(  # noqa: PLR0913 - what server knows
        cls,
        parts: Parts,
        agent_tokens: AgentTokens,
        *,
        control_id: str,
        history: History,
        wakeups: WakeUps,
        lease_s: float = LEASE_S,
        fleet_plan: RangePlan | None = None,
        refusals: Refusals | None = None,
    ) -> Self:
        """Build the parts around one store."""
        return cls(
            parts=parts,
            agent_tokens=agent_tokens,
            control_id=control_id,
            registry=InstanceRegistry(
                parts,
                history,
                new_hosts=NewHosts(parts, note=agent_tokens.note)
                if agent_tokens.file is None
                else None,
                members=FleetMembers(parts.store, fleet_plan),
                refusals=refusals,
                incumbents=Incumbents(parts.store, wakeups),
                identities=parts.certificates.identities if parts.certificates else None,
            ),
            leases=Leases(parts.store, ttl_s=lease_s, clock=parts.clock),
            wakeups=wakeups,
            orders=AssignmentReader(parts),
            history=history,
            groups=GroupsOfHosts(parts.store, parts.names, wakeups.wake),
            fleet=FleetPeers(parts.store, fleet_plan, wakeups.wake),
            names=NamesOfHosts(parts.store, wakeups.wake_all),
            certificates=parts.certificates,
        )
