"""``DockerEngine``: the calls of ``ContainerEngine`` on the Docker Engine API.

``calls`` makes them, each kind in threads of its own, and turns every failure into one of the errors in
``agent.errors``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import docker.errors
from docker.utils import parse_repository_tag, version_lt

from agent.errors import EngineUnavailable, NoSuchContainer, NoSuchImage
from agent.runtime.docker import details, faults, parse, pulls
from agent.runtime.docker.calls import EngineCalls, LaneSizes
from agent.runtime.docker.events import EventFeed
from agent.runtime.docker.exec import start_exec
from agent.runtime.docker.lanes import BlockingCall, join_all
from agent.runtime.docker.streams import stream
from agent.runtime.protocol import WHOLE_LOG, VolumeInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from agent.model.exec import ExecCommand
    from agent.runtime.docker.client import EngineClient
    from agent.runtime.protocol import (
        ContainerDetails,
        ContainerState,
        ContainerSummary,
        EngineEvent,
        EngineInfo,
        ExecSession,
        ImageInfo,
        ImageSummary,
        LogSelection,
        RegistryAuth,
    )

DEFAULT_SIZES: Final = LaneSizes()
_QUICK_LIMIT_S = 30.0
_VOLUME_LIMIT_S = 300.0
_DEFAULT_NETWORK = "bridge"
_REMOVED_SINCE_API = "1.30"
_DISTRIBUTION_SINCE_API = "1.30"


class DockerEngine:
    """A Docker Engine; implements ``runtime.protocol.ContainerEngine``.

    Belongs to one event loop; all methods may be called concurrently. Nothing is opened before the
    first call, which also negotiates the API version if ``connect`` did not.

    Args:
        docker_host: ``unix://`` address of the engine.
        sizes: how many calls of each kind are made at the same time.

    Raises:
        ConfigError: ``docker_host`` is not a ``unix://`` address.
    """

    def __init__(
        self,
        docker_host: str = "unix:///var/run/docker.sock",
        *,
        sizes: LaneSizes = DEFAULT_SIZES,
    ) -> None:
        self._calls = EngineCalls(docker_host, sizes)
        self._closed = False
        self._feeds: set[EventFeed] = set()

    # --- the engine itself

    async def connect(self) -> EngineInfo:
        """Negotiate the API version and describe the engine; may be repeated at any time."""

        def work(client: EngineClient, _: BlockingCall) -> EngineInfo:
            versions = client.negotiate()
            return parse.engine_info(versions, client.info(), client.api_version)

        return await self._calls.do(
            self._calls.quick, work, "connected", _QUICK_LIMIT_S, negotiate=False
        )

    async def ping(self, *, limit_s: float = 5.0) -> None:
        """Return when the engine answers."""
        await self._calls.do(self._calls.quick, lambda client, _: client.ping(), "pinged", limit_s)

    def events(self) -> AsyncIterator[EngineEvent]:
        """Yield events until ``close``; each iteration has its own thread."""
        return self._events()

    async def close(self) -> None:
        """End all streams and threads; calls in flight fail with ``EngineUnavailable``."""
        self._closed = True
        feeds = list(self._feeds)
        for feed in feeds:
            feed.stop()
        await self._calls.close()
        await join_all([feed.thread for feed in feeds], limit_s=2.0)

    # --- containers

    async def create_container(
        self, name: str, body: Mapping[str, Any], *, limit_s: float = 240.0
    ) -> str:
        """Create a container and return its id; see the protocol for errors."""

        def work(client: EngineClient, _: BlockingCall) -> str:
            return str(client.create_container_from_config(dict(body), name)["Id"])

        return await self._calls.do(self._calls.launch, work, faults.CREATED, limit_s)

    async def start_container(self, container_id: str, *, limit_s: float = 180.0) -> None:
        """Start a container; a running one is success."""

        def work(client: EngineClient, _: BlockingCall) -> None:
            client.start(container_id)

        await self._calls.do(self._calls.launch, work, faults.STARTED, limit_s, container_id)

    async def stop_container(
        self, container_id: str, *, timeout_s: int, limit_s: float = 120.0
    ) -> None:
        """Stop a container; a stopped or absent one is success."""

        def work(client: EngineClient, _: BlockingCall) -> None:
            client.stop(container_id, timeout=timeout_s)

        with contextlib.suppress(NoSuchContainer):
            await self._calls.do(
                self._calls.stop, work, "stopped", timeout_s + limit_s, container_id
            )

    async def remove_container(
        self, container_id: str, *, force: bool = False, limit_s: float = 300.0
    ) -> None:
        """Remove a container and its anonymous volumes; an absent one is success.

        If another process is removing it, this waits until it is gone.
        """

        def work(client: EngineClient, _: BlockingCall) -> None:
            try:
                client.remove_container(container_id, v=True, force=force)
            except docker.errors.APIError as error:
                going = "already in progress" in (error.explanation or "")
                if not going or version_lt(client.api_version, _REMOVED_SINCE_API):
                    raise
                client.wait(container_id, condition="removed")

        with contextlib.suppress(NoSuchContainer):
            await self._calls.do(self._calls.stop, work, "removed", limit_s, container_id)

    async def inspect_container(self, id_or_name: str, *, limit_s: float = 30.0) -> ContainerState:
        """Return a container's state; raises ``NoSuchContainer``."""

        def work(client: EngineClient, _: BlockingCall) -> ContainerState:
            return parse.container_state(client.inspect_container(id_or_name))

        return await self._calls.do(self._calls.quick, work, "inspecting", limit_s, id_or_name)

    async def describe_container(
        self, id_or_name: str, *, limit_s: float = 30.0
    ) -> ContainerDetails:
        """Return a container with all that it may be told of itself; raises ``NoSuchContainer``."""

        def work(client: EngineClient, _: BlockingCall) -> ContainerDetails:
            return details.container_details(client.inspect_container(id_or_name))

        return await self._calls.do(self._calls.quick, work, "inspecting", limit_s, id_or_name)

    async def connect_network(
        self, network: str, container_id: str, *, limit_s: float = 60.0
    ) -> None:
        """Connect a container to a network; one that is connected is success."""

        def work(client: EngineClient, _: BlockingCall) -> None:
            try:
                client.connect_container_to_network(container_id, network)
            except docker.errors.APIError as error:
                if "already exists in network" not in (error.explanation or ""):
                    raise

        await self._calls.do(self._calls.launch, work, "connected", limit_s, container_id)

    async def default_bridge(self) -> str:
        """Return the link of the default network ``bridge``; empty if the engine has none."""

        def work(client: EngineClient, _: BlockingCall) -> str:
            try:
                return parse.bridge_link(client.inspect_network(_DEFAULT_NETWORK))
            except docker.errors.NotFound:
                return ""

        return await self._calls.do(self._calls.quick, work, "inspecting", _QUICK_LIMIT_S)

    async def list_containers(
        self, *, labels: Mapping[str, str | None], limit_s: float = 600.0
    ) -> list[ContainerSummary]:
        """List containers, including stopped ones, with all labels (None means any value)."""
        wanted = [key if value is None else f"{key}={value}" for key, value in labels.items()]
        filters = {"label": wanted} if wanted else {}

        def work(client: EngineClient, _: BlockingCall) -> list[ContainerSummary]:
            rows = client.containers(all=True, filters=filters)
            return [parse.container_summary(row) for row in rows]

        return await self._calls.do(self._calls.quick, work, "listed", limit_s)

    def logs(self, container_id: str, selection: LogSelection = WHOLE_LOG) -> AsyncIterator[bytes]:
        """Yield output of a container; see the protocol.

        Raises:
            NoSuchContainer: the container does not exist.
            EngineRefused: its log driver cannot be read back; the text says where its output goes.
            EngineUnavailable: too many logs are being read, or the engine is down.
        """

        def produce(call: BlockingCall) -> Iterable[bytes]:
            with self._calls.translated(call, subject=container_id):
                yield from self._calls.client().log_chunks(container_id, selection)

        return self._logs(produce)

    async def start_exec(self, container_id: str, command: ExecCommand) -> ExecSession:
        """Start a command in a running container; see the protocol.

        Raises:
            NoSuchContainer: the container does not exist.
            EngineRefused: it does not run, or the engine cannot do what the command asks for.
        """
        return await start_exec(self._calls, container_id, command)

    # --- images

    async def inspect_image(self, reference: str) -> ImageInfo:
        """Return a local image; raises ``NoSuchImage``."""

        def work(client: EngineClient, _: BlockingCall) -> ImageInfo:
            return parse.image_info(client.inspect_image(reference))

        return await self._calls.do(self._calls.quick, work, "inspecting", _QUICK_LIMIT_S)

    async def list_images(self, *, limit_s: float = 600.0) -> list[ImageSummary]:
        """List all images that have a name, and those that lost theirs; not their layers."""

        def work(client: EngineClient, _: BlockingCall) -> list[ImageSummary]:
            return [parse.image_summary(row) for row in client.images()]

        return await self._calls.do(self._calls.quick, work, "listed", limit_s)

    async def pull_image(
        self,
        reference: str,
        *,
        auth: RegistryAuth | None = None,
        inactivity_s: float = 60.0,
        limit_s: float = 7200.0,
        on_progress: Callable[[str], None] | None = None,
    ) -> int:
        """Pull an image; see the protocol. ``on_progress`` is called in the event loop.

        The registry has five minutes for its first response, as on Amazon ECS; after that,
        ``inactivity_s`` applies.
        """
        report = pulls.in_loop(on_progress)

        def work(client: EngineClient, call: BlockingCall) -> int:
            return pulls.pull(
                client, call, reference, auth, inactivity_s=inactivity_s, report=report
            )

        return await self._calls.do(self._calls.pull, work, faults.PULLED, limit_s)

    async def resolve_digest(
        self, reference: str, *, auth: RegistryAuth | None = None, limit_s: float = 60.0
    ) -> str:
        """Return the registry's ``sha256:...`` digest of a reference; raises like ``pull_image``.

        Returns an empty string if the engine is too old, or for a schema 1 manifest, whose digest
        cannot be used to pull.
        """

        def work(client: EngineClient, _: BlockingCall) -> str:
            if version_lt(client.api_version, _DISTRIBUTION_SINCE_API):
                return ""
            return pulls.digest(client, reference, auth)

        return await self._calls.do(self._calls.registry, work, faults.MANIFEST_PULLED, limit_s)

    async def tag_image(self, source: str, reference: str) -> None:
        """Give an image another name; ``reference`` is ``repository:tag``."""
        repository, tag = parse_repository_tag(reference)

        def work(client: EngineClient, _: BlockingCall) -> None:
            client.tag(source, repository, tag or "latest")

        await self._calls.do(self._calls.quick, work, "tagged", _QUICK_LIMIT_S)

    async def remove_image(self, reference: str, *, limit_s: float = 180.0) -> None:
        """Remove one name of an image, or the image by id; an absent one is success."""

        def work(client: EngineClient, _: BlockingCall) -> None:
            client.remove_image(reference)

        with contextlib.suppress(NoSuchImage):
            await self._calls.do(self._calls.stop, work, "removed", limit_s)

    async def load_image(self, archive: bytes, *, limit_s: float = 120.0) -> None:
        """Load images from a tar archive in the format of ``docker save``."""

        def work(client: EngineClient, _: BlockingCall) -> None:
            pulls.raise_refusals(client.load_image(archive), operation="loaded")

        await self._calls.do(self._calls.registry, work, "loaded", limit_s)

    # --- volumes

    async def create_volume(
        self,
        name: str,
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Create a volume; an existing one of that name is success."""

        def work(client: EngineClient, _: BlockingCall) -> None:
            client.create_volume(name, driver, dict(options or {}), dict(labels or {}))

        await self._calls.do(self._calls.launch, work, faults.CREATED, _VOLUME_LIMIT_S)

    async def remove_volume(self, name: str) -> None:
        """Remove a volume; an absent one is success."""

        def work(client: EngineClient, _: BlockingCall) -> None:
            with contextlib.suppress(docker.errors.NotFound):
                client.remove_volume(name)

        await self._calls.do(self._calls.stop, work, "removed", _VOLUME_LIMIT_S)

    async def volume_exists(self, name: str) -> bool:
        """Tell whether a volume exists."""

        def work(client: EngineClient, _: BlockingCall) -> bool:
            try:
                client.inspect_volume(name)
            except docker.errors.NotFound:
                return False
            return True

        return await self._calls.do(self._calls.quick, work, "inspecting", _VOLUME_LIMIT_S)

    async def inspect_volume(self, name: str) -> VolumeInfo | None:
        """Return how a volume was made; None if there is none of that name."""

        def work(client: EngineClient, _: BlockingCall) -> VolumeInfo | None:
            try:
                found = client.inspect_volume(name)
            except docker.errors.NotFound:
                return None
            return VolumeInfo(driver=found["Driver"], options=found.get("Options") or {})

        return await self._calls.do(self._calls.quick, work, "inspecting", _VOLUME_LIMIT_S)

    # --- streams

    async def _events(self) -> AsyncIterator[EngineEvent]:
        if self._closed:
            return
        feed = EventFeed(self._calls.client)
        self._feeds.add(feed)
        try:
            async for event in feed:
                yield event
        finally:
            feed.stop()
            self._feeds.discard(feed)

    async def _logs(
        self, produce: Callable[[BlockingCall], Iterable[bytes]]
    ) -> AsyncIterator[bytes]:
        if self._calls.log.free <= 0:
            text = "too many container logs are being read; end one of the readers"
            raise EngineUnavailable(text, operation="logs")
        async with contextlib.aclosing(
            stream(self._calls.log, produce, operation="logs")
        ) as pieces:
            async for piece in pieces:
                yield piece
