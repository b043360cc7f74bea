"""Errors of AWS Cloud Map. Source of names and statuses: its service model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.front.errors import ApiError, InvalidParameterException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.api.translation import Translations


class _Missing(ApiError):
    """What the call is about does not exist."""

    status = 404


class InvalidInput(ApiError):
    """A member of the request is not valid, or not served."""


class NamespaceNotFound(_Missing):
    """There is no such namespace."""


class ServiceNotFound(_Missing):
    """There is no such registry."""


class InstanceNotFound(_Missing):
    """There is no such instance."""


class CustomHealthNotFound(_Missing):
    """The instances of the registry have no health that could be set."""


class OperationNotFound(_Missing):
    """There is no such operation, or it is too old."""


class ResourceNotFoundException(_Missing):
    """Nothing that could have tags has that ARN."""


class NamespaceAlreadyExists(ApiError):
    """There is a namespace of that name."""


class ServiceAlreadyExists(ApiError):
    """There is a registry of that name."""


class ResourceInUse(ApiError):
    """It has something in it, or something else keeps it as it is."""

    status = 409


class ResourceLimitExceeded(ApiError):
    """There are as many as there may be."""


class TooManyTagsException(ApiError):
    """It would have too many tags."""


TRANSLATIONS: Translations = {InvalidParameterException: InvalidInput}

_NO_ATTRIBUTES: Final = "registries have no attributes here; use tags"

REASONS: Final[Mapping[str, str]] = {
    "CreatePublicDnsNamespace": (
        "names are only for tasks, not for the internet; use CreatePrivateDnsNamespace"
    ),
    "UpdatePublicDnsNamespace": "there are no public namespaces",
    "GetServiceAttributes": _NO_ATTRIBUTES,
    "UpdateServiceAttributes": _NO_ATTRIBUTES,
    "DeleteServiceAttributes": _NO_ATTRIBUTES,
}
"""Why operations are refused, and what to do instead."""
