"""Checks answers against botocore's model of the ECS API: unknown members, types, enums."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from agent.controlplane.api.ecs import operations
from agent.controlplane.front.service_model import ApiModel

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGET_PREFIX = "AmazonEC2ContainerServiceV20141113"

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "blob": (str, bytes),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float, datetime),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


_OF_ANY_CALL = frozenset(
    {
        "ServerException",
        "SerializationException",
        "UnknownOperationException",
        "NotServedHere",
        "RequestEntityTooLargeException",
        "RequestTimeoutException",
        "UnsupportedMediaTypeException",
    }
)


@cache
def errors_of(operation: str) -> frozenset[str]:
    """Return the names of a call's errors, including that for a call that is not implemented."""
    service = ServiceModel(Loader().load_service_model("ecs", "service-2"), "ecs")
    if operation not in service.operation_names:
        return _OF_ANY_CALL
    own = {shape.name for shape in service.operation_model(operation).error_shapes}
    unserved = set() if operation in operations.handlers() else {"UnsupportedFeatureException"}
    return _OF_ANY_CALL | own | unserved


class StrictModel(ApiModel):
    """A model that rejects answers that do not match it, instead of converting them."""

    def answer(self, operation: str, response: Mapping[str, Any]) -> dict[str, Any]:
        shape = self._service.operation_model(operation).output_shape
        faults = list(faults_of(shape, response)) if shape is not None else list(response)
        assert not faults, f"{operation}: {faults}"
        return super().answer(operation, response)


def faults_of(shape: Any, answer: Any, path: str = "") -> list[str]:
    """Return what is wrong with a value; None counts as absent."""
    kind: str = shape.type_name
    if not isinstance(answer, _KINDS[kind]) or (isinstance(answer, bool) and kind != "boolean"):
        return [f"{path}: {type(answer).__name__} is not a {kind}"]
    value: Any = answer
    parts: list[tuple[Any, Any, str]] = []
    match kind:
        case "structure":
            known = shape.members
            parts = [(known[n], v, f"{path}.{n}") for n, v in value.items() if n in known]
            faults = [f"{path}.{name} is unknown" for name in value if name not in known]
            return faults + [f for m, v, p in parts if v is not None for f in faults_of(m, v, p)]
        case "list":
            parts = [(shape.member, item, f"{path}[]") for item in value]
        case "map":
            parts = [(shape.value, item, f"{path}[{key}]") for key, item in value.items()]
    return [f for m, v, p in parts for f in faults_of(m, v, p)] or _fault_of_scalar(
        shape, value, path
    )


def _fault_of_scalar(shape: Any, value: Any, path: str) -> list[str]:
    if shape.type_name == "string" and shape.enum and value not in shape.enum:
        return [f"{path}: {value!r} is none of {shape.enum}"]
    if shape.type_name == "timestamp" and isinstance(value, int | float) and value <= 0:
        return [f"{path}: {value} is not a time"]
    return []
