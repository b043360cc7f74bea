"""restJson1: method and path name the operation, members are in path, query and a JSON body. Pure.

Clients know a mistake of theirs as ``ValidationException`` in APIs of this protocol.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from agent.controlplane import bounds
from agent.controlplane.front.codecs.contract import ITEMS_MOST, VALUES_MOST, Reply
from agent.controlplane.front.errors import (
    InvalidParameterException,
    SerializationException,
    UnknownOperationException,
)

if TYPE_CHECKING:
    from agent.controlplane.front.codecs.contract import Headed
    from agent.controlplane.front.errors import ApiError
    from agent.controlplane.front.service_model import ApiModel

PROTOCOL: Final = "rest-json"
CONTENT_TYPE: Final = "application/json"
_LABEL: Final = re.compile(r"\{([A-Za-z]+)\+?\}")
_INVALID: Final = {
    "InvalidParameterException": "ValidationException",
    "SerializationException": "ValidationException",
}
_PARAMETERS_MOST: Final = 1000
_TRUTH: Final = {"true": True, "false": False}


class _Route(NamedTuple):
    operation: str
    method: str
    path: re.Pattern[str]


class RestJson:
    """The protocol of one API."""

    def __init__(self, model: ApiModel) -> None:
        self._model = model
        self._routes = [
            _Route(name, http["method"], _pattern(http["requestUri"]))
            for name in sorted(model.operations)
            for http in (model.http(name),)
        ]

    def named(self, request: Headed) -> str:
        """Return the operation of method and path; raises ``ApiError``."""
        return self._matched(request)[0]

    def read(self, request: Headed, body: bytes) -> tuple[str, Any]:
        """Return the operation and its members; raises ``ApiError``."""
        operation, labels = self._matched(request)
        members: dict[str, Any] = {}
        if body:
            members = self._decoded(body)
        shape = self._model.input_shape(operation)
        if shape is None:
            return operation, {}
        try:
            query = parse_qsl(
                request.query_string, keep_blank_values=True, max_num_fields=_PARAMETERS_MOST
            )
        except ValueError:
            raise SerializationException("The request has too many parameters.") from None
        for name, member in shape.members.items():
            where = member.serialization.get("location")
            sent_as = member.serialization.get("name", name)
            if where is None and sent_as != name and sent_as in members:
                members[name] = members.pop(sent_as)
            elif where is not None:
                # Else the body could say something else than path and query, which are signed apart.
                members.pop(name, None)
            if where == "uri":
                members[name] = labels[sent_as]
            elif where == "querystring":
                given = [value for key, value in query if key == sent_as]
                if given:
                    members[name] = _value(member, given, sent_as)
        return operation, members

    def answer(self, operation: str, response: dict[str, Any], request_id: str) -> Reply:
        """Write a response."""
        return self._reply(200, response, request_id, {})

    def error(self, error: ApiError, request_id: str) -> Reply:
        """Write an error, with its name in a header."""
        name = _INVALID.get(error.name, error.name)
        return self._reply(
            error.status, {"Message": str(error)}, request_id, {"x-amzn-ErrorType": name}
        )

    def _matched(self, request: Headed) -> tuple[str, dict[str, str]]:
        for route in self._routes:
            found = route.path.fullmatch(request.path) if route.method == request.method else None
            if found is not None:
                return route.operation, found.groupdict()
        raise UnknownOperationException(
            f"There is no operation of {self._model.title} with this method and path."
        )

    @staticmethod
    def _decoded(body: bytes) -> dict[str, Any]:
        try:
            bounds.look(body, most_items=ITEMS_MOST, most_values=VALUES_MOST)
            return msgspec.json.decode(body, type=dict[str, Any])
        except bounds.OutOfBounds as error:
            raise InvalidParameterException(f"The request has {error}.") from None
        except (ValueError, RecursionError) as error:
            raise SerializationException(f"The request is not valid JSON: {error}") from None

    @staticmethod
    def _reply(
        status: int, body: dict[str, Any], request_id: str, headers: dict[str, str]
    ) -> Reply:
        common = {"Content-Type": CONTENT_TYPE, "x-amzn-RequestId": request_id}
        return Reply(status, msgspec.json.encode(body), common | headers)


def _pattern(uri: str) -> re.Pattern[str]:
    """Return what matches the paths of an operation. The last label may have slashes: an ARN is one."""
    parts = _LABEL.split(uri.partition("?")[0])
    text = re.escape(parts[0])
    for at in range(1, len(parts), 2):
        is_last = at == len(parts) - 2 and not parts[at + 1]
        text += f"(?P<{parts[at]}>{'.+' if is_last else '[^/]+'}){re.escape(parts[at + 1])}"
    return re.compile(text, re.DOTALL)


def _value(shape: Any, given: list[str], name: str) -> Any:
    """Return the value of a parameter of the query; one that cannot be read goes on as text."""
    match shape.type_name:
        case "list":
            return [_value(shape.member, [each], name) for each in given]
        case "integer" | "long" if re.fullmatch(r"-?[0-9]{1,18}", given[-1]):
            return int(given[-1])
        case "boolean":
            return _TRUTH.get(given[-1], given[-1])
        case _:
            return given[-1]
