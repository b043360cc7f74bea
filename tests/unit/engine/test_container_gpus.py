"""How containers get GPUs: the request that the engine receives."""

from __future__ import annotations

from typing import Any

import pytest

from agent.engine import container_body
from agent.engine.container_body import ContainerContext
from agent.engine.container_gpus import GpuSettings
from agent.errors import PayloadError
from agent.model.payload import Association, Container, GpuShare, TaskPayload
from tests.support.tasks import container, payload

MPS = GpuSettings(mps_pipes="/run/mps")


def order(*containers: Container, **gpus: list[str]) -> TaskPayload:
    associations = [Association(name=f"GPU-{n}", type="gpu", containers=c) for n, c in gpus.items()]
    return payload(*containers, associations=associations)


def built(of: TaskPayload, name: str = "a", settings: GpuSettings | None = None) -> dict[str, Any]:
    wanted = of.container(name)
    assert wanted is not None
    return container_body.body(of, wanted, ContainerContext(gpus=settings or GpuSettings()))


def test_gpus_are_requested_as_devices() -> None:
    made = built(order(container("a"), one=["a"], two=["a"]))
    assert made["HostConfig"]["DeviceRequests"] == [
        {"DeviceIDs": ["GPU-one", "GPU-two"], "Capabilities": [["gpu"]]}
    ]
    assert "Runtime" not in made["HostConfig"]


def test_a_runtime_gets_them_by_their_names() -> None:
    asked = container("a", environment={"NVIDIA_VISIBLE_DEVICES": "all", "X": "1"})
    made = built(order(asked, one=["a"], two=["a"]), settings=GpuSettings(runtime="nvidia"))
    assert made["HostConfig"]["Runtime"] == "nvidia"
    assert "DeviceRequests" not in made["HostConfig"]
    assert made["Env"] == ["X=1", "NVIDIA_VISIBLE_DEVICES=GPU-one,GPU-two"]


def test_a_container_without_gpus_gets_neither() -> None:
    task = order(container("a"), container("b"), one=["a"])
    made = built(task, "b", GpuSettings(runtime="nvidia", mps_pipes="/run/mps"))
    assert not made["HostConfig"].keys() & {"Runtime", "DeviceRequests", "IpcMode"}
    assert made["Env"] == []


def test_sharing_containers_get_one_gpu_with_limits() -> None:
    task = order(
        container("a", gpu_share=GpuShare(memory=2048, max_compute_percent=30)),
        container("b", gpu_share=GpuShare(memory=512)),
        one=["a", "b"],
    )
    a, b = built(task, "a", MPS), built(task, "b", MPS)
    for made in (a, b):
        assert made["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["GPU-one"]
        assert made["HostConfig"]["IpcMode"] == "host"
        assert made["HostConfig"]["Binds"] == ["/run/mps:/tmp/nvidia-mps"]
    assert a["Env"] == [
        "CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=2048M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=30",
    ]
    assert b["Env"][1:] == ["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=512M"]


def test_a_host_that_shares_nothing_says_so() -> None:
    task = order(container("a", gpu_share=GpuShare(memory=1)), one=["a"])
    with pytest.raises(PayloadError, match="ECS_NVIDIA_MPS_PIPES") as info:
        built(task)
    assert info.value.name == "HostConfigError"


def test_mps_needs_the_ipc_of_the_host() -> None:
    shared = container("a", gpu_share=GpuShare(memory=1))
    task = payload(
        shared,
        ipc_mode="none",
        associations=[Association(name="GPU-1", type="gpu", containers=["a"])],
    )
    with pytest.raises(PayloadError, match="ipcMode none"):
        built(task, settings=MPS)
