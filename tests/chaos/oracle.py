"""What came of each order, judged by what containers wrote and what the engine told: pure.

An order that was acknowledged is a promise: its containers run once, in their order, until they end by
themselves or their task is stopped, and control tells in the end what has come of them. Only what was done to a
task itself, or an older copy of control's store, excuses anything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.chaos.work_plan import PAIR, STEADY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.chaos.scene import Excuses
    from tests.chaos.workload import Order

LOSS, DOUBLE, NEEDLESS = "loss", "double", "needless restart"
_BY_SERVICE = "ServiceSchedulerInitiated"
_FOREVER = float("inf")
_UNKNOWN_TO_ENGINE = 255
"""Exit code that an engine tells of a container which ended while it was dead, if nobody kept the true one."""


class Violation(NamedTuple):
    """A promise that was not kept."""

    kind: str
    task: str
    """The ARN, or the name of an order or a service."""
    what: str
    may_heal: bool = False
    """It can be different a little later."""


class Line(NamedTuple):
    """What a container wrote."""

    word: str
    """``start``, ``term`` or ``end``."""
    run: str
    """Differs for each start."""
    at_s: int = 0
    """In seconds of the wall clock."""


@dataclass
class Seen:
    """All that can be seen from outside at one moment."""

    orders: Sequence[Order]
    excuses: Excuses
    lines: Mapping[tuple[str, str], Sequence[Line]]
    """By order and container."""
    tasks: Mapping[str, Mapping[str, Any]]
    """What DescribeTasks tells, by ARN."""
    services: Sequence[Mapping[str, Any]]
    """What DescribeServices tells."""
    running: Mapping[str, Sequence[str]]
    """Ids of the running containers of each task, from the engine."""
    starts: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    """Ids of started containers by task and container, from the engine's events."""


def judge(seen: Seen) -> list[Violation]:
    """Return every promise that is not kept, or not yet."""
    found: list[Violation] = []
    for order in seen.orders:
        found += _order(seen, order)
    for service in seen.services:
        found += _service(seen, service)
    found += _started_twice(seen)
    found += _nobody_wants(seen)
    found += _addresses(seen)
    return found


def _order(seen: Seen, order: Order) -> Iterable[Violation]:
    if not order.arn:
        yield Violation(LOSS, order.name, "was never acknowledged", may_heal=True)
        return
    is_unsure = seen.excuses.was_forgotten(order.asked_s, order.acknowledged_s or _FOREVER)
    if not is_unsure and order.arn not in seen.excuses.restarted:
        for container in ("first", "main"):
            starts = _words(seen, order, container).count("start")
            if starts > 1:
                yield Violation(DOUBLE, order.name, f"{container} was started {starts} times")
    task = seen.tasks.get(order.arn)
    if task is None:
        if not is_unsure:
            yield Violation(LOSS, order.name, "control does not know it any more", may_heal=True)
        return
    if seen.excuses.hits.get(order.arn):
        return
    stop = _stop_is(seen, order)
    if stop != "not asked":
        if stop == "asked" and task["lastStatus"] != "STOPPED":
            yield Violation(LOSS, order.name, "was stopped, and has not", may_heal=True)
        return
    yield from _as_ordered(seen, order, task)


def _stop_is(seen: Seen, order: Order) -> str:
    if order.stop_asked_s is None:
        return "not asked"
    until = order.stop_acknowledged_s or _FOREVER
    return "unsure" if seen.excuses.was_forgotten(order.stop_asked_s, until) else "asked"


def _as_ordered(seen: Seen, order: Order, task: Mapping[str, Any]) -> Iterable[Violation]:
    """Judge an order of which nothing but its own end is expected."""
    words = _words(seen, order, "main")
    is_steady = order.act.kind == STEADY
    status, reason = task["lastStatus"], task.get("stoppedReason", "")
    if "term" in words:
        yield Violation(NEEDLESS, order.name, f"was told to end; {status} {reason}")
        return
    if is_steady and status == "STOPPED":
        kind = NEEDLESS if words else LOSS
        yield Violation(kind, order.name, f"has ended: {reason} {_reasons(task)}")
    elif is_steady:
        if status != "RUNNING":
            yield Violation(LOSS, order.name, f"is {status}", may_heal=True)
        elif words != ["start"] or len(seen.running.get(order.arn, ())) != 1:
            there = len(seen.running.get(order.arn, ()))
            yield Violation(LOSS, order.name, f"is RUNNING with {there} containers", may_heal=True)
    elif status != "STOPPED":
        yield Violation(LOSS, order.name, f"is {status}, {words or 'has not begun'}", may_heal=True)
    else:
        yield from _ended_as_ordered(seen, order, task)


def _ended_as_ordered(seen: Seen, order: Order, task: Mapping[str, Any]) -> Iterable[Violation]:
    expected = {"main": order.act.exit_code}
    if order.act.kind == PAIR:
        expected["first"] = 0
    told = {each["name"]: each.get("exitCode") for each in task["containers"]}
    for container, code in expected.items():
        words = sorted(_words(seen, order, container))
        if words != ["end", "start"] and not (words.count("start") > 1):
            why = f"{task.get('stoppedReason', '')} {_reasons(task)}"
            yield Violation(LOSS, order.name, f"{container} wrote {words or 'nothing'}: {why}")
        elif told.get(container) != code and not _is_code_forgotten(seen, order, container):
            what = f"{container} ended with {code}, and is told to have ended with {told.get(container)}"
            yield Violation(LOSS, order.name, what)


def _is_code_forgotten(seen: Seen, order: Order, container: str) -> bool:
    """Return whether the container ended while the engine was dead, and is told with the engine's code for that.

    The engine is killed together with what waits for its containers; what it then tells is all that an agent can
    know.
    """
    task = seen.tasks.get(order.arn, {"containers": ()})
    told = {each["name"]: each.get("exitCode") for each in task["containers"]}
    ends = [x for x in seen.lines.get((order.name, container), ()) if x.word == "end"]
    died = any(seen.excuses.engine_died_at(line.at_s) for line in ends)
    return died and told.get(container) == _UNKNOWN_TO_ENGINE


def _service(seen: Seen, service: Mapping[str, Any]) -> Iterable[Violation]:
    name = service["serviceName"]
    counts = (service["desiredCount"], service["runningCount"], service["pendingCount"])
    states = [each["rolloutState"] for each in service["deployments"]]
    if counts[0] != counts[1] or counts[2] or states != ["COMPLETED"]:
        what = "desired, running, pending: {}, {}, {}".format(*counts)
        yield Violation(LOSS, name, f"{what}; {states}", may_heal=True)
    for arn, task in seen.tasks.items():
        if task.get("group") != f"service:{name}":
            continue
        if task["lastStatus"] == "RUNNING" and len(seen.running.get(arn, ())) != 1:
            there = len(seen.running.get(arn, ()))
            yield Violation(LOSS, arn, f"is RUNNING with {there} containers", may_heal=True)
        is_expected = task.get("stopCode") == _BY_SERVICE or seen.excuses.hits.get(arn)
        if task["lastStatus"] == "STOPPED" and not is_expected:
            what = f"task of {name} has ended: {task.get('stoppedReason')} {_reasons(task)}"
            yield Violation(NEEDLESS, arn, what)


def _started_twice(seen: Seen) -> Iterable[Violation]:
    for (arn, container), ids in seen.starts.items():
        if len(ids) > 1 and arn not in seen.excuses.restarted:
            names = [each[:12] for each in ids]
            yield Violation(DOUBLE, arn, f"{container} was started as {', '.join(names)}")


def _nobody_wants(seen: Seen) -> Iterable[Violation]:
    """A container that runs although its task has ended, or is unknown."""
    for arn, ids in seen.running.items():
        task = seen.tasks.get(arn)
        if ids and (task is None or task["lastStatus"] == "STOPPED"):
            status = task["lastStatus"] if task is not None else "unknown"
            yield Violation(LOSS, arn, f"is {status}, and {len(ids)} containers run", may_heal=True)


def _addresses(seen: Seen) -> Iterable[Violation]:
    holders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for arn, task in seen.tasks.items():
        if task["lastStatus"] != "RUNNING":
            continue
        for attachment in task.get("attachments", ()):
            for detail in attachment.get("details", ()):
                if detail["name"] == "privateIPv4Address":
                    holders[task["containerInstanceArn"], detail["value"]].append(arn)
    for (_, address), arns in holders.items():
        if len(arns) > 1:
            yield Violation(DOUBLE, arns[0], f"{len(arns)} tasks have the address {address}")


def _words(seen: Seen, order: Order, container: str) -> list[str]:
    forgotten = forgotten_runs(seen, order, container)
    lines = seen.lines.get((order.name, container), ())
    return [line.word for line in lines if line.run not in forgotten]


def forgotten_runs(seen: Seen, order: Order, container: str) -> set[str]:
    """Return the runs of a container that the engine began, was killed before it wrote so down, and repeated.

    To the engine, such a container has only been created, and its start is asked for again. This excuses no
    agent: who has a container started while the engine lives has the engine tell so, and what it has told is
    always counted.
    """
    begun = [x for x in seen.lines.get((order.name, container), ()) if x.word == "start"]
    untold = len(begun) - max(1, len(seen.starts.get((order.arn, container), ())))
    dying = [line.run for line in begun if seen.excuses.engine_died_at(line.at_s)]
    return set(dying[: max(0, untold)])


def count_forgotten(seen: Seen) -> int:
    """Return how many starts the engine has forgotten."""
    return sum(
        len(forgotten_runs(seen, order, container))
        for order in seen.orders
        for container in ("first", "main")
    )


def count_codes_forgotten(seen: Seen) -> int:
    """Return of how many containers the engine has forgotten the exit code."""
    return sum(
        _is_code_forgotten(seen, order, container)
        for order in seen.orders
        for container in ("first", "main")
    )


def _reasons(task: Mapping[str, Any]) -> str:
    told = [
        f"{each['name']}: {each['reason']}" for each in task["containers"] if each.get("reason")
    ]
    return f"({'; '.join(told)})" if told else ""


def counted(violations: Iterable[Violation]) -> Counter[str]:
    """Return how many there are of each kind."""
    return Counter(each.kind for each in violations)
