"""Parameters of Systems Manager: several at once, by name or ARN, decrypted.

Uses the network. Raises what ``api.JsonApi`` raises. Values are returned and kept nowhere.

Source: Amazon ECS agent 1.105.1, ``agent/ssm`` (ten names a call). Ours also takes ARNs and selectors
(``name:3``, ``name:label``), and asks for no parameter twice in one call, which Amazon refuses.

Tests: ``tests/unit/aws/test_parameter_store.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.aws.api import JsonApi

TARGET: Final = "AmazonSSM"
BATCH: Final = 10
"""Most names in one call of GetParameters."""
_PART: Final = ":parameter"


def batches(names: Iterable[str]) -> list[list[str]]:
    """Return the distinct names in calls of at most ten, no parameter twice in one call. Pure."""
    calls: list[dict[str, str]] = []
    for name in dict.fromkeys(names):
        own = _bare(name)
        call = next((c for c in calls if len(c) < BATCH and own not in c), None)
        if call is None:
            calls.append(call := {})
        call[own] = name
    return [list(call.values()) for call in calls]


async def parameters(
    api: JsonApi, names: list[str], *, attempts: int, limit_s: float
) -> dict[str, str]:
    """Return the values of at most ten parameters, by the names that were asked for.

    Names that do not exist are missing in the answer. Raises as ``JsonApi.call`` does.
    """
    answer = await api.call(
        "GetParameters",
        {"Names": names, "WithDecryption": True},
        attempts=attempts,
        limit_s=limit_s,
    )
    found: dict[str, str] = {}
    for parameter in _objects(answer.get("Parameters")):
        value = parameter.get("Value")
        if isinstance(value, str):
            found.update(dict.fromkeys(_names(parameter), value))
    matched = {name: next((k for k in _keys(name) if k in found), None) for name in names}
    return {name: found[key] for name, key in matched.items() if key is not None}


def _names(parameter: Mapping[str, Any]) -> list[str]:
    """Return every name that may have been asked for; with a selector, the parameter has no other."""
    selector = str(parameter.get("Selector") or "")
    if selector and not selector.startswith(":"):
        selector = f":{selector}"
    told = [parameter.get("Name"), parameter.get("ARN")]
    return [f"{name}{selector}" for name in told if isinstance(name, str) and name]


def _keys(name: str) -> tuple[str, ...]:
    """Return the forms in which the answer may name it, the likeliest first."""
    return (name, _bare(name), f"/{_bare(name)}")


def _bare(name: str) -> str:
    """Return the name in an ARN, without the slash that only some names begin with."""
    _, found, rest = name.partition(_PART) if name.startswith("arn:") else ("", "", "")
    return (rest if found else name).removeprefix("/")


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
