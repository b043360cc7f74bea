"""rpcv2Cbor: ``/service/NAME/operation/OPERATION`` names the operation, bodies are CBOR. Pure."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.front.codecs import cbor
from agent.controlplane.front.codecs.contract import VALUES_MOST, Reply
from agent.controlplane.front.errors import (
    SerializationException,
    UnknownOperationException,
    UnsupportedMediaTypeException,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.front.codecs.contract import Headed
    from agent.controlplane.front.errors import ApiError
    from agent.controlplane.front.service_model import ApiModel

HEADER: Final = "Smithy-Protocol"
PROTOCOL: Final = "rpc-v2-cbor"
CONTENT_TYPE: Final = "application/cbor"
_PATH: Final = re.compile(r"/service/([A-Za-z0-9_.]{1,128})/operation/([A-Za-z0-9_]{1,128})")


def service_of(path: str) -> str:
    """Return the service in the path of a call, which is its target prefix; empty if there is none."""
    found = _PATH.fullmatch(path)
    return found[1] if found else ""


class CborRpc:
    """The CBOR protocol of one API."""

    def __init__(self, model: ApiModel) -> None:
        self._model = model

    def named(self, request: Headed) -> str:
        """Return the operation of the path; raises ``ApiError``."""
        found = _PATH.fullmatch(request.path)
        expected = self._model.target_prefix
        if (
            request.method != "POST"
            or found is None
            or found[1] != expected
            or found[2] not in self._model.operations
        ):
            raise UnknownOperationException(
                f"The call must be POST /service/{expected}/operation/<Operation> with an operation of "
                f"{self._model.title}."
            )
        if request.content_type not in (CONTENT_TYPE, "application/octet-stream"):
            raise UnsupportedMediaTypeException(f"The content type must be {CONTENT_TYPE}.")
        return found[2]

    def read(self, request: Headed, body: bytes) -> tuple[str, Any]:
        """Return the operation and the decoded body; raises ``ApiError``."""
        operation = self.named(request)
        try:
            return operation, cbor.decode(body, most_values=VALUES_MOST) if body else {}
        except cbor.NotCbor as error:
            raise SerializationException(f"The request is not valid CBOR: {error}") from None

    def answer(self, operation: str, response: dict[str, Any], request_id: str) -> Reply:
        """Write a response."""
        shape = self._model.output_shape(operation)
        body = cbor.mapping({}) if shape is None else _write(shape, response)
        return self._reply(200, body, request_id, {})

    def error(self, error: ApiError, request_id: str) -> Reply:
        """Write an error."""
        members = error.members | {"__type": error.name, "message": str(error)}
        body = cbor.mapping({name: cbor.text(value) for name, value in members.items()})
        return self._reply(error.status, body, request_id, self._model.query_error_header(error))

    @staticmethod
    def _reply(status: int, body: bytes, request_id: str, headers: dict[str, str]) -> Reply:
        common = {"Content-Type": CONTENT_TYPE, HEADER: PROTOCOL, "x-amzn-RequestId": request_id}
        return Reply(status, body, common | headers)


def _write(shape: Any, value: Any) -> bytes:
    match shape.type_name:
        case "structure":
            members = shape.members
            return cbor.mapping({name: _write(members[name], item) for name, item in value.items()})
        case "list":
            return cbor.array([_write(shape.member, item) for item in value])
        case "map":
            return cbor.mapping({key: _write(shape.value, item) for key, item in value.items()})
        case kind:
            return _SCALARS.get(kind, cbor.text)(value)


_SCALARS: Final[Mapping[str, Callable[[Any], bytes]]] = {
    "timestamp": cbor.time,
    "integer": cbor.integer,
    "long": cbor.integer,
    "float": cbor.number,
    "double": cbor.number,
    "boolean": cbor.boolean,
    "blob": lambda value: cbor.binary(base64.b64decode(value)),
}
