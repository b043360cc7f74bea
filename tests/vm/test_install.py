"""``docs/install.md``, word for word: each block of commands is run where the page says.

Three hosts as new, and this machine as the operator's own. The page's commands for images are run by
``test_images``. Hosts have an image of busybox under the name that the page uses, since no registry is
in reach.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.vm import guide
from tests.vm.machine import HOST_FROM_INSIDE, Vm, free_port
from tests.vm.one_host import compile_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

ONE_HOST, THREE_HOSTS = "One host", "Three hosts"
AGENT_PORT = 6821
IMAGE = "busybox:1.36"
BLOCK_LIMIT_S = 900.0
INVITATION = "/root/join.token"

_log = logging.getLogger("vm")


class Laptop:
    """The operator's own shell: what one block exports is there for the next.

    Its ssh knows ``one.example`` for the virtual machine.
    """

    def __init__(self, folder: Path, one: Vm) -> None:
        self._folder = folder
        self._exported = folder / "exported"
        self._exported.touch()
        self._tunnel = folder / "tunnel"
        self._complaints = folder / "ssh.log"
        tools = folder / "bin"
        tools.mkdir()
        ssh = tools / "ssh"
        options = shlex.join([*one.ssh_options(), "-M", "-S", str(self._tunnel)])
        # What stays in the background must not hold what a block prints to.
        ssh.write_text(
            "#!/bin/sh\ncase $1 in -f) exec >/dev/null ;; esac\n"
            f'exec /usr/bin/ssh {options} "$@" 2>>{self._complaints}\n'
        )
        ssh.chmod(0o755)
        self._path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(self, text: str) -> str:
        """Run a block of the page and return what it printed."""
        _log.info("laptop: %s", " ; ".join(text.strip().splitlines()))
        exported = shlex.quote(str(self._exported))
        script = f"set -eu\n. {exported}\n{text}\nexport -p >{exported}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env={"PATH": self._path, "HOME": str(self._folder), "AWS_PAGER": ""},
            capture_output=True,
            text=True,
            timeout=BLOCK_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, (
            f"{text}\n{done.stdout}{done.stderr}\nssh: {self._complaints.read_text()}"
        )
        return done.stdout

    def close(self) -> None:
        """Close the tunnel."""
        subprocess.run(
            ["ssh", "-S", self._tunnel, "-O", "exit", "one.example"],
            check=False,
            capture_output=True,
            timeout=20,
        )


def run_on(host: Vm, text: str) -> str:
    """Run a block of the page as root on a host."""
    _log.info("%s: %s", host.name, " ; ".join(text.strip().splitlines()))
    return host.run(f"cd /root\n{text}", timeout_s=BLOCK_LIMIT_S).out


@pytest.fixture(scope="module")
def hosts(base_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Vm]]:
    """Three hosts as new, of which one runs; two and three will reach it, on the port for agents."""
    folder, way_in = tmp_path_factory.mktemp("hosts"), free_port()
    made = {}
    for name in ("one", "two", "three"):
        (folder / name).mkdir()
        reaches = {} if name == "one" else {AGENT_PORT: way_in}
        made[name] = Vm(
            base_disk, folder / name, name, memory_mib=1536, quick=True, reaches=reaches
        )
    with ExitStack() as stack:
        for host in made.values():
            stack.callback(host.end)
        made["one"].start()
        made["one"].forward(AGENT_PORT, here=way_in)
        yield made


@pytest.fixture(scope="module")
def others(
    hosts: dict[str, Vm], package: Path, compiled: Path | None
) -> Iterator[list[Future[Vm]]]:
    """The hosts two and three, booted and installed beside the tests: most of it is waiting."""
    (install, _) = guide.commands(THREE_HOSTS, "two")

    def prepare(host: Vm) -> Vm:
        host.start()
        give(host, package, compiled)
        run_on(host, install)
        return host

    with ThreadPoolExecutor(2) as pool:
        yield [pool.submit(prepare, hosts[name]) for name in ("two", "three")]


@pytest.fixture(scope="module")
def laptop(hosts: dict[str, Vm], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    own = Laptop(tmp_path_factory.mktemp("laptop"), hosts["one"])
    yield own
    own.close()


def give(host: Vm, package: Path, compiled: Path | None) -> None:
    """Do what the page tells in prose, copying the package, and give the host its image."""
    compile_ahead(host, compiled)
    host.put(package, f"/root/{package.name}")
    host.run(
        f"""mkdir -p /tmp/image/bin
        cp /bin/busybox /tmp/image/bin
        chroot /tmp/image /bin/busybox --install -s /bin
        mkdir /tmp/image/etc && echo busybox >/tmp/image/etc/hostname
        tar -C /tmp/image -c . | docker import --change 'CMD ["sh"]' - {IMAGE}
        echo '{HOST_FROM_INSIDE} one.example' >>/etc/hosts""",
    )


def test_every_block_of_the_page_is_run_somewhere() -> None:
    known = {"build", "one", "two", "three", "laptop", "image"}
    for block in guide.blocks():
        assert block.places, f"nothing runs this block of '{block.section}':\n{block.text}"
        assert set(block.places) <= known, block


@pytest.mark.usefixtures("others")
def test_one_host(
    hosts: dict[str, Vm], laptop: Laptop, package: Path, compiled: Path | None
) -> None:
    one = hosts["one"]
    give(one, package, compiled)
    install, join, look = guide.commands(ONE_HOST, "one")
    (operate,) = guide.commands(ONE_HOST, "laptop")

    run_on(one, install)
    one.run("echo ECS_IMAGE_PULL_BEHAVIOR=prefer-cached >>/etc/ecs/ecs.config")
    assert "ACTIVE" in run_on(one, join)
    laptop.run(operate)
    seen = run_on(one, look)

    assert "RUNNING" in seen
    assert seen.splitlines()[-1].strip()


def test_three_hosts(hosts: dict[str, Vm], others: list[Future[Vm]], laptop: Laptop) -> None:
    one = hosts["one"]
    (open_up,) = guide.commands(THREE_HOSTS, "one")
    (_, join) = guide.commands(THREE_HOSTS, "two")
    (operate,) = guide.commands(THREE_HOSTS, "laptop")

    run_on(one, open_up)
    token = one.out(f"cat {INVITATION}")

    def add(coming: Future[Vm]) -> None:
        host = coming.result(BLOCK_LIMIT_S)
        host.put(token + "\n", INVITATION, mode="0600")
        host.run("echo ECS_IMAGE_PULL_BEHAVIOR=prefer-cached >>/etc/ecs/ecs.config")
        run_on(host, join)
        assert host.run(f"test -e {INVITATION}", check=False).code != 0

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, others))
    listed, _ = json.JSONDecoder().raw_decode(laptop.run(operate).lstrip())

    assert len(listed["containerInstanceArns"]) == len(hosts), listed
    for host in hosts.values():
        tasks = json.loads(host.out("ecs-agent tasks --json"))
        assert [task["status"] for task in tasks].count("RUNNING") >= 1, (host.name, tasks)
    known = json.loads(one.out("ecs-agent control pki list --json"))
    assert len([each for each in known if not each["revokedAt"]]) == 2, known
