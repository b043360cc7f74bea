"""Calls of any API that control serves, with requests of the shapes of its model, good and bad.

A caller remembers what answers say by the names of their members, and puts ids, names and ARNs into later requests: so calls meet
things that exist. Each call must be refused by name, or answered in the shape of the model; ``Defect`` tells of anything else.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.controlplane.api.table import APIS
from agent.controlplane.authorization.caller import ROOT, Caller, answering
from agent.controlplane.authorization.open_calls import AllowedCall
from agent.controlplane.front.errors import ApiError
from agent.controlplane.front.service_model import ApiModel
from tests.fuzz.first_calls import FIRST
from tests.support.ecs_shapes import faults_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.api.table import Api
    from agent.controlplane.parts import Handler, Parts
    from tests.fuzz.choices import Choices

WORDS: Final = [
    *("", "a", "web", "web:1", "default", "x" * 300, "é", "a b", "../a", "\x00", "-1", "80-90", "/", "*", "/a/*"),
    *("arn:aws:ecs:us-east-1:000000000000:cluster/default", "256", "512", "1 vCPU", "1GB", "http://a/b?c=d"),
    *("arn:aws:ecs:us-east-1:000000000000:task-definition/web:1", "attribute:a == b", "CMD", "{}", "[]", "null"),
    *("10.0.0.1", "10.0.0.0/8", "::1", "rate(5 minutes)", "cron(0 0 * * ? *)", "at(2030-01-01T00:00:00)", "UTC"),
    *("service/default/web", "ecs:service:DesiredCount", "ecs", "AWS/ECS", "CPUUtilization", "Average", "HTTP"),
    *('{"Version":"2012-10-17","Statement":[]}', '{"Version":"2012-10-17","Statement":{"Effect":"Allow"}}'),
    *("sg-0123456789abcdef0", "vpc-0123456789abcdef0", "m1 + m2 / 0", "SEARCH('a', 'b', 60)", "{ $.a = 1 }", "[a, b]"),
]  # fmt: skip
NUMBERS: Final = [-1, 0, 1, 4, 60, 80, 100, 101, 512, 65535, 65536, 2**31 - 1]
TIMES: Final = [-1.0, 0.0, 1.5, 1_700_000_000.0, 1_700_000_060.0, 4e9, 2.0**53, 1e18, 1e300]
_SCALARS: Final[dict[str, list[Any]]] = {
    "boolean": [False, True],
    "integer": NUMBERS,
    "long": NUMBERS,
    "timestamp": TIMES,
    "float": [*TIMES, 0.5, 50.0],
    "double": [*TIMES, 0.5, 50.0],
    "blob": ["aGVsbG8="],
}
_DEEPEST: Final = 6
_REMEMBERED: Final = 20
_PLACE: Final = re.compile(r"\{(\w+)\}")
_BARE: Final = frozenset({"id", "arn", "name"})
"""Members that say which thing the structure is."""
_CALL_LIMIT_S: Final = 30.0
_STREAMS: Final = frozenset({"StartLiveTail"})
"""Their answers do not end."""


class Defect(AssertionError):
    """A call was neither refused by name nor answered in the shape of its model."""


class _Served:
    def __init__(self, api: Api) -> None:
        self.api = api
        self.handlers: dict[str, Handler] = dict(api.handlers())
        named = None if api.named is None else frozenset(self.handlers)
        self.model = ApiModel.load(api.service, named)
        self.operations = sorted(set(self.handlers) - _STREAMS)


class ApiCalls:
    """Makes calls one after the other; for one event loop."""

    def __init__(self, parts: Parts, services: Sequence[str] = ()) -> None:
        """Take control's parts; ``services`` as botocore names them, all if empty. Blocks."""
        self._parts = parts
        self._served = [_Served(api) for api in APIS if not services or api.service in services]
        self._known: dict[str, list[Any]] = defaultdict(list)
        self._good: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self.outcomes: dict[tuple[str, str], set[str]] = defaultdict(set)
        """By service and operation: ``ok``, and the names of errors."""
        self._chance = 0.1
        """Of members that are not required."""
        self._caller = Caller(ROOT, "anyone", parts.names.root())

    async def begin(self) -> None:
        """Make the first calls; raises ``Defect``."""
        for service, operation, asked in FIRST:
            served = next((one for one in self._served if one.api.service == service), None)
            if served is not None:
                await self._call(served, operation, self._filled(asked))

    async def call(self, choices: Choices) -> None:
        """Make one call; raises ``Defect``."""
        served = choices.choice(self._served)
        operation = choices.choice(served.operations)
        good = self._good[served.api.service, operation]
        if good and choices.random() < 0.6:
            asked = self._spoiled(choices.choice(good), choices)
            for _ in range(choices.randrange(3)):
                asked = self._spoiled(asked, choices)
        else:
            shape = served.model._service.operation_model(operation).input_shape
            self._chance = choices.choice([0.05, 0.1, 0.4])
            asked = self._made(shape, choices, 0)
        await self._call(served, operation, asked)

    async def _call(self, served: _Served, operation: str, asked: Any) -> None:
        """Make a call; raises ``Defect``."""
        answering(AllowedCall(self._caller, None))
        service, outcomes = served.api.service, self.outcomes[served.api.service, operation]
        asked = msgspec.json.decode(msgspec.json.encode(asked))  # as it comes by the wire
        try:
            request = served.model.check(operation, asked)
            served.api.check(request)
            async with asyncio.timeout(_CALL_LIMIT_S):
                answer = await served.handlers[operation](self._parts, request)
        except ApiError as error:
            if not str(error) or error.status >= 500:
                raise Defect(f"{service} {operation} {asked}: {error!r}") from error
            outcomes.add(error.name)
            return
        except Exception as error:
            raise Defect(f"{service} {operation} {asked}: {error!r}") from error
        shape = served.model._service.operation_model(operation).output_shape
        if shape is not None:
            told = served.model.answer(operation, answer)
            if faults := faults_of(shape, told):
                raise Defect(f"{service} {operation} {asked}: {faults[:3]}")
            msgspec.json.encode(told)
            self._remember(shape, told)
        outcomes.add("ok")
        good = self._good[service, operation]
        good.append(asked)
        del good[:-_REMEMBERED]

    def _spoiled(self, value: Any, choices: Choices, name: str = "") -> Any:
        """Return a copy of a request that was good, with one place changed."""
        if isinstance(value, dict) and value and choices.random() < 0.95:
            key = choices.choice(sorted(value))
            changed = dict(value)
            if choices.random() < 0.15:
                del changed[key]
            else:
                changed[key] = self._spoiled(value[key], choices, key)
            return changed
        if isinstance(value, list) and value and choices.random() < 0.9:
            at = choices.randrange(len(value))
            if choices.random() < 0.2:
                return [*value, value[at]]
            return [*value[:at], self._spoiled(value[at], choices, name), *value[at + 1 :]]
        if isinstance(value, str):
            return self._word(choices, name)
        if isinstance(value, bool):
            return not value
        if isinstance(value, int | float):
            return choices.choice([*NUMBERS, *TIMES])
        return choices.choice([None, "", 0, [], {}])

    def _filled(self, value: Any) -> Any:
        """Return a first call with what answers have said."""
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if isinstance(value, str) and (found := _PLACE.fullmatch(value)):
            return self._known.get(found[1], ["a"])[-1]
        return value

    def _made(self, shape: Any, choices: Choices, depth: int, name: str = "") -> Any:
        """Return a value of a shape, now and then a bad one."""
        if shape is None:
            return {}
        if choices.random() < 0.01:
            return choices.choice([None, "", 0, True, [], {}, 1.5])
        if shape.type_name == "structure":
            return self._structure(shape, choices, depth)
        if shape.type_name in _SCALARS:
            return choices.choice(_SCALARS[shape.type_name])
        if shape.type_name not in {"list", "map"}:
            return self._text(shape, choices, name)
        counts = [0] if depth > _DEEPEST else [0, 1, 1, 1, 2, 3]
        items = range(choices.choice(counts))
        if shape.type_name == "list":
            return [self._made(shape.member, choices, depth + 1, name) for _ in items]
        return {
            str(self._text(shape.key, choices, "key")): self._made(
                shape.value, choices, depth + 1, name
            )
            for _ in items
        }

    def _structure(self, shape: Any, choices: Choices, depth: int) -> dict[str, Any]:
        required = set(shape.required_members)
        chance = 0.0 if depth > _DEEPEST else self._chance
        return {
            name: self._made(member, choices, depth + 1, name)
            for name, member in shape.members.items()
            if choices.random() < (0.97 if name in required else chance)
        }

    def _text(self, shape: Any, choices: Choices, name: str) -> Any:
        if shape.enum and choices.random() < 0.97:
            return choices.choice(shape.enum)
        return self._word(choices, name, shape.name)

    def _word(self, choices: Choices, *names: str) -> str:
        known = [word for name in names for word in self._known.get(_stem(name), ())]
        if names and _stem(names[0]).startswith("resource"):
            known += self._known["arn:"]
        if known and choices.random() < 0.7:
            return str(choices.choice(known))
        return choices.choice(["a", "b", "web", "default"] if choices.random() < 0.5 else WORDS)

    def _remember(self, shape: Any, value: Any, *names: str) -> None:
        """Note the texts of an answer by the names of their members, and of the structures that they identify."""
        if isinstance(value, dict):
            members = shape.members if shape.type_name == "structure" else {}
            for key, item in value.items():
                below = members.get(key) or (shape.value if shape.type_name == "map" else None)
                if below is not None:
                    self._remember(below, item, key, *(names[:1] if key.lower() in _BARE else ()))
        elif isinstance(value, list):
            for item in value:
                self._remember(shape.member, item, *names)
        elif isinstance(value, str) and value:
            also = ("arn:",) if value.startswith("arn:") else ()
            for key in {*names, *map(_stem, names), _stem(shape.name), *also}:
                kept = self._known[key]
                if value not in kept:
                    kept.append(value)
                    del kept[:-_REMEMBERED]


def _stem(name: str) -> str:
    """Return a name by which members are the same: ``ClusterName``, ``clusters`` and ``clusterArns`` are ``cluster``."""
    found = name.lower()
    for end in ("s", "list", "arn", "name", "identifier", "id", "string"):
        if len(found) > len(end):
            found = found.removesuffix(end)
    return found
