"""How the engine is to log a container: ``LogConfig`` of its create body. Pure.

The payload names driver and options; the agent adds what only it knows. Source: Amazon ECS agent 1.105.1,
``api/task/task.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import PayloadError
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.payload import Container

AWSLOGS = "awslogs"
_DEFAULT_BUFFER_SIZE = "10m"


def driver(container: Container) -> str:
    """Return the log driver that the payload names; empty for the engine's own choice."""
    return str(_member(_given(container), "Type") or "")


def options(container: Container) -> dict[str, str]:
    """Return the options of the driver that the payload names."""
    found = _member(_given(container), "Config")
    return found if isinstance(found, dict) else {}


def complete(container: Container, host_config: dict[str, Any], added: Mapping[str, str]) -> None:
    """Put the agent's options into a create body's ``HostConfig``, in place.

    Args:
        container: whose it is.
        host_config: with everything that the payload asks for.
        added: options that preparations give; they win over the payload's.

    Raises:
        PayloadError: ``LogConfig`` is not what the engine takes.
    """
    given = host_config.get("LogConfig")
    if given is None and not added:
        return
    if given is None:
        text = f"container {container.name} has options for its log driver, but no log driver"
        raise PayloadError(text, name=reasons.HOST_CONFIG)
    if not isinstance(given, dict):
        raise _broken(container)
    key = next((key for key in given if key.casefold() == "config"), "Config")
    config = given.get(key) or {}
    if not isinstance(config, dict):
        raise _broken(container)
    merged = {**config, **added}
    if merged.get("mode") == "non-blocking" and not merged.get("max-buffer-size"):
        merged["max-buffer-size"] = _DEFAULT_BUFFER_SIZE
    host_config["LogConfig"] = {**given, key: merged}


def _broken(container: Container) -> PayloadError:
    text = f"dockerConfig.hostConfig.LogConfig of container {container.name} cannot be read"
    return PayloadError(text, name=reasons.HOST_CONFIG)


def _given(container: Container) -> Any:
    return _member(container.docker_config.host_config, "LogConfig")


def _member(body: Any, name: str) -> Any:
    """Return a member of the engine's configuration, which has keys in any case."""
    if not isinstance(body, dict):
        return None
    return next((v for key, v in body.items() if key.casefold() == name.casefold()), None)
