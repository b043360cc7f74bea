"""What runs beside calls until control stops: one task for each, all started at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from agent.controlplane.backups import Backups
from agent.controlplane.discovery.loop import RegistrationLoop
from agent.controlplane.host_scaling.loop import HostScalingLoop
from agent.controlplane.janitor import Janitor
from agent.controlplane.scaling.action_loop import ActionLoop
from agent.controlplane.scaling.alarm_loop import AlarmLoop
from agent.controlplane.scaling.loop import ScalingLoop
from agent.controlplane.schedules.loop import ScheduleLoop
from agent.controlplane.services.loop import ServiceLoop
from agent.controlplane.store.contract import StoreFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from agent.controlplane.secrets.keeper import SecretKeeper
    from agent.controlplane.server.opening import Opened
    from agent.controlplane.server.settings import ControlSettings

    Jobs = dict[str, Callable[[], Coroutine[Any, Any, None]]]

HOOK_RUNS = "host-hooks"
"""In the data directory: notes of programs that add and remove hosts."""

_log = structlog.get_logger(__name__)


def jobs(settings: ControlSettings, opened: Opened) -> Jobs:
    """Return every loop by its name."""
    return {
        **_of_agents(opened),
        **_of_records(settings.data_dir, opened),
        **_of_optional(settings, opened),
    }


def _of_agents(opened: Opened) -> Jobs:
    """Return what keeps agents and the keys of tasks up to date."""
    agent_parts = opened.agent_parts
    return {
        "wake-ups": opened.wakeups.run,
        "leases of hosts": lambda: agent_parts.leases.run(opened.wakeups.wake),
        "certificates": agent_parts.keep_certificates,
        "role credentials": opened.issuer.run,
        "users and roles": opened.directory.run,
        "security groups": agent_parts.groups.run,
        "fleet network": agent_parts.fleet.run,
        "names for hosts": agent_parts.names.run,
        "secret keys": lambda: _reseal(opened.keeper),
    }


def _of_records(data_dir: Path, opened: Opened) -> Jobs:
    """Return what acts on services, schedules and what is left of tasks."""
    parts, metrics, webhook = opened.parts, opened.metrics, opened.webhook
    held_from = webhook.held_from if webhook is not None else None
    return {
        "janitor": Janitor(parts, held_from=held_from).run,
        "metrics": metrics.run,
        "services": ServiceLoop(parts).run,
        "scaling": ScalingLoop(parts, metrics).run,
        "alarms of deployments": AlarmLoop(parts, metrics).run,
        "schedules": ScheduleLoop(parts).run,
        "names of tasks": RegistrationLoop(parts.store, parts.names).run,
        "scheduled actions": ActionLoop(parts).run,
        "managed scaling": HostScalingLoop(parts, opened.hooks, data_dir / HOOK_RUNS).run,
    }


def _of_optional(settings: ControlSettings, opened: Opened) -> Jobs:
    """Return what is on only if it was asked for."""
    found: Jobs = {f"logs to {one.name}": one.run for one in opened.logs.forwarders}
    found |= {f"store {place}": run for place, run in enumerate(opened.kept.jobs)}
    if opened.webhook is not None:
        found["events to a webhook"] = opened.webhook.run
    if settings.backups is not None:
        found["backups"] = Backups(opened.store, opened.kept.back_up, settings.backups).run
    return found


async def _reseal(keeper: SecretKeeper) -> None:
    """End a change of secret keys that an earlier process began."""
    try:
        sealed, _ = await keeper.reseal()
    except StoreFailure as error:
        _log.warning("secrets not encrypted with the newest key", error=str(error))
    else:
        if sealed:
            _log.info("secrets encrypted with the newest key", count=sealed)
