"""What the containers of a run do: each writes a line into a directory of the host when it starts and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.chaos.work_plan import ONCE, PAIR, STEADY

if TYPE_CHECKING:
    from tests.chaos.work_plan import Act
    from tests.chaos.world import World

_BEGIN = (
    "id=$(cat /proc/sys/kernel/random/uuid); f=/runs/${CHAOS_ORDER:-service}-$CHAOS_NAME; "
    'echo "start $id $(date +%s)" >>"$f"; '
)
_LINGER = (
    _BEGIN
    + """trap 'echo "term $id $(date +%s)" >>"$f"; exit 0' TERM; while :; do sleep 3600 & wait $!; done"""
)
_END = _BEGIN + 'sleep "$CHAOS_RUN_S"; echo "end $id $(date +%s)" >>"$f"; exit "$CHAOS_EXIT"'
_FIRST = _BEGIN + 'sleep 0.2; echo "end $id $(date +%s)" >>"$f"'

KINDS: dict[str, dict[str, str]] = {
    ONCE: {"main": _END},
    STEADY: {"main": _LINGER},
    PAIR: {"first": _FIRST, "main": _END},
}
"""Commands by container, for each kind of task."""
SERVICE = {"main": _LINGER}


def definition(
    world: World, family: str, mode: str, commands: dict[str, str], *, version: int = 0
) -> dict[str, Any]:
    """Return the request that registers a task definition."""
    made = []
    for name, command in commands.items():
        container: dict[str, Any] = {
            "name": name,
            "image": world.image,
            "memory": 16,
            "cpu": 2,
            "essential": name == "main",
            "command": ["sh", "-c", command],
            "stopTimeout": 10,
            "environment": [
                {"name": "CHAOS_NAME", "value": name},
                {"name": "CHAOS_VERSION", "value": str(version)},
            ],
            "mountPoints": [{"sourceVolume": "runs", "containerPath": "/runs"}],
        }
        if mode == "bridge":
            container["portMappings"] = [{"containerPort": 80, "hostPort": 0}]
        if name == "main" and "first" in commands:
            container["dependsOn"] = [{"containerName": "first", "condition": "SUCCESS"}]
        made.append(container)
    return {
        "family": family,
        "networkMode": mode,
        "containerDefinitions": made,
        "volumes": [{"name": "runs", "host": {"sourcePath": str(world.runs)}}],
    }


def request(act: Act, order: str) -> dict[str, Any]:
    """Return the request of RunTask for an order; the same one each time."""
    environment = {
        "CHAOS_ORDER": order,
        "CHAOS_RUN_S": str(act.run_s),
        "CHAOS_EXIT": str(act.exit_code),
    }
    overrides = [
        {"name": name, "environment": [{"name": k, "value": v} for k, v in environment.items()]}
        for name in KINDS[act.kind]
    ]
    return {
        "taskDefinition": f"{act.kind}-{act.mode}",
        "count": 1,
        "clientToken": f"chaos-{order}",
        "overrides": {"containerOverrides": overrides},
    }
