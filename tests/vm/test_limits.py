"""Limits of tasks on a booted host with cgroup v2: with the engine's driver systemd, then with cgroupfs.

One story on one VM: run the whole file.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm.one_host import (
    ASK,
    CONFIG,
    IMAGE,
    LINGER,
    START_LIMIT_S,
    compile_ahead,
    install,
    join,
    main_pid,
    make_image,
    operator_of,
    show,
    wait_until_connected,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.machine import Vm
    from tests.vm.operator import Operator

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

BURN = ["sh", "-c", "while :; do :; done"]
MEASURED_S = 20
LEAST_CORES, MOST_CORES = 0.15, 0.28
"""Of a task that may use a quarter of a core and wants two; a busy machine gives it less."""
DAEMON = "/etc/docker/daemon.json"

_log = logging.getLogger("vm")


@pytest.fixture
def operator(host: Vm) -> Operator:
    return operator_of(host)


def container(name: str, command: list[str], **more: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "memory": 32, "command": command, **more}


def group_of(host: Vm, arn: str) -> str:
    """Return the control group of a task."""
    task_id = arn.rpartition("/")[2]
    return host.out(f"find /sys/fs/cgroup/ecs* -type d -name '*{task_id}*' | head -n 1")


def limits_of(host: Vm, arn: str) -> dict[str, str]:
    group = group_of(host, arn)
    files = ("cpu.max", "memory.max", "pids.max")
    return dict(
        zip(files, host.out(f"cd {group} && cat {' '.join(files)}").splitlines(), strict=True)
    )


def used_cores(host: Vm, arn: str) -> float:
    """Return how many cores a task uses, by the clock of its host."""
    group = group_of(host, arn)
    look = f"date +%s%N; sed -n 's/^usage_usec //p' {group}/cpu.stat"
    before, used_before, after, used = map(
        int, host.out(f"{look}; sleep {MEASURED_S}; {look}", timeout_s=240).split()
    )
    return (used - used_before) * 1000 / (after - before)


def ends_out_of_memory(operator: Operator, family: str) -> None:
    """Run a task of two containers that take more together than the task has."""
    hold = ["sh", "-c", "dd if=/dev/zero bs=24M count=1 | sleep 3600"]
    eat = ["sh", "-c", "sleep 5; exec dd if=/dev/zero of=/dev/null bs=115M count=1"]
    operator.define_task(
        family,
        [container("quiet", hold), container("eater", eat, memory=128)],
        cpu="1024",
        memory="128",
    )
    arn = operator.run(family)
    task = operator.wait_stopped(arn)
    found = {c["name"]: c for c in task["containers"]}
    assert found["eater"]["exitCode"] == 137, task
    assert found["eater"]["reason"] == "OutOfMemoryError: Container killed due to memory usage"
    assert "reason" not in found["quiet"], "it stopped because the other one was killed"


def test_the_service_joins_and_can_limit_tasks(
    host: Vm, package: Path, compiled: Path | None
) -> None:
    compile_ahead(host, compiled)
    install(host, package)
    make_image(host)
    assert host.out("docker info --format '{{.CgroupVersion}} {{.CgroupDriver}}'") == "2 systemd"
    host.run(f"echo ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=1s >>{CONFIG}")
    host.run(f"echo ECS_TASK_PIDS_LIMIT=100 >>{CONFIG}")
    host.run(f"echo ECS_ENABLE_TASK_CPU_MEM_LIMIT=true >>{CONFIG}")
    join(host)
    (instance,) = operator_of(host).instances()
    names = {attribute["name"] for attribute in instance["attributes"]}
    assert {"ecs.capability.task-cpu-mem-limit", "ecs.capability.increased-task-cpu-limit"} <= names
    assert json.loads(host.out(f"{ASK}/agent")).get("degraded", []) == []


def test_two_containers_share_a_quarter_of_a_core_in_a_slice(host: Vm, operator: Operator) -> None:
    operator.define_task(
        "burn", [container("a", BURN), container("b", BURN)], cpu="256", memory="128"
    )
    arn = operator.launch("burn")["taskArn"]
    assert limits_of(host, arn) == {
        "cpu.max": "25000 100000",
        "memory.max": str(128 << 20),
        "pids.max": "100",
    }
    unit = group_of(host, arn).rpartition("/")[2]
    assert show(host, unit, "ActiveState", "TasksMax", "MemoryMax") == [
        "active",
        "100",
        str(128 << 20),
    ]
    share = used_cores(host, arn)
    _log.info("two containers of a quarter of a core used %.3f", share)
    assert LEAST_CORES < share < MOST_CORES

    host.run("systemctl daemon-reload")
    before = main_pid(host)
    host.run("systemctl restart ecs-agent", timeout_s=START_LIMIT_S)
    wait_until_connected(host)
    assert main_pid(host) != before
    assert limits_of(host, arn)["cpu.max"] == "25000 100000"
    assert operator.task(arn)["lastStatus"] == "RUNNING"

    operator.stop(arn)
    operator.wait_stopped(arn)
    host.until(f"test ! -e {group_of(host, arn) or '/nowhere'}")
    host.until(f"! systemctl --quiet is-active {unit}")


def test_a_task_without_sizes_has_a_slice_and_a_share(host: Vm, operator: Operator) -> None:
    operator.define_task(
        "plain", [container("a", LINGER, cpu=512), container("b", LINGER, cpu=512)]
    )
    arn = operator.launch("plain")["taskArn"]
    assert limits_of(host, arn) == {"cpu.max": "max 100000", "memory.max": "max", "pids.max": "100"}
    assert host.out(f"cat {group_of(host, arn)}/cpu.weight") == "39"


def test_a_container_that_takes_the_memory_of_the_task_is_killed(operator: Operator) -> None:
    ends_out_of_memory(operator, "eater")


def test_a_slice_that_is_left_over_is_removed(host: Vm, operator: Operator) -> None:
    kept = operator.launch("plain")["taskArn"]
    parent = host.out("ls -d /sys/fs/cgroup/ecstasks.slice/ecstasks-*.slice").rpartition("/")[2]
    stray = parent.replace(".slice", "-0123456789abcdef0123456789abcdef.slice")
    host.run(f"systemctl stop ecs-agent && systemctl start {stray}", timeout_s=START_LIMIT_S)
    host.run("systemctl start ecs-agent", timeout_s=START_LIMIT_S)
    wait_until_connected(host)
    host.until(f"! systemctl --quiet is-active {stray}")
    assert operator.task(kept)["lastStatus"] == "RUNNING"
    assert group_of(host, kept)


def test_containers_share_processes_and_memory(host: Vm, operator: Operator) -> None:
    for mode in ("awsvpc", "none"):
        operator.define_task(
            f"shared-{mode}",
            [container("a", LINGER), container("b", LINGER)],
            mode=mode,
            pidMode="task",
            ipcMode="task",
        )
        task = operator.launch(f"shared-{mode}")
        a, b = (c["runtimeId"] for c in task["containers"])
        host.run(f"docker exec {a} sh -c 'echo {mode} >/dev/shm/note'")
        assert host.out(f"docker exec {b} cat /dev/shm/note") == mode
        assert "/pause" in host.out(f"docker exec {b} ps")
        operator.stop(task["taskArn"])
        operator.wait_stopped(task["taskArn"])


def test_the_same_with_the_driver_cgroupfs(host: Vm, operator: Operator) -> None:
    host.run("systemctl stop ecs-agent", timeout_s=START_LIMIT_S)
    host.run("docker ps -q | xargs -r docker rm -f")
    host.run(
        f"""python3 - <<'END'
import json, pathlib
file = pathlib.Path("{DAEMON}")
settings = json.loads(file.read_text()) if file.exists() else {{}}
settings["exec-opts"] = ["native.cgroupdriver=cgroupfs"]
file.parent.mkdir(exist_ok=True)
file.write_text(json.dumps(settings))
END
        systemctl restart docker""",
        timeout_s=240,
    )
    host.run("systemctl start ecs-agent", timeout_s=START_LIMIT_S)
    wait_until_connected(host)
    assert host.out("docker info --format '{{.CgroupDriver}}'") == "cgroupfs"

    arn = operator.launch("burn")["taskArn"]
    assert "/sys/fs/cgroup/ecs/" in group_of(host, arn)
    assert limits_of(host, arn)["cpu.max"] == "25000 100000"
    assert limits_of(host, arn)["memory.max"] == str(128 << 20)
    assert LEAST_CORES < used_cores(host, arn) < MOST_CORES
    operator.stop(arn)
    operator.wait_stopped(arn)
    host.until(f"test ! -e {group_of(host, arn) or '/nowhere'}")
    ends_out_of_memory(operator, "eater")
