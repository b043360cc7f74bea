"""Control characters in what operators ask for: refused by name, kept where they are a text's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import escapes
from agent.controlplane.api.ecs import characters
from agent.controlplane.front.errors import InvalidParameterException
from tests.support.control_endpoint import ApiFailure, Endpoint, control_endpoint, definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """A whole control endpoint: a request goes through all that looks at it."""
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        yield running


def container(**more: Any) -> dict[str, Any]:
    return {"name": "main", "image": "img", "memory": 128, **more}


BAD = ["\0", "\x1b", "\x7f", "\x9b"]
TEXT_FIELDS: list[dict[str, Any]] = [
    {"command": ["sh", "-c", "echo one{}two"]},
    {"entryPoint": ["a{}b"]},
    {"environment": [{"name": "A", "value": "a{}b"}]},
    {"dockerLabels": {"reason.x": "a{}b"}},
    {"healthCheck": {"command": ["CMD-SHELL", "a{}b"]}},
    {"logConfiguration": {"logDriver": "json-file", "options": {"tag": "a{}b"}}},
]
LINE_FIELDS: list[dict[str, Any]] = [
    {"name": "a{}b"},
    {"image": "a{}b"},
    {"hostname": "a{}b"},
    {"user": "a{}b"},
    {"workingDirectory": "/a{}b"},
    {"environment": [{"name": "a{}b", "value": "v"}]},
    {"dockerLabels": {"a{}b": "v"}},
    {"extraHosts": [{"hostname": "a{}b", "ipAddress": "10.0.0.1"}]},
    {"dnsServers": ["a{}b"]},
    {"mountPoints": [{"sourceVolume": "v", "containerPath": "/a{}b"}]},
]


def filled(value: Any, character: str) -> Any:
    """Return a value with a character in the place of ``{}``."""
    if isinstance(value, dict):
        return {filled(k, character): filled(v, character) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(item, character) for item in value]
    return value.replace("{}", character)


def name_of(field: dict[str, Any]) -> str:
    return next(iter(field))


@pytest.mark.parametrize("character", BAD, ids=ascii)
@pytest.mark.parametrize("field", TEXT_FIELDS + LINE_FIELDS, ids=name_of)
def test_no_definition_has_what_cannot_work(field: dict[str, Any], character: str) -> None:
    with pytest.raises(InvalidParameterException) as caught:
        characters.check({"containerDefinitions": [container(**filled(field, character))]})
    assert f"containerDefinitions[0].{name_of(field)}" in str(caught.value)
    assert escapes.escape(character) in str(caught.value)
    assert escapes.is_plain(str(caught.value))


async def test_a_whole_control_endpoint_refuses_it(endpoint: Endpoint) -> None:
    for field in (TEXT_FIELDS[0], TEXT_FIELDS[2], *LINE_FIELDS[:3]):
        for character in BAD:
            containers = [container(**filled(field, character))]
            with pytest.raises(ApiFailure, match="InvalidParameterException") as caught:
                await endpoint.call(
                    "RegisterTaskDefinition", **definition(containerDefinitions=containers)
                )
            assert f"containerDefinitions[0].{name_of(field)}" in caught.value.message
            assert escapes.escape(character) in caught.value.message


async def test_texts_of_users_may_have_lines_and_any_language(endpoint: Endpoint) -> None:
    for field in TEXT_FIELDS:
        given = filled(field, "\r\n\t\u200eשלג\u202e✓")
        answer = await endpoint.call(
            "RegisterTaskDefinition", **definition(containerDefinitions=[container(**given)])
        )
        (made,) = answer["taskDefinition"]["containerDefinitions"]
        name = name_of(field)
        assert made[name] == given[name] or made[name] == made[name] | given[name]


@pytest.mark.parametrize("field", LINE_FIELDS, ids=name_of)
@pytest.mark.parametrize("character", ["\n", "\t", "\u202e", "\u2028"], ids=ascii)
def test_names_may_have_neither(field: dict[str, Any], character: str) -> None:
    with pytest.raises(InvalidParameterException):
        characters.check({"containerDefinitions": [filled(field, character)]})


RUNS: list[dict[str, Any]] = [
    {"group": "a{}b"},
    {"clientToken": "a{}b"},
    {"startedBy": "a{}b"},
    {"tags": [{"key": "k", "value": "a{}b"}]},
    {"overrides": {"containerOverrides": [{"name": "main", "command": ["a{}b"]}]}},
    {
        "overrides": {
            "containerOverrides": [
                {"name": "main", "environment": [{"name": "A", "value": "a{}b"}]}
            ]
        }
    },
    {"placementConstraints": [{"type": "memberOf", "expression": "attribute:a == a{}b"}]},
]


async def test_no_run_takes_it_either(endpoint: Endpoint) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    for request in RUNS:
        for character in BAD:
            with pytest.raises(ApiFailure, match="InvalidParameterException") as caught:
                await endpoint.call("RunTask", taskDefinition="web", **filled(request, character))
            assert escapes.escape(character) in caught.value.message


async def test_a_tag_has_no_line_breaks(endpoint: Endpoint) -> None:
    for value in ("a\nb", "a\u2028b", "a\x85b"):
        with pytest.raises(ApiFailure, match="InvalidParameterException"):
            await endpoint.call("RegisterTaskDefinition", **definition(tags=[{"key": value}]))
    await endpoint.call(
        "RegisterTaskDefinition", **definition(tags=[{"key": "größe\u3000x", "value": "1 b"}])
    )


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value]


@given(
    st.recursive(
        st.text(max_size=4),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner),
    )
)
def test_what_is_let_through_holds_no_nul(value: Any) -> None:
    request = {"environment": [{"name": value, "value": value}], "command": value}
    try:
        characters.check(request)
    except InvalidParameterException:
        return
    assert not {"\0", "\x1b", "\x9b"} & set("".join(texts(request)))
