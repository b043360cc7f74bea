"""Other firewalls of the host: those that keep tasks from the agent's server.

firewalld is checked by ``managers``, which asks it for the zone of the tasks' bridge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.addresses import TASK_ADDRESS, TASK_PORT
from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList
from agent.network import other_firewalls
from agent.network.other_firewalls import FIREWALLD, Doorway, FirewallFacts

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.doctor.host import HostFacts


async def check(host: HostFacts) -> list[Finding]:
    """List the chains of the host, and the tables of iptables-legacy."""
    chains = await reading.program("nft", "-j", "list", "chains")
    iptables = await reading.program("iptables", "--version")
    legacy = tuple((await host.text(other_firewalls.LEGACY_TABLES)).split())
    if chains.code != 0:
        verdict = FindingList("firewalls")
        verdict.unknown("whether other firewalls drop packets of tasks", chains.trouble)
        return verdict.findings
    listed = [
        chain
        for chain in other_firewalls.chains_of(chains.out)
        if (chain["family"], chain["table"]) != FIREWALLD
    ]
    return judge(host.settings, FirewallFacts(listed, "", legacy, iptables.out))


def judge(settings: Settings, facts: FirewallFacts) -> list[Finding]:
    """Return the verdict on other firewalls. Pure."""
    verdict = FindingList("firewalls")
    door = Doorway(settings.task_bridge, TASK_ADDRESS, TASK_PORT)
    for each in other_firewalls.recognised(facts, door):
        verdict.warn(f"{each.name} {each.does}", each.mend, each.command)
    if not verdict.findings:
        verdict.ok("no other firewall keeps tasks from the agent's server")
    return verdict.findings
