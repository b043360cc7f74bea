"""Kernel features that the agent needs, tried out in a separate network namespace.

The trial runs in a child process (``agent.doctor.probe``), which leaves the host's namespace before
it creates anything; everything ends with the child. The kernel may load the modules that it needs,
as it would for the agent.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import msgspec

from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.doctor.host import HostFacts

_LIMIT_S = 30.0
_NO_CHAIN = "No chain/target/match"
_OLDEST = (4, 18)
"""The oldest kernel of a supported distribution (RHEL 8)."""
_MENDS = {
    "network namespace": (
        "tasks in awsvpc mode cannot have their own network",
        "use a kernel with network namespaces; in a container, add CAP_SYS_ADMIN",
        "",
    ),
    "veth": (
        "tasks in awsvpc mode cannot be connected",
        "load the module; if there is none, install the kernel's extra modules",
        "modprobe veth && echo veth >> /etc/modules-load.d/ecs-agent.conf",
    ),
    "bridge": (
        "tasks in awsvpc mode cannot be connected",
        "load the module; if there is none, install the kernel's extra modules",
        "modprobe bridge && echo bridge >> /etc/modules-load.d/ecs-agent.conf",
    ),
    "nftables": (
        "the agent cannot write its firewall rules",
        "load the modules; if there are none, install the kernel's extra modules",
        "modprobe -a nf_tables nft_chain_nat nft_masq",
    ),
    "nftables for bridges": (
        "a task in awsvpc mode can send under its neighbour's address and read its traffic",
        "load the module; if there is none, install the kernel's extra modules",
        "modprobe nf_tables_bridge && echo nf_tables_bridge >> /etc/modules-load.d/ecs-agent.conf",
    ),
}
_ONLY_WARNED = frozenset({"nftables for bridges"})
"""What tasks run without."""


async def check(host: HostFacts) -> list[Finding]:
    """Try the kernel features and the programs that the agent needs."""
    async with asyncio.TaskGroup() as group:
        nft = group.create_task(reading.program("nft", "--version"))
        iptables = group.create_task(reading.program("iptables", "--version"))
        chain = group.create_task(docker_chain())
        probed = group.create_task(_probe()) if host.is_root else None
    return judge(
        release=os.uname().release,
        nft=nft.result(),
        iptables=iptables.result(),
        probed=probed.result() if probed else {},
        docker_chain=chain.result(),
        is_root=host.is_root,
    )


async def docker_chain() -> bool | None:
    """Tell whether Docker's chain for user rules exists; None if unknown."""
    answer = await reading.program("iptables", "-w", "2", "-S", "DOCKER-USER")
    if answer.code == 0:
        return True
    return False if answer.missing or _NO_CHAIN in answer.err else None


async def _probe() -> Mapping[str, str]:
    """Return the error of each feature that was tried; an empty text means it works."""
    answer = await reading.program(
        sys.executable,
        "-m",
        "agent.doctor.probe",
        limit_s=_LIMIT_S,
        environment={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        return msgspec.json.decode(answer.out.encode(), type=dict[str, str])
    except BAD_JSON:
        return {"trial": answer.trouble or "the trial gave no answer"}


def judge(
    *,
    release: str,
    nft: reading.Output,
    iptables: reading.Output,
    probed: Mapping[str, str],
    docker_chain: bool | None,
    is_root: bool,
) -> list[Finding]:
    """Return the verdict on kernel and programs; ``probed`` is the result of the probe. Pure."""
    verdict = FindingList("kernel")
    if release_of(release) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        verdict.warn(
            f"Linux {release} is older than {oldest}, the oldest tested version",
            "update the kernel",
        )
    else:
        verdict.ok(f"Linux {release}")
    if nft.missing:
        probed = {t: trouble for t, trouble in probed.items() if not t.startswith("nftables")}
    _judge_trial(verdict, probed, is_root=is_root)
    _judge_programs(verdict, nft, iptables, docker_chain=docker_chain)
    return verdict.findings


def release_of(release: str) -> tuple[int, int]:
    """Return the first two numbers of a kernel release; zeros if there are none."""
    numbers = release.replace("-", ".").split(".")[:2]
    if len(numbers) == 2 and all(number.isdigit() for number in numbers):
        return int(numbers[0]), int(numbers[1])
    return 0, 0


def _judge_trial(verdict: FindingList, probed: Mapping[str, str], *, is_root: bool) -> None:
    if not is_root:
        verdict.warn("links and rules could not be tested without root", "run it as root")
        return
    for tried, trouble in probed.items():
        if not trouble:
            continue
        if tried not in _MENDS:
            verdict.warn(
                f"the kernel features could not be tested: {trouble}",
                "run the test manually and read its output",
                f"{sys.executable} -m agent.doctor.probe",
            )
            continue
        leads_to, mend, command = _MENDS[tried]
        tell = verdict.warn if tried in _ONLY_WARNED else verdict.error
        tell(f"{tried} does not work ({trouble}): {leads_to}", mend, command)
    works = [tried for tried, trouble in probed.items() if not trouble]
    if works:
        verdict.ok(f"tested in a separate namespace: {', '.join(works)}")


def _judge_programs(
    verdict: FindingList,
    nft: reading.Output,
    iptables: reading.Output,
    *,
    docker_chain: bool | None,
) -> None:
    if nft.missing:
        verdict.error(
            "nft is not installed: the agent cannot write its firewall rules",
            "install the package nftables",
            "apt-get install nftables || dnf install nftables",
        )
    elif nft.code != 0:
        verdict.error(f"nft does not work: {nft.trouble}", "reinstall the package nftables")
    else:
        verdict.ok(nft.out.strip())
    if iptables.missing:
        verdict.warn(
            "iptables is not installed: if Docker drops forwarded packets, tasks in awsvpc mode "
            "have no network",
            "install the package iptables",
            "apt-get install iptables || dnf install iptables-nft",
        )
    elif iptables.code != 0:
        verdict.error(f"iptables does not work: {iptables.trouble}", "reinstall it")
    elif docker_chain is None:
        verdict.unknown(f"whether {iptables.out.strip()} has Docker's chain DOCKER-USER", "")
    else:
        chain = "with" if docker_chain else "without"
        verdict.ok(f"{iptables.out.strip() or 'iptables'}, {chain} Docker's chain DOCKER-USER")
