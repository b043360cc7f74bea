"""How a container is to log: ``logConfiguration`` of its definition, as its agent and engine take it. Pure.

Most drivers are the engine's matter, and their options travel as they are. For ``awslogs`` the service
fills in what the engine does not know. Source: developer guide, "Using the awslogs log driver", and what
Amazon ECS sends to its agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from agent.controlplane.front.errors import ClientException

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AWSLOGS: Final = "awslogs"
_PREFIX: Final = "awslogs-stream-prefix"
_ROUTER_OPTIONS: Final = frozenset(
    {"enable-ecs-log-metadata", "config-file-type", "config-file-value"}
)
_MODES: Final = ("blocking", "non-blocking")


class LogPlace(NamedTuple):
    """Where the logs of one task go."""

    region: str
    """Of the log groups, where the definition names none."""
    task_id: str
    kept_here: bool
    """Control keeps the logs of ``awslogs``; otherwise they go to CloudWatch Logs."""
    has_execution_role: bool


def engine_config(container: Mapping[str, Any], place: LogPlace) -> dict[str, Any] | None:
    """Return the engine's ``LogConfig``; None where the definition leaves it to the engine."""
    log = container.get("logConfiguration")
    if not log:
        return None
    options = dict(log.get("options") or {})
    if log["logDriver"] == AWSLOGS:
        options.setdefault("awslogs-region", place.region)
        prefix = options.pop(_PREFIX, "")
        if prefix:
            options["awslogs-stream"] = f"{prefix}/{container['name']}/{place.task_id}"
        if not place.kept_here:
            options.setdefault("mode", "non-blocking")
    if options.get("max-buffer-size"):
        options.setdefault("mode", "non-blocking")  # the engine takes a size with no other
    return {"Type": log["logDriver"], "Config": options}


def goes_to_control(container: Mapping[str, Any], place: LogPlace) -> bool:
    """Tell whether control keeps a container's logs; not those that go to an endpoint by name."""
    return place.kept_here and _is_awslogs(container) and not _names_endpoint(container)


def written_by_execution_role(container: Mapping[str, Any], place: LogPlace) -> bool:
    """Tell whether the engine writes with the execution role: where there is one, as on Amazon ECS."""
    writes = _is_awslogs(container) and not goes_to_control(container, place)
    return writes and place.has_execution_role


def check(container: Mapping[str, Any]) -> None:
    """Raise ``ClientException`` for a log configuration with which no container could start."""
    log = container.get("logConfiguration")
    if not log:
        return
    options = log.get("options") or {}
    if log["logDriver"] == AWSLOGS and not options.get("awslogs-group"):
        _refuse(container, "Log driver awslogs requires the option awslogs-group.")
    mode = options.get("mode")
    if mode is not None and mode not in _MODES:
        _refuse(container, f"The log option mode must be {' or '.join(_MODES)}.")
    if options.get("max-buffer-size") and mode == "blocking":
        _refuse(container, "The log option max-buffer-size needs mode non-blocking.")


def check_routers(containers: Sequence[Mapping[str, Any]]) -> None:
    """Raise ``ClientException`` where containers log to a router that is not there, or routes itself."""
    routers = [c for c in containers if c.get("firelensConfiguration")]
    if len(routers) > 1:
        _refuse(routers[1], "A task definition can have only one firelensConfiguration.")
    for container in containers:
        if (container.get("logConfiguration") or {}).get("logDriver") != "awsfirelens":
            continue
        if not routers:
            _refuse(
                container, "Log driver awsfirelens needs a container with firelensConfiguration."
            )
        if container is routers[0]:
            _refuse(container, "A container with firelensConfiguration cannot use awsfirelens.")
    for router in routers:
        _check_router(router)


def _check_router(router: Mapping[str, Any]) -> None:
    options = router["firelensConfiguration"].get("options") or {}
    unknown = sorted(options.keys() - _ROUTER_OPTIONS)
    if unknown:
        _refuse(router, f"The option {unknown[0]} of firelensConfiguration is not known.")
    where, value = options.get("config-file-type"), options.get("config-file-value")
    if where not in (None, "file", "s3") or bool(where) != bool(value):
        _refuse(router, "config-file-type must be file or s3, together with config-file-value.")


def _is_awslogs(container: Mapping[str, Any]) -> bool:
    return (container.get("logConfiguration") or {}).get("logDriver") == AWSLOGS


def _names_endpoint(container: Mapping[str, Any]) -> bool:
    options = container["logConfiguration"].get("options") or {}
    return bool(options.get("awslogs-endpoint"))


def _refuse(container: Mapping[str, Any], text: str) -> NoReturn:
    raise ClientException(f"Invalid setting for container '{container.get('name', '')}'. {text}")
