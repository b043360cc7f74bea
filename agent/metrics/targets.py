"""What the sampler is to read: the containers of the host's tasks. Pure data."""

from __future__ import annotations

from typing import NamedTuple


class SampleTarget(NamedTuple):
    """One container to sample."""

    task_arn: str
    name: str
    """Name of the container within its task."""
    runtime_id: str
    pid: int
    """Its first process, which changes at a restart; 0 if unknown."""
    network_pid: int
    """A process in the task's own network namespace: the sandbox's or, in bridge mode, the
    container's; 0 in ``host`` and ``none`` mode."""
    cgroup: str = ""
    """Path of its task's control group from the top of a hierarchy; empty if it has none."""
    restarts: int | None = None
    """By its restart policy; None without one."""
    running: bool = True
    """False between two runs: then it is not sampled, but what it has counted is kept."""
