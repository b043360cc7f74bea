"""The package on a booted Debian host, from installing it to purging it.

The tests are one story on one VM: each takes the host as the one before left it, so run the whole
file, or the essential ones. What must never happen throughout: that a container of a task is touched.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm import debs
from tests.vm.one_host import (
    ASK,
    CONFIG,
    IMAGE,
    LINGER,
    PAGE,
    START_LIMIT_S,
    compile_again,
    compile_ahead,
    install,
    join,
    main_pid,
    make_image,
    operator_of,
    show,
    wait_until_connected,
)
from tests.vm.operator import Operator, address

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.vm.machine import Vm

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

DROP_IN = "/etc/systemd/system/ecs-agent.service.d/test.conf"
DATA = "/var/lib/ecs/data"
SERVE = ["sh", "-c", "trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait $!"]

_log = logging.getLogger("vm")


class Story:
    """What later tests know from earlier ones."""

    tasks: dict[str, dict[str, Any]]
    """The tasks that run, as control describes them, by family."""

    def __init__(self) -> None:
        self.tasks = {}

    def pids(self, host: Vm) -> dict[str, int]:
        """Return the pid of every container of the tasks, and of their network sandboxes, by id."""
        ids = " ".join(task["containers"][0]["runtimeId"] for task in self.tasks.values())
        listed = host.out(
            f"""modes=$(docker inspect --format '{{{{.HostConfig.NetworkMode}}}}' {ids})
            sandboxes=$(echo "$modes" | sed -n 's/^container://p')
            docker inspect --format '{{{{.Id}}}} {{{{.State.Pid}}}}' {ids} $sandboxes"""
        )
        found = {line.split()[0]: int(line.split()[1]) for line in listed.splitlines()}
        assert all(found.values()), f"a container does not run: {found}"
        return found


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


@pytest.fixture
def operator(host: Vm) -> Operator:
    return operator_of(host)


@pytest.mark.essential
def test_installing_starts_nothing(host: Vm, package: Path) -> None:
    install(host, package)

    for unit in ("ecs-agent", "ecs-agent-control"):
        assert show(host, unit, "LoadState", "ActiveState") == ["loaded", "inactive"]
        assert host.run(f"systemctl is-enabled {unit}", check=False).out.strip() == "disabled"
    assert host.out("docker ps --quiet") == ""
    assert host.out("ecs-agent version --json || ecs-agent --version")


@pytest.mark.essential
def test_joining_makes_an_active_and_notified_service(host: Vm) -> None:
    make_image(host)

    join(host)

    assert show(host, "ecs-agent", "ActiveState", "Type", "NotifyAccess", "WatchdogUSec") == [
        "active",
        "notify",
        "main",
        "1min",
    ]
    assert show(host, "ecs-agent", "StatusText") != [""]
    assert host.out("systemctl is-enabled ecs-agent") == "enabled"
    (instance,) = operator_of(host).instances()
    assert (instance["status"], instance["agentConnected"]) == ("ACTIVE", True)


def test_the_doctor_finds_no_error_on_a_joined_host(host: Vm) -> None:
    answer = host.run("ecs-agent doctor --json", timeout_s=START_LIMIT_S, check=False)

    assert answer.code == 0, answer.out + answer.err
    assert json.loads(answer.out)


@pytest.mark.essential
def test_tasks_run_under_cgroup_v2_with_the_systemd_driver(
    host: Vm, operator: Operator, story: Story
) -> None:
    assert host.out("docker info --format '{{.CgroupVersion}} {{.CgroupDriver}}'") == "2 systemd"
    operator.define("web", IMAGE, SERVE, mode="awsvpc")
    operator.define("plain", IMAGE, LINGER, mode="none")
    operator.define(
        "lasting",
        IMAGE,
        LINGER,
        mode="none",
        restartPolicy={"enabled": True, "restartAttemptPeriod": 60},
    )

    story.tasks = {family: operator.launch(family) for family in ("web", "plain", "lasting")}

    for task in story.tasks.values():
        container = task["containers"][0]["runtimeId"]
        pid = host.out(f"docker inspect --format '{{{{.State.Pid}}}}' {container}")
        assert f"docker-{container}.scope" in host.out(f"cat /proc/{pid}/cgroup")
    assert fetch(host, story.tasks["web"]) == PAGE


def test_the_figures_of_a_task_are_not_zero(host: Vm, story: Story) -> None:
    for family, task in story.tasks.items():
        sample = until_sampled(host, task)
        (main,) = sample["containers"]
        assert main["memoryBytes"] > 0, family
        assert main["cpuNs"] > 0, family
    # The newest sample may be older than the page that was fetched.
    until_sampled(host, story.tasks["web"], lambda sample: sample["network"].get("rxBytes"))


@pytest.mark.essential
def test_a_restart_of_the_agent_touches_no_container(host: Vm, story: Story) -> None:
    before, agent = story.pids(host), main_pid(host)

    host.run("systemctl restart ecs-agent", timeout_s=START_LIMIT_S)

    wait_until_connected(host)
    assert main_pid(host) != agent
    assert story.pids(host) == before
    assert fetch(host, story.tasks["web"]) == PAGE


def test_a_reload_takes_a_good_configuration_and_keeps_the_old_one_from_a_bad(
    host: Vm, story: Story
) -> None:
    before, agent = story.pids(host), main_pid(host)
    good = host.out(f"cat {CONFIG}")

    host.run(f"echo ECS_RESERVED_MEMORY=100 >>{CONFIG}\nsystemctl reload ecs-agent")
    host.until("journalctl --unit ecs-agent | grep ECS_RESERVED_MEMORY", within_s=START_LIMIT_S)
    wait_until_connected(host)

    mark = host.out("date '+%F %T'")
    host.run(f"echo ECS_RESERVED_MEMORY=lots >>{CONFIG}\nsystemctl reload ecs-agent", check=False)
    host.until(
        f"journalctl --unit ecs-agent --since '{mark}' | grep ECS_RESERVED_MEMORY",
        within_s=START_LIMIT_S,
    )
    wait_until_connected(host)

    host.put(good + "\n", CONFIG)
    host.run("systemctl reload ecs-agent")
    wait_until_connected(host)
    assert main_pid(host) == agent
    assert story.pids(host) == before


def test_an_upgrade_restarts_the_agent_and_no_container(
    host: Vm, package: Path, compiled: Path | None, tmp_path: Path, story: Story
) -> None:
    before, agent = story.pids(host), main_pid(host)
    compile_ahead(host, compiled)

    install(host, debs.newer(package, tmp_path))

    wait_until_connected(host)
    assert debs.NEWER in host.out("ecs-agent --version")
    assert json.loads(host.out("ecs-agent status --json"))["version"] == debs.NEWER
    assert main_pid(host) != agent
    assert story.pids(host) == before
    assert fetch(host, story.tasks["web"]) == PAGE


def test_the_watchdog_catches_a_stopped_event_loop(host: Vm, story: Story) -> None:
    before = story.pids(host)
    host.put("[Service]\nWatchdogSec=20\nTimeoutAbortSec=5\n", DROP_IN)
    host.run("systemctl daemon-reload\nsystemctl restart ecs-agent", timeout_s=START_LIMIT_S)
    wait_until_connected(host)
    agent = main_pid(host)

    host.run(f"kill -STOP {agent}")

    host.until(f"test $(systemctl show -P MainPID ecs-agent) -gt {agent}", within_s=START_LIMIT_S)
    wait_until_connected(host)
    assert int(show(host, "ecs-agent", "NRestarts")[0]) >= 1
    assert "atchdog timeout" in host.out("journalctl --unit ecs-agent --boot")
    assert story.pids(host) == before
    host.run(f"rm {DROP_IN}\nsystemctl daemon-reload")


def test_after_a_reboot_the_host_is_what_control_wants(
    host: Vm, operator: Operator, story: Story
) -> None:
    (before,) = operator.instances()

    host.reboot()

    wait_until_connected(host)
    (after,) = operator.instances()
    assert after["containerInstanceArn"] == before["containerInstanceArn"]
    for family in ("web", "plain"):
        ended = operator.wait(story.tasks[family]["taskArn"], "STOPPED")
        assert ended["stoppedReason"], family
        _log.info("%s ended by the reboot: %s", family, ended["stoppedReason"])
    lasting = operator.wait(story.tasks["lasting"]["taskArn"], "RUNNING")
    host.until(
        f"docker ps --quiet --no-trunc | grep {lasting['containers'][0]['runtimeId']}",
        within_s=START_LIMIT_S,
    )
    story.tasks = {"lasting": lasting, "web": operator.launch("web")}
    assert fetch(host, story.tasks["web"]) == PAGE


def test_a_reboot_drains_the_host_first_where_that_is_set(
    host: Vm, operator: Operator, story: Story
) -> None:
    before = host.out(f"cat {CONFIG}")
    host.run(f"echo ECS_DRAIN_ON_SHUTDOWN=2s >>{CONFIG}\nsystemctl restart ecs-agent")
    wait_until_connected(host)

    host.reboot()

    wait_until_connected(host)
    for family, task in story.tasks.items():
        ended = operator.wait_stopped(task["taskArn"])
        assert ended["stoppedReason"] == "Host is draining", family
    said = host.out("journalctl --unit ecs-agent --boot=-1 --output cat")
    assert "the host goes down" in said
    assert "before all is told" not in said
    until_active(operator)
    host.put(before + "\n", CONFIG)
    host.run("systemctl restart ecs-agent")
    wait_until_connected(host)
    story.tasks = {"web": operator.launch("web")}
    assert fetch(host, story.tasks["web"]) == PAGE


def test_a_bad_configuration_is_one_clear_line_and_no_restart_loop(host: Vm, story: Story) -> None:
    before = story.pids(host)
    good = host.out(f"cat {CONFIG}")
    host.run("systemctl stop ecs-agent", timeout_s=START_LIMIT_S)
    mark = host.out("date '+%F %T'")

    host.run(f"echo ECS_RESERVED_MEMORY=lots >>{CONFIG}")
    host.run("systemctl start ecs-agent", check=False, timeout_s=START_LIMIT_S)
    host.until("systemctl is-failed ecs-agent", within_s=START_LIMIT_S)
    time.sleep(6)  # a restart would have come by now

    assert show(host, "ecs-agent", "ActiveState", "ExecMainStatus", "NRestarts") == [
        "failed",
        "5",
        "0",
    ]
    said = host.out(f"journalctl --since '{mark}' --output cat SYSLOG_IDENTIFIER=ecs-agent")
    assert len(said.splitlines()) == 1, said
    assert "ECS_RESERVED_MEMORY" in said
    host.put(good + "\n", CONFIG)
    host.run("systemctl restart ecs-agent", timeout_s=START_LIMIT_S)
    wait_until_connected(host)
    assert story.pids(host) == before


def test_remove_leaves_tasks_and_data(host: Vm, story: Story) -> None:
    before = story.pids(host)
    compile_again(host)

    host.run("apt-get remove -y ecs-agent", timeout_s=START_LIMIT_S)

    assert show(host, "ecs-agent", "LoadState", "ActiveState")[1] != "active"
    assert host.run("command -v ecs-agent", check=False).code != 0
    assert story.pids(host) == before
    assert fetch(host, story.tasks["web"]) == PAGE
    host.run(f"test -f {DATA}/agent.db && test -f {CONFIG}")


def test_purge_removes_the_data(host: Vm) -> None:
    host.run("apt-get purge -y ecs-agent", timeout_s=START_LIMIT_S)

    left = host.run(
        "ls -d /etc/ecs /var/lib/ecs /var/lib/ecs-agent-control /var/log/ecs /opt/ecs-agent "
        "/run/ecs-agent 2>/dev/null",
        check=False,
    )
    assert left.out == ""


def fetch(host: Vm, task: dict[str, Any]) -> str:
    """Return the page of a task from its own address, fetched on its host."""
    return host.until(f"curl --silent --fail --max-time 10 http://{address(task)}/")


def until_active(operator: Operator) -> None:
    """Return once control places tasks on the only host again."""
    deadline = time.monotonic() + START_LIMIT_S
    while [one["status"] for one in operator.instances()] != ["ACTIVE"]:
        assert time.monotonic() < deadline, operator.instances()
        time.sleep(1)


def until_sampled(
    host: Vm,
    task: dict[str, Any],
    seen: Callable[[dict[str, Any]], object] = lambda sample: sample["containers"],
) -> dict[str, Any]:
    """Return the figures of a task once there are some."""
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        view = json.loads(host.out(f"{ASK}/tasks/{task['taskArn'].rpartition('/')[2]}"))
        if view["sample"] and seen(view["sample"]):
            return dict(view["sample"])
        assert time.monotonic() < deadline, view
        time.sleep(2)
