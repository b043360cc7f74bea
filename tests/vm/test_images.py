"""A machine image from the qemu template, and two hosts made from it.

The image is built once, by Debian's Packer and the commands of ``docs/install.md``, from the base disk
and the package of this commit. Both hosts boot from it at the same time and are told to join by the
cloud-init example, word for word; the control endpoint is a process of this machine.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.runtime.pause import pause_reference
from tests.vm import guide
from tests.vm.images import TEMPLATES, OfflineDisk, build, save_busybox, wait_until
from tests.vm.machine import END_WITH_PARENT, HOST_FROM_INSIDE, Vm, free_port
from tests.vm.operator import Operator, address

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

AGENT_PORT = 6821
EXAMPLE = TEMPLATES / "examples/cloud-init/user-data.yaml"
SERVE = ["sh", "-c", "trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait $!"]
JOIN_LIMIT_S = 600.0
EMPTY = [
    "/home",
    "/root/.ssh",
    "/var/tmp",
    "/var/cache/apt/archives/partial",
    "/var/lib/cloud",
    "/var/lib/docker/containers",
    "/var/lib/ecs/data",
    "/var/log/journal",
]

_log = logging.getLogger("vm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("image")


@pytest.fixture(scope="module")
def reference(folder: Path) -> str:
    """The container image that the machine image is to have, saved as ``page.tar``."""
    return save_busybox(folder / "page.tar")


@pytest.fixture(scope="module")
def image(base_disk: Path, package: Path, folder: Path, reference: str) -> Path:
    """The machine image; ``$ECS_HOST_IMAGE`` names one that was built before."""
    if built := os.environ.get("ECS_HOST_IMAGE"):
        return Path(built)
    assert reference
    (folder / "dist").mkdir()
    shutil.copy(package, folder / "dist")
    shutil.copytree(TEMPLATES, folder / "packer", ignore=shutil.ignore_patterns("seed"))
    (commands,) = guide.commands("In a machine image", "image")
    begun = time.monotonic()
    build(
        commands,
        folder,
        {
            "image_archives": f'["{folder / "page.tar"}"]',
            "settings": '{ECS_IMAGE_PULL_BEHAVIOR="prefer-cached"}',
            "upgrade_system": "false",  # no mirror is in reach
            "qemu_image_url": str(base_disk),
            "qemu_image_checksum": "none",
            "qemu_accelerator": "tcg",
            # Debian needs no more, and the less there is the quicker it is emulated.
            "qemu_cpu": "qemu64",
            "qemu_disk_size": "10G",
            "qemu_disk_compression": "false",
            "qemu_args": f'[["-serial", "file:{folder / "console.log"}"]]',
        },
    )
    _log.info("image: built in %.0f s", time.monotonic() - begun)
    made = folder / "build/image"
    assert {path.name for path in made.iterdir()} == {"ecs-host.qcow2", "ecs-host.sha256"}
    return made / "ecs-host.qcow2"


@pytest.fixture(scope="module")
def control(folder: Path) -> Iterator[tuple[int, int, str]]:
    """A control endpoint: its port for operators, its port for agents, and the agents' token."""
    api, agents, token = free_port(), free_port(), folder / "token"
    command = [*END_WITH_PARENT, sys.executable, "-m", "agent", "control"]
    command += ["--listen", f"127.0.0.1:{api}", "--agent-listen", f"127.0.0.1:{agents}"]
    command += ["--data-dir", str(folder / "control"), "--token-file", str(token)]
    # Control refuses settings that it does not know, and ours for these tests look like some.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("ECS_")}
    with (folder / "control.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until(token)
        yield api, agents, token.read_text().split()[-1]
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def hosts(image: Path, folder: Path, control: tuple[int, int, str]) -> Iterator[list[Vm]]:
    """Two hosts made from the image, booted at once."""
    _, agents, token = control
    user_data = EXAMPLE.read_text()
    for placeholder, value in {
        "https://control.example:6821": f"http://{HOST_FROM_INSIDE}:{AGENT_PORT}",
        "content: TOKEN": f"content: {token}",
    }.items():
        assert placeholder in user_data
        user_data = user_data.replace(placeholder, value)
    made = []
    for name in ("left", "right"):
        (folder / name).mkdir()
        reaches = {AGENT_PORT: agents}
        made.append(Vm(image, folder / name, name, user_data=user_data, reaches=reaches))
    with ExitStack() as stack, ThreadPoolExecutor(len(made)) as pool:
        for host in made:
            stack.callback(host.end)
        list(pool.map(Vm.start, made))
        yield made


@pytest.fixture
def operator(control: tuple[int, int, str], folder: Path) -> Operator:
    place = str(folder / "control")
    command = [sys.executable, "-m", "agent", "env", "--json", "--data-dir", place]
    made = Operator(control[0], subprocess.check_output(command, text=True))
    # Otherwise the first host would make it, and until then there is none to ask about.
    made._ecs.create_cluster(clusterName=made.cluster)
    return made


def test_nothing_of_the_build_is_on_the_disk_when_the_machine_is_off(
    image: Path, folder: Path
) -> None:
    disk = OfflineDisk(image, folder)
    try:
        assert disk.text("/etc/machine-id") == ""
        assert not {name for name in disk.names("/etc/ssh") if name.startswith("ssh_host_")}
        assert "random-seed" not in disk.names("/var/lib/systemd")
        for empty in EMPTY:
            assert not disk.names(empty), empty
        assert not {"engine-id", "network", "swarm"} & disk.names("/var/lib/docker")
        assert "key.json" not in disk.names("/etc/docker")
        assert disk.names("/etc/ecs") == {"ecs.config"}
        accounts = [disk.text(f"/etc/{name}") for name in ("passwd", "shadow", "group", "subuid")]
        assert not [text for text in accounts if text is None or "ecs-build" in text]
        assert not {name for name in disk.names("/etc/sudoers.d") if "cloud-init" in name}
        assert "live-restore" in (disk.text("/etc/docker/daemon.json") or "")
    finally:
        disk.close()


def test_both_hosts_join_and_no_two_things_are_the_same(
    hosts: list[Vm], operator: Operator
) -> None:
    deadline = time.monotonic() + JOIN_LIMIT_S
    while len(connected := [i for i in operator.instances() if i["agentConnected"]]) < len(hosts):
        assert time.monotonic() < deadline, "".join(
            host.run("cloud-init status --long; journalctl -n 60 --no-pager", check=False).out
            for host in hosts
        )
        time.sleep(2)

    assert len({instance["containerInstanceArn"] for instance in connected}) == len(hosts)
    for identity in (
        "cat /etc/machine-id",
        "cat /etc/ssh/ssh_host_ed25519_key.pub",
        "hostname",
        "docker info --format '{{.ID}}'",
        "docker network inspect --format '{{.Id}}' bridge",
        "ls /var/log/journal",
    ):
        found = [host.out(identity) for host in hosts]
        assert all(found), identity
        assert len({*found}) == len(hosts), f"{identity}: {found}"


def test_a_joined_host_is_in_order(hosts: list[Vm]) -> None:
    for host in hosts:
        host.until("cloud-init status | grep -qv running", within_s=JOIN_LIMIT_S)
        assert "done" in host.out("cloud-init status")
        assert host.out("systemctl is-active ecs-agent docker") == "active\nactive"
        assert host.out("systemctl --failed --no-legend --plain") == ""
        assert host.run("test -e /run/ecs-join.token", check=False).code != 0
        assert host.out("sysctl -n fs.inotify.max_user_instances") == "8192"
        # The file system has grown to the disk that the image was given.
        assert int(host.out("df --output=size --block-size=M / | tr -dc 0-9")) > 9000


def test_images_are_there_before_any_registry(hosts: list[Vm], reference: str) -> None:
    for host in hosts:
        host.run(f"docker image inspect {reference} {pause_reference('amd64')}")


def test_a_task_runs_on_each_host_from_the_image(
    hosts: list[Vm], operator: Operator, reference: str
) -> None:
    operator.define("page", reference, SERVE, mode="awsvpc")

    answer: dict[str, Any] = operator._ecs.run_task(
        cluster=operator.cluster,
        taskDefinition="page",
        count=len(hosts),
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["any"]}},
        placementConstraints=[{"type": "distinctInstance"}],
    )

    assert not answer["failures"]
    tasks = [operator.wait(task["taskArn"], "RUNNING") for task in answer["tasks"]]
    assert len({task["containerInstanceArn"] for task in tasks}) == len(hosts)
    for task in tasks:
        fetch = f"curl -sS --max-time 20 http://{address(task)}/"
        mine = [host for host in hosts if task["taskArn"] in host.out("ecs-agent tasks --json")]
        assert len(mine) == 1
        assert mine[0].out(fetch) == "hello from busybox"
