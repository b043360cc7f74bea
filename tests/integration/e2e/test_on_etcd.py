"""The life of tasks and services, and crashes, with three real nodes of etcd behind control instead of a file.

The tests that are imported here are those of other modules, run with this module's fleets.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import describe, nothing_left, register, run
from tests.integration.e2e.test_crash import (
    test_kill_9_in_the_middle_of_a_launch_ends_in_one_running_copy as _launch,
)
from tests.integration.e2e.test_operator import (
    test_boto3_runs_three_copies_and_its_own_waiters_see_them as _life_cycle,
)
from tests.integration.e2e.test_services import (
    test_a_service_lives_and_survives_the_death_of_control as _service,
)
from tests.support import etcd_nodes
from tests.support.fleet import COMMAND, Fleet, eventually, fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 450}
TAKEN_OVER_S = 8.0
"""It takes four seconds, or more on a machine that is busy with other tests."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[etcd_nodes.Etcd]:
    with etcd_nodes.running(3) as found:
        yield found


@pytest.fixture(scope="module")
def two_hosts(
    sdk: docker.APIClient, cluster: etcd_nodes.Etcd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """One control endpoint on etcd and two agents, for all tests of this module."""
    del sdk
    directory = tmp_path_factory.mktemp("etcd")
    store = cluster.address("/fleet")
    with nothing_left(directory), fleet(directory, agents=2, store=store) as made:
        yield made


@pytest.fixture
def shared_host(two_hosts: Fleet) -> Iterator[Fleet]:
    yield two_hosts
    two_hosts.stop_tasks()


def test_the_life_of_tasks(
    shared_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    _life_cycle(shared_host, busybox_image)
    _launch(shared_host, busybox_image, containers_of, 0.3)


def test_the_life_of_a_service(two_hosts: Fleet, busybox_image: str) -> None:
    _service(two_hosts, busybox_image)


def test_another_control_takes_over_soon_and_nothing_is_lost(
    shared_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    made, client = shared_host, shared_host.client()
    first = made.control
    data = made.directory / "standby"
    data.mkdir(mode=0o700)
    standby = made.control_in(data, first.port, "standby")
    standby.start()
    assert standby.popen is not None
    assert standby.popen.wait(30) != 0, "it has other keys, so it must not stand by"
    assert "copy its file here" in standby.tail()
    for name in ("agent.tokens", "credentials", "metrics.tokens"):
        shutil.copy2(first.directory / "control" / name, data / name)
    standby.start()
    eventually(lambda: "standing by" in standby.tail(), what="the other control stands by")
    definition = register(client, busybox_image, "sleep 1000")
    arns = run(client, definition, count=4)
    first.kill()
    killed_at = time.monotonic()
    standby.ready()
    assert time.monotonic() - killed_at < TAKEN_OVER_S
    made.control = standby
    arns += run(client, definition, count=2)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    assert [len(containers_of(arn)) for arn in arns] == [1] * 6
    assert {one["lastStatus"] for one in describe(client, *arns)} == {"RUNNING"}
    first.start()
    eventually(lambda: "standing by" in first.tail(10), what="the first control stands by")
    standby.stop()
    made.control = first
    first.ready()
    made.wait_connected()


def test_orders_go_on_while_a_node_of_etcd_is_killed_and_stopped(
    shared_host: Fleet,
    cluster: etcd_nodes.Etcd,
    busybox_image: str,
    containers_of: Callable[[str], list[str]],
) -> None:
    client = shared_host.client()
    definition = register(client, busybox_image, "sleep 1000")
    leader = cluster.leader()
    timer = threading.Timer(0.3, leader.kill)
    timer.start()
    arns: list[str] = []
    for number in range(4):
        # A call of unknown outcome is repeated by its token, and then makes no second task.
        token = f"order-{number}"

        def order(token: str = token) -> list[str]:
            try:
                return run(client, definition, clientToken=token)
            except client.exceptions.ServerException:
                return []

        arns += eventually(order, what="an order is taken", within_s=40)
    timer.join()
    leader.start()
    leader.wait_until_up()
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    stopped = cluster.leader()
    stopped.stop()
    try:
        for arn in arns[:2]:
            eventually(partial(_stopped, client, arn), what="a task stops", within_s=40)
    finally:
        stopped.go_on()
    client.get_waiter("tasks_stopped").wait(tasks=arns[:2], WaiterConfig=FAST)
    assert [len(containers_of(arn)) for arn in arns[2:]] == [1, 1]
    everything = client.list_tasks()["taskArns"]
    assert set(everything) == set(arns[2:]), "a task was lost or doubled"


def _stopped(client: Any, arn: str) -> bool:
    try:
        client.stop_task(task=arn)
    except client.exceptions.ServerException:
        return False
    return True


def test_a_fleet_moves_from_etcd_to_a_file_with_its_tasks(
    shared_host: Fleet,
    busybox_image: str,
    tmp_path: Path,
    containers_of: Callable[[str], list[str]],
) -> None:
    made, client = shared_host, shared_host.client()
    arns = run(client, register(client, busybox_image, "sleep 1000"), count=2)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    before = [containers_of(arn) for arn in arns]
    made.control.stop()
    data = ("--data-dir", str(made.directory / "control"))
    moved = tmp_path / "moved.db"
    words = [str(COMMAND), "control"]
    subprocess.run([*words, "export", str(moved), "--store", made.store], check=True)
    subprocess.run([*words, "import", str(moved), *data], check=True)
    store, made.store = made.store, ""
    in_file = made.control_in(made.directory / "control", made.control.port)
    in_file.start()
    in_file.ready()
    made.wait_connected()
    (more,) = run(client, register(client, busybox_image, "sleep 1000"))
    client.get_waiter("tasks_running").wait(tasks=[more], WaiterConfig=FAST)
    in_file.stop()
    back = tmp_path / "back.db"
    subprocess.run([*words, "backup", str(back), *data], check=True)
    subprocess.run([*words, "restore", str(back), "--store", store], check=True)
    made.store = store
    made.control.start()
    made.control.ready()
    made.wait_connected()
    assert [containers_of(arn) for arn in arns] == before
    assert set(client.list_tasks()["taskArns"]) == {*arns, more}
