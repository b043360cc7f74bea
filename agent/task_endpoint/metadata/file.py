"""The metadata files of containers, for ``ECS_ENABLE_CONTAINER_METADATA``.

::

    before a container is made ──► what its order says ──► it runs ──► all, with the status READY
                                                                          └──► its task's clean-up: removed

A file is replaced as a whole. Its directory is mounted read-only: whatever a container does there, the agent
writes to no other place. Touches ``metadata`` below the agent's data directory; what fails is logged, and no
container waits for it.

Tests: ``tests/unit/task_endpoint/metadata/test_file.py``, ``tests/integration/task_endpoint``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from agent.engine.labels import LABEL_CONTAINER, LABEL_OWNER, LABEL_TASK
from agent.engine.tools import MetadataFile
from agent.model import ids
from agent.model.status import ContainerStatus, NetworkMode
from agent.task_endpoint.metadata import file_content
from agent.task_endpoint.metadata.endpoint_ids import Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.model.payload import TaskPayload
    from agent.model.task import AgentTask
    from agent.runtime.protocol import ContainerDetails, EngineEvent
    from agent.task_endpoint.metadata.endpoint_ids import EndpointIds
    from agent.task_endpoint.metadata.facts import Tasks
    from agent.task_endpoint.metadata.file_content import FileHost
    from agent.task_endpoint.metadata.observations import Observations

NAME: Final = "ecs-container-metadata.json"
VARIABLE: Final = "ECS_CONTAINER_METADATA_FILE"
IN_CONTAINER: Final = "/opt/ecs/metadata"
RETRY_S: Final = 5.0

_log = structlog.get_logger(__name__)


class FileSettings(NamedTuple):
    """Where files are, and how containers mount them."""

    directory: Path
    """Has a directory for each task."""
    owner: str
    """The agent's, as in the label of its containers."""
    selinux: bool
    """Whether the engine labels what containers mount."""


class MetadataFiles:
    """The files of all containers; implements ``engine.tools.MetadataFiles``. One event loop."""

    def __init__(
        self,
        settings: FileSettings,
        *,
        endpoint_ids: EndpointIds,
        observations: Observations,
        host: Callable[[], Awaitable[FileHost]],
        tasks: Tasks,
    ) -> None:
        """Take where files come from; nothing is accessed before the first call."""
        self._settings = settings
        self._ids = endpoint_ids
        self._observations = observations
        self._host = host
        self._tasks = tasks
        self._due: dict[Place, None] = {}
        """Containers whose file is to be completed, in order."""
        self._woken = asyncio.Event()

    async def write(self, payload: TaskPayload, container: str) -> MetadataFile | None:
        """Write what is known before a container is made; None where that fails, which is logged."""
        directory = self._directory(payload.arn) / _part(container, payload.arn)
        content = file_content.text(payload, container, await self._host())
        try:
            await asyncio.to_thread(_replace, directory, content)
        except OSError as error:
            _log.warning("metadata file not written", file=str(directory), error=error.strerror)
            return None
        inside = f"{IN_CONTAINER}/{self._ids.of(payload.arn, container)}"
        options = "ro,Z" if self._settings.selinux else "ro"
        return MetadataFile(
            bind=f"{directory}:{inside}:{options}",
            variables={VARIABLE: f"{inside}/{NAME}"},
        )

    async def remove(self, task_arn: str) -> None:
        """Remove the files of a task; never fails."""
        await asyncio.to_thread(shutil.rmtree, self._directory(task_arn), ignore_errors=True)

    def take_note_of(self, event: EngineEvent) -> None:
        """Have the file of a container completed that has started, or of all after a gap."""
        labels = event.labels
        if event.action == "relist":
            for arn in self._tasks.known_tasks():
                record = self._tasks.record(arn)
                for container in record.containers.values() if record is not None else ():
                    if container.known is ContainerStatus.RUNNING:
                        self._due[Place(arn, container.name)] = None
        elif event.action == "start" and labels.get(LABEL_OWNER) == self._settings.owner:
            self._due[Place(labels.get(LABEL_TASK, ""), labels.get(LABEL_CONTAINER, ""))] = None
        if self._due:
            self._woken.set()

    async def run(self) -> None:
        """Complete files until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            due, self._due = self._due, {}
            again = [place for place in due if not await self._complete(place)]
            if again:
                await asyncio.sleep(RETRY_S)
                self._due |= dict.fromkeys(again)
                self._woken.set()

    async def _complete(self, place: Place) -> bool:
        """Complete the file of a container; return False if that must be tried again."""
        record = self._tasks.record(place.task_arn)
        container = record.containers.get(place.container) if record is not None else None
        if record is None or container is None or container.known is ContainerStatus.STOPPED:
            return True
        file = self._directory(place.task_arn) / _part(place.container, place.task_arn)
        if not container.runtime_id:
            return False  # its start was heard of before its creation was recorded
        seen = await self._described(record, container.runtime_id)
        if seen is None:
            return False
        if not seen.state.running:
            return True
        content = await self._content(record, place.container, seen)
        try:
            await asyncio.to_thread(_complete_file, file, content)
        except OSError as error:
            _log.warning("metadata file not completed", file=str(file), error=error.strerror)
        return True

    async def _described(self, record: AgentTask, target: str) -> ContainerDetails | None:
        is_bridge = record.payload.mode is NetworkMode.BRIDGE
        observations = self._observations
        described = observations.in_networks if is_bridge else observations.of
        return (await described([target])).get(target)

    async def _content(self, record: AgentTask, name: str, seen: ContainerDetails) -> bytes:
        network = record.network
        own = network.any_address if network and record.payload.mode is NetworkMode.AWSVPC else ""
        return file_content.text(record.payload, name, await self._host(), seen, own_address=own)

    def _directory(self, task_arn: str) -> Path:
        """Return the directory of a task: its cluster's name and its id, as far as the ARN has them."""
        parts = task_arn.split(":", 5)[-1].split("/")[1:]
        if not parts or any(part in {"", ".", ".."} for part in parts):
            parts = [ids.cgroup_name(task_arn)]
        return self._settings.directory.joinpath(*parts)


def _part(container: str, task_arn: str) -> str:
    """Return the directory of a container: its name, where that may be a file's."""
    is_plain = container.replace("-", "").replace("_", "").isalnum()
    return container if is_plain else ids.container_digest(task_arn, container)


def _replace(directory: Path, content: bytes) -> None:
    """Write the file of a container. Blocks."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)  # what containers see of the path, whatever user they run as
    handle, fresh = tempfile.mkstemp(prefix=".", dir=directory)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        Path(fresh).replace(directory / NAME)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(fresh).unlink()
        raise


def _complete_file(directory: Path, content: bytes) -> None:
    """Write a file that is there and differs. Blocks.

    One that is not there is of a container that was made before such files were asked for.
    """
    try:
        if (directory / NAME).read_bytes() == content:
            return
    except FileNotFoundError:
        return
    _replace(directory, content)
