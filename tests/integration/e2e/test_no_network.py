"""``disableNetworking`` in every network mode: no link but a loopback, and no address told.

In ``none`` mode, the other container is one whose network the engine leaves out.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register, run
from tests.support import fleet, images

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

MODES = ("none", "bridge", "host", "awsvpc")


def test_a_container_without_networking_has_no_link_in_any_mode(
    leak_check: None, tmp_path: Path, busybox_image: str
) -> None:
    del leak_check
    with fleet.fleet(tmp_path, ECS_IMAGE_PULL_BEHAVIOR="prefer-cached") as made:
        client = made.client()
        arns = {}
        for mode in MODES:
            definition = register(
                client,
                busybox_image,
                images.LINGER[2],
                images.LINGER[2],
                mode=mode,
                containers=[{"disableNetworking": True}],
            )
            more: dict[str, Any] = {"networkConfiguration": NETWORK} if mode == "awsvpc" else {}
            (arns[mode],) = run(client, definition, **more)
        fleet.eventually(
            lambda: all(t["lastStatus"] == "RUNNING" for t in describe(client, *arns.values())),
            what="all tasks run",
        )
        (task,) = describe(client, arns["none"])
        alone = next(c["runtimeId"] for c in task["containers"] if c["name"] == "c1")
        _check_loopback(alone)
        links, told = {}, {}
        for mode, arn in arns.items():
            (task,) = describe(client, arn)
            containers = {c["name"]: c for c in task["containers"]}
            links[mode] = _links(containers["c0"]["runtimeId"])
            told[mode] = [bool(containers[name]["networkInterfaces"]) for name in ("c0", "c1")]
    assert links == {mode: {"lo"} for mode in MODES}
    assert told == {mode: [False, mode == "awsvpc"] for mode in MODES}


def _check_loopback(runtime_id: str) -> None:
    """Check that a container has a loopback and its names, as one whose network the engine made."""
    assert _links(runtime_id) == {"lo"}
    assert "inet 127.0.0.1/8" in _inside(runtime_id, "ip addr show dev lo")
    assert "127.0.0.1\tlocalhost\n" in _inside(
        runtime_id, "echo 127.0.0.1 db >>/etc/hosts; cat /etc/hosts"
    )
    served = "echo hello | nc -l -p 7000 & sleep 1; nc localhost 7000 </dev/null"
    assert _inside(runtime_id, served) == "hello\n"


def _inside(runtime_id: str, script: str) -> str:
    done = subprocess.run(
        ["docker", "exec", runtime_id, "sh", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _links(runtime_id: str) -> set[str]:
    """Return the links of a container that are up, and its loopback in any case."""
    done = subprocess.run(
        ["docker", "exec", runtime_id, "ip", "-o", "link", "show", "up"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.split(":")[1].strip() for line in done.stdout.splitlines()} | {"lo"}
