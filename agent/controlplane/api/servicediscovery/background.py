"""GetOperation and ListOperations: what AWS does in the background has been done when the call returns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane import access
from agent.controlplane.api.servicediscovery import requests
from agent.controlplane.api.servicediscovery.errors import InvalidInput, OperationNotFound
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery import stored
from agent.controlplane.discovery.record import OperationRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.controlplane.parts import Handlers, Parts

_DONE: Final = "SUCCESS"
_FILTERS: Final = {
    "NAMESPACE_ID": ("EQ",),
    "SERVICE_ID": ("EQ",),
    "STATUS": ("EQ", "IN"),
    "TYPE": ("EQ", "IN"),
    "UPDATE_DATE": ("BETWEEN",),
}
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


async def noted(parts: Parts, kind: str, targets: Mapping[str, str]) -> dict[str, Any]:
    """Store the operation of what has been done, and return the answer of the call that did it."""
    done = stored.operation(kind, targets, parts.clock())
    await parts.store.txn([], [stored.put_operation(done)])
    return {"OperationId": done.id}


async def get_operation(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return an operation of the last day."""
    given: str = request["OperationId"]
    found = await access.find(parts.store, OperationRecord, kinds.operation_key(given))
    owner = request.get("OwnerAccount", parts.names.account)
    if found is None or owner != parts.names.account:
        raise OperationNotFound(f"The operation {requests.shown(given)} can't be found.")
    record = found.record
    return {
        "Operation": {
            "Id": record.id,
            "OwnerAccount": parts.names.account,
            "Type": record.type,
            "Status": _DONE,
            "CreateDate": record.at,
            "UpdateDate": record.at,
            "Targets": record.targets,
        }
    }


async def list_operations(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of the operations of the last day."""
    filters: Sequence[Mapping[str, Any]] = request.get("Filters", ())
    requests.check_filters(filters, _FILTERS)
    times = [_times(one["Values"]) for one in filters if one["Name"] == "UPDATE_DATE"]
    others = [one for one in filters if one["Name"] != "UPDATE_DATE"]

    def is_wanted(one: OperationRecord) -> bool:
        values = {
            "NAMESPACE_ID": one.targets.get("NAMESPACE", ""),
            "SERVICE_ID": one.targets.get("SERVICE", ""),
            "STATUS": _DONE,
            "TYPE": one.type,
        }
        is_in_time = all(first <= one.at <= last for first, last in times)
        return is_in_time and requests.passes(others, values)

    async def every(after: str | None) -> AsyncIterator[OperationRecord]:
        start = kinds.operation_key(after) if after else None
        async for found in access.scan(
            parts.store, OperationRecord, kinds.OPERATIONS, start_after=start
        ):
            yield found.record

    found, token = await requests.page("ListOperations", request, every=every, is_wanted=is_wanted)
    return {"Operations": [{"Id": one.id, "Status": _DONE} for one in found], "NextToken": token}


def _times(values: Sequence[str]) -> tuple[float, float]:
    for value in values:
        if not _SECONDS.fullmatch(value):
            raise InvalidInput(
                f"The filter UPDATE_DATE takes Unix seconds, not {requests.shown(value)!r}."
            )
    first, last = values
    return float(first), float(last)


HANDLERS: Handlers = {"GetOperation": get_operation, "ListOperations": list_operations}
