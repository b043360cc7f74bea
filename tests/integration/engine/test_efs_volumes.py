"""EFS volumes as a real engine keeps them; mounting them needs a kernel with NFS (tests/vm)."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from agent.config.nfs_servers import parse_nfs_servers
from agent.engine.labels import LABEL_TASK
from agent.engine.preparations.efs import EfsSettings
from agent.engine.preparations.volumes import VolumePreparation
from agent.model.payload import Volume
from tests.support.host_access import host_access
from tests.support.tasks import container, payload

if TYPE_CHECKING:
    from agent.runtime.docker import DockerEngine

pytestmark = pytest.mark.integration


def volumes_of(arn: str) -> list[dict[str, Any]]:
    """Return what the engine says of a task's volumes."""
    listed = subprocess.run(
        ["docker", "volume", "ls", "-q", "--filter", f"label={LABEL_TASK}={arn}"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = listed.stdout.split()
    if not names:
        return []
    shown = subprocess.run(
        ["docker", "volume", "inspect", *names], capture_output=True, text=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(shown.stdout)
    return found


async def test_an_efs_volume_is_an_nfs_volume_of_the_task(engine: DockerEngine) -> None:
    arn = f"arn:aws:ecs:eu-west-1:123456789012:task/default/{uuid.uuid4().hex}"
    volume = Volume(
        name="data",
        type="efs",
        efs_volume_configuration={"fileSystemId": "fs-1", "rootDirectory": "/web"},
    )
    task = payload(container("a"), arn=arn, volumes=[volume])
    servers = parse_nfs_servers('{"fs-1": "nas.example:/exports"}')
    access = host_access(runtime=engine, owner="test", efs=EfsSettings(servers=servers))

    provision = await VolumePreparation().prepare(task, access)
    (made,) = volumes_of(arn)
    assert made["Name"] == provision.mount_sources["data"]
    assert made["Driver"] == "local"
    assert made["Options"]["type"] == "nfs"
    assert made["Options"]["device"] == ":/exports/web"
    assert made["Options"]["o"].startswith("addr=nas.example,nfsvers=4.1,")

    await VolumePreparation().undo(task, access)
    assert volumes_of(arn) == []
