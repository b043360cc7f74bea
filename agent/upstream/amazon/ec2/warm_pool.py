"""Waits until Auto Scaling takes this instance out of its warm pool.

Reads instance metadata. Raises ``RegistrationRefused`` if there is nothing to wait for; an outage
of instance metadata is waited out. Source: Amazon ECS agent 1.105.1, ``agent/app/agent.go``, which
after 120 tries treats an outage like a missing state.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import AwsUnavailable, RegistrationRefused
from agent.model.liveness import WORK_S
from agent.upstream.amazon.calls import asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model.liveness import Liveness
    from agent.upstream.amazon.calls import InstanceMetadata

_log = structlog.get_logger()

PATH: Final = "meta-data/autoscaling/target-lifecycle-state"
IN_SERVICE: Final = "InService"
INTERVAL_S: Final = 60.0
TRIES: Final = 120
"""Number of answers without a life-cycle state before the instance counts as having none."""
_ASK_LIMIT_S: Final = 30.0
_PASSING: Final = frozenset({"401", "408", "429"})
"""Client errors that may pass: an expired token, a slow request, too many requests."""


async def in_service(
    imds: InstanceMetadata | None,
    liveness: Liveness,
    *,
    waiting: Callable[[str], None] = lambda text: None,
    interval_s: float = INTERVAL_S,
    tries: int = TRIES,
) -> None:
    """Return once the instance is to be in service; at once on hosts without instance metadata.

    Args:
        imds: instance metadata.
        liveness: updated at each wait.
        waiting: called with the reason for the wait, whenever it changes.
        interval_s: pause between two polls.
        tries: how many answers may lack a state before the first one with a state.

    Raises:
        RegistrationRefused: the instance is in no Auto Scaling group, or metadata refuses to
            answer.
    """
    metadata = asked(imds)
    if metadata is None:
        return
    absent = 0
    found = False
    told = ""
    while True:
        try:
            with liveness.within(_ASK_LIMIT_S + WORK_S, "asking for the life-cycle state"):
                state = (await metadata.text(PATH) or "")[:64]
        except AwsUnavailable as error:
            if error.code.startswith("4") and error.code not in _PASSING:
                raise RegistrationRefused(
                    f"ECS_WARM_POOLS_CHECK is true, but {error}: allow access to instance metadata,"
                    " or set ECS_WARM_POOLS_CHECK=false"
                ) from error
            text = str(error)
        else:
            if state == IN_SERVICE:
                return
            found = found or bool(state)
            absent += not state
            if not found and absent >= tries:
                raise RegistrationRefused(
                    f"ECS_WARM_POOLS_CHECK is true, but after {absent} tries instance metadata has"
                    " no autoscaling/target-lifecycle-state: put the instance into an Auto Scaling"
                    " group, or set ECS_WARM_POOLS_CHECK=false"
                )
            text = f"Auto Scaling has not put this instance into service ({state or 'no state'})"
        if text != told:
            _log.info("waiting to register", why=text)
            waiting(text)
            told = text
        with liveness.within(interval_s + WORK_S, "waiting for Auto Scaling"):
            await asyncio.sleep(interval_s)
