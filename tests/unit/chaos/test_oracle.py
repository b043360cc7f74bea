"""The oracle finds what it is there for, and excuses nothing but what was done to a task."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.oracle import (
    DOUBLE,
    LOSS,
    NEEDLESS,
    Line,
    Seen,
    count_codes_forgotten,
    count_forgotten,
    judge,
)
from tests.chaos.scene import Excuses
from tests.chaos.work_plan import ONCE, PAIR, STEADY, Act
from tests.chaos.workload import Order

ARN = "arn:task/1"


def order(kind: str, **fields: Any) -> Order:
    act = Act(1, 0.0, "run", kind=kind, mode="none", exit_code=5)
    return Order(act, 10.0, arn=ARN, acknowledged_s=11.0, **fields)


def task(status: str, code: int | None = None, **fields: Any) -> dict[str, Any]:
    containers = [{"name": "main", "exitCode": code}, {"name": "first", "exitCode": 0}]
    return {"lastStatus": status, "containers": containers, "containerInstanceArn": "i", **fields}


def seen(found: Order, state: dict[str, Any] | None, *words: str, **fields: Any) -> Seen:
    lines = {(found.name, "main"): [Line(word, "a") for word in words]}
    values: dict[str, Any] = {
        "orders": [found],
        "excuses": Excuses(),
        "lines": lines,
        "tasks": {ARN: state} if state is not None else {},
        "services": [],
        "running": {},
    }
    return Seen(**(values | fields))


def kinds(found: Seen) -> list[str]:
    return [each.kind for each in judge(found)]


RUNS = {"running": {ARN: ["c"]}}


def test_what_goes_as_ordered_is_no_violation() -> None:
    assert judge(seen(order(ONCE), task("STOPPED", 5), "start", "end")) == []
    assert judge(seen(order(STEADY), task("RUNNING"), "start", **RUNS)) == []
    stopped = order(STEADY, stop_asked_s=12.0, stop_acknowledged_s=13.0)
    assert judge(seen(stopped, task("STOPPED", 0), "start", "term")) == []
    assert judge(seen(stopped, task("STOPPED"))) == [], "it was stopped before it began"


@pytest.mark.parametrize(
    ("kind", "state", "words", "more", "expected"),
    [
        (ONCE, task("STOPPED", 5), ["start", "end", "start", "end"], {}, [DOUBLE]),
        (ONCE, task("STOPPED", 5), [], {}, [LOSS]),
        (ONCE, task("STOPPED", 5), ["start"], {}, [LOSS]),
        (ONCE, task("STOPPED", 0), ["start", "end"], {}, [LOSS]),
        (ONCE, task("STOPPED", None), ["start", "end"], {}, [LOSS]),
        (ONCE, task("RUNNING"), ["start", "end"], {}, [LOSS]),
        (ONCE, None, ["start", "end"], {}, [LOSS]),
        (STEADY, task("STOPPED", 0), ["start", "term"], {}, [NEEDLESS]),
        (STEADY, task("STOPPED", 137), ["start"], {}, [NEEDLESS]),
        (STEADY, task("STOPPED"), [], {}, [LOSS]),
        (STEADY, task("PENDING"), [], {}, [LOSS]),
        (STEADY, task("RUNNING"), ["start"], {}, [LOSS]),
        (STEADY, task("RUNNING"), ["start", "start"], RUNS, [DOUBLE, LOSS]),
        (ONCE, task("STOPPED", 5), ["start", "end"], RUNS, [LOSS]),
        (
            ONCE,
            task("STOPPED", 5),
            ["start", "end"],
            {"starts": {(ARN, "main"): ["c", "d"]}},
            [DOUBLE],
        ),
    ],
)
def test_what_does_not_is(
    kind: str, state: Any, words: list[str], more: dict[str, Any], expected: list[str]
) -> None:
    assert kinds(seen(order(kind), state, *words, **more)) == expected


def test_the_first_container_of_a_pair_must_run_too() -> None:
    found = seen(order(PAIR), task("STOPPED", 5), "start", "end")
    assert kinds(found) == [LOSS]
    found.lines[found.orders[0].name, "first"] = [Line("start", "a"), Line("end", "a")]  # type: ignore[index]
    assert judge(found) == []


def test_a_task_that_was_stopped_and_runs() -> None:
    stopped = order(STEADY, stop_asked_s=12.0, stop_acknowledged_s=13.0)
    assert kinds(seen(stopped, task("RUNNING"), "start", **RUNS)) == [LOSS]


def test_a_start_that_a_killed_engine_forgot_counts_once() -> None:
    """It is made again; the engine has told of the second one alone."""
    excuses = Excuses(engine_deaths=[(100.4, 104.0)])
    ended = task("STOPPED", 5)

    def repeated(*times: int, told: int = 1, **more: Any) -> Seen:
        found = seen(order(ONCE), ended, starts={(ARN, "main"): ["c"] * told}, **more)
        lines = [Line(word, str(at_s), at_s) for at_s in times for word in ("start", "end")]
        found.lines["o1", "main"] = lines  # type: ignore[index]
        return found

    found = repeated(100, 106, excuses=excuses)
    assert judge(found) == []
    assert count_forgotten(found) == 1
    assert judge(repeated(102, 106, excuses=excuses)) == [], "it had begun to start"
    for times, told, why in (
        ((100, 106), 2, "the engine knew of both"),
        ((96, 106), 1, "the engine had the time to write it down"),
        ((105, 106), 1, "the engine was there again"),
        ((100, 106, 107), 1, "there is one more"),
    ):
        assert DOUBLE in kinds(repeated(*times, told=told, excuses=excuses)), why
    assert DOUBLE in kinds(repeated(100, 106)), "the engine was not killed"
    assert kinds(repeated(100, told=0, excuses=excuses)) == [], "the only run is never left out"


def test_a_hit_excuses_an_end_but_no_second_start() -> None:
    excuses = Excuses()
    excuses.hits[ARN].append("container killed")
    ended = task("STOPPED", 137)
    assert judge(seen(order(STEADY), ended, "start", excuses=excuses)) == []
    twice = seen(order(STEADY), ended, "start", "start", excuses=excuses)
    assert kinds(twice) == [DOUBLE]
    still = seen(order(STEADY), ended, "start", excuses=excuses, **RUNS)
    assert kinds(still) == [LOSS], "its containers must not run on"


def test_what_control_has_forgotten_is_excused_only_for_that_time() -> None:
    excuses = Excuses(gone_back=[(10.5, 20.0)])
    assert judge(seen(order(ONCE), None, excuses=excuses)) == []
    later = Excuses(gone_back=[(11.5, 20.0)])
    assert kinds(seen(order(ONCE), None, excuses=later)) == [LOSS]
    stopped = order(STEADY, stop_asked_s=12.0, stop_acknowledged_s=13.0)
    assert judge(seen(stopped, task("RUNNING"), "start", excuses=later, **RUNS)) == []


def service(**fields: Any) -> dict[str, Any]:
    values = {"serviceName": "web", "desiredCount": 1, "runningCount": 1, "pendingCount": 0}
    return values | {"deployments": [{"rolloutState": "COMPLETED"}]} | fields


def of_service(state: dict[str, Any], told: dict[str, Any], **more: Any) -> Seen:
    values: dict[str, Any] = {"orders": [], "excuses": Excuses(), "lines": {}}
    tasks = {ARN: state | {"group": "service:web"}}
    return Seen(**values, tasks=tasks, services=[told], **({"running": {ARN: ["c"]}} | more))


def test_a_service_has_what_is_wanted_and_nothing_ends_by_itself() -> None:
    assert judge(of_service(task("RUNNING"), service())) == []
    assert kinds(of_service(task("RUNNING"), service(runningCount=0))) == [LOSS]
    assert kinds(of_service(task("RUNNING"), service(), running={})) == [LOSS]
    ended = task("STOPPED", 137, stopCode="EssentialContainerExited")
    assert kinds(of_service(ended, service(), running={})) == [NEEDLESS]
    scaled_in = task("STOPPED", 0, stopCode="ServiceSchedulerInitiated")
    assert judge(of_service(scaled_in, service(), running={})) == []


def test_an_address_that_two_tasks_have() -> None:
    details = [{"name": "privateIPv4Address", "value": "10.0.0.9"}]
    state = task("RUNNING", attachments=[{"details": details}])
    found = of_service(state, service())
    found.tasks["arn:task/2"] = state  # type: ignore[index]
    found.running["arn:task/2"] = ["d"]  # type: ignore[index]
    assert kinds(found) == [DOUBLE]


def test_an_exit_code_is_forgotten_only_by_an_engine_that_was_dead_then() -> None:
    excuses = Excuses(engine_deaths=[(100.4, 104.0)])

    def ended(at_s: int, told: int, **more: Any) -> Seen:
        found = seen(order(ONCE), task("STOPPED", told), **more)
        found.lines["o1", "main"] = [Line("start", "a", 50), Line("end", "a", at_s)]  # type: ignore[index]
        return found

    forgotten = ended(102, 255, excuses=excuses)
    assert judge(forgotten) == []
    assert count_codes_forgotten(forgotten) == 1
    for at_s, told, why in ((102, 1, "another code"), (90, 255, "the engine was there")):
        assert kinds(ended(at_s, told, excuses=excuses)) == [LOSS], why
    assert kinds(ended(102, 255)) == [LOSS], "the engine was not killed"
    assert count_codes_forgotten(ended(102, 5, excuses=excuses)) == 0
