from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.controlplane.scheduler import query
from agent.controlplane.scheduler.instance import Instance
from agent.controlplane.scheduler.pattern import Pattern, PatternError


def an_instance(**changes: Any) -> Instance:
    values: dict[str, Any] = {
        "arn": "arn:aws:ecs:us-east-1:000000000000:container-instance/default/1",
        "cpu_units": 1024,
        "memory_mib": 1024,
        "attributes": {
            "ecs.instance-type": "t2.small",
            "ecs.availability-zone": "us-east-1a",
            "ecs.capability.x": "",
            "rack": "12",
            "stack": "prod",
        },
        "task_groups": {"service:production": 2, "family:web": 1, "gone": 0},
        "running_tasks": 3,
        "agent_version": "1.105.1",
        "registered_at": 1_700_000_000.0,
    }
    return Instance(**(values | changes))


def holds(expression: str, **changes: Any) -> bool:
    return query.parse(expression)(an_instance(**changes))


@pytest.mark.parametrize(
    "expression",
    [
        "attribute:ecs.instance-type == t2.small",
        "attribute:ecs.instance-type equals 't2.small'",
        'attribute:ecs.instance-type == "t2.small"',
        "attribute:ecs.instance-type != t3.large",
        "attribute:ecs.instance-type not_equals t3.large",
        "attribute:nothing != anything",
        "attribute:stack exists",
        "attribute:ecs.capability.x exists",
        "attribute:nothing !exists",
        "attribute:nothing not_exists",
        "attribute:stack in [prod, test]",
        "attribute:stack in prod",
        "attribute:stack !in [dev,'test env']",
        "attribute:stack not_in [dev]",
        "attribute:ecs.instance-type =~ t2.*",
        r"attribute:ecs.instance-type =~ t2\.(small|medium)",
        "(attribute:ecs.instance-type =~ (t2|t3).(small|medium))",
        "attribute:ecs.instance-type !~ g2.*",
        "attribute:ecs.instance-type not_matches g2.*",
        "attribute:ecs.availability-zone matches us-east-1[ab]",
        "attribute:rack > 9",
        "attribute:rack >= 12",
        "attribute:rack less_than 100",
        "attribute:rack <= 12.0",
        "task:group == service:production",
        "task:group != database",
        "not(task:group == database)",
        "!(task:group == database)",
        "task:group != gone",
        "task:group =~ service:.*",
        "runningTasksCount < 10",
        "runningTasksCount == 3",
        "agentConnected == true",
        "agentVersion >= 1.99.2",
        "agentVersion < 1.200",
        "registeredAt >= 2023-11-14T00:00:00+00:00",
        'registeredAt < "2024-01-01T00:00:00Z"',
        "ec2InstanceId !exists",
        "attribute:rack == 12 and attribute:stack == prod",
        "attribute:rack == 12&&attribute:stack == prod",
        "attribute:rack == 1 or attribute:stack == prod",
        "attribute:rack == 12 or attribute:rack == 1 and attribute:stack == dev",
        "NOT attribute:rack == 1 AND attribute:stack == prod",
    ],
)
def test_expression_that_holds(expression: str) -> None:
    assert holds(expression)
    assert not holds(f"not ({expression})")


@pytest.mark.parametrize(
    "expression",
    [
        "attribute:ecs.instance-type == t2.smal",
        "attribute:ecs.instance-type =~ t2",
        "attribute:nothing == anything",
        "attribute:nothing > 1",
        "attribute:stack !exists",
        "task:group == gone",
        "task:group != family:web",
        "agentConnected == false",
        "attribute:rack == 12 and (attribute:stack == dev or attribute:stack == test)",
        "ec2InstanceId in [i-1, i-2]",
    ],
)
def test_expression_that_does_not_hold(expression: str) -> None:
    assert not holds(expression)


def test_instance_id() -> None:
    assert holds("ec2InstanceId in [i-1, i-2]", ec2_instance_id="i-2")


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "a subject"),
        ("attribute:", "unknown subject 'attribute:'"),
        ("colour == red", "unknown subject 'colour'"),
        ("attribute:a", "an operator expected"),
        ("attribute:a ~ b", "an operator expected"),
        ("attribute:a ==", "an argument expected"),
        ("attribute:a == 'b", "closing ' expected"),
        ("attribute:a in [b", "']' expected"),
        ("(attribute:a == b", "')' expected"),
        ("attribute:a == b)", "unexpected ')'"),
        ("attribute:a == b attribute:c == d", "unexpected 'a'"),
        ("attribute:a == " + "b" * 129, "longer than 128"),
        ("attribute:a == b or " * 200, "longer than 2000"),
        ("(" * 41 + "attribute:a == b", "nested deeper"),
        ("!" * 1999, "nested deeper"),
        ("attribute:a =~ (?=x)", "not supported"),
        (r"attribute:a =~ (x)\1", "unsupported escape"),
        ("attribute:a =~ [z-a]", "wrong way round"),
        ("attribute:a =~ *", "nothing to repeat"),
        ("attribute:a =~ ((((x{99}){99}){99}){99})", "needs more than"),
        ("attribute:a =~ '((((){999}){999}){999}){999}'", "needs more than"),
    ],
)
def test_malformed_expression(expression: str, says: str) -> None:
    with pytest.raises(query.QueryError, match=r"^Invalid expression") as caught:
        query.parse(expression)
    assert says in str(caught.value)


_PIECES = [
    *("attribute:a", "attribute:rack", "task:group", "runningTasksCount", "registeredAt"),
    *("==", "!=", ">", "<=", "=~", "!~", "in", "!in", "exists", "!exists", "matches"),
    *("and", "or", "not", "&&", "||", "!", "(", ")", "[", "]", ",", "'", '"', "\\", "^", "$"),
    *("b", "12", "1.2.3", "2023-01-01", "t2.*", "(a|b)+", "[a-", "{3}", "{", "*", "?", "é", "\0"),
]


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(_PIECES)).map(" ".join)))
@example("registeredAt > 9999-99-99")
@example("attribute:rack > 0001-01-01T00:00:00+23:59")
@example("attribute:a =~ \\")
def test_any_text_is_an_expression_or_a_query_error(text: str) -> None:
    try:
        matcher = query.parse(text)
    except query.QueryError:
        return
    assert matcher(an_instance()) in {True, False}


_REGEX = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\.", "^", "$", ""]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda p: f"(?:{p[0]}|{p[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}", "*?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
    ),
    max_leaves=6,
)


@given(_REGEX, st.text(alphabet="ab1. ", max_size=6))
def test_pattern_agrees_with_re(source: str, text: str) -> None:
    try:
        pattern = Pattern(source)
    except PatternError:
        return
    # "$" also matches before a final newline in ``re``; the texts here have none.
    assert pattern.matches(text) == (re.fullmatch(source, text) is not None)


@pytest.mark.parametrize(
    "source", ["(a+)+$", "(a|a)*b", "(a*)*b", "(.*.*.*.*.*)*x", "(a?){99}a{99}"]
)
def test_pattern_that_is_exponential_elsewhere_is_quick(source: str) -> None:
    pattern = Pattern(source)
    began = time.perf_counter()
    pattern.matches("a" * 5000 + "!")
    assert time.perf_counter() - began < 2.0
