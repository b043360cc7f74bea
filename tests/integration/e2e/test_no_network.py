"""``disableNetworking`` in every network mode: no link but a loopback, and no address told."""

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
        links, told = {}, {}
        for mode, arn in arns.items():
            (task,) = describe(client, arn)
            containers = {c["name"]: c for c in task["containers"]}
            links[mode] = _links(containers["c0"]["runtimeId"])
            told[mode] = [bool(containers[name]["networkInterfaces"]) for name in ("c0", "c1")]
    assert links == {mode: {"lo"} for mode in MODES}
    assert told == {mode: [False, mode == "awsvpc"] for mode in MODES}


def _links(runtime_id: str) -> set[str]:
    """Return the links of a container that are up, and its loopback in any case."""
    done = subprocess.run(
        ["docker", "exec", runtime_id, "ip", "-o", "link", "show", "up"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.split(":")[1].strip() for line in done.stdout.splitlines()} | {"lo"}
