"""The envelope of an event, with the members and the times of Amazon EventBridge. Pure.

Source: the Amazon ECS developer guide, "Amazon ECS events".
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field

if TYPE_CHECKING:
    from agent.controlplane.names import Names

TASK: Final = "ECS Task State Change"
INSTANCE: Final = "ECS Container Instance State Change"
SERVICE: Final = "ECS Service Action"
DEPLOYMENT: Final = "ECS Deployment State Change"
_NAMESPACE: Final = uuid.UUID("7f0c5c0a-8a55-4c43-9a31-9b3b6f0f6a11")


class Draft(Struct, frozen=True):
    """What happened, before it has a place among all events."""

    detail_type: str
    resource: str
    """ARN of what it happened to."""
    at: float
    """Unix seconds."""
    detail: dict[str, Any]


class Envelope(Struct, frozen=True, kw_only=True):
    """One event, with its members in the order in which EventBridge shows them."""

    version: str = "0"
    id: str
    """The same however often the event is delivered."""
    detail_type: str = field(name="detail-type")
    source: str = "aws.ecs"
    account: str
    time: str
    region: str
    resources: list[str]
    detail: dict[str, Any]


def sealed(draft: Draft, names: Names, *, origin: str, place: str) -> Envelope:
    """Return the envelope of an event.

    Args:
        draft: what happened.
        names: of the control endpoint.
        origin: the id of the store that it happened in.
        place: where it stands among the events of that store.
    """
    return Envelope(
        id=str(uuid.uuid5(_NAMESPACE, f"{origin}/{place}/{draft.resource}")),
        detail_type=draft.detail_type,
        account=names.account,
        time=_moment(draft.at).strftime("%Y-%m-%dT%H:%M:%SZ"),
        region=names.region,
        resources=[draft.resource],
        detail=draft.detail,
    )


def iso(at: float) -> str:
    """Return Unix seconds as details have them: UTC, with milliseconds."""
    return _moment(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
