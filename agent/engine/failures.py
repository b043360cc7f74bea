"""The effect of a failed step on a record. Pure.

Source: Amazon ECS agent 1.105.1, ``task_manager.go`` (errors of a transition). One difference:
while the engine does not answer, tasks do not fail; the step is retried.

Tests: ``tests/unit/engine/test_engine_trouble.py``, ``tests/unit/engine/test_engine_pulls.py``.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from agent.engine import observe
from agent.engine.live import NETWORK, Retry, StepKind
from agent.engine.settle import mark_stopped, pull_ended, set_reason
from agent.errors import (
    AgentError,
    CgroupFailure,
    ControlFailure,
    CredentialsAwaited,
    EngineTimeout,
    EngineUnavailable,
    NetworkFailure,
    NoSuchContainer,
    PayloadError,
    SandboxLost,
    StateFailure,
)
from agent.model import reasons
from agent.model.status import ContainerStatus, DesiredStatus

if TYPE_CHECKING:
    from agent.engine.live import LiveState, Step
    from agent.model.task import AgentContainer, AgentTask

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
HOST_TRIES = 4
"""A sandbox or a control group that cannot be made this often fails its task: the host, not chance, is
at fault."""
STOP_TRIES = 5
"""After this many failed stops a container counts as stopped; the clean-up removes it."""

_ALWAYS_RETRIED = frozenset({StepKind.RELEASE_NETWORK, StepKind.CLEAN})
_ENGINE_NAMES = {
    StepKind.PULL: reasons.CANNOT_PULL,
    StepKind.CREATE: reasons.CANNOT_CREATE,
    StepKind.START: reasons.CANNOT_START,
    StepKind.STOP: reasons.CANNOT_STOP,
    StepKind.INSPECT: reasons.CANNOT_INSPECT,
}


def backoff_s(attempts: int) -> float:
    """Return how long to wait after this many failures: doubling, with up to a fifth of jitter."""
    wait_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempts - 1, 10))
    return wait_s * random.uniform(1.0, 1.2)  # noqa: S311 - spreads retries, not for security


def apply(
    record: AgentTask,
    live: LiveState,
    step: Step,
    error: AgentError,
    *,
    engine_answers: bool,
    now: float,
) -> None:
    """Apply the effects of a failed step.

    ``engine_answers`` says whether the engine answered from the start of the step until a ping
    after its failure. It decides whether a timeout is blamed on the container or on the engine.
    """
    if step.kind is StepKind.INSPECT and isinstance(error, NoSuchContainer):
        live.recheck.discard(step.key)
        observe.vanished(record.containers[step.key], live, now)
        return
    if isinstance(error, SandboxLost):
        live.retries.pop(step.key, None)
        live.network_lost = live.network_lost or str(error)
        live.recheck.add(step.key)
        return
    if step.kind in (StepKind.CLAIM_NETWORK, StepKind.RENEW_NETWORK):
        live.network_doubtful = True  # cleared by a release; the claim may be incomplete
    if step.kind is StepKind.PULL:
        pull_ended(record, live, step.key, now)
    if _is_worth_another_try(live, step, error, engine_answers=engine_answers):
        # One that waits for news has waited already, and must not sleep through them.
        at_once = isinstance(error, CredentialsAwaited)
        reason = reason_of(record, step, error)
        retry_later(live, step, str(error), now, reason=reason, at_once=at_once)
        return
    live.retries.pop(step.key, None)
    container = record.containers.get(step.key)
    if container is None:
        _fail_task(record, step, error)
    elif container.known is ContainerStatus.STOPPED:
        container.stopped_again_at = now  # it cannot be stopped again: leave it to the operator
    else:
        _fail_container(record, container, live, step, error, now)


def _is_worth_another_try(
    live: LiveState, step: Step, error: AgentError, *, engine_answers: bool
) -> bool:
    if step.kind in _ALWAYS_RETRIED or step.kind is StepKind.INSPECT:
        return True
    if isinstance(error, EngineUnavailable | StateFailure | CredentialsAwaited):
        return True
    if isinstance(error, ControlFailure) and error.retryable:
        return True
    if isinstance(error, EngineTimeout) and not engine_answers:
        return True
    retry = live.retries.get(step.key)
    tries = (retry.attempts if retry else 0) + 1
    if step.kind is StepKind.STOP:
        return tries < STOP_TRIES
    if isinstance(error, NetworkFailure | CgroupFailure):
        return tries < HOST_TRIES
    return False


def retry_later(
    live: LiveState, step: Step, why: str, now: float, *, reason: str = "", at_once: bool = False
) -> None:
    """Schedule another try of a step, later each time; ``reason`` is for control."""
    before = live.retries.get(step.key)
    attempts = (before.attempts if before else 0) + 1
    since = before.since if before else now
    wait_s = 0.0 if at_once else backoff_s(attempts)
    live.retries[step.key] = Retry(attempts, now + wait_s, since, why, reason)


def _fail_task(record: AgentTask, step: Step, error: AgentError) -> None:
    record.reason = record.reason or reason_of(record, step, error)
    record.stop_code = record.stop_code or "TaskFailedToStart"
    record.desired = DesiredStatus.STOPPED


def _fail_container(
    record: AgentTask,
    container: AgentContainer,
    live: LiveState,
    step: Step,
    error: AgentError,
    now: float,
) -> None:
    container.desired = ContainerStatus.STOPPED
    set_reason(container, reason_of(record, step, error))
    live.restarting.discard(container.name)
    if step.kind is StepKind.STOP:
        mark_stopped(container, now)
    elif isinstance(error, EngineTimeout) or container.known is ContainerStatus.RUNNING:
        live.recheck.add(container.name)  # it may exist or run nevertheless


def reason_of(record: AgentTask, step: Step, error: AgentError) -> str:
    """Return the reason for a failed step, of a container or of the task, as worded by ECS."""
    if step.key == NETWORK:
        return reasons.named(reasons.NETWORKING, str(error))
    if isinstance(error, CgroupFailure):
        return reasons.no_cgroup(str(error))
    if step.key not in record.containers:
        return reasons.clip(str(error))
    if isinstance(error, EngineTimeout):
        return reasons.timed_out(error.operation or step.kind, error.limit_s)
    if isinstance(error, PayloadError):
        return reasons.named(error.name, str(error))
    if isinstance(error, NoSuchContainer) and record.network is not None:
        return reasons.named(reasons.NETWORKING, f"the task's network sandbox is gone: {error}")
    return reasons.named(_ENGINE_NAMES.get(step.kind, ""), str(error))
