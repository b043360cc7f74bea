"""Whether a path of the host may be mounted. Pure; ``resolving`` has found out where paths lead.

A path is decided by where it leads: symbolic links count for nothing, and the engine follows them like
``resolving`` does. A path with ``..`` is refused, because the engine shortens it before it follows links, and
the kernel does so afterwards.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from agent.host_policy.findings import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.config.host_policy import HostPolicy

KERNEL_FILES: Final = ("/proc", "/sys", "/dev")
"""By these, the files of every process, and the kernel itself, can be reached."""


def normal(path: str) -> str:
    """Return a path as the engine shortens it."""
    return "/" + posixpath.normpath(path).lstrip("/")


def why_refused(
    policy: HostPolicy,
    path: str,
    *,
    read_only: bool,
    real: Mapping[str, str],
    protected: Iterable[str],
) -> tuple[str, str]:
    """Return the rule that refuses a mount of a path and why; both empty if none does.

    Args:
        policy: the rules.
        path: as it was asked for.
        read_only: whether the mount cannot be written to.
        real: where paths lead, by ``normal``.
        protected: what is refused unless ``host_paths`` names it.
    """
    told = f"mounts {shown(path)}"
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        return "host_paths", f"{told}, which is not an absolute path without '..'"
    clean = normal(path)
    if not judges_paths(policy):
        return "", ""
    target = real.get(clean)
    if target is None:
        return "host_paths", f"{told}, and where that leads could not be found out"
    if target != clean:
        told = f"{told}, which leads to {shown(target)}"
    if other := _first_overlap((clean, target), policy.forbidden_host_paths):
        return "forbidden_host_paths", f"{told}: {other} is forbidden"
    entries = policy.host_paths
    if entries is not None and not any(e.admits(target, read_only=read_only) for e in entries):
        may_read = any(e.admits(target, read_only=True) for e in entries)
        return "host_paths", f"{told} to write to it, but may only read it" if may_read else told
    is_named = any(entry.names(target) for entry in entries or ())
    guarded = () if is_named or not policy.guards_host else (*KERNEL_FILES, *protected)
    if other := _first_overlap((clean, target), guarded):
        return "host_paths", f"{told}: that gives it {other}, which no entry names"
    return "", ""


def judges_paths(policy: HostPolicy) -> bool:
    """Return whether a policy has anything to say about paths of the host."""
    return policy.host_paths is not None or bool(policy.forbidden_host_paths) or policy.guards_host


def _first_overlap(forms: tuple[str, ...], others: Iterable[str]) -> str:
    """Return the first path that one of these is, or is in, or has in it; empty for none."""
    return next((each for each in others if any(overlap(form, each) for form in forms)), "")


def overlap(path: str, other: str) -> bool:
    """Return whether one of two paths is, or is in, the other."""
    return path == other or _within(path, other) or _within(other, path)


def _within(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")
