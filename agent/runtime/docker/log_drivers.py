"""Log drivers whose output the engine cannot read back: where it went instead. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.errors import EngineRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNREADABLE: Final = "does not support reading"
_PLACES: Final = {
    "awslogs": (("awslogs-group", "log group"), ("awslogs-stream", "stream")),
    "fluentd": (("fluentd-address", "address"),),
    "gcplogs": (("gcp-project", "project"),),
    "gelf": (("gelf-address", "address"),),
    "splunk": (("splunk-url", "URL"), ("splunk-index", "index")),
    "syslog": (("syslog-address", "address"),),
}
"""Options that say where a driver sends its lines, with a word for each; no others, they may be secret."""
_DEFAULT_PLACES: Final = {
    "etwlogs": "the event log of Windows",
    "fluentd": "fluentd on this host",
    "syslog": "syslog of this host",
}


def refuse_unreadable(refusal: str, container: Mapping[str, Any]) -> None:
    """Say where the output of a container goes if the engine refused to read it for its log driver.

    Args:
        refusal: the engine's answer.
        container: ``/containers/{id}/json``.

    Raises:
        EngineRefused: that is why.
    """
    if _UNREADABLE not in refusal:
        return
    config = (container.get("HostConfig") or {}).get("LogConfig") or {}
    driver = str(config.get("Type") or "")
    raise EngineRefused(unreadable(driver, config.get("Config") or {}), operation="logs")


def unreadable(driver: str, options: Mapping[str, Any]) -> str:
    """Return a sentence that says where the output of a container goes."""
    if driver == "none":
        return "its log driver is 'none', which keeps nothing"
    places = [
        f"{word} {value}"
        for option, word in _PLACES.get(driver, ())
        if isinstance(value := options.get(option), str) and value
    ]
    place = ", ".join(places) or _DEFAULT_PLACES.get(
        driver, f"where the driver {driver!r} sends it"
    )
    return f"its log driver {driver!r} cannot be read back; its output goes to {place}"
