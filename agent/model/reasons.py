"""ECS error names and the texts that operators already know. This module only formats texts.

Source: Amazon ECS agent 1.105.1, ``agent/engine/errors.go`` and ``api/task`` (names and formats).
A container reason is ``<Name>: <text>``, a task reason is plain text; both end at 1024 characters.

Tests: ``tests/unit/model/test_words.py``.
"""

from __future__ import annotations

import re

REASON_LIMIT = 1024

CANNOT_PULL = "CannotPullContainerError"
CANNOT_PULL_ECR = "CannotPullECRContainerError"
CANNOT_PULL_AUTH = "CannotPullContainerAuthError"
CANNOT_CREATE = "CannotCreateContainerError"
CANNOT_START = "CannotStartContainerError"
CANNOT_STOP = "CannotStopContainerError"
CANNOT_INSPECT = "CannotInspectContainerError"
ENGINE_TIMEOUT = "DockerTimeoutError"
ENGINE_STATE = "DockerStateError"
OUT_OF_MEMORY = "OutOfMemoryError"
HOST_CONFIG = "HostConfigError"
CLIENT_CONFIG = "DockerClientConfigError"
NETWORKING = "ContainerNetworkingError"
VANISHED = "ContainerVanishedError"
CGROUP = "CgroupError"
STOPPED_BEFORE_PULL = "TaskStoppedBeforePullBeginError"
UNRECOGNIZED_TASK = "UnrecogniedTaskError"  # the missing letter is part of the ECS protocol

OUT_OF_MEMORY_TEXT = "Container killed due to memory usage"
VANISHED_TEXT = "No container matching saved ID found"
DEPENDENCY_EXIT_CODE = 143
"""Exit code of a container that will never start because of a dependency."""

_PULL_HINTS = (
    (
        re.compile(r"denied: User: (.+) is not authorized to perform: ecr:BatchGetImage"),
        "Check if the role has the permissions to pull images from the registry.",
    ),
    (
        re.compile("denied: requested access to the resource is denied"),
        "Check whether the image exists.",
    ),
    (
        re.compile("request canceled while waiting for connection"),
        "Check your network configuration.",
    ),
)


def clip(text: str) -> str:
    """Return the text cut to the limit of the wire."""
    return text[:REASON_LIMIT]


def named(name: str, text: str) -> str:
    """Return ``<name>: <text>``, cut to the limit of the wire."""
    return clip(f"{name}: {text}" if name else text)


def duration(seconds: float) -> str:
    """Return a duration as ECS prints it (Go notation): ``4m0s``, ``2m30s``, ``30s``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{secs}s"
    return f"{minutes}m{secs}s" if minutes else f"{secs}s"


def timed_out(operation: str, limit_s: float) -> str:
    """Return the reason for a call to the engine that exceeded its deadline."""
    text = f"Could not transition to {operation}; timed out after waiting {duration(limit_s)}"
    return named(ENGINE_TIMEOUT, text)


def pull_failed(text: str) -> str:
    """Return the reason for a failed pull, with the hint that ECS puts before known causes."""
    for pattern, hint in _PULL_HINTS:
        if pattern.search(text):
            return named(
                CANNOT_PULL,
                f"The task can\N{RIGHT SINGLE QUOTATION MARK}t pull the image. {hint} {text}",
            )
    return named(CANNOT_PULL, text)


def dependencies_unresolvable(task_arn: str) -> str:
    """Return the task reason for a dependency graph that cannot be ordered."""
    return clip(f"Task dependencies cannot be resolved, taskArn: {task_arn}")


def resource_unusable(task_arn: str, cause: str) -> str:
    """Return the task reason for a task that could not be prepared."""
    return clip(f"resource cannot be initialized for task {task_arn}: {cause}")


def no_cgroup(cause: str) -> str:
    """Return the task reason for a task whose control group could not be made."""
    return named(CGROUP, f"Agent could not create task's platform resources: {cause}")


def unrecognized_task(cause: str) -> str:
    """Return the task reason for a payload that could not be read."""
    return named(UNRECOGNIZED_TASK, f"Error loading task - {cause}")


def stopped_before_pull(task_arn: str) -> str:
    """Return the container reason for a task stopped before the pull began."""
    return named(
        STOPPED_BEFORE_PULL, f"Task stopped before image pull could begin for task: {task_arn}"
    )
