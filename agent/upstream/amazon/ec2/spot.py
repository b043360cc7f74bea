"""Spot notices: EC2 reclaims this instance, so Amazon ECS should place no more tasks on it.

Accesses instance metadata and the ECS API. Failures of either are retried; nothing here raises.
Tasks are not stopped here: Amazon ECS moves them once the instance is DRAINING. Source: Amazon ECS
agent 1.105.1, ``agent/app/agent.go``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from agent.errors import AwsFailure, AwsUnavailable
from agent.model.liveness import WORK_S, Liveness
from agent.throttle import RepeatedWarning
from agent.upstream.amazon.calls import SteppedBackoff, asked
from agent.upstream.connection import WARN_EVERY_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.upstream.amazon.calls import Api, InstanceMetadata
    from agent.upstream.amazon.registration import Instance

_log = structlog.get_logger()

PATH: Final = "meta-data/spot/instance-action"
ACTIONS: Final = frozenset({"hibernate", "stop", "terminate"})
INTERVAL_S: Final = 5.0
"""The interval that AWS recommends. Amazon's agent polls each second. A notice comes two minutes
ahead, so five seconds matter little, and the host wakes up only a fifth as often."""
RETRY_S: Final = 1.0
"""Pause between the first two tries to drain, as in Amazon's agent; later pauses are longer,
because a refusal may last until the instance is gone."""
_RETRY_LIMIT_S: Final = 15.0
_CALL_LIMIT_S: Final = 60.0
_TEXT_LIMIT: Final = 64


class SpotNotices:
    """Waits for the notice, and drains the instance once."""

    def __init__(
        self,
        imds: InstanceMetadata | None,
        api: Api,
        instance: Callable[[], Awaitable[Instance]],
        on_draining: Callable[[str], None] = lambda text: None,
        *,
        interval_s: float = INTERVAL_S,
        retry_s: float = RETRY_S,
    ) -> None:
        """Create the watcher.

        Args:
            imds: instance metadata; without it there are no notices.
            api: the ECS API.
            instance: returns the instance once it is registered (``AmazonRegistration.instance``).
            on_draining: called once with the notice as text, when Amazon ECS has accepted the
                status.
            interval_s: pause between two polls.
            retry_s: pause between the first two tries to drain.
        """
        self.liveness = Liveness("spot notices")
        self._imds = asked(imds)
        self._api = api
        self._instance = instance
        self._on_draining = on_draining
        self._interval_s = interval_s
        self._retry_s = retry_s
        self._unheard = RepeatedWarning(
            "cannot read spot notices from instance metadata", every_s=WARN_EVERY_S
        )
        self._odd = RepeatedWarning("spot notice not understood", every_s=WARN_EVERY_S)
        self._undrained = RepeatedWarning(
            "spot notice: this instance cannot be set to DRAINING yet", every_s=WARN_EVERY_S
        )

    async def run(self) -> None:
        """Return once a notice has set the instance to DRAINING, or at once without metadata."""
        try:
            if self._imds is None:
                return
            notice = await self._notice(self._imds)
            _log.warning("EC2 reclaims this spot instance", notice=notice)
            await self._drain()
            self._on_draining(notice)
        finally:
            self.liveness.rest()

    async def _notice(self, imds: InstanceMetadata) -> str:
        while True:
            try:
                with self.liveness.within(WORK_S, "asking for a spot notice"):
                    text = await imds.text(PATH)
            except AwsUnavailable as error:
                self._unheard.tell(error=str(error))
            else:
                notice = read_notice(text) if text else ""
                if notice:
                    return notice
                if text:
                    self._odd.tell(notice=text[:_TEXT_LIMIT])
            with self.liveness.within(self._interval_s + WORK_S, "waiting for a spot notice"):
                await asyncio.sleep(self._interval_s)

    async def _drain(self) -> None:
        pauses = SteppedBackoff(self._retry_s, _RETRY_LIMIT_S, factor=1.5)
        while True:
            with self.liveness.resting("waiting for a registration"):
                instance = await self._instance()
            try:
                with self.liveness.within(_CALL_LIMIT_S + WORK_S, "draining for a spot notice"):
                    trouble = await self._drain_once(instance)
            except (AwsFailure, TimeoutError) as error:
                trouble = str(error) or f"no answer within {_CALL_LIMIT_S:g} s"
            if not trouble:
                _log.info("instance is draining", instance=instance.arn)
                return
            self._undrained.tell(error=trouble)
            pause_s = pauses.next_s()
            with self.liveness.within(pause_s + WORK_S, "waiting to drain again"):
                await asyncio.sleep(pause_s)

    async def _drain_once(self, instance: Instance) -> str:
        async with asyncio.timeout(_CALL_LIMIT_S):
            return await set_status(self._api, instance, "DRAINING")


async def set_status(api: Api, instance: Instance, status: str) -> str:
    """Have Amazon ECS set the status of an instance; return why it did not, empty if it did.

    Raises:
        AwsFailure: the call failed.
    """
    request = {
        "cluster": instance.cluster,
        "containerInstances": [instance.arn],
        "status": status,
    }
    return _failure(await api.call("UpdateContainerInstancesState", request, attempts=1))


def read_notice(text: str) -> str:
    """Return a notice as text, for example ``terminate at 2026-11-23T09:30:00Z``.

    Empty if it is not a notice: not JSON, or an action that does not take the instance away.
    """
    try:
        notice = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return ""
    action = notice.get("action") if isinstance(notice, dict) else None
    if not isinstance(action, str) or action not in ACTIONS:
        return ""
    at = notice.get("time")
    return f"{action} at {at[:_TEXT_LIMIT]}" if isinstance(at, str) and at.isprintable() else action


def _failure(answer: dict[str, Any]) -> str:
    """Return why the answer does not mean that the instance is draining; empty if it does."""
    failures = answer.get("failures")
    if not isinstance(failures, list) or not failures:
        return ""
    first = failures[0]
    reason = first.get("reason") if isinstance(first, dict) else None
    return f"refused: {reason}"[:256]
