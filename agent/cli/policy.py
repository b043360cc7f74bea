"""``ecs-agent policy``: the host's own policy, and what it says about a task definition.

Needs no agent: it reads the same settings and the same file.

Tests: ``tests/unit/cli/test_policy.py``.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from agent.cli import output
from agent.cli.client import CliError
from agent.config import DEFAULT_FILES, load
from agent.errors import BAD_JSON, ConfigError, ExitCode

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.config.host_policy import HostPolicy
    from agent.host_policy.findings import Refusal
    from agent.model.payload import TaskPayload

_settings_option = click.option(
    "--config", default="", metavar="FILE", help="Settings file, as for `ecs-agent run`."
)
_policy_option = click.option(
    "--policy",
    "policy_file",
    default="",
    metavar="FILE",
    help="A policy to try, instead of that of ECS_HOST_POLICY_FILE.",
)


@click.group()
def policy() -> None:
    """Show and try this host's own policy: what tasks may ask of it, whatever control orders."""


@policy.command()
@_settings_option
@_policy_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(config: str, policy_file: str, *, as_json: bool) -> int:
    """Show every rule of the policy."""
    from agent.config.host_policy import rules  # noqa: PLC0415 - not for --help

    _, chosen = _read(config, policy_file)
    values = {name: _plain(getattr(chosen, name)) for name in rules()}
    if as_json:
        output.json({"source": chosen.source, "rules": values})
        return ExitCode.SUCCESS
    output.line(f"policy {chosen.source}")
    width = max(map(len, values))
    for name, value in values.items():
        output.line(f"{name:{width}}  {_shown(value)}")
    return ExitCode.SUCCESS


@policy.command()
@click.argument("file", metavar="FILE")
@_settings_option
@_policy_option
def check(file: str, config: str, policy_file: str) -> int:
    """Say what the policy refuses of a task definition: the input of RegisterTaskDefinition, as JSON.

    Exit codes: 0 it may run here, 1 it may not.
    """
    settings, chosen = _read(config, policy_file)
    payload = _payload(_definition(Path(file)))
    refused = asyncio.run(_refusals(settings, payload))
    for refusal in refused:
        output.line(f"host policy {chosen.source}: {refusal.text}")
    if refused:
        return ExitCode.ERROR
    output.line(f"host policy {chosen.source}: nothing is refused")
    return ExitCode.SUCCESS


def _read(config: str, policy_file: str) -> tuple[Settings, HostPolicy]:
    environ = {**os.environ, **({"ECS_HOST_POLICY_FILE": policy_file} if policy_file else {})}
    try:
        settings = load(
            environ, (Path(config),) if config else DEFAULT_FILES, required=bool(config)
        )
    except ConfigError as error:
        raise CliError(str(error)) from None
    if settings.host_policy is None:
        raise CliError(
            "this host has no policy of its own: ECS_HOST_POLICY_FILE is not set; set it, or name a policy "
            "with --policy FILE"
        )
    return settings, settings.host_policy


def _definition(path: Path) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise CliError(f"{path}: cannot be read ({error.strerror})") from None
    except BAD_JSON as error:
        raise CliError(f"{path}: is not JSON: {error}") from None
    if isinstance(given, dict) and isinstance(given.get("taskDefinition"), dict):
        given = given["taskDefinition"]  # what DescribeTaskDefinition answers
    if not isinstance(given, dict):
        raise CliError(f"{path}: is not a task definition, which is a JSON object")
    return given


def _payload(definition: dict[str, Any]) -> TaskPayload:
    """Return what an agent would get of a task with this definition."""
    from agent.controlplane.definition import payload  # noqa: PLC0415 - takes time, not for --help
    from agent.controlplane.definition.rules import check_definition  # noqa: PLC0415
    from agent.controlplane.front.errors import ApiError  # noqa: PLC0415
    from agent.controlplane.front.service_model import ApiModel  # noqa: PLC0415
    from agent.controlplane.names import Names  # noqa: PLC0415
    from agent.controlplane.records import (  # noqa: PLC0415
        ContainerRecord,
        TaskDefinitionRecord,
        TaskRecord,
    )

    operation = "RegisterTaskDefinition"
    try:
        request = ApiModel.load("ecs", frozenset({operation})).check(operation, definition)
        checked = check_definition(request)
    except ApiError as error:
        raise CliError(f"the task definition is not valid: {error}") from None
    names = Names()
    family = request["family"]
    record = TaskDefinitionRecord(
        arn=names.task_definition(family, 1), family=family, revision=1, definition=checked
    )
    task = TaskRecord(
        id="tried",
        arn=names.task("default", "tried"),
        cluster="default",
        task_definition_arn=record.arn,
        family=family,
        revision=1,
        containers=[
            ContainerRecord(name=each["name"], arn="") for each in checked["containerDefinitions"]
        ],
    )
    return payload.build(task, record, names, desired="RUNNING")


async def _refusals(settings: Settings, payload: TaskPayload) -> list[Refusal]:
    from agent.wiring.host_policy import host_policy_gate  # noqa: PLC0415 - not for --help

    limits = settings.task_limits is not False
    gate = await host_policy_gate(settings, engine_data="", task_limits=limits)
    assert gate is not None  # noqa: S101 - _read has seen the policy
    return gate.refusals(payload, await gate.resolve(payload))


def _plain(value: Any) -> Any:
    """Return the value of a rule as it is written in the file."""
    from agent.config.host_policy import ANY, HostPath  # noqa: PLC0415 - not for --help

    if value is None:
        return [ANY]
    if isinstance(value, HostPath):
        tail = ("/**" if value.below else "") + (":ro" if value.read_only else "")
        return (value.path.rstrip("/") if value.below else value.path) + tail
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return dict(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return ", ".join(value) if value else "none"
