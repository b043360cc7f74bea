"""The states of alarms at one minute, by the figures of the metric store. Writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane import access
from agent.controlplane.metric_store import catalogue
from agent.controlplane.metric_store.store import LAG_S
from agent.controlplane.scaling import figures
from agent.controlplane.scaling.alarm import ALARMS, AlarmRecord, Evaluated, State, evaluate
from agent.controlplane.services.observed import SeenAlarm, SeenAlarms

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from agent.controlplane.scaling.figures import Figures
    from agent.controlplane.store.contract import Store

_LAG_S: Final = 75.0
"""A minute is closed a little after its end."""


def closed_minute(now: float) -> int:
    """Return the last minute that is closed for certain, since 1970."""
    return int(now - _LAG_S) // 60


def open_minute(now: float) -> int:
    """Return the minute that is closed next, since 1970."""
    return int(now - LAG_S) // 60


async def states(
    known: Figures, alarms: Sequence[AlarmRecord], minute: int
) -> dict[str, Evaluated]:
    """Return the states of alarms by name; each service is read once for all of its alarms."""
    if not alarms:
        return {}
    await known.read((figures.scope(one.cluster, one.service) for one in alarms), minute)
    found = {}
    for one in alarms:
        metric = catalogue.named(one.namespace, one.metric)
        values = (
            known.values(figures.scope(one.cluster, one.service), metric)
            if metric is not None
            else None
        )
        found[one.name] = (
            evaluate(one, values, minute) if values is not None else Evaluated(State.UNKNOWN)
        )
    return found


async def seen(store: Store, known: Figures, names: Collection[str], minute: int) -> SeenAlarms:
    """Return the alarms of these names, as deployments see them; also those that do not exist.

    Raises:
        StoreFailure: of the store.
    """
    found = await access.find_many(store, AlarmRecord, [f"{ALARMS}{name}" for name in names])
    alarms = [one.record for one in found.values()]
    at_minute = await states(known, alarms, minute)
    there = {
        one.name: SeenAlarm(
            at_minute[one.name].state is State.ALARM, float(one.period_s * one.periods)
        )
        for one in alarms
    }
    missing = {name: SeenAlarm(exists=False) for name in names if name not in there}
    return SeenAlarms(60.0 * (minute + 1), there | missing)
