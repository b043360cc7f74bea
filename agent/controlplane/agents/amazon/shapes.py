"""Messages of ACS and TCS: what is sent, in the words that Amazon's agent reads, and what is read. Pure.

The agent decodes with Go's JSON package: an absent member is that type's zero, so what has another
default with us (``essential``, ``desiredStatus``, ``protocol``) is always said, and one member of a
wrong type loses the whole message. Nothing is ever null.

What comes in is decoded part by part and tolerantly; ``FrameError`` says what cannot be read, and is
a log line for whoever serves the connection.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/acs/model/api/api-2.json``, ``ecs-agent/tcs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import Struct, field

from agent.controlplane import bounds
from agent.controlplane.bounds import Anything, Items, Number, OutOfBounds, Part, Table, Text
from agent.errors import BAD_JSON, AgentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.model.payload import TaskPayload

HEALTH_TASKS: Final = 100
"""Most tasks in one publication of health; an agent sends ten. Also most containers of a task."""
_ITEMS_MOST: Final = 10_000
"""Of one list: an agent that lost its orders would stop all of its tasks at once."""
_VALUES_MOST: Final = 300_000
"""Of one frame: a mebibyte of figures has half as many."""
METRICS_TASKS: Final = 100
"""Most tasks in one publication of metrics; an agent sends ten."""
_FIGURE: Final = Number(0, 2**63 - 1)
_ID: Final = Text(256)
_ARN: Final = Text(512)
UNREADABLE: Final = "UNREADABLE"
"""A desired status that no agent knows: it reports a task with it as one it cannot load."""
_SHOWN: Final = 64
_ALWAYS: Final = frozenset({"essential", "desiredStatus", "protocol", "readOnly", "enabled"})

T = TypeVar("T")


class FrameError(AgentError):
    """A frame of an agent that cannot be read."""


class _Envelope(Struct, frozen=True):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"{}")


class Ack(Struct, frozen=True, rename="camel"):
    """``AckRequest`` and ``NackRequest``."""

    message_id: str = ""
    container_instance: str = ""
    reason: str = ""


class HeartbeatAck(Struct, frozen=True, rename="camel"):
    """``HeartbeatAckRequest``."""

    message_id: str = ""


class StopCandidate(Struct, frozen=True, rename="camel"):
    """One task of a ``TaskStopVerificationMessage``."""

    task_arn: str = ""


class StopVerification(Struct, frozen=True, rename="camel"):
    """``TaskStopVerificationMessage``: what the agent would stop after a manifest."""

    message_id: str = ""
    stop_candidates: list[StopCandidate] = field(default_factory=list)


class ContainerHealth(Struct, frozen=True, rename="camel"):
    """One container of a ``PublishHealthRequest``."""

    container_name: str = ""
    health_status: str = ""


class TaskHealth(Struct, frozen=True, rename="camel"):
    """One task of a ``PublishHealthRequest``."""

    task_arn: str = ""
    containers: list[ContainerHealth] = field(default_factory=list)


class Metadata(Struct, frozen=True, rename="camel"):
    """What every publication says of itself."""

    cluster: str = ""
    container_instance: str = ""
    message_id: str = ""
    idle: bool = False
    fin: bool = False


class PublishHealth(Struct, frozen=True, rename="camel"):
    """``PublishHealthRequest``."""

    metadata: Metadata
    tasks: list[TaskHealth] = field(default_factory=list)


class MetricSet(Struct, frozen=True, rename="camel"):
    """``CWStatsSet`` and ``UDoubleCWStatsSet``."""

    min: float = 0.0
    max: float = 0.0
    sample_count: int = 0
    sum: float = 0.0


class CountedSet(Struct, frozen=True, rename="camel"):
    """The members of a ``ULongStatsSet`` that are used here."""

    min: int = 0
    max: int = 0


class StorageSets(Struct, frozen=True, rename="camel"):
    """``StorageStatsSet``: counters since the container started."""

    read_size_bytes: CountedSet | None = None
    write_size_bytes: CountedSet | None = None


class NetworkSets(Struct, frozen=True, rename="camel"):
    """``NetworkStatsSet``, of which the rates are used."""

    rx_bytes_per_second: MetricSet | None = None
    tx_bytes_per_second: MetricSet | None = None


class ContainerMetrics(Struct, frozen=True, rename="camel"):
    """One container of a ``PublishMetricsRequest``."""

    container_name: str = ""
    cpu_stats_set: MetricSet | None = None
    """100 is all cores of the host."""
    memory_stats_set: MetricSet | None = None
    """In MiB."""
    storage_stats_set: StorageSets = StorageSets()
    network_stats_set: NetworkSets = NetworkSets()


class TaskMetrics(Struct, frozen=True, rename="camel"):
    """One task of a ``PublishMetricsRequest``."""

    task_arn: str = ""
    container_metrics: list[ContainerMetrics] = field(default_factory=list)


class PublishMetrics(Struct, frozen=True, rename="camel"):
    """``PublishMetricsRequest``."""

    metadata: Metadata
    task_metrics: list[TaskMetrics] = field(default_factory=list)


class PublishInstanceStatus(Struct, frozen=True, rename="camel"):
    """``PublishInstanceStatusRequest``."""

    metadata: Metadata
    statuses: list[msgspec.Raw] = field(default_factory=list)


_envelope = msgspec.json.Decoder(_Envelope)
_READ: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "AckRequest": msgspec.json.Decoder(Ack),
    "NackRequest": msgspec.json.Decoder(Ack),
    "HeartbeatAckRequest": msgspec.json.Decoder(HeartbeatAck),
    "IAMRoleCredentialsAckRequest": msgspec.json.Decoder(Ack),
    "TaskStopVerificationMessage": msgspec.json.Decoder(StopVerification),
    "PublishMetricsRequest": msgspec.json.Decoder(PublishMetrics),
    "PublishHealthRequest": msgspec.json.Decoder(PublishHealth),
    "PublishInstanceStatusRequest": msgspec.json.Decoder(PublishInstanceStatus),
}


FRAMES: Final = Table(
    {
        Ack: {"message_id": _ID, "container_instance": _ARN, "reason": Anything()},
        HeartbeatAck: {"message_id": _ID},
        StopVerification: {"message_id": _ID, "stop_candidates": Items(_ITEMS_MOST, Part())},
        StopCandidate: {"task_arn": _ARN},
        Metadata: {
            "cluster": _ARN,
            "container_instance": _ARN,
            "message_id": _ID,
            "idle": Anything(),
            "fin": Anything(),
        },
        PublishHealth: {"metadata": Part(), "tasks": Items(HEALTH_TASKS, Part())},
        TaskHealth: {"task_arn": _ARN, "containers": Items(HEALTH_TASKS, Part())},
        ContainerHealth: {"container_name": Text(255), "health_status": Text(64)},
        PublishMetrics: {"metadata": Part(), "task_metrics": Items(METRICS_TASKS, Part())},
        TaskMetrics: {"task_arn": _ARN, "container_metrics": Items(HEALTH_TASKS, Part())},
        ContainerMetrics: {
            "container_name": Text(255),
            "cpu_stats_set": Part(),
            "memory_stats_set": Part(),
            "storage_stats_set": Part(),
            "network_stats_set": Part(),
        },
        StorageSets: {"read_size_bytes": Part(), "write_size_bytes": Part()},
        NetworkSets: {"rx_bytes_per_second": Part(), "tx_bytes_per_second": Part()},
        MetricSet: {"min": _FIGURE, "max": _FIGURE, "sample_count": _FIGURE, "sum": _FIGURE},
        CountedSet: {"min": _FIGURE, "max": _FIGURE},
        PublishInstanceStatus: {"metadata": Part(), "statuses": Anything()},
    }
)
"""What fields of frames may hold."""


def read(frame: str | bytes) -> tuple[str, Any]:
    """Return type and message of a frame.

    Raises:
        FrameError: it is not a message of an agent.
    """
    try:
        envelope = _envelope.decode(frame)
        decoder = _READ.get(envelope.type)
        if decoder is None:
            raise FrameError(f"{envelope.type[:_SHOWN]!r} is not a message of an agent")
        bounds.look(bytes(envelope.message), most_items=_ITEMS_MOST, most_values=_VALUES_MOST)
        message = decoder.decode(envelope.message)
        FRAMES.check(message)
    except OutOfBounds as error:
        raise FrameError(f"{envelope.type}: {error}") from None
    except BAD_JSON as error:
        raise FrameError(str(error)[: _SHOWN * 4]) from None
    return envelope.type, message


def split_signed(frame: str) -> str:
    """Return the JSON of a TCS frame, which has signed headers and an empty line in front of it.

    Raises:
        FrameError: there is no such block.
    """
    head, found, body = frame.partition("\r\n\r\n")
    if not found or not head.startswith("Authorization:"):
        raise FrameError("the frame has no block of signed headers")
    return body


def write(kind: str, message: dict[str, Any]) -> str:
    """Return a frame."""
    return msgspec.json.encode({"type": kind, "message": message}).decode()


def identifiers(tasks: Iterable[tuple[str, str]], cluster_arn: str) -> list[dict[str, str]]:
    """Return ``TaskIdentifier``s of ARNs and desired statuses."""
    return [
        {"taskArn": arn, "taskClusterArn": cluster_arn, "desiredStatus": desired}
        for arn, desired in tasks
    ]


def task(payload: TaskPayload) -> dict[str, Any]:
    """Return a task as ACS sends it."""
    shape: dict[str, Any] = _whole(payload)
    # A volume is one of the host's unless it says otherwise, and must then have its member.
    shape["volumes"] = [v if v.get("type") else {"host": {}, **v} for v in shape.get("volumes", ())]
    shape["containers"] = [
        {"essential": True, **container} for container in shape.get("containers", ())
    ]
    for container in shape["containers"]:
        for half, body in container.get("dockerConfig", {}).items():
            if isinstance(body, dict):  # which travels as text on this wire
                container["dockerConfig"][half] = msgspec.json.encode(body).decode()
        for mapping in container.get("portMappings", ()):
            mapping.setdefault("protocol", "tcp")
    return shape


def _whole(value: Any) -> Any:
    """Return a value with the names of the wire, without what says nothing."""
    if isinstance(value, Struct):
        members = (
            (member.encode_name, getattr(value, member.name))
            for member in msgspec.structs.fields(type(value))
        )
        return {n: _whole(v) for n, v in members if _says_something(n, v)}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items() if item is not None}
    return value


def _says_something(name: str, value: Any) -> bool:
    return value is not None and (name in _ALWAYS or bool(value) or isinstance(value, Struct))
