"""Texts of a service's events and of its tasks' stop reasons, as Amazon ECS writes them. Pure.

Texts of causes that Amazon ECS does not have (a host that is cut off) are our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.scheduler import host_room, placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.scheduler.placement import Rejection
    from agent.controlplane.services.record import HookWait
    from agent.controlplane.services.traffic_shift import Shift

# Kinds of notices: events that are not repeated while their cause lasts.
STEADY = "steady"
PLACEMENT = "placement"
BLOCKED = "blocked"
IMPAIRED = "impaired"
PROTECTED = "protected"
PAUSED = "paused"
UNREGISTERED = "unregistered"
UNSHIFTED = "unshifted"
UNWATCHED = "unwatched"
UNKNOWN_ALARM = "unknown alarm"

UNHEALTHY_REASON = "Task failed container health checks"
BALANCER_REASON = "Task failed ELB health checks in (target-group "
STOP_CODE = "ServiceSchedulerInitiated"
STOPPED_REASON = "ECS deployment was stopped by an operator."
HOOK_REASON = "Service deployment rolled back because "
"""How reasons of a deployment begin that one of its hooks has ended."""
CIRCUIT_BREAKER_REASON = "ECS deployment circuit breaker: tasks failed to start."
ALARM_REASON = "ECS deployment failed: alarm detected."

_GUIDE = "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."
_CLOSEST = {
    host_room.CPU: "has insufficient CPU units available",
    host_room.MEMORY: "has insufficient memory available",
    host_room.GPU: "has insufficient GPUs available",
    host_room.PORTS: "is already using a port required by your task",
    placement.DISTINCT_INSTANCE: f'encountered error "{placement.DISTINCT_INSTANCE}"',
    placement.MEMBER_OF: f'encountered error "{placement.MEMBER_OF}"',
    placement.ATTRIBUTE: "is missing an attribute required by your task",
    placement.AGENT: 'encountered error "AGENT"',
}
"""By the reason why a host was refused; a host that is refused for an earlier one is closer."""


def scaling_reason(deployment: str) -> str:
    """Return why the scheduler stops a task that is not needed any more."""
    return f"Scaling activity initiated by (deployment {deployment})"


def lost_reason(instance_id: str) -> str:
    """Return why a task on a host that is cut off is stopped."""
    return (
        f"The agent of (container-instance {instance_id}) has been disconnected for too long; "
        "the service replaces the task"
    )


def in_progress(deployment: str) -> str:
    """Return the reason of a rollout that goes on."""
    return f"ECS deployment {deployment} in progress."


def completed(deployment: str) -> str:
    """Return the reason of a rollout that has ended well."""
    return f"ECS deployment {deployment} completed."


def rolling_back_to(deployment: str) -> str:
    """Return the reason of a rollout back to an earlier deployment."""
    return f"ECS deployment circuit breaker: rolling back to deploymentId {deployment}."


def going_back_from_alarm(deployment: str) -> str:
    """Return the reason of a rollout back to an earlier deployment because of an alarm."""
    return f"ECS deployment failed: alarm detected, rolling back to deploymentId {deployment}."


def going_back_to(deployment: str) -> str:
    """Return the reason of a rollout back to an earlier deployment that an operator asked for."""
    return f"ECS deployment was stopped by an operator: rolling back to deploymentId {deployment}."


def hook_timed_out(stage: str) -> str:
    """Return why a deployment was ended that nobody has continued in time."""
    return f"{HOOK_REASON}{stage} pause hook timed out."


def hook_was_refused(stage: str) -> str:
    """Return why a deployment was ended that an operator did not want to continue."""
    return f"{HOOK_REASON}an operator did not continue it at {stage}."


def nothing_to_go_back_to(reason: str) -> str:
    """Return the reason of such an end where no earlier deployment was completed."""
    return f"{reason} No earlier deployment was completed, so there is none to roll back to."


def goes_back_from_hook(reason: str, deployment: str) -> str:
    """Return the reason of a rollout back to an earlier deployment that a hook has caused."""
    return f"{reason} Rolling back to deploymentId {deployment}."


def cause_of_hook(reason: str) -> str:
    """Return why a hook has ended a deployment, from the reason of either rollout; empty for another cause."""
    return reason.partition(" Rolling back to ")[0] if reason.startswith(HOOK_REASON) else ""


def has_been_given_up(service: str, deployment: str, reason: str) -> str:
    """Return the event of a deployment that one of its hooks has ended."""
    return f"(service {service}) (deployment {deployment}) deployment failed: {reason}"


def is_paused(service: str, deployment: str, hooks: Sequence[HookWait]) -> str:
    """Return the event of a deployment that waits for an operator."""
    told = ", ".join(f"{hook.id} at {hook.stage}" for hook in hooks)
    return (
        f"(service {service}) (deployment {deployment}) is paused until ContinueServiceDeployment is "
        f"called for the hook {told}."
    )


def has_completed(service: str, deployment: str) -> str:
    """Return the event of a completed deployment."""
    return f"(service {service}) (deployment {deployment}) deployment completed."


def has_failed(service: str, deployment: str) -> str:
    """Return the event of an open circuit breaker."""
    return (
        f"(service {service}) (deployment {deployment}) deployment failed: tasks failed to start."
    )


def alarm_detected(service: str, deployment: str) -> str:
    """Return the event of a deployment that an alarm has made fail."""
    return f"(service {service}) (deployment {deployment}) deployment failed: alarm detected."


def is_unwatched(service: str, deployment: str, already: Sequence[str]) -> str:
    """Return the event of a deployment whose alarms are not watched because some were in ALARM before it."""
    return (
        f"(service {service}) (deployment {deployment}) does not watch its alarms, because these were in "
        f"the state ALARM when it began: {_alarms(already)}."
    )


def unknown_alarms(service: str, deployment: str, names: Sequence[str]) -> str:
    """Return the event of a deployment that is to watch alarms that do not exist."""
    return (
        f"(service {service}) (deployment {deployment}) cannot watch alarms that do not exist: "
        f"{_alarms(names)}."
    )


def was_stopped(service: str, deployment: str) -> str:
    """Return the event of a deployment that an operator has stopped."""
    return f"(service {service}) (deployment {deployment}) deployment stopped by an operator."


def rolls_back(service: str, deployment: str) -> str:
    """Return the event of a rollback."""
    return f"(service {service}) rolling back to deployment {deployment}."


def is_steady(service: str) -> str:
    """Return the event of a service that has what it wants."""
    return f"(service {service}) has reached a steady state."


def has_started(service: str, tasks: Sequence[str], *, unhealthy: int = 0) -> str:
    """Return the event of started tasks; ``unhealthy`` is how many of them replace unhealthy ones."""
    told = f"(service {service}) has started {len(tasks)} tasks: {_tasks(tasks)}."
    if unhealthy:
        told += f" Amazon ECS replaced {unhealthy} tasks due to an unhealthy status."
    return told


def has_stopped(service: str, tasks: Sequence[str]) -> str:
    """Return the event of running tasks that are stopped."""
    return f"(service {service}) has stopped {len(tasks)} running tasks: {_tasks(tasks)}."


def stopped_pending(service: str, count: int) -> str:
    """Return the event of tasks that are stopped before they run."""
    return f"(service {service}) stopped {count} pending tasks."


def failed_health_checks(service: str, task: str) -> str:
    """Return the event of an unhealthy task."""
    return f"(service {service}) (task {task}) failed container health checks."


def balancer_reason(group_arn: str) -> str:
    """Return why a task is stopped that is unhealthy in a target group."""
    return f"{BALANCER_REASON}{group_arn})"


def registered(service: str, count: int, group_arn: str) -> str:
    """Return the event of targets that were registered."""
    return f"(service {service}) registered {count} targets in (target-group {group_arn})"


def deregistered(service: str, count: int, group_arn: str) -> str:
    """Return the event of targets that were taken out of use."""
    return f"(service {service}) deregistered {count} targets in (target-group {group_arn})"


def begins_draining(service: str, count: int) -> str:
    """Return the event of tasks that finish their requests before they are stopped."""
    return f"(service {service}) has begun draining connections on {count} tasks."


def failed_balancer_checks(service: str, task: str, port: int, group_arn: str, reason: str) -> str:
    """Return the event of a task that is unhealthy in a target group."""
    return (
        f"(service {service}) (task {task}) (port {port}) is unhealthy in (target-group {group_arn}) "
        f"due to (reason {reason})"
    )


def cannot_register(service: str, reason: str) -> str:
    """Return the event of a task that cannot be a target."""
    return f"(service {service}) was unable to register a task as a target. Reason: {reason}"


def shifted(service: str, deployment: str, changes: Sequence[Shift]) -> list[str]:
    """Return the events of listeners that forward to other target groups."""
    return [
        f"(service {service}) (deployment {deployment}) shifts traffic: (rule {goal.rule}) forwards "
        f"{goal.percent:g} per cent to (target-group {goal.to})."
        for each in changes
        for goal in each.goals
    ]


def cannot_shift(service: str, reason: str) -> str:
    """Return the event of traffic that cannot be shifted."""
    return f"(service {service}) was unable to shift traffic. Reason: {reason}"


def replaces_lost(service: str, instance_id: str, tasks: Sequence[str], after_s: float) -> str:
    """Return the event of tasks on a host that is cut off: they may still run there."""
    return (
        f"(service {service}) replaces {len(tasks)} tasks on (container-instance {instance_id}), whose "
        f"agent has been disconnected for {_time(after_s)}: {_tasks(tasks)}. If they still run, they are "
        "stopped as soon as the agent is connected again."
    )


def stops_unheard(service: str, instance_id: str, tasks: Sequence[str]) -> str:
    """Return the event of tasks that are to stop on a host that is cut off: they may still run there."""
    return (
        f"(service {service}) stops {len(tasks)} tasks on (container-instance {instance_id}), whose agent "
        f"is disconnected: {_tasks(tasks)}. If they still run, they are stopped as soon as the agent is "
        "connected again."
    )


def _time(seconds: float) -> str:
    whole, rest = divmod(seconds, 60)
    if rest or not whole:
        return f"{seconds:g} seconds"
    return f"{whole:g} minutes" if whole > 1 else "1 minute"


def is_impaired(service: str) -> str:
    """Return the event of starts that are slowed down."""
    return (
        f"(service {service}) is unable to consistently start tasks successfully. For more "
        "information, see the Troubleshooting section."
    )


def is_blocked(service: str) -> str:
    """Return the event of a deployment whose percentages leave no room for a step."""
    return (
        f"(service {service}) was unable to stop or start tasks during a deployment because of the "
        "service deployment configuration. Update the minimumHealthyPercent or maximumPercent value "
        "and try again."
    )


def is_protected(service: str, deployment: str, count: int) -> str:
    """Return the event of tasks that are not stopped because they are protected."""
    return (
        f"(service {service}) was unable to reach steady state because (taskSet {deployment}) was "
        f"unable to scale in due to (reason {count} tasks under protection)"
    )


def cannot_launch(service: str, reason: str) -> str:
    """Return the event of a task that cannot be started on any host."""
    return f"(service {service}) was unable to place a task. Reason: {reason}"


def cannot_place(service: str, refused: Sequence[Rejection], *, is_fargate: bool = False) -> str:
    """Return the event of a task that no host can take; ``refused`` is empty if there are no hosts."""
    if is_fargate:
        return cannot_launch(
            service,
            "Capacity is unavailable at this time. Please try again later or in a different "
            "availability zone.",
        )
    told = (
        f"(service {service}) was unable to place a task because no container instance met all of "
        "its requirements."
    )
    if not refused:
        return f"{told} Reason: {placement.NO_INSTANCES} {_GUIDE}"
    closest = min(refused, key=_distance)
    instance = closest.arn.rpartition("/")[2]
    why = _CLOSEST.get(closest.reason) or f'encountered error "{closest.reason}"'
    return f"{told} The closest matching (container-instance {instance}) {why}. {_GUIDE}"


def _distance(refused: Rejection) -> int:
    reasons = list(_CLOSEST)
    return reasons.index(refused.reason) if refused.reason in reasons else len(reasons)


def _alarms(names: Sequence[str]) -> str:
    return " ".join(f"(alarm {name})" for name in names)


def _tasks(ids: Sequence[str]) -> str:
    return " ".join(f"(task {task_id})" for task_id in ids)
