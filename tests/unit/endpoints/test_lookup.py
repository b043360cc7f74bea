"""Which task is meant."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.endpoints.http import RequestRefused
from agent.endpoints.lookup import LISTED, find
from agent.model.views import ContainerView, TaskView

PLACE = "arn:aws:ecs:us-east-1:000000000000"


def task(
    id_: str, family: str = "web", *containers: str, status: str = "RUNNING", revision: str = "3"
) -> TaskView:
    return TaskView(
        arn=f"{PLACE}:task/default/{id_}",
        id=id_,
        family=family,
        revision=revision,
        status=status,
        desired="RUNNING",
        network_mode="none",
        containers=[
            ContainerView(name=name, image="i", status="RUNNING", desired="RUNNING")
            for name in containers or ("main",)
        ],
    )


def refused(tasks: list[TaskView], wanted: str) -> tuple[int, str]:
    with pytest.raises(RequestRefused) as caught:
        find(tasks, wanted)
    return caught.value.status, str(caught.value)


SHOP = task("aa11", "shop", "nginx", "app")
JOBS = task("aa22", "jobs", "worker", revision="12")
TASKS = [SHOP, JOBS, task("cafe01", "cafe", "app")]


@pytest.mark.parametrize(
    ("wanted", "found", "container"),
    [
        ("aa11", SHOP, ""),
        ("aa2", JOBS, ""),
        (JOBS.arn, JOBS, ""),
        (f"{PLACE}:task/aa22", JOBS, ""),  # an ARN of the older kind
        ("default/aa22", JOBS, ""),
        ("shop", SHOP, ""),
        ("jobs:12", JOBS, ""),
        ("nginx", SHOP, "nginx"),
        ("worker", JOBS, "worker"),
        ("cafe", TASKS[2], ""),  # its family, and the beginning of its id
    ],
)
def test_a_task_goes_by_many_names(wanted: str, found: TaskView, container: str) -> None:
    assert find(TASKS, wanted) == (found, container)


def test_a_whole_id_wins() -> None:
    longer = [task(f"ab{n}") for n in range(12)]
    short = task("ab", "other")
    assert find([*longer, short], "ab").task is short
    assert find([*longer, short], "other").task is short


@pytest.mark.parametrize("wanted", ["aa", "app"])
def test_what_fits_several_is_refused_with_all_of_them(wanted: str) -> None:
    status, text = refused(TASKS, wanted)
    assert status == 409
    assert text.startswith(f"'{wanted}' matches several tasks: ")
    assert "aa11 (shop:3, RUNNING)" in text
    assert text.endswith("; use the beginning of an id")


def test_an_id_and_a_name_that_read_alike_are_not_guessed_between() -> None:
    status, _ = refused([task("cafe01", "web"), task("bb22", "cafe")], "cafe")
    assert status == 409


def test_a_name_means_the_one_that_has_not_stopped() -> None:
    ended = [task(f"0{n}", "shop", status="STOPPED") for n in range(3)]
    assert find([*ended, SHOP], "shop").task is SHOP
    assert find(ended[:1], "shop").task is ended[0]
    assert refused(ended, "shop")[0] == 409
    assert refused([*ended, SHOP, task("bb", "shop")], "shop")[0] == 409
    # An id is what it is.
    assert refused([*ended, SHOP], "0")[0] == 409


def test_another_account_or_region_has_other_tasks() -> None:
    for arn in (
        JOBS.arn.replace("us-east-1", "eu-west-1"),
        JOBS.arn.replace("000000000000", "111111111111"),
        JOBS.arn.replace("default", "other"),
    ):
        status, text = refused(TASKS, arn)
        assert status == 404
        assert "no task 'arn:aws:ecs:" in text


@pytest.mark.parametrize(
    ("wanted", "near"), [("shpo", "shop"), ("ngnix", "nginx"), ("a111", "aa11")]
)
def test_a_mistyped_one_gets_a_suggestion_and_the_list(wanted: str, near: str) -> None:
    status, text = refused(TASKS, wanted)
    assert status == 404
    assert text.startswith(
        f"no task '{wanted}' on this host; did you mean '{near}'? There are cafe01 ("
    )


def test_the_list_is_bounded_newest_first_and_tells_ids_apart() -> None:
    many = [task(f"{'0' * 20}{n:03}", "f" * 255) for n in range(90)]
    _, text = refused(many, "zz")
    assert len(text) < 600
    assert f"and {90 - LISTED} more ('ecs-agent tasks' lists them)" in text
    ids = re.findall(r"([0-9a-z]+) \(f", text)
    assert len(set(ids)) == LISTED
    assert ids[0].startswith("0" * 20 + "0")


def test_without_any_task() -> None:
    assert refused([], "zz") == (404, "no task 'zz' on this host, nor any other")


@given(st.text(max_size=300))
def test_any_text_is_a_task_or_refused_in_a_line(text: str) -> None:
    tasks = [*TASKS, msgspec.structs.replace(SHOP, id="")]
    refusal = None
    try:
        assert find(tasks, text).task in tasks
    except RequestRefused as error:
        refusal = str(error)
    if refusal is not None:
        assert "\n" not in refusal
        assert len(refusal) < 500
