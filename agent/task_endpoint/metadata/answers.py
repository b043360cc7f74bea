"""Answers requests for task metadata: finds the task, asks for what is missing, and has it built.

Fails by itself with nothing: what is wrong with a request becomes its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from agent.engine import shared_namespaces
from agent.model import ids
from agent.model.status import NetworkMode
from agent.task_endpoint.contract import Route, answer
from agent.task_endpoint.metadata import associations, build, stats
from agent.task_endpoint.metadata.facts import NetworksUnknown, SeenTask
from agent.task_endpoint.metadata.paths import PATHS, Subject
from agent.task_endpoint.metadata.version import Refusal
from agent.task_endpoint.metadata.version2 import Version2
from agent.task_endpoint.metadata.version3 import Version3
from agent.task_endpoint.metadata.version4 import Version4

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.model.task import AgentTask
    from agent.runtime.protocol import ContainerDetails
    from agent.task_endpoint.contract import Call
    from agent.task_endpoint.metadata.endpoint_ids import EndpointIndex
    from agent.task_endpoint.metadata.facts import HostFacts, Tasks, TaskTags
    from agent.task_endpoint.metadata.observations import Observations
    from agent.task_endpoint.metadata.paths import Path
    from agent.task_endpoint.metadata.stats import Samples
    from agent.task_endpoint.metadata.tags import Tags
    from agent.task_endpoint.metadata.version import Version

_VERSIONS: Final[Mapping[int, Version]] = {2: Version2(), 3: Version3(), 4: Version4()}


@dataclass(frozen=True, slots=True)
class MetadataSources:
    """Where answers come from."""

    tasks: Tasks
    index: EndpointIndex
    observations: Observations
    tags: Tags
    host: Callable[[], Awaitable[HostFacts]]
    samples: Callable[[], Samples | None]
    """None where metrics are off."""


class _Meant(NamedTuple):
    """Which task a request is about, and which of its containers; empty for none."""

    record: AgentTask
    container: str


class MetadataAnswers:
    """Answers every path of every version."""

    def __init__(self, sources: MetadataSources) -> None:
        """Take where answers come from."""
        self._sources = sources

    def routes(self) -> list[Route]:
        """Return the routes; any method is allowed, as on Amazon ECS."""
        return [Route(path.pattern, partial(self._serve, path)) for path in PATHS]

    async def _serve(self, path: Path, call: Call) -> web.StreamResponse:
        version = _VERSIONS[path.version]
        try:
            meant = await (
                self._of_caller(version, path, call)
                if path.version == 2
                else self._of_id(version, path, call)
            )
            return await self._answer(version, path, call, meant)
        except NetworksUnknown as unknown:
            refusal = version.no_networks(unknown.docker_id)
        except Refusal as refused:
            refusal = refused
        return answer(refusal.text, status=refusal.status)

    async def _of_caller(self, version: Version, path: Path, call: Call) -> _Meant:
        """Return what a request of version 2 is about: its caller has an address of its own.

        Raises:
            Refusal: it has none, or no such container.
        """
        record = self._at(call.peer.ipv4)
        if record is None or not await call.is_from(record.arn):
            raise version.unknown_id(path.subject, call.peer.ipv4)
        docker_id = call.match.groupdict().get("docker_id")
        if docker_id is None:
            return _Meant(record, "")
        for each in record.containers.values():
            if each.runtime_id == docker_id:
                return _Meant(record, each.name)
        if path.subject is Subject.CONTAINER_STATS:
            raise version.no_container_stats(docker_id)
        raise version.no_container(docker_id)

    def _at(self, ipv4: str) -> AgentTask | None:
        """Return the task with an address of its own; None for any other caller."""
        tasks = self._sources.tasks
        for record in filter(None, map(tasks.record, tasks.known_tasks())):
            network = record.network if record.network_held else None
            if record.payload.mode is NetworkMode.AWSVPC and network and network.asks_from == ipv4:
                return record
        return None

    async def _of_id(self, version: Version, path: Path, call: Call) -> _Meant:
        """Return what a request of version 3 or 4 is about.

        Raises:
            Refusal: nobody has the id, its container is not made yet, or a container of another task asks.
        """
        endpoint_id = call.match["id"]
        place = self._sources.index.find(endpoint_id)
        record = self._sources.tasks.record(place.task_arn) if place is not None else None
        if place is None or record is None or not record.containers[place.container].runtime_id:
            raise version.unknown_id(path.subject, endpoint_id)
        if not await call.is_from(place.task_arn) and (await call.caller()).task_arn:
            raise version.unknown_id(path.subject, endpoint_id)
        return _Meant(record, place.container)

    async def _answer(
        self, version: Version, path: Path, call: Call, meant: _Meant
    ) -> web.StreamResponse:
        record, name = meant
        match path.subject:
            case Subject.CONTAINER:
                seen = await self._seen(record, [name])
                return answer(build.container(seen, name, extended=version.extended))
            case Subject.TASK | Subject.TASK_WITH_TAGS:
                wanted = path.subject is Subject.TASK_WITH_TAGS
                tags = await self._sources.tags.of(record.arn) if wanted else None
                return await self._task(version, record, tags)
            case Subject.ASSOCIATIONS:
                return answer(associations.names(record.payload, name, call.match["type"]))
            case Subject.ASSOCIATION:
                return self._association(path, call, meant)
            case Subject.CONTAINER_STATS:
                container = record.containers[name]
                found = stats.of_container(
                    self._sources.samples(), container, extended=version.extended
                )
                if found is None:
                    raise version.no_container_stats(container.runtime_id)
                return answer(found)
            case Subject.TASK_STATS:
                samples = self._sources.samples()
                return answer(stats.of_task(samples, record, extended=version.extended))

    async def _task(
        self, version: Version, record: AgentTask, tags: TaskTags | None
    ) -> web.StreamResponse:
        seen = await self._seen(record, list(record.containers))
        host = await self._sources.host()
        return answer(build.task(seen, host, extended=version.extended, tags=tags))

    def _association(self, path: Path, call: Call, meant: _Meant) -> web.StreamResponse:
        kind, name = call.match["type"], call.match["name"]
        content = associations.content(
            path.version, meant.record.payload, meant.container, kind, name
        )
        return web.Response(body=content.encode(), content_type="application/json")

    async def _seen(self, record: AgentTask, names: list[str]) -> SeenTask:
        """Return a task with these of its containers as the engine describes them now."""
        made = {name: record.containers[name].runtime_id for name in names}
        made = {name: runtime_id for name, runtime_id in made.items() if runtime_id}
        sandbox = record.network.sandbox_id if record.network and record.network_held else ""
        payload = record.payload
        holder = ""
        if shared_namespaces.needs_holder(payload):
            holder = ids.holder_engine_name(payload.arn, payload.family, payload.version)
        targets = [each for each in (*made.values(), sandbox, holder) if each]
        observations = self._sources.observations
        described = (
            observations.in_networks if payload.mode is NetworkMode.BRIDGE else observations.of
        )
        found: Mapping[str, ContainerDetails] = await described(targets)
        return SeenTask(
            record=record,
            details={name: found[each] for name, each in made.items() if each in found},
            sandbox=found.get(sandbox),
            holder=found.get(holder),
        )
