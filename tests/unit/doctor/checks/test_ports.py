from __future__ import annotations

from agent.config import Settings
from agent.doctor.checks import ports
from agent.doctor.findings import Finding, Level
from agent.doctor.sockets import Listener
from tests.support.findings import levels, only

PROMETHEUS = Settings(prometheus=True)


def judged_ports(found: list[Listener], settings: Settings = PROMETHEUS) -> list[Finding]:
    return ports.judge(settings, found, kernel_range=(32768, 60999), agent_pid=7)


def test_ports_of_the_agent_and_of_others() -> None:
    ours = Listener(port=51680, inode=1, pid=7, name="ecs-agent")
    theirs = Listener(port=51680, inode=1, pid=9, name="nginx")
    assert levels(judged_ports([ours])) == {"ok"}
    assert "nginx (process 9)" in only(judged_ports([theirs]), Level.ERROR).seen
    assert levels(judged_ports([theirs], Settings())) == {"ok"}
    amazon = Listener(port=51678, inode=1)
    assert "another process" in only(judged_ports([amazon]), Level.WARNING).seen


def test_the_port_of_introspection() -> None:
    ours = [Listener(port=51678, inode=n, pid=7, name="ecs-agent") for n in (1, 2)]
    assert len(judged_ports(ours)) == 2  # IPv4 and IPv6 are one finding, beside the range
    assert levels(judged_ports(ours)) == {"ok"}
    theirs = Listener(port=5555, inode=1, pid=9, name="nginx")
    told = only(judged_ports([theirs], Settings(introspection_port=5555)), Level.ERROR)
    assert "nginx (process 9) listens on port 5555" in told.seen
    assert "ECS_INTROSPECTION_PORT" in told.mend


def test_ranges_for_dynamic_ports() -> None:
    assert "32768-60999" in only(judged_ports([]), Level.OK).seen
    for narrow in ((40000, 40010), (500, 2000)):
        findings = judged_ports([], Settings(dynamic_host_port_range=narrow))
        assert "ECS_DYNAMIC_HOST_PORT_RANGE" in only(findings, Level.WARNING).mend
    assert ports.range_of("1024\t2048\n") == (1024, 2048)
    assert ports.range_of("") is None


def test_what_the_kernel_does_not_tell() -> None:
    findings = ports.judge(Settings(), None, kernel_range=(32768, 60999), agent_pid=0)
    assert "which process listens on which port is not known" in only(findings, Level.WARNING).seen
    findings = ports.judge(Settings(), [], kernel_range=None, agent_pid=0)
    assert "the kernel's range cannot be read" in only(findings, Level.WARNING).seen
    chosen = Settings(dynamic_host_port_range=(40000, 41000))
    assert levels(ports.judge(chosen, [], kernel_range=None, agent_pid=0)) == {"ok"}
