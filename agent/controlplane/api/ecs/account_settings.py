"""ListAccountSettings, PutAccountSetting, PutAccountSettingDefault, DeleteAccountSetting.

There is one account and one principal, its root. A setting whose other values would change nothing here has
one value, and the others are refused by name. Names, values and defaults: the Amazon ECS developer guide,
"Account settings".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.controlplane import access, records
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.front.pages import page_size, start_after, token
from agent.controlplane.records import AccountSettingRecord
from agent.controlplane.store.contract import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.store.contract import Store

CONTAINER_INSIGHTS = "containerInsights"
_PAGE_LIMIT = 10


@dataclass(frozen=True, slots=True)
class _Setting:
    default: str
    others: tuple[str, ...] = ()
    """What it can be set to besides."""
    why: str = ""
    """Why it has no other value."""
    kind: str = "user"


_LONG_ARNS = _Setting("enabled", why="ARNs always have the long format")
_NO_FARGATE = "tasks run on hosts of your own, not on AWS Fargate"
SETTINGS: Mapping[str, _Setting] = {
    "serviceLongArnFormat": _LONG_ARNS,
    "taskLongArnFormat": _LONG_ARNS,
    "containerInstanceLongArnFormat": _LONG_ARNS,
    "awsvpcTrunking": _Setting("disabled", why="tasks get addresses from their host, not ENIs"),
    CONTAINER_INSIGHTS: _Setting("disabled", ("enabled", "enhanced")),
    "fargateFIPSMode": _Setting("disabled", why=_NO_FARGATE),
    "tagResourceAuthorization": _Setting("off", why="keys of operators may do everything"),
    "fargateTaskRetirementWaitPeriod": _Setting("7", why=_NO_FARGATE),
    "guardDutyActivate": _Setting("off", why="GuardDuty sets it", kind="aws_managed"),
    "defaultLogDriverMode": _Setting(
        "non-blocking", why="set the log option mode of the container instead"
    ),
    "fargateEventWindows": _Setting("disabled", why=_NO_FARGATE),
}
"""Every setting by name, in the order of Amazon ECS."""


async def default_of(store: Store, name: str) -> str:
    """Return the value that a setting has now."""
    found = await access.find(store, AccountSettingRecord, records.account_setting_key(name))
    return found.record.value if found is not None else SETTINGS[name].default


async def put_account_setting(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set a setting, for the account: its only principal is root."""
    name, value = request["name"], request["value"]
    _check_principal(parts, request)
    setting = SETTINGS[name]
    allowed = (setting.default, *setting.others)
    if value not in allowed:
        raise InvalidParameterException(
            f"{name} cannot be set to {value[:64]!a}: it should be one of [{','.join(allowed)}]"
            + (f", because {setting.why}." if setting.why else ".")
        )
    put = Put(records.account_setting_key(name), records.encode(AccountSettingRecord(value=value)))
    await parts.store.txn([], [put])
    return {"setting": _show(parts, name, value)}


async def delete_account_setting(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Give a setting its default again."""
    name = request["name"]
    _check_principal(parts, request)
    setting = SETTINGS[name]
    await parts.store.txn([], [Delete(records.account_setting_key(name))])
    return {"setting": _show(parts, name, setting.default)}


async def list_account_settings(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List settings in pages of at most 10; with ``effectiveSettings`` those that were never set, too."""
    size = page_size(request, most=_PAGE_LIMIT)
    after = start_after("ListAccountSettings", request)
    _check_principal(parts, request)
    if "value" in request and "name" not in request:
        raise InvalidParameterException("To filter by value, also give the name of a setting.")
    known = {
        records.last_element(kv.key): record.value
        async for kv, record in access.scan(
            parts.store, AccountSettingRecord, records.ACCOUNT_SETTINGS
        )
    }
    shown = [
        _show(parts, name, known.get(name, setting.default))
        for name, setting in SETTINGS.items()
        if (request.get("effectiveSettings") or name in known)
        and request.get("name", name) == name
        and request.get("value", known.get(name, setting.default))
        == known.get(name, setting.default)
    ]
    names = [one["name"] for one in shown]
    first = names.index(after) + 1 if after in names else 0
    page = shown[first : first + size]
    response: dict[str, Any] = {"settings": page}
    if first + size < len(shown):
        response["nextToken"] = token("ListAccountSettings", request, page[-1]["name"])
    return response


def _check_principal(parts: Parts, request: Mapping[str, Any]) -> None:
    principal = request.get("principalArn")
    if principal and principal != parts.names.root():
        raise InvalidParameterException(
            f"The principal {principal[:128]!a} does not exist: the only one is {parts.names.root()}."
        )


def _show(parts: Parts, name: str, value: str) -> dict[str, str]:
    return {
        "name": name,
        "value": value,
        "principalArn": parts.names.root(),
        "type": SETTINGS[name].kind,
    }


HANDLERS: Handlers = {
    "ListAccountSettings": list_account_settings,
    "PutAccountSetting": put_account_setting,
    "PutAccountSettingDefault": put_account_setting,
    "DeleteAccountSetting": delete_account_setting,
}
