"""Checks requests against botocore's model of an API, and shapes responses with it.

``ApiModel.load`` reads the model from disk (about 10 ms, blocking): call it in a thread, when the
control endpoint starts. Importing this module loads nothing, so the agent process and the CLI do
not pay for it. Everything else is pure.

As on Amazon ECS, unknown members and nulls are ignored and a value of a wrong type is a
``SerializationException``. Unlike the client-side validator, enums and lengths are checked too.
"""

from __future__ import annotations

import functools
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.controlplane.front.errors import InvalidParameterException, SerializationException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.front.errors import ApiError

_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_SHOWN = 64
"""How many characters of a client's value an error repeats at most."""
QUERY_ERRORS = {
    "AccessDeniedException": ("AccessDenied", 403),
    "ExpiredTokenException": ("ExpiredToken", 403),
    "IncompleteSignatureException": ("IncompleteSignature", 400),
    "InvalidParameterException": ("ValidationError", 400),
    "InvalidSignatureException": ("SignatureDoesNotMatch", 403),
    "MissingAuthenticationTokenException": ("MissingAuthenticationToken", 403),
    "SerializationException": ("MalformedInput", 400),
    "ServerException": ("InternalFailure", 500),
    "ThrottlingException": ("Throttling", 400),
    "UnknownOperationException": ("InvalidAction", 400),
    "UnrecognizedClientException": ("InvalidClientTokenId", 403),
    "UnsupportedFeatureException": ("UnsupportedOperation", 400),
}
"""Errors that every API has, in the words of the query protocol (its "common errors")."""


class ApiModel:
    """The operations of one API with their shapes."""

    def __init__(self, service: Any) -> None:
        from botocore.validate import ParamValidator  # noqa: PLC0415 - only the control process

        self._service = service
        self.name: str = service.service_name
        self._validator = ParamValidator()
        self.operations: frozenset[str] = frozenset(service.operation_names)
        metadata = service.metadata
        self.target_prefix: str = metadata.get("targetPrefix", "")
        """What precedes the operation in ``X-Amz-Target``; empty without a JSON protocol."""
        self.protocols: tuple[str, ...] = tuple(metadata.get("protocols", (metadata["protocol"],)))
        """As botocore names them."""
        self.signing_name: str = metadata.get("signingName", metadata["endpointPrefix"])
        """The name of the service in signatures."""
        self.json_version: str = metadata.get("jsonVersion", "1.1")
        self.version: str = metadata["apiVersion"]
        self.xml_namespace: str = metadata.get("xmlNamespace", "")
        self._had_query = "awsQueryCompatible" in metadata
        self._query_errors = {
            shape.name: (
                shape.metadata["error"].get("code", shape.name),
                shape.metadata["error"].get("httpStatusCode", 400),
            )
            for shape in service.error_shapes
            if "error" in shape.metadata
        }
        self.title: str = metadata.get("serviceAbbreviation") or metadata["serviceFullName"]
        """The usual name, such as "Amazon ECS"."""
        self.endpoint_variable: str = (
            f"AWS_ENDPOINT_URL_{metadata['serviceId'].upper().replace(' ', '_')}"
        )
        """The variable with which the AWS tools find its endpoint."""

    @classmethod
    @functools.cache
    def load(cls, service: str, only: frozenset[str] | None = None) -> ApiModel:
        """Return a model of the installed botocore, read once per process.

        Blocks, call it in a thread.

        Args:
            service: its name there.
            only: operations whose shapes are kept, to save memory; of others only the name is.
        """
        from botocore.loaders import Loader  # noqa: PLC0415 - only the control process
        from botocore.model import ServiceModel  # noqa: PLC0415 - only the control process

        # Not ``load_service_model``, which looks into the directories of some 400 services first.
        loader = Loader()
        version = loader.determine_latest_version(service, "service-2")
        model = loader.load_data(f"{service}/{version}/service-2")
        return cls(ServiceModel(model if only is None else _pruned(model, only), service))

    def check(self, operation: str, body: Any) -> dict[str, Any]:
        """Return a request without nulls and unknown members.

        Args:
            operation: one of ``operations``.
            body: the decoded JSON value, of any type.

        Raises:
            SerializationException: a value has a wrong type.
            InvalidParameterException: a required member is missing, or a value is not in its enum
                or has a bad length.
        """
        shape = self._service.operation_model(operation).input_shape
        if shape is None:
            return {}
        request: dict[str, Any] = _read(shape, body, "")
        try:
            report = self._validator.validate(request, shape)
        except RuntimeError as error:
            # botocore's validator raises this for a time that does not exist.
            raise InvalidParameterException(str(error)) from None
        if report.has_errors():
            raise InvalidParameterException(report.generate_report())
        return request

    def answer(self, operation: str, response: Mapping[str, Any]) -> dict[str, Any]:
        """Return a response as it is sent.

        Members that are None or not in the model are left out; datetimes become Unix seconds. Empty
        for an operation that returns nothing.
        """
        shape = self._service.operation_model(operation).output_shape
        if shape is None:
            return {}
        written: dict[str, Any] = _write(shape, response)
        return written

    def http(self, operation: str) -> Mapping[str, Any]:
        """Return ``method`` and ``requestUri`` of an operation, for protocols that have them."""
        found: Mapping[str, Any] = self._service.operation_model(operation).http
        return found

    def input_shape(self, operation: str) -> Any:
        """Return botocore's shape of a request; None if it has no members."""
        return self._service.operation_model(operation).input_shape

    def output_shape(self, operation: str) -> Any:
        """Return botocore's shape of a response; None if it has no members."""
        return self._service.operation_model(operation).output_shape

    def query_error(self, error: ApiError) -> tuple[str, int]:
        """Return the code and status of an error in the query protocol."""
        known = self._query_errors.get(error.name) or QUERY_ERRORS.get(error.name)
        return known or (error.name.removesuffix("Exception"), error.status)

    def query_error_header(self, error: ApiError) -> dict[str, str]:
        """Return the header with that code, which other protocols of such an API have."""
        if not self._had_query:
            return {}
        code, status = self.query_error(error)
        return {"x-amzn-query-error": f"{code};{'Sender' if status < 500 else 'Receiver'}"}

    def members(self, structure: str) -> frozenset[str]:
        """Return the names of the members of a structure of the model."""
        return frozenset(self._service.shape_for(structure).members)


def _pruned(model: Mapping[str, Any], only: frozenset[str]) -> dict[str, Any]:
    """Return a model with the shapes of some operations alone."""
    bare = ("name", "http", "documentation")
    operations = {
        name: dict(each) if name in only else {key: each[key] for key in bare if key in each}
        for name, each in model["operations"].items()
    }
    wanted: list[str] = []
    for name in only:
        wanted += [
            operations[name][end]["shape"] for end in ("input", "output") if end in operations[name]
        ]
    shapes: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name in shapes:
            continue
        shape = shapes[name] = model["shapes"][name]
        below = [*shape.get("members", {}).values()]
        below += [shape[part] for part in ("member", "key", "value") if part in shape]
        wanted += [each["shape"] for each in below]
    return {"metadata": model["metadata"], "operations": operations, "shapes": shapes}


def _read(shape: Any, value: Any, path: str) -> Any:
    match shape.type_name:
        case "structure":
            return _read_structure(shape, value, path)
        case "list":
            _expect(isinstance(value, list), shape, value, path)
            items = [
                _read(shape.member, item, f"{path}[{index}]")
                for index, item in enumerate(value)
                if item is not None
            ]
            _check_length(shape, len(items), path)
            return items
        case "map":
            _expect(isinstance(value, dict), shape, value, path)
            return {
                key: _read(shape.value, item, f"{path}[{key[:_SHOWN]}]")
                for key, item in value.items()
                if item is not None
            }
        case _:
            return _read_scalar(shape, value, path)


def _read_structure(shape: Any, value: Any, path: str) -> dict[str, Any]:
    _expect(isinstance(value, dict), shape, value, path)
    return {
        name: _read(member, value[name], f"{path}.{name}" if path else name)
        for name, member in shape.members.items()
        if value.get(name) is not None
    }


def _read_scalar(shape: Any, value: Any, path: str) -> Any:
    match shape.type_name:
        case "string":
            _expect(isinstance(value, str), shape, value, path)
            _check_enum(shape, value, path)
            _check_length(shape, len(value), path)
        case "integer" | "long":
            _expect(isinstance(value, int) and not isinstance(value, bool), shape, value, path)
            limits = _INT32 if shape.type_name == "integer" else _INT64
            _expect(value in limits, shape, value, path)
        case "boolean":
            _expect(isinstance(value, bool), shape, value, path)
        case "float" | "double" | "timestamp":
            # Not endless, nor larger than a float; such numbers are valid JSON or CBOR.
            number = (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and abs(value) <= sys.float_info.max
            )
            _expect(number, shape, value, path)
        case _:
            _expect(isinstance(value, str), shape, value, path)
    return value


def _expect(holds: bool, shape: Any, value: Any, path: str) -> None:
    if holds:
        return
    where = path or "the request"
    if isinstance(value, int) and not isinstance(value, bool):
        given = "NUMBER_VALUE"
    else:
        given = {bool: "BOOLEAN_VALUE", float: "DECIMAL_VALUE", str: "STRING_VALUE"}.get(
            type(value), "START_ARRAY" if isinstance(value, list) else "START_OBJECT"
        )
    raise SerializationException(
        f"{given} can not be converted to {shape.type_name.capitalize()} at {where}"
    )


def _check_enum(shape: Any, value: str, path: str) -> None:
    if shape.enum and value not in shape.enum:
        raise InvalidParameterException(
            f"Value '{value[:_SHOWN]}' at '{path}' failed to satisfy constraint: Member must "
            f"satisfy enum value set: [{', '.join(shape.enum)}]"
        )


def _check_length(shape: Any, length: int, path: str) -> None:
    most = shape.metadata.get("max")
    if most is not None and length > most:
        raise InvalidParameterException(
            f"Value at '{path}' failed to satisfy constraint: Member must have length less than "
            f"or equal to {most}"
        )


def _write(shape: Any, value: Any) -> Any:
    match shape.type_name:
        case "structure":
            members = shape.members
            return {
                name: _write(members[name], item)
                for name, item in value.items()
                if item is not None and name in members
            }
        case "list":
            return [_write(shape.member, item) for item in value]
        case "map":
            return {key: _write(shape.value, item) for key, item in value.items()}
        case "timestamp":
            return value.timestamp() if isinstance(value, datetime) else value
        case _:
            return value
