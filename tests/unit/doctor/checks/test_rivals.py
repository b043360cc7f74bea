from __future__ import annotations

from agent.doctor.checks import rivals
from agent.doctor.sockets import Process
from tests.support.findings import levels


def test_other_agents() -> None:
    assert levels(rivals.judge(rivals.Others())) == {"ok"}
    assert levels(rivals.judge(rivals.Others(amazon_installed=True))) == {"warning"}
    both = rivals.Others(amazon_installed=True, amazon_runs="its container ecs-agent")
    assert levels(rivals.judge(both)) == {"error"}
    assert levels(rivals.judge(rivals.Others(ours=(7,)))) == {"warning"}
    assert levels(rivals.judge(rivals.Others(kubelet=7))) == {"warning"}
    for unknown in (
        rivals.Others(containers_unknown="only root may ask"),
        rivals.Others(processes_unknown=True),
    ):
        assert levels(rivals.judge(unknown)) == {"warning"}


def test_agents_are_known_by_their_command_lines() -> None:
    def process(pid: int, *words: str, inside: bool = False) -> Process:
        return Process(pid=pid, name=words[0], words=words, in_container=inside)

    found = [
        process(1, "python", "/usr/bin/ecs-agent", "run"),
        process(2, "python", "-m", "agent.cli.child", "99", "run"),
        process(3, "python", "-m", "agent", "run"),
        process(4, "python", "/usr/bin/ecs-agent", "control"),
        process(5, "python", "/usr/bin/ecs-agent", "run"),
        process(6, "python", "/usr/bin/ecs-agent", "run", inside=True),
        process(7, "grep", "ecs-agent"),
    ]
    assert rivals.others_of(found, {5}) == (1, 2, 3)
    image = {"Image": "amazon/amazon-ecs-agent:latest", "Names": ["/ecs-agent"]}
    assert rivals.amazon_container([{"Image": "web"}, image]) == "its container ecs-agent"
