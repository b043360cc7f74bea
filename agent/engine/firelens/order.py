"""What a task asks of FireLens: which container routes, and what the others log to it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.engine import log_config
from agent.errors import PayloadError
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.payload import Container, TaskPayload

DRIVER: Final = "awsfirelens"
FLUENTD: Final = "fluentd"
FLUENT_BIT: Final = "fluentbit"
PLUGIN: Final = {FLUENTD: "@type", FLUENT_BIT: "Name"}
"""Name of the option that names the plugin of an output."""
BUFFER_LIMIT: Final = "log-driver-buffer-limit"
INCLUDE: Final = "include-pattern"
EXCLUDE: Final = "exclude-pattern"
NOT_OF_THE_PLUGIN: Final = frozenset({BUFFER_LIMIT, INCLUDE, EXCLUDE})

_METADATA: Final = "enable-ecs-log-metadata"
_FILE_TYPE: Final = "config-file-type"
_FILE_VALUE: Final = "config-file-value"
_KNOWN: Final = frozenset({_METADATA, _FILE_TYPE, _FILE_VALUE})
_S3_ARN: Final = re.compile(r"arn:[a-z-]+:s3:::([^/]+)/(.+)")
_LINE_BREAKS: Final = re.compile(r"[\n\r\0]")


class S3Object(NamedTuple):
    """Where a configuration file is."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class Routed:
    """A container that logs to the router."""

    name: str
    options: Mapping[str, str]
    """As ordered, without those that are secret."""
    secrets: Mapping[str, str]
    """By option, the variable of the router that holds its value."""


@dataclass(frozen=True, slots=True)
class Firelens:
    """What a task asks for."""

    router: Container
    kind: str
    """``fluentd`` or ``fluentbit``."""
    with_metadata: bool
    external_path: str
    """Path in the router of a file to include; empty for none."""
    external: S3Object | None
    """Where that file comes from; None where the image has it."""
    routed: tuple[Routed, ...]


def has_router(payload: TaskPayload) -> bool:
    """Tell whether a container of a task is a router."""
    return any(container.firelens_configuration for container in payload.containers)


def router_of(payload: TaskPayload) -> Container | None:
    """Return the router of a task: the first, as in Amazon's agent; None for none."""
    return next((c for c in payload.containers if c.firelens_configuration), None)


def is_routed(container: Container) -> bool:
    """Tell whether a container logs to the router of its task."""
    return log_config.driver(container) == DRIVER


def secret_variable(payload: TaskPayload, container: Container, option: str) -> str:
    """Return the variable of the router that holds a secret option of a container."""
    return f"{option}_{payload.containers.index(container)}"


def read(payload: TaskPayload) -> Firelens:
    """Return what a task asks for; it has a router.

    Raises:
        PayloadError: it cannot be done; the text is the task's reason.
    """
    routers = [container for container in payload.containers if container.firelens_configuration]
    if len(routers) != 1:
        raise _bad(payload, f"a task has one log router, not {len(routers)}")
    (router,) = routers
    given = router.firelens_configuration or {}
    kind, options = given.get("type"), given.get("options") or {}
    if kind not in PLUGIN:
        raise _bad(payload, f"type {kind!r} of the log router is not fluentd or fluentbit")
    if is_routed(router):
        raise _bad(payload, f"container {router.name} cannot route its own log")
    _check_options(payload, router, options)
    path, external = _external(payload, kind, options)
    return Firelens(
        router=router,
        kind=kind,
        with_metadata=_is_on(payload, options.get(_METADATA)),
        external_path=path,
        external=external,
        routed=tuple(_routed(payload, c, kind) for c in payload.containers if is_routed(c)),
    )


def check_routed(payload: TaskPayload) -> None:
    """Raise ``PayloadError`` where a container logs to a router that its task does not have."""
    for container in payload.containers:
        if is_routed(container) and not has_router(payload):
            cause = f"container {container.name} logs to a log router, and the task has none"
            raise _bad(payload, cause)


def _routed(payload: TaskPayload, container: Container, kind: str) -> Routed:
    options = log_config.options(container)
    secrets = {
        secret.name: secret_variable(payload, container, secret.name)
        for secret in container.secrets
        if secret.target == "LOG_DRIVER"
    }
    _check_texts(payload, container, {**options, **dict.fromkeys(secrets, "")})
    of_plugin = (options.keys() | secrets.keys()) - NOT_OF_THE_PLUGIN
    if of_plugin and PLUGIN[kind] not in of_plugin:
        raise _bad(
            payload,
            f"missing output key {PLUGIN[kind]} which is required for firelens configuration of type "
            f"{kind} (container {container.name})",
        )
    return Routed(container.name, options, secrets)


def _external(
    payload: TaskPayload, kind: str, options: Mapping[str, str]
) -> tuple[str, S3Object | None]:
    where, value = options.get(_FILE_TYPE), options.get(_FILE_VALUE)
    if not where and not value:
        return "", None
    if not where or not value:
        raise _bad(payload, f"{_FILE_TYPE} and {_FILE_VALUE} of a log router belong together")
    if where == "file":
        return value, None
    found = _S3_ARN.fullmatch(value) if where == "s3" else None
    if found is None:
        text = (
            f"{_FILE_TYPE} {where!r} with {_FILE_VALUE} {value!r}: write file with a path in the "
        )
        raise _bad(payload, f"{text}log router, or s3 with the ARN of an object")
    directory = "fluentd" if kind == FLUENTD else "fluent-bit"
    return f"/{directory}/etc/external.conf", S3Object(found[1], found[2])


def _check_options(payload: TaskPayload, router: Container, options: Any) -> None:
    if not isinstance(options, dict):
        raise _bad(payload, f"options of log router {router.name} are not texts by name")
    _check_texts(payload, router, options)
    unknown = sorted(options.keys() - _KNOWN)
    if unknown:
        raise _bad(payload, f"option {unknown[0]!r} of log router {router.name} is not known")


def _check_texts(payload: TaskPayload, container: Container, options: Mapping[Any, Any]) -> None:
    """Refuse what would become a line of the configuration by itself."""
    for name, value in options.items():
        if not isinstance(name, str) or not isinstance(value, str) or not name:
            raise _bad(payload, f"log options of container {container.name} are not texts by name")
        if _LINE_BREAKS.search(name + value):
            raise _bad(
                payload, f"log option {name!r} of container {container.name} has line breaks"
            )


def _is_on(payload: TaskPayload, text: str | None) -> bool:
    known = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
    if text is None:
        return True
    if text.lower() not in known:
        raise _bad(payload, f"{_METADATA} {text!r} of the log router is not true or false")
    return known[text.lower()]


def _bad(payload: TaskPayload, cause: str) -> PayloadError:
    return PayloadError(reasons.resource_unusable(payload.arn, cause))
