"""Metadata files: what is in them before and after a container is made, and where they are."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from agent.engine.labels import LABEL_CONTAINER, LABEL_OWNER, LABEL_TASK
from agent.model.status import ContainerStatus
from agent.runtime.protocol import EngineEvent
from agent.task_endpoint.metadata.endpoint_ids import EndpointIds
from agent.task_endpoint.metadata.facts import Tasks
from agent.task_endpoint.metadata.file import NAME, FileSettings, MetadataFiles
from agent.task_endpoint.metadata.file_content import FileHost
from agent.task_endpoint.metadata.observations import Observations
from tests.support import metadata_schemas as schemas
from tests.support.memory_engine import MemoryEngine
from tests.support.tasks import ARN, container, new_record

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model.task import AgentTask

OWNER = "owner-1"
IDS = EndpointIds(b"secret")


async def host() -> FileHost:
    return FileHost(
        cluster="default",
        instance_arn="arn:instance",
        availability_zone="rack-1",
        private_ipv4="192.0.2.7",
    )


def files_of(
    directory: Path, record: AgentTask, engine: MemoryEngine, *, selinux: bool = False
) -> MetadataFiles:
    return MetadataFiles(
        FileSettings(directory, OWNER, selinux=selinux),
        endpoint_ids=IDS,
        observations=Observations(engine),
        host=host,
        tasks=Tasks(lambda: [record.arn], {record.arn: record}.get),
    )


def read(file: Path) -> Any:
    text = file.read_text()
    assert "\n\t" in text
    value = json.loads(text)
    schemas.check(value, schemas.FILE)
    return value


async def completed(file: Path) -> None:
    async with asyncio.timeout(40):
        while "MetadataFileStatus" not in read(file):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)


async def test_a_file_from_before_the_container_to_its_end(tmp_path: Path) -> None:
    engine, record = MemoryEngine(), new_record(container("web"))
    files = files_of(tmp_path, record, engine)
    made = await files.write(record.payload, "web")
    assert made is not None
    directory = tmp_path / "default" / ARN.rsplit("/", 1)[1] / "web"
    inside = f"/opt/ecs/metadata/{IDS.of(ARN, 'web')}"
    assert made.bind == f"{directory}:{inside}:ro"
    assert made.variables == {"ECS_CONTAINER_METADATA_FILE": f"{inside}/{NAME}"}
    assert read(directory / NAME) == {
        "Cluster": "default",
        "ContainerInstanceARN": "arn:instance",
        "TaskARN": ARN,
        "TaskDefinitionFamily": "web",
        "TaskDefinitionRevision": "1",
        "ContainerName": "web",
        "AvailabilityZone": "rack-1",
        "HostPrivateIPv4Address": "192.0.2.7",
    }
    assert (directory / NAME).stat().st_mode & 0o777 == 0o644
    assert directory.stat().st_mode & 0o777 == 0o755

    runtime_id = await engine.create_container("ecs-web", {"Image": "busybox"})
    await engine.start_container(runtime_id)
    record.containers["web"].runtime_id = runtime_id
    record.containers["web"].known = ContainerStatus.RUNNING
    labels = {LABEL_OWNER: OWNER, LABEL_TASK: ARN, LABEL_CONTAINER: "web"}
    running = asyncio.create_task(files.run())
    files.take_note_of(EngineEvent(action="start", container_id=runtime_id, labels=labels))
    await completed(directory / NAME)
    whole = read(directory / NAME)
    assert (whole["ContainerID"], whole["MetadataFileStatus"]) == (runtime_id, "READY")
    assert sorted(each.name for each in directory.iterdir()) == [NAME]

    # Another process of the agent finds what is missing.
    await files.write(record.payload, "web")
    files.take_note_of(EngineEvent(action="relist"))
    await completed(directory / NAME)
    running.cancel()
    await asyncio.wait([running])
    await files.remove(ARN)
    await files.remove(ARN)
    assert not directory.parent.exists()


async def test_names_that_lead_elsewhere_lead_nowhere(tmp_path: Path) -> None:
    record = new_record(container("../../etc"), arn="arn:aws:ecs:r:1:task/../../x")
    files = files_of(tmp_path / "files", record, MemoryEngine(), selinux=True)
    made = await files.write(record.payload, "../../etc")
    assert made is not None
    assert made.bind.endswith(":ro,Z")
    assert [each.name for each in tmp_path.iterdir()] == ["files"]
    await files.remove(record.arn)
    assert [each.name for each in (tmp_path / "files").iterdir()] == []


async def test_a_full_or_broken_disk_stops_no_container(tmp_path: Path) -> None:
    record = new_record(container("web"))
    (tmp_path / "file").write_text("")
    files = files_of(tmp_path / "file", record, MemoryEngine())
    assert await files.write(record.payload, "web") is None
