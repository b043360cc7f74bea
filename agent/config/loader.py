"""From environment and files to ``Settings``: precedence, checks and messages.

Reads the given files and nothing else. Collects every problem before it raises, so that an operator
can fix all of them at once.

Tests: ``tests/unit/config/test_load.py``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config import files as config_files
from agent.config.contradictions import contradictions, in_vain
from agent.config.files import ENVIRONMENT, FileContent, GivenValue
from agent.config.json_file import read as read_json
from agent.config.known import GIVEN_TO_CONTAINERS, WITHOUT_EFFECT
from agent.config.settings import Settings, variables
from agent.config.values import DURATION, parse_path
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent.config.variable import Variable

DEFAULT_FILES = (Path("/var/lib/ecs/ecs.config"), Path("/etc/ecs/ecs.config"))
"""The instance's file, written by images and installers, and the user's file, which wins."""

IN_VAIN = "settings without effect in this version: "
"""Start of the warning that lists settings of Amazon's agent that have no effect here."""

_ECS_PREFIXES = ("ECS_", "NON_ECS_", "NONECS_")
_SMALL_LETTERS = {name.lower(): name for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")}


def json_file_of(path: Path) -> Path:
    """Return the path of the JSON file that belongs to a settings file: its name plus ``.json``."""
    return path.with_name(f"{path.name}.json")


def load(
    environ: Mapping[str, str],
    files: Sequence[Path] = DEFAULT_FILES,
    *,
    required: bool = False,
    json_file: Path | None = None,
) -> Settings:
    """Return the settings: environment, files (a later one wins), JSON file, defaults.

    An empty value counts as not set. Reading files blocks; call this before the event loop runs.

    Args:
        environ: the process environment; only known names and names with an ECS prefix are read.
        files: ``KEY=VALUE`` files; a missing file is skipped.
        required: raise if one of the files is missing.
        json_file: the JSON file, unless ``ECS_AGENT_CONFIG_FILE_PATH`` names another; by default
            the one next to the last of ``files``.

    Raises:
        ConfigError: one line per problem, each with the variable, where it was set, what is wrong
            and how to fix it.
    """
    warnings: list[str] = []
    problems: list[str] = []
    given: dict[str, GivenValue] = {}
    for path in files:
        content = config_files.read(path, required=required)
        warnings += content.warnings
        problems += content.problems
        given |= _layer(content.values.values())
    given |= _layer(_of_environment(environ))
    if json_file is None and files:
        json_file = json_file_of(files[-1])
    content = _json_content(given, json_file)
    warnings += content.warnings
    problems += content.problems
    given = {**_layer(content.values.values()), **given}

    problems += _unknown(given)
    warnings += _without_effect(given)
    chosen: dict[str, Any] = {}
    for field_name, variable in variables().items():
        if (value_given := given.get(variable.name)) is None:
            continue
        try:
            chosen[field_name] = _parse(variable, value_given, warnings)
        except ValueError as error:
            line = _message(variable, value_given, str(error))
            if _is_foreign(variable, value_given):
                warnings.append(f"{line}; it is ignored")
            else:
                problems.append(line)
    # Source: ecs-agent/utils/httpproxy: HTTP_PROXY is used for both if HTTPS_PROXY is not set.
    if "http_proxy" in chosen:
        chosen.setdefault("https_proxy", chosen["http_proxy"])
    if not problems:
        chosen["cluster_given"] = "ECS_CLUSTER" in given
        settings = Settings(**chosen)
        problems += contradictions(settings, given)
        settings = _with_host_policy(settings, given, problems)
        warnings += in_vain(settings, given)
    if problems:
        raise ConfigError("\n".join(problems))
    return dataclasses.replace(settings, warnings=tuple(warnings))


def _with_host_policy(
    settings: Settings, given: Mapping[str, GivenValue], problems: list[str]
) -> Settings:
    """Return the settings with the policy that they name; what is wrong with it goes to ``problems``."""
    if settings.host_policy_file is None and not settings.disable_privileged:
        return settings
    from agent.config import host_policy, host_policy_file  # noqa: PLC0415 - few hosts have one

    policy = host_policy.without_privileged()
    if settings.host_policy_file is not None:
        origin = given["ECS_HOST_POLICY_FILE"].origin
        try:
            policy = host_policy_file.read(settings.host_policy_file)
        except ValueError as error:
            lines = str(error).splitlines()
            problems += [f"{origin}: ECS_HOST_POLICY_FILE: {line}" for line in lines]
    if settings.disable_privileged:
        policy = dataclasses.replace(policy, privileged=False)
    return dataclasses.replace(settings, host_policy=policy)


def _of_environment(environ: Mapping[str, str]) -> Iterator[GivenValue]:
    known = {*_by_name(), *_SMALL_LETTERS}
    for name, value in environ.items():
        if name.startswith(_ECS_PREFIXES) or name in known:
            yield GivenValue(name, value.strip(), ENVIRONMENT)


def _layer(values: Iterable[GivenValue]) -> dict[str, GivenValue]:
    """Return the values of one source; the upper-case name of a proxy wins over the lower-case."""
    layer = {value.name: value for value in values if value.value}
    for small, name in _SMALL_LETTERS.items():
        if (value := layer.pop(small, None)) is not None:
            layer.setdefault(name, GivenValue(name, value.value, value.origin))
    return layer


def _json_content(given: Mapping[str, GivenValue], otherwise: Path | None) -> FileContent:
    """Return the content of the JSON file: the one that was named, or ``otherwise``."""
    named = given.get("ECS_AGENT_CONFIG_FILE_PATH")
    try:
        path = otherwise if named is None else parse_path(named.value)
    except ValueError:
        path = None  # reported with the other invalid values
    return FileContent(values={}) if path is None else read_json(path, named=named is not None)


def _is_foreign(variable: Variable, given: GivenValue) -> bool:
    """Tell whether other programs read this value too: a mistake in it must not stop the agent."""
    return given.origin == ENVIRONMENT and variable.name in _SMALL_LETTERS.values()


def _by_name() -> dict[str, Variable]:
    return {variable.name: variable for variable in variables().values()}


def _parse(variable: Variable, given: GivenValue, warnings: list[str]) -> Any:
    value = variable.kind.parse(given.value)
    bounds = variable.bounds
    if bounds is None:
        return value
    low, high = bounds.low, bounds.high
    if (low is None or value >= low) and (high is None or value <= high):
        return value
    unit = "s" if variable.kind is DURATION else ""
    limits = [f"at least {low:g}{unit}"] if low is not None else []
    limits += [f"at most {high:g}{unit}"] if high is not None else []
    if bounds.outside == "refuse":
        raise ValueError(f"is out of range; use {' and '.join(limits)}")
    if bounds.outside == "default":
        value = variable.kind.parse(variable.default_text)
    else:
        value = type(value)(low if low is not None and value < low else high)
    warnings.append(
        f"{given.origin}: {variable.name} must be {' and '.join(limits)}; "
        f"{given.value} is changed to {value:g}{unit}"
    )
    return value


def _message(variable: Variable, given: GivenValue, wrong: str) -> str:
    may_be_secret = variable.kind.secret or "@" in given.value  # a URL with a password
    shown = "its value" if may_be_secret else repr(given.value[:80])
    return f"{given.origin}: {variable.name}: {shown} {wrong}"


def _unknown(given: Mapping[str, GivenValue]) -> list[str]:
    """Return one line per ``ECS_*`` name that no ECS agent knows."""
    known = {*_by_name(), *WITHOUT_EFFECT, *GIVEN_TO_CONTAINERS}
    lines = []
    for value in given.values():
        if value.name in known or not value.name.startswith(_ECS_PREFIXES):
            continue
        near = _nearest(value.name, known, least=0.75)
        mend = f"did you mean {near}?" if near else "remove it, or see docs/configuration.md"
        lines.append(f"{value.origin}: {value.name} is not a known setting; {mend}")
    return lines


def _without_effect(given: Mapping[str, GivenValue]) -> list[str]:
    """Return at most one line that lists the settings without effect."""
    known = _by_name()
    names = [
        value.name if value.name in WITHOUT_EFFECT else f"{value.name}{_guess(value.name, known)}"
        for value in given.values()
        if value.name not in known and value.name not in GIVEN_TO_CONTAINERS
    ]
    return [f"{IN_VAIN}{', '.join(sorted(names))}"] if names else []


def _guess(name: str, known: Iterable[str]) -> str:
    near = _nearest(name, known, least=0.8)
    return f" (did you mean {near}?)" if near else ""


def _nearest(name: str, known: Iterable[str], *, least: float) -> str:
    import difflib  # noqa: PLC0415 - most files have no unknown names

    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=least)), "")
