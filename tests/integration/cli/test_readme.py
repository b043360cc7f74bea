"""The fleet of the README, word for word, as real processes on a host that it may write to.

The host is this one in namespaces of its own: ``/etc`` is a copy, ``/var/lib`` is empty, ``/run`` has the
engine's socket and no systemd, and the network nothing but a loopback, so that the usual ports are free.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

README = Path(__file__).parents[3] / "README.md"
_BLOCK = re.compile(r"^<!-- run: ([a-z]+) -->\n```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FURNISH = """
set -e
mount --make-rprivate /
mkdir {room}/etc {room}/run
cp -a /etc/. {room}/etc
mount --bind {room}/etc /etc
mount -t tmpfs tmpfs /var/lib
if [ -S /run/docker.sock ]; then
  touch {room}/run/docker.sock
  mount --bind /run/docker.sock {room}/run/docker.sock
fi
mount --rbind {room}/run /run
echo "127.0.0.1 localhost {name}" > /etc/hosts
ip link set lo up
echo ready
exec sleep infinity
"""


def commands(place: str) -> str:
    """Return the block of the README for a place, exactly as it stands."""
    found = dict(_BLOCK.findall(README.read_text()))
    assert place in found, f"README.md has no block that is run at {place}"
    return str(found[place])


class Room:
    """A host of its own; ``folder`` is where somebody types."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = _FURNISH.format(room=folder, name=socket.gethostname())
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "ready\n"
        self._running: list[subprocess.Popen[str]] = []

    def _words(self, text: str) -> list[str]:
        return [
            *("nsenter", "--target", str(self._keeper.pid), "--mount", "--net"),
            *("sh", "-c", f"cd {self.folder} && {text}"),
        ]

    def _environ(self, more: dict[str, str]) -> dict[str, str]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("ECS_", "AWS_"))}
        return {**keep, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}

    def type(self, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run commands to their end."""
        return subprocess.run(
            self._words(text),
            env=self._environ(environ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def leave_running(self, text: str, **environ: str) -> Path:
        """Run commands in a shell of their own; return where their output goes."""
        log = self.folder / f"shell{len(self._running)}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                self._words(f"set -e; {text}"),
                env=self._environ(environ),
                stdout=out,
                stderr=out,
                text=True,
            )
        self._running.append(process)
        return log

    def close(self) -> None:
        """End everything that was started here; agents first."""
        for process in reversed(self._running):
            for child in _children(process.pid):
                subprocess.run(["kill", str(child)], check=False)
            process.wait(30)
        with self._keeper:
            self._keeper.kill()


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    below = [int(word) for word in path.read_text().split()] if path.exists() else []
    return [*below, *(grandchild for child in below for grandchild in _children(child)), pid]


@pytest.fixture
def room(leak_check: None, tmp_path: Path) -> Iterator[Room]:
    del leak_check
    made = Room(tmp_path)
    yield made
    made.close()


def test_the_fleet_of_the_readme_works_as_it_stands(room: Room) -> None:
    control = room.leave_running(commands("control"))
    eventually(lambda: "control endpoint ready" in control.read_text(), what="control")
    token = room.type(commands("token"))
    assert token.returncode == 0, token.stderr
    line = commands("host").replace("CONTROL", socket.gethostname())
    joined = room.type(line.replace("TOKEN", token.stdout.strip()))
    assert joined.returncode == 0, joined.stderr
    assert "this host takes tasks of cluster default once its agent runs: ecs-agent run" in (
        joined.stdout
    )
    agent = room.leave_running(
        "exec ecs-agent run",
        ECS_TASK_BRIDGE="ecst-readme0",
        ECS_TASK_POOL_CIDR="10.218.78.0/26",
        ECS_FIREWALL_TABLE="ecs_test_readme",
        ECS_WARM_SANDBOXES="0",
    )

    def instance() -> Any:
        listed = room.type(
            "eval $(ecs-agent env) && aws ecs list-container-instances",
            AWS_EC2_METADATA_DISABLED="true",
        )
        arns = json.loads(listed.stdout or "{}").get("containerInstanceArns")
        return arns and room.type("ecs-agent status").returncode == 0

    eventually(instance, what=f"registered:\n{agent.read_text()}")
    status = room.type("ecs-agent status").stdout
    assert re.search(r"Control +https://\S+:6821 connected", status), status
