"""awsJson 1.0 and 1.1: ``X-Amz-Target`` names the operation, bodies are JSON. Pure.

Clients of an API that had the query protocol before also get the error's code in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent.controlplane import bounds
from agent.controlplane.front.codecs.contract import ITEMS_MOST, VALUES_MOST, Reply
from agent.controlplane.front.errors import (
    InvalidParameterException,
    SerializationException,
    UnknownOperationException,
    UnsupportedMediaTypeException,
)

if TYPE_CHECKING:
    from agent.controlplane.front.codecs.contract import Headed
    from agent.controlplane.front.errors import ApiError
    from agent.controlplane.front.service_model import ApiModel


class JsonRpc:
    """The JSON protocol of one API."""

    def __init__(self, model: ApiModel) -> None:
        self._model = model
        self._content_type = f"application/x-amz-json-{model.json_version}"

    def named(self, request: Headed) -> str:
        """Return the operation of ``X-Amz-Target``; raises ``ApiError``."""
        prefix, _, operation = request.headers.get("X-Amz-Target", "").rpartition(".")
        expected = self._model.target_prefix
        if prefix != expected or operation not in self._model.operations:
            raise UnknownOperationException(
                f"X-Amz-Target must be {expected}.<Operation> with an operation of "
                f"{self._model.title}."
            )
        if request.content_type != self._content_type:
            raise UnsupportedMediaTypeException(f"The content type must be {self._content_type}.")
        return operation

    def read(self, request: Headed, body: bytes) -> tuple[str, Any]:
        """Return the operation and the decoded body; raises ``ApiError``."""
        operation = self.named(request)
        if not body:
            return operation, {}
        try:
            bounds.look(body, most_items=ITEMS_MOST, most_values=VALUES_MOST)
            return operation, msgspec.json.decode(body)
        except bounds.OutOfBounds as error:
            raise InvalidParameterException(f"The request has {error}.") from None
        except (ValueError, RecursionError) as error:
            raise SerializationException(f"The request is not valid JSON: {error}") from None

    def answer(self, operation: str, response: dict[str, Any], request_id: str) -> Reply:
        """Write a response."""
        return self._reply(200, response, request_id, {})

    def error(self, error: ApiError, request_id: str) -> Reply:
        """Write an error, with its name in a header too."""
        headers = {"x-amzn-ErrorType": error.name} | self._model.query_error_header(error)
        body = error.members | {"__type": error.name, "message": str(error)}
        return self._reply(error.status, body, request_id, headers)

    def _reply(
        self, status: int, body: dict[str, Any], request_id: str, headers: dict[str, str]
    ) -> Reply:
        common = {"Content-Type": self._content_type, "x-amzn-RequestId": request_id}
        return Reply(status, msgspec.json.encode(body), common | headers)
