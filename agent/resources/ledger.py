"""Which tasks hold resources of the host, which wait for them, and who is admitted next.

Pure and synchronous: no I/O, no clock of its own, no locking; one owner calls it on the event loop.

Admission rule
==============

All waiting tasks are checked, oldest first, and each task that fits is admitted. A large task at
the head does not block small ones behind it. To prevent starvation, room is reserved for the oldest
waiter once it has waited longer than ``age_limit_s``. From then on, a younger task is admitted only
if it fits now *and* fits on the host together with the oldest waiter and all other tasks admitted
past it. So the resources of the oldest waiter are free as soon as the tasks that ran before have
ended, regardless of later tasks. Room is reserved for one task at a time; the next oldest follows.

Source of totals and needs: Amazon ECS agent 1.105.1, ``agent/engine/host_resource_manager.go``.
There the head of the queue blocks all tasks behind it; here it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.model.ids import task_id
from agent.model.resources import Needs, Wait
from agent.model.views import ResourceView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.model.resources import HostResources

AGE_LIMIT_S = 60.0
"""Longer than most tasks take to stop (30 s) plus the launch of the next task."""

_PORTS = 65535


class _Waiter(NamedTuple):
    needs: Needs
    since: float
    never: str | None
    """Why this host can never run it, if so."""


class _Account:
    """Totals and owners of the needs of a group of tasks; ``remove`` exactly reverses ``add``."""

    def __init__(self) -> None:
        self.cpu_units = 0
        self.memory_mib = 0
        self.owners: dict[tuple[str, int | str], list[str]] = {}
        self.shares: dict[str, dict[str, int]] = {}
        """MiB by GPU and task."""

    def add(self, arn: str, needs: Needs) -> None:
        self.cpu_units += needs.cpu_units
        self.memory_mib += needs.memory_mib
        for item in _items(needs):
            self.owners.setdefault(item, []).append(arn)
        for gpu, mib in needs.gpu_shares.items():
            self.shares.setdefault(gpu, {})[arn] = mib

    def remove(self, arn: str, needs: Needs) -> None:
        self.cpu_units -= needs.cpu_units
        self.memory_mib -= needs.memory_mib
        for item in _items(needs):
            owners = self.owners[item]
            owners.remove(arn)
            if not owners:
                del self.owners[item]
        for gpu in needs.gpu_shares:
            self.shares[gpu].pop(arn, None)
            if not self.shares[gpu]:
                del self.shares[gpu]

    def has_room(self, host: HostResources, needs: Needs) -> bool:
        return (
            _fits(needs.cpu_units, self.cpu_units, host.cpu_units)
            and _fits(needs.memory_mib, self.memory_mib, host.memory_mib)
            and not any(item in self.owners for item in _items(needs))
            and not needs.gpus & self.shares.keys()
            and not any(self.share_lacks(host, needs))
        )

    def share_lacks(self, host: HostResources, needs: Needs) -> Iterator[tuple[str, str]]:
        """Yield each GPU without room for a share of it, and why."""
        memory_mib = {gpu.uuid: gpu.memory_mib for gpu in host.gpus}
        for gpu, mib in needs.gpu_shares.items():
            if owners := self.owners.get(("gpu", gpu)):
                yield gpu, f"a share of GPU {gpu}; task {task_id(owners[0])} holds all of it"
                continue
            total = memory_mib.get(gpu, 0)
            free = total - sum(self.shares.get(gpu, {}).values())
            if mib > free:
                yield gpu, f"{mib} MiB of GPU {gpu}; {max(free, 0)} of {total} MiB are free"

    def taken(self, kind: str) -> int:
        shared = len(self.shares) if kind == "gpu" else 0
        return shared + sum(1 for item in self.owners if item[0] == kind)


class Ledger:
    """Assigns the host's CPU, memory, fixed ports and GPUs to tasks.

    Every method is idempotent per task. Times are in seconds of the caller's clock; use a monotonic
    clock to keep ages correct.
    """

    def __init__(self, host: HostResources, *, age_limit_s: float = AGE_LIMIT_S) -> None:
        self._host = host
        self._age_limit_s = age_limit_s
        self._gpus = frozenset(gpu.uuid for gpu in host.gpus)
        self._held: dict[str, Needs] = {}
        self._used = _Account()
        self._waiting: dict[str, _Waiter] = {}
        self._kept_for = ""
        """The waiter for which room is reserved, or empty."""
        self._kept = _Account()
        """The needs of that waiter and of the tasks admitted past it that still run."""
        self._passed: set[str] = set()
        """The tasks admitted past it that still run."""

    def request(self, task_arn: str, needs: Needs, now: float) -> None:
        """Add a task to the queue; a task that already waits or was admitted keeps its place.

        Check ``impossible`` first: a task that can never run is never admitted.
        """
        if task_arn not in self._held and task_arn not in self._waiting:
            never = self.impossible(needs)
            self._waiting[task_arn] = _Waiter(_no_less_than_nothing(needs), now, never)

    @property
    def waiting(self) -> int:
        """How many tasks wait for room."""
        return len(self._waiting)

    def restore(self, task_arn: str, needs: Needs) -> None:
        """Register a task that already runs, even if it does not fit: it cannot be refused now."""
        self._forget_waiter(task_arn)
        if task_arn not in self._held:
            self._book(task_arn, _no_less_than_nothing(needs))

    def release(self, task_arn: str) -> None:
        """Release what a task holds, or its place in the queue; unknown tasks are ignored."""
        self._forget_waiter(task_arn)
        needs = self._held.pop(task_arn, None)
        if needs is None:
            return
        self._used.remove(task_arn, needs)
        if task_arn in self._passed:
            self._passed.discard(task_arn)
            self._kept.remove(task_arn, needs)

    def admit(self, now: float) -> list[str]:
        """Admit every waiting task that fits now, and return their ARNs, oldest first.

        Call this after each ``request`` and ``release``. It needs no timer, because time alone
        never frees resources.
        """
        admitted: list[str] = []
        for arn, waiter in list(self._waiting.items()):
            if waiter.never:
                continue
            if not self._used.has_room(self._host, waiter.needs):
                self._keep_room_if_old(arn, waiter, now)
            elif arn == self._kept_for or self._leaves_room(waiter.needs):
                self._forget_waiter(arn)
                self._book(arn, waiter.needs)
                if self._kept_for:
                    self._passed.add(arn)
                    self._kept.add(arn, waiter.needs)
                admitted.append(arn)
        return admitted

    def impossible(self, needs: Needs) -> str | None:
        """Return why this host can never run a task with these needs; None if it can.

        A task that needs a port or GPU of another task is not impossible; it waits.
        """
        return next(self._never(needs), None)

    def wait_of(self, task_arn: str) -> Wait | None:
        """Return what a queued task waits for, and since when; None if it does not wait."""
        waiter = self._waiting.get(task_arn)
        if waiter is None:
            return None
        if waiter.never:
            return Wait(what=f"nothing; {waiter.never}", since=waiter.since)
        lacks = dict(self._lacks(waiter.needs))
        if lacks:
            what = ", and ".join(lacks.values())
            if task_arn == self._kept_for:
                what += "; room is reserved for it from now on"
        elif self._kept_for and self._kept_for != task_arn:
            lacks = {"behind": self._kept_for}
            what = (
                f"its turn; room is reserved for task {task_id(self._kept_for)},"
                f" which has waited longer than {self._age_limit_s:g} s"
            )
        else:
            what = "its turn; everything it needs is free"
        return Wait(what=what, since=waiter.since, details=lacks)

    def used(self) -> list[ResourceView]:
        """Return the total and used amount of each resource, with ECS's names.

        Reserved ports are not counted. After ``restore``, more may be used than exists.
        """
        host, used = self._host, self._used
        return [
            ResourceView(name="CPU", total=host.cpu_units, used=used.cpu_units),
            ResourceView(name="MEMORY", total=host.memory_mib, used=used.memory_mib),
            _ports_view("PORTS_TCP", host.reserved_tcp, used.taken("tcp")),
            _ports_view("PORTS_UDP", host.reserved_udp, used.taken("udp")),
            ResourceView(name="GPU", total=len(self._gpus), used=used.taken("gpu")),
        ]

    def _book(self, arn: str, needs: Needs) -> None:
        self._held[arn] = needs
        self._used.add(arn, needs)

    def _forget_waiter(self, arn: str) -> None:
        self._waiting.pop(arn, None)
        if arn == self._kept_for:
            self._kept_for = ""
            self._kept = _Account()
            self._passed = set()

    def _keep_room_if_old(self, arn: str, waiter: _Waiter, now: float) -> None:
        """Reserve room for the first waiter of a pass that does not fit, if it is old enough.

        The queue is ordered by age, and all tasks before it were just admitted, so this is always
        the oldest.
        """
        if not self._kept_for and now - waiter.since > self._age_limit_s:
            self._kept_for = arn
            self._kept.add(arn, waiter.needs)

    def _leaves_room(self, needs: Needs) -> bool:
        return not self._kept_for or self._kept.has_room(self._host, needs)

    def _never(self, needs: Needs) -> Iterator[str]:
        host = self._host
        if needs.cpu_units < 0 or needs.memory_mib < 0:
            yield "CPU and memory must not be negative"
        if needs.cpu_units > host.cpu_units:
            yield f"it needs {needs.cpu_units} CPU units; this host has {host.cpu_units}"
        if needs.memory_mib > host.memory_mib:
            yield f"it needs {needs.memory_mib} MiB of memory; this host has {host.memory_mib}"
        for protocol, wanted, reserved in (
            ("tcp", needs.tcp_ports, host.reserved_tcp),
            ("udp", needs.udp_ports, host.reserved_udp),
        ):
            if wanted & reserved:
                ports = _listed(wanted & reserved)
                yield f"it needs host port {ports}/{protocol}, which is reserved on this host"
        if absent := (needs.gpus | needs.gpu_shares.keys()) - self._gpus:
            has = f"has {_listed(self._gpus)}" if self._gpus else "has no GPU"
            yield f"it needs GPU {_listed(absent)}; this host {has}"
        for gpu in host.gpus:
            mib = needs.gpu_shares.get(gpu.uuid, 0)
            if mib > gpu.memory_mib:
                yield f"it needs {mib} MiB of GPU {gpu.uuid}, which has {gpu.memory_mib}"

    def _lacks(self, needs: Needs) -> Iterator[tuple[str, str]]:
        host, used = self._host, self._used
        if not _fits(needs.cpu_units, used.cpu_units, host.cpu_units):
            free = max(0, host.cpu_units - used.cpu_units)
            yield "cpu", f"{needs.cpu_units} CPU units; {free} of {host.cpu_units} are free"
        if not _fits(needs.memory_mib, used.memory_mib, host.memory_mib):
            free = max(0, host.memory_mib - used.memory_mib)
            text = f"{needs.memory_mib} MiB of memory; {free} of {host.memory_mib} MiB are free"
            yield "memory", text
        for kind, item in _items(needs):
            owners = used.owners.get((kind, item))
            if owners:
                thing = f"GPU {item}" if kind == "gpu" else f"host port {item}/{kind}"
                yield f"{kind}:{item}", f"{thing}; task {task_id(owners[0])} holds it"
        for gpu in needs.gpus & used.shares.keys():
            sharing = task_id(next(iter(used.shares[gpu])))
            yield f"gpu:{gpu}", f"GPU {gpu}; task {sharing} shares it"
        for gpu, text in used.share_lacks(host, needs):
            yield f"gpu:{gpu}", text


def _fits(need: int, used: int, total: int) -> bool:
    """Tell whether a need fits; a need of 0 always does, even if the resource is overused."""
    return need == 0 or used + need <= total


def _items(needs: Needs) -> Iterator[tuple[str, int | str]]:
    for port in needs.tcp_ports:
        yield "tcp", port
    for port in needs.udp_ports:
        yield "udp", port
    for gpu in needs.gpus:
        yield "gpu", gpu


def _no_less_than_nothing(needs: Needs) -> Needs:
    """Return needs without negative values, which a bad payload may have, so none frees room."""
    if needs.cpu_units >= 0 and needs.memory_mib >= 0:
        return needs
    return Needs(
        cpu_units=max(0, needs.cpu_units),
        memory_mib=max(0, needs.memory_mib),
        tcp_ports=needs.tcp_ports,
        udp_ports=needs.udp_ports,
        gpus=needs.gpus,
        gpu_shares=needs.gpu_shares,
    )


def _listed(values: Iterable[int | str]) -> str:
    return ", ".join(str(value) for value in sorted(values, key=str))


def _ports_view(name: str, reserved: frozenset[int], used: int) -> ResourceView:
    return ResourceView(name=name, total=_PORTS - len(reserved), used=used)
