"""GPUs that the containers of a definition want: some for themselves, all of a host, or a share of one.

Pure. ``body`` is a definition with the overrides applied. Source: the ECS API reference,
``ResourceRequirement``.

Tests: ``tests/unit/controlplane/definition/test_gpus.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field

from agent.controlplane.definition.overrides import OverrideError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ALL: Final = "ALL"
"""Value of a requirement: every GPU of the instance."""
_MIXED: Final = (
    "The containers in a task that request GPUs must all use the same option: numbers of GPUs, one "
    "container with ALL, or sharing strategies."
)


class GpuShareNeeds(Struct, frozen=True, kw_only=True):
    """What a container wants of a GPU that it shares."""

    memory_mib: int
    compute_percent: int = 0
    """0 for no limit."""


class GpuNeeds(Struct, frozen=True, kw_only=True):
    """The GPUs of one copy of a task, by container name. Only one of the three is set."""

    counts: dict[str, int] = field(default_factory=dict)
    """How many a container wants for itself."""
    all_for: str = ""
    """The container that wants every GPU of its instance."""
    shares: dict[str, GpuShareNeeds] = field(default_factory=dict)


def of(body: Mapping[str, Any]) -> GpuNeeds:
    """Return what the containers of a task want.

    Raises:
        OverrideError: a value is not a number, or the containers use several options.
    """
    counts: dict[str, int] = {}
    all_for: list[str] = []
    shares: dict[str, GpuShareNeeds] = {}
    for name, requirement in _requirements(body):
        value = str(requirement.get("value", ""))
        share = share_of(requirement)
        if share is not None:
            shares[name] = share
        elif value == ALL:
            all_for.append(name)
        elif value.isascii() and value.isdigit() and len(value) < 4:
            counts[name] = counts.get(name, 0) + int(value)
        else:
            raise OverrideError(f"Invalid GPU count for container: {value[:64]}")
    counts = {name: count for name, count in counts.items() if count}
    if sum(map(bool, (counts, all_for, shares))) > 1 or len(all_for) > 1:
        raise OverrideError(_MIXED)
    return GpuNeeds(counts=counts, all_for="".join(all_for), shares=shares)


def share_of_container(container: Mapping[str, Any]) -> GpuShareNeeds | None:
    """Return what a container wants of a GPU that it shares; None if it shares none."""
    body = {"containerDefinitions": [container]}
    found = (share_of(requirement) for _, requirement in _requirements(body))
    return next((share for share in found if share is not None), None)


def share_of(requirement: Mapping[str, Any]) -> GpuShareNeeds | None:
    """Return the share that a requirement asks for; None if it asks for whole GPUs."""
    asked = (requirement.get("sharingStrategy") or {}).get("nvidiaMps")
    if not asked:
        return None
    return GpuShareNeeds(
        memory_mib=asked["memory"], compute_percent=asked.get("maxComputePercent") or 0
    )


def _requirements(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for container in body["containerDefinitions"]:
        for requirement in container.get("resourceRequirements") or ():
            if requirement.get("type") == "GPU":
                yield container["name"], requirement
