"""awsQuery: requests are forms (``Action=...&X.member.1.Y=...``), answers are XML. Pure.

The dialect of EC2, which names lists and answers in another way, is in ``ec2``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from agent.controlplane.front.codecs.contract import DEEPEST, VALUES_MOST, Reply
from agent.controlplane.front.errors import (
    SerializationException,
    UnknownOperationException,
)

if TYPE_CHECKING:
    from agent.controlplane.front.codecs.contract import Headed
    from agent.controlplane.front.errors import ApiError
    from agent.controlplane.front.service_model import ApiModel

FORM: Final = "application/x-www-form-urlencoded"
CONTENT_TYPE: Final = "text/xml"
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHOWN: Final = 64
_TRUTH: Final = {"true": True, "false": False}

Tree = dict[str | None, Any]
"""Parameters by the parts of their names; the value of a name itself is under None."""


class Query:
    """The query protocol of one API."""

    def __init__(self, model: ApiModel) -> None:
        self.model = model

    def named(self, request: Headed) -> None:
        """Return None: the form names the operation."""

    def read(self, request: Headed, body: bytes) -> tuple[str, Any]:
        """Return the operation and its parameters; raises ``ApiError``."""
        form = body.decode("utf-8", "replace") if request.method == "POST" else ""
        try:
            pairs = parse_qsl(
                "&".join(part for part in (request.query_string, form) if part),
                keep_blank_values=True,
                max_num_fields=VALUES_MOST,
            )
        except ValueError:
            raise SerializationException(
                f"The request has more than {VALUES_MOST} parameters."
            ) from None
        tree = tree_of(pairs)
        operation = str(tree.get("Action", {}).get(None, ""))
        if operation not in self.model.operations:
            raise UnknownOperationException(
                f"The action '{operation[:_SHOWN]}' is not valid for this endpoint, which has those of "
                f"{self.model.title}."
            )
        version = str(tree.get("Version", {}).get(None, self.model.version))
        if version != self.model.version:
            raise UnknownOperationException(
                f"Version must be {self.model.version}, not '{version[:_SHOWN]}'."
            )
        shape = self.model.input_shape(operation)
        try:
            return operation, {} if shape is None else self.read_request(shape, tree)
        except RecursionError:
            raise SerializationException("The request is nested too deeply.") from None

    def read_request(self, shape: Any, tree: Tree) -> dict[str, Any]:
        """Return the parameters of a request; raises ``SerializationException``."""
        return _read_structure(shape, tree)

    def answer(self, operation: str, response: dict[str, Any], request_id: str) -> Reply:
        """Write a response."""
        shape = self.model.output_shape(operation)
        parts = [f'<{operation}Response xmlns="{self.model.xml_namespace}">']
        if shape is not None:
            wrapper = shape.serialization.get("resultWrapper", f"{operation}Result")
            parts += [f"<{wrapper}>", *write_members(shape, response), f"</{wrapper}>"]
        parts.append(
            f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
            f"</{operation}Response>"
        )
        return reply(200, "".join(parts), request_id)

    def error(self, error: ApiError, request_id: str) -> Reply:
        """Write an error, by its name and status in this protocol."""
        code, status = self.model.query_error(error)
        at_fault = "Sender" if status < 500 else "Receiver"
        text = (
            f'<ErrorResponse xmlns="{self.model.xml_namespace}"><Error><Type>{at_fault}</Type>'
            f"<Code>{xml_text(code)}</Code><Message>{xml_text(str(error))}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        return reply(status, text, request_id)


def tree_of(pairs: list[tuple[str, str]]) -> Tree:
    """Return parameters by the parts of their names; of equal names the last counts.

    Raises:
        SerializationException: a name has too many parts.
    """
    root: Tree = {}
    for name, value in pairs:
        node, parts = root, name.split(".", DEEPEST)
        if len(parts) > DEEPEST:
            raise SerializationException("The request is nested too deeply.")
        for part in parts:
            node = node.setdefault(part, {})
        node[None] = value
    return root


def _read_structure(shape: Any, tree: Tree) -> dict[str, Any]:
    result = {}
    for name, member in shape.members.items():
        below = tree.get(_name_of(member, name))
        if below is not None:
            result[name] = _read(member, below, name)
    return result


def _read(shape: Any, tree: Tree, path: str) -> Any:
    match shape.type_name:
        case "structure":
            return _read_structure(shape, tree)
        case "list":
            if not shape.serialization.get("flattened"):
                tree = tree.get(_name_of(shape.member, "member"), {})
            return [_read(shape.member, item, path) for item in numbered(tree)]
        case "map":
            if not shape.serialization.get("flattened"):
                tree = tree.get("entry", {})
            key, value = _name_of(shape.key, "key"), _name_of(shape.value, "value")
            return {
                str(item.get(key, {}).get(None, "")): _read(shape.value, item.get(value, {}), path)
                for item in numbered(tree)
            }
        case kind:
            return read_scalar(kind, str(tree.get(None, "")), path)


def numbered(tree: Tree) -> list[Tree]:
    """Return the items of a list in their order."""
    numbers = sorted((int(part), part) for part in tree if part and _NUMBER.fullmatch(part))
    return [tree[part] for _, part in numbers]


def read_scalar(kind: str, text: str, path: str) -> Any:
    """Return a value by its type; raises ``SerializationException``."""
    try:
        match kind:
            case "integer" | "long":
                return int(text)
            case "float" | "double":
                return float(text)
            case "boolean":
                return _TRUTH[text.strip().lower()]
            case "timestamp":
                return _moment(text)
            case _:
                return text
    except (ValueError, KeyError, OverflowError):
        raise SerializationException(
            f"'{_NOT_XML.sub(' ', text[:_SHOWN])}' can not be converted to {kind.capitalize()} at "
            f"{path}"
        ) from None


def _moment(text: str) -> float:
    """Return Unix seconds of an ISO 8601 time, or of such a number."""
    try:
        return float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def write_members(shape: Any, value: dict[str, Any]) -> list[str]:
    """Return the members of a structure as XML."""
    parts: list[str] = []
    for name, item in value.items():
        member = shape.members[name]
        parts += _write(_name_of(member, name), member, item)
    return parts


def _write(name: str, shape: Any, value: Any) -> list[str]:
    flattened = shape.serialization.get("flattened")
    match shape.type_name:
        case "structure":
            inner = write_members(shape, value)
        case "list":
            item_name = name if flattened else _name_of(shape.member, "member")
            inner = [part for item in value for part in _write(item_name, shape.member, item)]
        case "map":
            key, of = _name_of(shape.key, "key"), _name_of(shape.value, "value")
            around = name if flattened else "entry"
            inner = []
            for each, item in value.items():
                pair = [f"<{key}>{xml_text(each)}</{key}>", *_write(of, shape.value, item)]
                inner += [f"<{around}>", *pair, f"</{around}>"]
        case kind:
            inner = [_scalar(kind, value)]
    if flattened and shape.type_name in ("list", "map"):
        return inner
    return [f"<{name}>", *inner, f"</{name}>"]


def _scalar(kind: str, value: Any) -> str:
    match kind:
        case "boolean":
            return "true" if value else "false"
        case "timestamp":
            return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
        case "float" | "double":
            return repr(float(value))
        case _:
            return xml_text(str(value))


def xml_text(text: str) -> str:
    """Return text for XML, which cannot have some characters even escaped."""
    return escape(_NOT_XML.sub("\ufffd", text))


def _name_of(shape: Any, otherwise: str) -> str:
    return str(shape.serialization.get("name", otherwise))


def reply(status: int, text: str, request_id: str) -> Reply:
    """Return an answer in XML."""
    headers = {"Content-Type": CONTENT_TYPE, "x-amzn-RequestId": request_id}
    return Reply(status, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode(), headers)
