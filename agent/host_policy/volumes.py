"""Whether a volume of the engine may be used: its driver, and what the driver ``local`` mounts. Pure.

Source: Moby 20.10 to 28, ``volume/local``: with ``bind`` among the options, ``device`` is a path of the host,
whatever the type says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.config.host_policy import ANY, admits
from agent.host_policy import paths
from agent.host_policy.findings import Refusal, Refusals, Unreadable, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.config.host_policy import HostPolicy

LOCAL: Final = "local"
_BINDS: Final = frozenset({"bind", "rbind"})
_WITH_BIND: Final = _BINDS | {"ro", "rw", "noexec", "nosuid", "nodev", "private", "rprivate"}
_NEVER: Final = _BINDS | {"remount", "move"}
_SIZE: Final = "size"


def refusals(
    policy: HostPolicy,
    driver: str,
    options: Mapping[str, Any],
    *,
    container: str = "",
    kind: str = "",
    real: Mapping[str, str],
    protected: Iterable[str],
) -> Refusals:
    """Yield what is refused of one volume.

    Args:
        policy: the rules.
        driver: its driver; empty for the engine's own.
        options: of the driver.
        container: that asks for it; empty for the task.
        kind: ``efs`` for an EFS volume, whose options the agent has made.
        real: where paths lead.
        protected: see ``paths.why_refused``.
    """
    driver = driver or LOCAL
    if kind:
        if not admits(policy.volume_types, kind):
            yield Refusal("volume_types", f"has a volume of type {kind}", container)
        return
    if not admits(policy.volume_drivers, driver):
        yield Refusal("volume_drivers", f"has a volume of the driver {shown(driver)}", container)
    if driver != LOCAL:
        return
    for rule, what in _of_local(policy, options, real=real, protected=protected):
        yield Refusal(rule, what, container)


def source_of(driver: str, options: Mapping[str, Any]) -> str:
    """Return the path of the host that a volume binds; empty if it binds none."""
    if (driver or LOCAL) != LOCAL:
        return ""
    given = {str(key).casefold(): value for key, value in options.items()}
    device = given.get("device")
    return device if isinstance(device, str) and _BINDS & set(_words(given.get("o"))) else ""


def _words(value: Any) -> list[str]:
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else []


def _of_local(
    policy: HostPolicy,
    options: Mapping[str, Any],
    *,
    real: Mapping[str, str],
    protected: Iterable[str],
) -> Iterable[tuple[str, str]]:
    if not all(isinstance(v, str) for pair in options.items() for v in pair):
        raise Unreadable("options of a volume are not texts")
    given = {key: value for key, value in options.items() if value and key != _SIZE}
    if not given:
        return
    words = _words(given.get("o"))
    if _BINDS & set(words):
        if odd := [word for word in words if word not in _WITH_BIND]:
            yield "volume_types", f"has a volume that binds a path with the option {shown(odd[0])}"
        source = given.get("device", "")
        rule, what = paths.why_refused(
            policy, source, read_only="ro" in words, real=real, protected=protected
        )
        if rule:
            yield rule, f"has a volume that {what}"
    elif ANY not in policy.volume_types:
        name = given.get("type", "")
        if not name or not admits(policy.volume_types, name):
            told = f"of type {shown(name)}" if name else "with options and without a type"
            yield "volume_types", f"has a volume {told}"
        if odd := sorted(_NEVER & {word.casefold() for word in words}):
            yield "volume_types", f"has a volume with the option {odd[0]}"
