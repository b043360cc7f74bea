"""Spot notices: EC2 takes this instance back, so Amazon ECS is to place nothing on it any more.

Touches instance metadata and the ECS API. Trouble of either is waited out; nothing here raises. Tasks
are not stopped from here: Amazon ECS moves them once the instance is DRAINING. Source: Amazon ECS
agent 1.105.1, ``agent/app/agent.go``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from agent.errors import AwsFailure, AwsUnavailable
from agent.model.liveness import WORK_S, Liveness
from agent.upstream.amazon.calls import SteppedBackoff, asked
from agent.upstream.amazon.log_throttle import LogThrottle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.upstream.amazon.calls import Api, InstanceMetadata
    from agent.upstream.amazon.registration import Instance

_log = structlog.get_logger()

PATH: Final = "meta-data/spot/instance-action"
ACTIONS: Final = frozenset({"hibernate", "stop", "terminate"})
INTERVAL_S: Final = 5.0
"""What AWS recommends. Amazon's agent asks each second; of the two minutes that a notice gives, five
seconds are nothing, and a host that asks a fifth as often wakes a fifth as often for all its life."""
RETRY_S: Final = 1.0
"""Between the first two tries to drain, as in Amazon's agent; later ones come less often, for a
refusal that lasts longer than the instance was given."""
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
        """Prepare.

        Args:
            imds: instance metadata; without it there are no notices.
            api: the ECS API.
            instance: returns who this host is, when it is registered (``Registration.instance``).
            on_draining: called once with the notice in words, when Amazon ECS has taken it.
            interval_s: time between two questions.
            retry_s: time between the first two tries to drain.
        """
        self.liveness = Liveness("spot notices")
        self._imds = asked(imds)
        self._api = api
        self._instance = instance
        self._on_draining = on_draining
        self._interval_s = interval_s
        self._retry_s = retry_s
        self._unheard = LogThrottle("instance metadata does not tell about spot notices")
        self._odd = LogThrottle("spot notice not understood")
        self._undrained = LogThrottle("spot notice: this instance cannot be set to DRAINING yet")

    async def run(self) -> None:
        """Return when the instance is DRAINING because of a notice, or at once without metadata."""
        try:
            if self._imds is None:
                return
            notice = await self._notice(self._imds)
            _log.warning("EC2 takes this spot instance back", notice=notice)
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
        request = {
            "cluster": instance.cluster,
            "containerInstances": [instance.arn],
            "status": "DRAINING",
        }
        async with asyncio.timeout(_CALL_LIMIT_S):
            answer = await self._api.call("UpdateContainerInstancesState", request, attempts=1)
        return _failure(answer)


def read_notice(text: str) -> str:
    """Return a notice in words, for example ``terminate at 2026-11-23T09:30:00Z``.

    Empty where the text is none: no JSON, or an action that is not known to take the instance.
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
    """Return why the answer does not mean that the instance is draining; empty where it does."""
    failures = answer.get("failures")
    if not isinstance(failures, list) or not failures:
        return ""
    first = failures[0]
    reason = first.get("reason") if isinstance(first, dict) else None
    return f"refused: {reason}"[:256]
