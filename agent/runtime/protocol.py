"""What the agent requires of a container engine; the rest of the agent uses only this.

Rules for every implementation:

- Every call has its own deadline and raises ``EngineTimeout`` when it passes. A timeout or
  ``EngineUnavailable`` says nothing about the outcome; only ``NoSuchContainer`` means gone.
- Every call may be repeated. ``start`` of a running and ``stop`` of a stopped container succeed.
- Cancelling a call returns at once; the engine may still execute it.
- Nothing blocks the event loop, and no call waits behind a slow pull or a log follower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct, field

from agent.model.status import Health

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from agent.model.exec import ExecCommand, TerminalSize


class EngineInfo(Struct, frozen=True, kw_only=True):
    """The engine itself."""

    version: str
    api_version: str
    """The negotiated version: the newest that both sides support."""
    cgroup_driver: str
    """``cgroupfs`` or ``systemd``."""
    cgroup_version: int
    engine_id: str = ""
    security_options: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    volume_plugins: tuple[str, ...] = ()
    """The engine's volume drivers, including ``local``."""
    log_drivers: tuple[str, ...] = ()
    """The engine's log drivers, ``none`` excluded; empty if it does not list them."""
    live_restore: bool = False
    data_root: str = ""
    """The directory with the engine's images and containers."""
    images_in_containerd: bool = False
    """Images are in the directory of containerd instead."""


class ContainerState(Struct, frozen=True, kw_only=True):
    """One container as the engine reports it (inspect)."""

    id: str
    name: str
    """Without the leading slash."""
    running: bool
    status: str
    """``created``, ``running``, ``paused``, ``restarting``, ``exited``, ``dead``."""
    pid: int = 0
    exit_code: int | None = None
    """None if it has never run or is running."""
    oom_killed: bool = False
    error: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    health: Health = Health.UNKNOWN
    image_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    network_mode: str = ""
    """As it was made: ``bridge``, ``host``, ``none``, ``container:`` and an engine id, a network's name."""
    pid_mode: str = ""
    """As it was made: ``host``, ``container:`` and an engine id; empty for a namespace of its own."""
    ipc_mode: str = ""
    """As it was made: ``private``, ``shareable``, ``none``, ``host``, ``container:`` and an engine id."""
    port_bindings: dict[str, list[int]] = field(default_factory=dict)
    """Host ports that were asked for, by ``port/protocol`` of the container, in order."""
    cut_off_from: str = ""
    """The network that it was made for and is not in, because somebody disconnected it."""
    ipv4: str = ""
    """Its address in the network that it was made for; empty while it does not run."""


class EndpointInNetwork(Struct, frozen=True, kw_only=True):
    """A container's place in one network of the engine."""

    network: str
    ipv4: str = ""
    ipv6: str = ""
    """Its global address."""


class PublishedPort(Struct, frozen=True, kw_only=True):
    """A port of a container, bound at one address of the host."""

    container_port: int
    protocol: str
    host_port: int
    host_ip: str


class Mount(Struct, frozen=True, kw_only=True):
    """Something mounted into a container."""

    name: str
    """Of the engine's volume; empty for a path of the host."""
    source: str
    destination: str


class HealthProbe(Struct, frozen=True, kw_only=True):
    """The last run of a container's health check."""

    exit_code: int
    output: str


class ContainerDetails(Struct, frozen=True, kw_only=True):
    """One container with all that it may be told of itself. Times are RFC 3339; empty for never."""

    state: ContainerState
    image: str = ""
    """As it was made from: name or id."""
    created_at: str = ""
    started_at: str = ""
    finished_at: str = ""
    networks: tuple[EndpointInNetwork, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    mounts: tuple[Mount, ...] = ()
    probe: HealthProbe | None = None
    dns_servers: tuple[str, ...] = ()
    """That it was made with."""
    dns_search: tuple[str, ...] = ()


class ContainerSummary(Struct, frozen=True, kw_only=True):
    """One container as the engine lists it."""

    id: str
    name: str
    state: str
    labels: dict[str, str] = field(default_factory=dict)
    network_mode: str = ""
    """As in ``ContainerState``."""
    cut_off_from: str = ""
    """As in ``ContainerState``; also set where a container was made without any network."""
    image_id: str = ""


def joined(network_mode: str) -> str:
    """Return the engine id of the container whose network another one has joined; empty for none."""
    kind, _, other = network_mode.partition(":")
    return other if kind == "container" else ""


class ImageInfo(Struct, frozen=True, kw_only=True):
    """One image on the host."""

    id: str
    repo_digests: tuple[str, ...] = ()
    size_bytes: int = 0
    variables: frozenset[str] = frozenset()
    """Names of the environment variables that it sets."""


class ImageSummary(Struct, frozen=True, kw_only=True):
    """One image as the engine lists it."""

    id: str
    tags: tuple[str, ...] = ()
    """Names with a tag."""
    repo_digests: tuple[str, ...] = ()
    """Names with a digest."""
    size_bytes: int = 0
    created_at: float = 0.0
    """When it was built, in Unix seconds."""


class VolumeInfo(Struct, frozen=True, kw_only=True):
    """One volume as it was made."""

    driver: str
    options: dict[str, str] = field(default_factory=dict)


class EngineEvent(Struct, frozen=True, kw_only=True):
    """Something that happened to a container; only a hint.

    ``action`` is ``create``, ``start``, ``die``, ``oom``, ``stop``, ``destroy``, ``health_status``
    (with ``health``), ``disconnect`` (from a network, without labels; also sent when a container
    ends), or ``relist``: events may have been missed, so everything must be listed again.
    """

    action: str
    container_id: str = ""
    at: float = 0.0
    exit_code: int | None = None
    health: Health = Health.UNKNOWN
    labels: dict[str, str] = field(default_factory=dict)


class RegistryAuth(Struct, frozen=True, kw_only=True):
    """User name and password for one registry; never logged, never stored."""

    username: str
    password: str

    def __repr__(self) -> str:
        """Hide the password from logs and tracebacks."""
        return f"RegistryAuth(username={self.username!r})"


class LogSelection(Struct, frozen=True, kw_only=True):
    """Which part of a container's output is meant, and how it is written."""

    tail: int | None = None
    """Only so many lines from the end; None for all."""
    follow: bool = False
    """Go on until the container stops."""
    since_ns: int = 0
    """Nothing older than this, in nanoseconds since the epoch."""
    timestamps: bool = False
    """Whole lines, each after its time in RFC 3339 with nanoseconds and a space."""


WHOLE_LOG: Final = LogSelection()


class ExecResult(Struct, frozen=True, kw_only=True):
    """How a command in a container ended."""

    exit_code: int
    """128 and the number of the signal if a signal ended it; 126 or 127 if it was not started."""
    started: bool


class ExecSession(Protocol):
    """A command that runs in a container, with its input and output."""

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next output and its stream (``model.exec``); None at its end."""

    async def write(self, data: bytes) -> None:
        """Pass input on, no faster than the command reads it; raises ``ConnectionError``."""

    async def end_input(self) -> None:
        """Close the command's standard input."""

    async def resize(self, size: TerminalSize) -> None:
        """Tell the command's terminal its size."""

    async def result(self) -> ExecResult:
        """Return how the command ended; waits for that end. Raises ``RuntimeFailure``."""

    async def close(self) -> None:
        """End the command if it still runs; idempotent. Takes some seconds if it ignores SIGHUP.

        What has left the command's process group keeps running.
        """


class ContainerEngine(Protocol):
    """A container engine reached over its API."""

    async def connect(self) -> EngineInfo:
        """Negotiate the API version and describe the engine; may be repeated at any time."""

    async def ping(self, *, limit_s: float = 5.0) -> None:
        """Return when the engine answers; raises ``EngineUnavailable`` or ``EngineTimeout``."""

    async def create_container(
        self, name: str, body: Mapping[str, Any], *, limit_s: float = 240.0
    ) -> str:
        """Create a container and return its id.

        ``body`` is the body of ``POST /containers/create``, including ``HostConfig``. Raises
        ``NameConflict``, ``NoSuchImage``, ``NoSuchContainer`` (a namespace to join is gone) or
        ``EngineRefused``.
        """

    async def start_container(self, container_id: str, *, limit_s: float = 180.0) -> None:
        """Start a container; a running one is success."""

    async def stop_container(
        self, container_id: str, *, timeout_s: int, limit_s: float = 120.0
    ) -> None:
        """Send the stop signal and kill after ``timeout_s``; a stopped or absent one is success.

        The deadline of the call is ``timeout_s + limit_s``.
        """

    async def remove_container(
        self, container_id: str, *, force: bool = False, limit_s: float = 300.0
    ) -> None:
        """Remove a container and its anonymous volumes; an absent one is success."""

    async def inspect_container(self, id_or_name: str, *, limit_s: float = 30.0) -> ContainerState:
        """Return a container's state; raises ``NoSuchContainer``."""

    async def describe_container(
        self, id_or_name: str, *, limit_s: float = 30.0
    ) -> ContainerDetails:
        """Return a container with all that it may be told of itself; raises ``NoSuchContainer``."""

    async def connect_network(
        self, network: str, container_id: str, *, limit_s: float = 60.0
    ) -> None:
        """Connect a container to a network, by its name; one that is connected is success.

        Raises ``NoSuchContainer`` or ``EngineRefused``.
        """

    async def default_bridge(self) -> str:
        """Return the link of the default network ``bridge``; empty if the engine has none."""

    async def list_containers(
        self, *, labels: Mapping[str, str | None], limit_s: float = 600.0
    ) -> list[ContainerSummary]:
        """List containers, including stopped ones, with all labels (None means any value).

        Without labels, lists those of other programs, too.
        """

    async def inspect_image(self, reference: str) -> ImageInfo:
        """Return a local image; raises ``NoSuchImage``."""

    async def list_images(self, *, limit_s: float = 600.0) -> list[ImageSummary]:
        """List all images that have a name, and those that lost theirs; not their layers."""

    async def pull_image(
        self,
        reference: str,
        *,
        auth: RegistryAuth | None = None,
        inactivity_s: float = 60.0,
        limit_s: float = 7200.0,
        on_progress: Callable[[str], None] | None = None,
    ) -> int:
        """Pull an image; ``limit_s`` limits the whole pull, ``inactivity_s`` time without progress.

        Returns how many bytes were downloaded, as far as the engine tells.

        Raises ``NoSuchImage`` (according to the registry) or ``EngineRefused`` with the engine's
        text.
        """

    async def resolve_digest(
        self, reference: str, *, auth: RegistryAuth | None = None, limit_s: float = 60.0
    ) -> str:
        """Return the registry's ``sha256:...`` digest of a reference; raises like ``pull_image``."""

    async def tag_image(self, source: str, reference: str) -> None:
        """Give an image another name; ``reference`` is ``repository:tag``."""

    async def remove_image(self, reference: str, *, limit_s: float = 180.0) -> None:
        """Remove one name of an image, or the image by id; an absent one is success."""

    async def load_image(self, archive: bytes, *, limit_s: float = 120.0) -> None:
        """Load images from a tar archive in the format of ``docker save``."""

    async def create_volume(
        self,
        name: str,
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Create a volume; an existing one of that name is success."""

    async def remove_volume(self, name: str) -> None:
        """Remove a volume; an absent one is success."""

    async def volume_exists(self, name: str) -> bool:
        """Tell whether a volume exists."""

    async def inspect_volume(self, name: str) -> VolumeInfo | None:
        """Return how a volume was made; None if there is none of that name."""

    def events(self) -> AsyncIterator[EngineEvent]:
        """Yield events forever, across reconnects; never raises.

        A lost stream is resumed from the last event seen. ``relist`` comes first, after the first
        connection and after every gap.
        """

    def logs(self, container_id: str, selection: LogSelection = WHOLE_LOG) -> AsyncIterator[bytes]:
        """Yield stdout and stderr of a container: as written, or each line after its time."""

    async def start_exec(self, container_id: str, command: ExecCommand) -> ExecSession:
        """Start a command in a running container; close the session in the end.

        A program that does not exist is a result, not an error. Raises ``NoSuchContainer`` or
        ``EngineRefused``.
        """

    async def close(self) -> None:
        """End all streams and threads; calls in flight fail with ``EngineUnavailable``."""
