"""The parts of task metadata, put together once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from agent.task_endpoint.metadata import environment
from agent.task_endpoint.metadata.answers import MetadataAnswers, MetadataSources
from agent.task_endpoint.metadata.endpoint_ids import EndpointIds, EndpointIndex
from agent.task_endpoint.metadata.facts import HostFacts, Tasks
from agent.task_endpoint.metadata.file import FileSettings, MetadataFiles
from agent.task_endpoint.metadata.file_content import FileHost
from agent.task_endpoint.metadata.observations import Observations
from agent.task_endpoint.metadata.tags import Tags

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from agent.model.lookups import AskTags
    from agent.model.task import AgentTask
    from agent.runtime.protocol import ContainerEngine, EngineEvent
    from agent.task_endpoint.contract import Route
    from agent.task_endpoint.metadata.stats import Samples


class HostNames(NamedTuple):
    """What this host is called."""

    cluster: str
    owner: str
    """The agent's name in labels of containers."""
    instance_arn: Callable[[], str]
    """Of this container instance; empty before the first registration."""
    zone: Callable[[], Awaitable[str]]
    """Its availability zone; empty where it is unknown, or not to be told."""
    private_ipv4: Callable[[], str]
    """Its address towards other machines; empty where it has none."""

    async def facts(self) -> HostFacts:
        """Return what metadata says of it."""
        return HostFacts(cluster=self.cluster, availability_zone=await self.zone())

    async def file_facts(self) -> FileHost:
        """Return what metadata files say of it."""
        return FileHost(
            cluster=self.cluster,
            instance_arn=self.instance_arn(),
            availability_zone=await self.zone(),
            private_ipv4=self.private_ipv4(),
        )


class FilePlace(NamedTuple):
    """Where metadata files are, and whether the engine labels what containers mount."""

    directory: Path
    selinux: bool


class TaskTable(Protocol):
    """The tasks of this host; ``engine.task_table.TaskTable``."""

    def known_tasks(self) -> list[str]:
        """Return the ARNs of all of them."""

    def record(self, task_arn: str) -> AgentTask | None:
        """Return the record of one, to read at once; None for one that is not here."""


class Later(NamedTuple):
    """What is made after the parts here, and asked for when it is needed."""

    tasks: Callable[[], TaskTable]
    ask_tags: Callable[[], AskTags]
    """Returns what asks control for tags."""
    samples: Callable[[], Samples | None]
    """Returns the sampler; None where metrics are off."""


class MetadataParts(NamedTuple):
    """What the agent needs of this room."""

    ids: EndpointIds
    places: EndpointIndex
    answers: MetadataAnswers
    observations: Observations
    files: MetadataFiles | None
    """None where containers get no such files."""

    @classmethod
    def build(
        cls,
        secret: bytes,
        host: HostNames,
        engine: ContainerEngine,
        later: Later,
        *,
        file_place: FilePlace | None,
    ) -> Self:
        """Build the parts of one agent; nothing is accessed before something is asked.

        Args:
            secret: ids of containers are made from it.
            host: names of this host.
            engine: describes containers.
            later: where tasks and their tags are found.
            file_place: None where containers get no metadata files.
        """
        ids, observations = EndpointIds(secret), Observations(engine)
        tasks = Tasks(lambda: later.tasks().known_tasks(), lambda arn: later.tasks().record(arn))
        index = EndpointIndex(ids, tasks)

        async def ask(resource_arn: str) -> Mapping[str, str]:
            return await later.ask_tags()(resource_arn)

        tags = Tags(ask, host.instance_arn)
        sources = MetadataSources(tasks, index, observations, tags, host.facts, later.samples)
        files = None
        if file_place is not None:
            settings = FileSettings(file_place.directory, host.owner, selinux=file_place.selinux)
            files = MetadataFiles(
                settings,
                endpoint_ids=ids,
                observations=observations,
                host=host.file_facts,
                tasks=tasks,
            )
        return cls(ids, index, MetadataAnswers(sources), observations, files)

    def variables(self, task_arn: str, container: str) -> dict[str, str]:
        """Return the variables by which a container finds what it can ask."""
        return environment.variables(self.ids, task_arn, container)

    def task_of(self, endpoint_id: str) -> str:
        """Return the ARN of the task of an id; empty for one that no container of this host has."""
        place = self.places.find(endpoint_id)
        return place.task_arn if place is not None else ""

    def routes(self) -> list[Route]:
        """Return what the server of tasks is to answer."""
        return self.answers.routes()

    async def run(self) -> None:
        """Complete metadata files until cancelled; return at once where there are none."""
        if self.files is not None:
            await self.files.run()

    def take_note_of(self, event: EngineEvent) -> None:
        """Take note of something that happened to a container."""
        self.observations.take_note_of(event)
        if self.files is not None:
            self.files.take_note_of(event)
