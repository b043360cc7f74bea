"""A container engine in memory: the whole protocol, its rules, and faults on demand.

Containers have unique names, states that follow each other as in a real engine, and an event for
each change. Nothing runs: a container lives until a test lets it exit.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import (
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    NameConflict,
    NoSuchContainer,
    NoSuchImage,
)
from agent.model.status import Health
from agent.runtime.protocol import (
    WHOLE_LOG,
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
    VolumeInfo,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from agent.model.exec import ExecCommand

CONTAINER_LABEL = "com.amazonaws.ecs.container-name"


@dataclass
class Box:
    """One container of the simulated engine."""

    id: str
    name: str
    body: dict[str, Any]
    status: str = "created"
    pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    created_at: float = field(default_factory=time.time)
    started_at: float = 0.0
    finished_at: float = 0.0
    health: Health = Health.UNKNOWN
    cut_off_from: str = ""

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.body.get("Labels") or {})

    @property
    def host_config(self) -> dict[str, Any]:
        return dict(self.body.get("HostConfig") or {})

    @property
    def network_mode(self) -> str:
        return str(self.host_config.get("NetworkMode", ""))


@dataclass
class Fault:
    """What the next matching call does instead of its work, or after it."""

    error: Exception | None = None
    done: bool = False
    """True: the work is done, and only the answer is lost."""
    delay_s: float = 0.0
    times: int = 1
    container: str = ""
    """Only for this container (its name in the task); empty for any."""


class MemoryEngine:
    """Implements ``ContainerEngine``; tests control it with the methods below ``-- for tests``."""

    def __init__(self, images: tuple[str, ...] = ("busybox",)) -> None:
        self.boxes: dict[str, Box] = {}
        self.images = set(images)
        self.image_variables: dict[str, frozenset[str]] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        """Every call that reached the engine: operation and container, by its name in the task."""
        self.stop_timeouts: dict[str, int] = {}
        self.exits_at_once: dict[str, int] = {}
        """Containers, by their name in the task, that exit with a code as soon as they start."""
        self.deaf: set[str] = set()
        """Containers, by their name in the task, that keep running after a successful stop."""
        self.hung = False
        self.away = False
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._streams: set[asyncio.Queue[EngineEvent]] = set()
        self._serial = 0

    # -- calls ------------------------------------------------------------------------------------

    async def _call(
        self, operation: str, box: Box | None, name: str, work: Callable[[], Any]
    ) -> Any:
        label = box.labels.get(CONTAINER_LABEL, name) if box else name
        if self.away:
            raise EngineUnavailable("the engine is away", operation=operation)
        if self.hung:
            await asyncio.sleep(0.01)
            raise EngineTimeout("the engine hangs", operation=operation, limit_s=0.01)
        self.calls.append((operation, label))
        fault = self._take(operation, label)
        if fault is None:
            await asyncio.sleep(0)
            return work()
        result = work() if fault.done or fault.error is None else None
        await asyncio.sleep(fault.delay_s)
        if fault.error is not None:
            raise fault.error
        return result

    def _take(self, operation: str, label: str) -> Fault | None:
        queue = self._faults[operation]
        for fault in queue:
            if fault.container in ("", label):
                fault.times -= 1
                if fault.times <= 0:
                    queue.remove(fault)
                return fault
        return None

    def _get(self, id_or_name: str) -> Box:
        for box in self.boxes.values():
            if id_or_name in (box.id, box.name):
                return box
        raise NoSuchContainer(f"No such container: {id_or_name}")

    def _maybe(self, id_or_name: str) -> Box | None:
        try:
            return self._get(id_or_name)
        except NoSuchContainer:
            return None

    def _emit(self, action: str, box: Box, health: Health = Health.UNKNOWN) -> None:
        event = EngineEvent(
            action=action,
            container_id=box.id,
            at=time.time(),
            exit_code=box.exit_code,
            health=health,
            labels=box.labels,
        )
        for stream in self._streams:
            stream.put_nowait(event)

    # -- the protocol: engine ---------------------------------------------------------------------

    async def connect(self) -> EngineInfo:
        await self.ping()
        return EngineInfo(
            version="1", api_version="1.41", cgroup_driver="cgroupfs", cgroup_version=2
        )

    async def ping(self, *, limit_s: float = 5.0) -> None:
        await self._call("ping", None, "", lambda: limit_s)

    async def close(self) -> None:
        self.away = True

    async def events(self) -> AsyncIterator[EngineEvent]:
        stream: asyncio.Queue[EngineEvent] = asyncio.Queue()
        self._streams.add(stream)
        try:
            yield EngineEvent(action="relist")
            while True:
                yield await stream.get()
        finally:
            self._streams.discard(stream)

    async def logs(
        self, container_id: str, selection: LogSelection = WHOLE_LOG
    ) -> AsyncIterator[bytes]:
        self._get(container_id)
        if selection.tail != 0 or selection.follow:
            yield b""

    async def start_exec(self, container_id: str, command: ExecCommand) -> ExecSession:
        self._get(container_id)
        raise EngineRefused(f"nothing runs here: {command.words}", operation="exec")

    # -- the protocol: containers -----------------------------------------------------------------

    async def create_container(
        self, name: str, body: Mapping[str, Any], *, limit_s: float = 240.0
    ) -> str:
        def work() -> str:
            if body["Image"] not in self.images:
                raise NoSuchImage(f"No such image: {body['Image']}", operation="created")
            if self._maybe(name) is not None:
                raise NameConflict(f"name {name} is in use", operation="created")
            self._serial += 1
            box = Box(id=f"id-{self._serial:04}", name=name, body=dict(body))
            self.boxes[box.id] = box
            self._emit("create", box)
            return box.id

        label = str((body.get("Labels") or {}).get(CONTAINER_LABEL, name))
        result = await self._call("create", None, label, work)
        assert limit_s > 0
        return str(result)

    async def start_container(self, container_id: str, *, limit_s: float = 180.0) -> None:
        def work() -> None:
            box = self._get(container_id)
            if box.status == "running":
                return
            self._serial += 1
            box.status, box.pid, box.exit_code = "running", self._serial, None
            box.started_at, box.finished_at, box.health = time.time(), 0.0, Health.UNKNOWN
            self._emit("start", box)
            label = box.labels.get(CONTAINER_LABEL, "")
            if label in self.exits_at_once:
                self._end(box, self.exits_at_once[label])

        assert limit_s > 0
        await self._call("start", self._maybe(container_id), container_id, work)

    async def stop_container(
        self, container_id: str, *, timeout_s: int, limit_s: float = 120.0
    ) -> None:
        def work() -> None:
            box = self._maybe(container_id)
            label = box.labels.get(CONTAINER_LABEL, "") if box is not None else ""
            if box is not None and box.status == "running" and label not in self.deaf:
                self.stop_timeouts[label] = timeout_s
                self._end(box, 143)
                self._emit("stop", box)

        assert limit_s > 0
        await self._call("stop", self._maybe(container_id), container_id, work)

    async def remove_container(
        self, container_id: str, *, force: bool = False, limit_s: float = 300.0
    ) -> None:
        def work() -> None:
            box = self._maybe(container_id)
            if box is None:
                return
            if box.status == "running":
                if not force:
                    raise EngineRefused("cannot remove a running container")
                self._end(box, 137)
            del self.boxes[box.id]
            self._emit("destroy", box)

        assert limit_s > 0
        await self._call("remove", self._maybe(container_id), container_id, work)

    async def inspect_container(self, id_or_name: str, *, limit_s: float = 30.0) -> ContainerState:
        def work() -> ContainerState:
            box = self._get(id_or_name)
            return ContainerState(
                id=box.id,
                name=box.name,
                running=box.status == "running",
                status=box.status,
                pid=box.pid,
                exit_code=box.exit_code,
                oom_killed=box.oom_killed,
                error=box.error,
                created_at=box.created_at,
                started_at=box.started_at,
                finished_at=box.finished_at,
                health=box.health,
                labels=box.labels,
                network_mode=box.network_mode,
                pid_mode=str(box.host_config.get("PidMode", "")),
                ipc_mode=str(box.host_config.get("IpcMode", "")),
                port_bindings={
                    port: [int(each["HostPort"]) for each in bindings]
                    for port, bindings in (box.host_config.get("PortBindings") or {}).items()
                },
                cut_off_from=box.cut_off_from,
            )

        assert limit_s > 0
        seen = await self._call("inspect", self._maybe(id_or_name), id_or_name, work)
        assert isinstance(seen, ContainerState)
        return seen

    async def describe_container(
        self, id_or_name: str, *, limit_s: float = 30.0
    ) -> ContainerDetails:
        return ContainerDetails(state=await self.inspect_container(id_or_name, limit_s=limit_s))

    async def connect_network(
        self, network: str, container_id: str, *, limit_s: float = 60.0
    ) -> None:
        def work() -> None:
            box = self._get(container_id)
            assert box.cut_off_from in ("", network)
            box.cut_off_from = ""

        assert limit_s > 0
        await self._call("connect", self._maybe(container_id), container_id, work)

    async def default_bridge(self) -> str:
        return "docker0"

    async def list_containers(
        self, *, labels: Mapping[str, str | None], limit_s: float = 600.0
    ) -> list[ContainerSummary]:
        def work() -> list[ContainerSummary]:
            return [
                ContainerSummary(
                    id=box.id,
                    name=box.name,
                    state=box.status,
                    labels=box.labels,
                    network_mode=box.network_mode,
                    cut_off_from=box.cut_off_from,
                    image_id=f"sha256:{box.body['Image']}",
                )
                for box in self.boxes.values()
                if all(
                    key in box.labels and value in (None, box.labels[key])
                    for key, value in labels.items()
                )
            ]

        assert limit_s > 0
        found: list[ContainerSummary] = await self._call("list", None, "", work)
        return found

    # -- the protocol: images and volumes ---------------------------------------------------------

    async def inspect_image(self, reference: str) -> ImageInfo:
        def work() -> ImageInfo:
            if reference not in self.images:
                raise NoSuchImage(f"No such image: {reference}")
            variables = self.image_variables.get(reference, frozenset())
            return ImageInfo(id=f"sha256:{reference}", variables=variables)

        found = await self._call("inspect image", None, reference, work)
        assert isinstance(found, ImageInfo)
        return found

    async def list_images(self, *, limit_s: float = 600.0) -> list[ImageSummary]:
        def work() -> list[ImageSummary]:
            return [ImageSummary(id=f"sha256:{name}", tags=(name,)) for name in self.images]

        assert limit_s > 0
        found: list[ImageSummary] = await self._call("list images", None, "", work)
        return found

    async def pull_image(
        self,
        reference: str,
        *,
        auth: RegistryAuth | None = None,
        inactivity_s: float = 60.0,
        limit_s: float = 7200.0,
        on_progress: Callable[[str], None] | None = None,
    ) -> int:
        def work() -> None:
            if reference not in self.images:
                raise NoSuchImage(f"manifest for {reference} not found", operation="pulled")
            if on_progress is not None:
                on_progress("Downloading")

        assert auth is None
        assert min(inactivity_s, limit_s) > 0
        await self._call("pull", None, reference, work)
        return 0

    async def resolve_digest(
        self, reference: str, *, auth: RegistryAuth | None = None, limit_s: float = 60.0
    ) -> str:
        assert auth is None
        assert limit_s > 0
        await self._call("resolve", None, reference, lambda: None)
        return f"sha256:{reference}"

    async def tag_image(self, source: str, reference: str) -> None:
        await self._call("tag", None, source, lambda: self.images.add(reference))

    async def remove_image(self, reference: str, *, limit_s: float = 180.0) -> None:
        assert limit_s > 0
        await self._call("remove image", None, reference, lambda: self.images.discard(reference))

    async def load_image(self, archive: bytes, *, limit_s: float = 120.0) -> None:
        assert limit_s > 0
        await self._call("load image", None, "", lambda: len(archive))

    async def create_volume(
        self,
        name: str,
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        made = {"driver": driver, "options": dict(options or {}), "labels": dict(labels or {})}
        await self._call("create volume", None, name, lambda: self.volumes.setdefault(name, made))

    async def remove_volume(self, name: str) -> None:
        await self._call("remove volume", None, name, lambda: self.volumes.pop(name, None))

    async def volume_exists(self, name: str) -> bool:
        return bool(await self._call("inspect volume", None, name, lambda: name in self.volumes))

    async def inspect_volume(self, name: str) -> VolumeInfo | None:
        def work() -> VolumeInfo | None:
            found = self.volumes.get(name)
            return VolumeInfo(driver=found["driver"], options=found["options"]) if found else None

        seen = await self._call("inspect volume", None, name, work)
        assert seen is None or isinstance(seen, VolumeInfo)
        return seen

    # -- for tests --------------------------------------------------------------------------------

    def fault(self, operation: str, fault: Fault) -> None:
        """Make the next calls of an operation fail."""
        self._faults[operation].append(fault)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def box(self, container: str) -> Box:
        """Return the only container with this name in its task."""
        (found,) = (b for b in self.boxes.values() if b.labels.get(CONTAINER_LABEL) == container)
        return found

    def running(self) -> set[str]:
        """Return the names, in their tasks, of everything that runs."""
        return {b.labels[CONTAINER_LABEL] for b in self.boxes.values() if b.status == "running"}

    def count(self, operation: str, container: str | None = None) -> int:
        """Return how often an operation reached the engine."""
        return sum(1 for o, c in self.calls if o == operation and container in (None, c))

    def exit(self, container: str, code: int = 0, *, oom: bool = False) -> None:
        """Make a container exit by itself."""
        box = self.box(container)
        box.oom_killed = oom
        if oom:
            self._emit("oom", box)
        self._end(box, code)

    def judge(self, container: str, health: Health) -> None:
        """Set the result of a health check."""
        box = self.box(container)
        box.health = health
        self._emit("health_status", box, health)

    def vanish(self, container: str, *, quietly: bool = False) -> None:
        """Remove a container without the agent."""
        box = self.box(container)
        del self.boxes[box.id]
        if not quietly:
            self._emit("destroy", box)

    def disconnect(self, container: str, *, quietly: bool = False) -> None:
        """Disconnect a container from its network without the agent."""
        box = self.box(container)
        box.cut_off_from = "bridge"
        if not quietly:
            self._tell_disconnected(box)

    def _tell_disconnected(self, box: Box) -> None:
        for stream in self._streams:
            stream.put_nowait(EngineEvent(action="disconnect", container_id=box.id))

    def relist(self) -> None:
        """Tell all event streams that events were missed."""
        for stream in self._streams:
            stream.put_nowait(EngineEvent(action="relist"))

    def _end(self, box: Box, code: int) -> None:
        box.status, box.pid, box.exit_code, box.finished_at = "exited", 0, code, time.time()
        self._emit("die", box)
        self._tell_disconnected(box)  # as the engine does whenever a container ends
