"""PutTargets, RemoveTargets, ListTargetsByRule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.events import stored
from agent.controlplane.api.events.errors import LimitExceededException, ValidationException
from agent.controlplane.front import pages
from agent.controlplane.schedules import targets

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.schedules.record import ScheduleRecord

TARGETS_MOST: Final = 5
_PAGE_MOST: Final = 100


async def put_targets(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add targets, or replace those of the same ids: all of them, or none if one cannot be served."""
    name = stored.name(parts, request, "Rule")
    await stored.find(parts, name)
    given = {target["Id"]: target for target in request["Targets"]}
    if len(given) < len(request["Targets"]):
        raise ValidationException("The Ids of targets must differ.")
    made = {target_id: await targets.read(parts, target) for target_id, target in given.items()}

    def with_targets(record: ScheduleRecord) -> ScheduleRecord:
        kept = {target.id: target for target in record.targets} | made
        if len(kept) > TARGETS_MOST:
            raise LimitExceededException(f"A rule can have at most {TARGETS_MOST} targets.")
        runs = {target_id: run for target_id, run in record.runs.items() if target_id not in made}
        return replace(record, targets=list(kept.values()), runs=runs)

    await stored.change(parts, name, with_targets)
    return {"FailedEntryCount": 0, "FailedEntries": []}


async def remove_targets(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove targets by their ids; an unknown one is a failed entry."""
    name = stored.name(parts, request, "Rule")
    gone = set(request["Ids"])
    before = await stored.find(parts, name)
    missing = sorted(gone - {target.id for target in before.targets})
    await stored.change(
        parts,
        name,
        lambda record: replace(
            record,
            targets=[target for target in record.targets if target.id not in gone],
            runs={key: run for key, run in record.runs.items() if key not in gone},
        ),
    )
    failed = [
        {
            "TargetId": target_id,
            "ErrorCode": "ResourceNotFoundException",
            "ErrorMessage": f"Target {target_id} does not exist on rule {name}.",
        }
        for target_id in missing
    ]
    return {"FailedEntryCount": len(failed), "FailedEntries": failed}


async def list_targets_by_rule(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of a rule's targets by their ids."""
    name = stored.name(parts, request, "Rule")
    record = await stored.find(parts, name)
    size = request.get("Limit", _PAGE_MOST)
    if not 1 <= size <= _PAGE_MOST:
        raise ValidationException(f"Limit must be between 1 and {_PAGE_MOST}.")
    asked = {"Rule": name}
    after = pages.start_after("ListTargetsByRule", asked | {"nextToken": request.get("NextToken")})
    found = sorted(
        (target for target in record.targets if after is None or target.id > after),
        key=lambda target: target.id,
    )
    token = None
    if len(found) > size:
        token = pages.token("ListTargetsByRule", asked, found[size - 1].id)
    return {"Targets": [target.shown for target in found[:size]], "NextToken": token}


HANDLERS: Handlers = {
    "PutTargets": put_targets,
    "RemoveTargets": remove_targets,
    "ListTargetsByRule": list_targets_by_rule,
}
