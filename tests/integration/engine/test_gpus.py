"""What a real engine makes of the GPUs that a container asks for, on a host that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from agent.engine import container_body
from agent.engine.container_body import ContainerContext
from agent.engine.container_gpus import GpuSettings
from agent.errors import EngineRefused
from agent.model.payload import Association, GpuShare
from tests.support.tasks import container, payload

if TYPE_CHECKING:
    from pathlib import Path

    from agent.runtime.docker import DockerEngine

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("leak_check")]


def body(image: str, settings: GpuSettings, **fields: Any) -> dict[str, Any]:
    wanted = container("a", image=image, **fields)
    gpu = Association(name="GPU-0", type="gpu", containers=["a"])
    task = payload(wanted, network_mode="none", associations=[gpu])
    return container_body.body(task, wanted, ContainerContext(gpus=settings))


async def test_the_engine_keeps_the_request_and_says_what_is_missing(
    engine: DockerEngine, sdk: Any, busybox_image: str, tmp_path: Path
) -> None:
    share = GpuShare(memory=512, max_compute_percent=50)
    asked = body(busybox_image, GpuSettings(mps_pipes=str(tmp_path)), gpu_share=share)
    made = await engine.create_container(f"ecs-host-agent-test-{uuid4().hex[:8]}", asked)
    try:
        shown = sdk.inspect_container(made)
        (request,) = shown["HostConfig"]["DeviceRequests"]
        assert (request["DeviceIDs"], request["Capabilities"]) == (["GPU-0"], [["gpu"]])
        assert shown["HostConfig"]["IpcMode"] == "host"
        assert shown["HostConfig"]["Binds"] == [f"{tmp_path}:/tmp/nvidia-mps"]
        assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=512M" in shown["Config"]["Env"]
        with pytest.raises(EngineRefused, match="could not select device driver"):
            await engine.start_container(made)
    finally:
        await engine.remove_container(made, force=True)


async def test_a_runtime_that_the_engine_lacks_is_refused(
    engine: DockerEngine, busybox_image: str
) -> None:
    asked = body(busybox_image, GpuSettings(runtime="nvidia"))
    with pytest.raises(EngineRefused, match=r"(?i)unknown.* runtime .*nvidia"):
        await engine.create_container(f"ecs-host-agent-test-{uuid4().hex[:8]}", asked)
