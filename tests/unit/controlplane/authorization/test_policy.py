"""What policies say: patterns, conditions, denials, and documents that are refused by name."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.authorization import trust
from agent.controlplane.authorization.actions.table import SERVICES
from agent.controlplane.authorization.caller import ROLE, ROOT, USER, Caller
from agent.controlplane.authorization.conditions import Condition, ConditionInvalid
from agent.controlplane.authorization.grants import Decision, Grants
from agent.controlplane.authorization.policy import (
    PolicyInvalid,
    compile_permissions,
    compile_trust,
)
from agent.controlplane.authorization.trust import Trust
from agent.controlplane.authorization.wildcards import Patterns

CLUSTER = "arn:aws:ecs:us-east-1:000000000000:cluster/shop"
SERVICE = "arn:aws:ecs:us-east-1:000000000000:service/shop/web"
Statement = dict[str, Any]


def grants(
    *statements: Statement, session: list[Statement] | None = None, version: str = "2012-10-17"
) -> Grants:
    def compiled(each: list[Statement]) -> Any:
        text = json.dumps({"Version": version, "Statement": each})
        return compile_permissions(text, SERVICES)

    return Grants(compiled(list(statements)), None if session is None else compiled(session))


def statement(
    effect: str = "Allow", action: Any = "ecs:*", resource: Any = "*", **more: Any
) -> Statement:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def decided(
    found: Grants, action: str = "ecs:UpdateService", resource: str = SERVICE, **values: Any
) -> Decision:
    keys = {key.replace("__", ":").replace("_", "-"): value for key, value in values.items()}
    return found.decide(
        action, resource, {k: (v,) if isinstance(v, str) else v for k, v in keys.items()}
    )


# -- patterns ---------------------------------------------------------------------------------

_TEXT = st.text(alphabet="ab:/*?.", max_size=12)


@given(st.text(alphabet="ab:/*?", max_size=8), st.text(alphabet="ab:/", max_size=12))
def test_patterns_match_as_those_of_a_shell(pattern: str, text: str) -> None:
    """``fnmatch`` without brackets is the same language."""
    wanted = re.compile(fnmatch.translate(pattern)).match(text) is not None
    assert Patterns([pattern], has_variables=False).match(text, {}) == wanted
    assert Patterns([pattern], has_variables=True).match(text, {}) == wanted


@given(_TEXT, _TEXT)
def test_text_without_wildcards_matches_itself_alone(pattern: str, text: str) -> None:
    patterns = Patterns([pattern], has_variables=False, has_wildcards=False)
    assert patterns.match(text, {}) == (pattern == text)


@given(_TEXT)
def test_the_value_of_a_variable_is_text(value: str) -> None:
    patterns = Patterns(["x/${aws:UserName}/*"], has_variables=True)
    assert patterns.match(f"x/{value}/y", {"aws:username": (value,)})
    assert patterns.match("x/ab/y", {"aws:username": (value,)}) == (value == "ab")


def test_variables_without_one_value_match_nothing() -> None:
    patterns = Patterns(["${aws:username}*"], has_variables=True)
    assert not patterns.match("ann", {})
    assert not patterns.match("ann", {"aws:username": ("ann", "bob")})


def test_characters_that_stand_for_themselves() -> None:
    patterns = Patterns(["a${*}${?}${$}"], has_variables=True)
    assert patterns.match("a*?$", {})
    assert not patterns.match("abc$", {})
    assert Patterns(["a${*}"], has_variables=False).match("a${b}", {})


def test_many_stars_cost_no_more_than_the_text_is_long() -> None:
    began = time.monotonic()
    assert not Patterns(["*a" * 40 + "b"], has_variables=False).match("a" * 5000, {})
    assert time.monotonic() - began < 20


# -- allow and deny ---------------------------------------------------------------------------

_ACTIONS = ("ecs:RunTask", "ecs:StopTask", "logs:PutLogEvents", "ecs:*", "*", "*:*", "EC?:run*")
_RESOURCES = (SERVICE, CLUSTER, "*", "arn:aws:ecs:*:*:service/shop/*")
_STATEMENTS = st.builds(
    statement,
    st.sampled_from(["Allow", "Deny"]),
    st.lists(st.sampled_from(_ACTIONS), min_size=1, max_size=3),
    st.lists(st.sampled_from(_RESOURCES), min_size=1, max_size=2),
)


def _says(each: Statement, action: str, resource: str) -> bool:
    return any(fnmatch.fnmatchcase(action.lower(), a.lower()) for a in each["Action"]) and any(
        fnmatch.fnmatchcase(resource, r) for r in each["Resource"]
    )


@given(
    st.lists(_STATEMENTS, min_size=1, max_size=5),
    st.sampled_from(_ACTIONS[:3]),
    st.sampled_from((SERVICE, CLUSTER)),
    st.randoms(),
)
def test_a_denial_beats_every_permission(
    statements: list[Statement], action: str, resource: str, order: Any
) -> None:
    effects = [each["Effect"] for each in statements if _says(each, action, resource)]
    wanted = Decision.NOT_ALLOWED
    if effects:
        wanted = Decision.DENIED if "Deny" in effects else Decision.ALLOWED
    order.shuffle(statements)
    found = grants(*statements)
    assert found.decide(action, resource, {}) is wanted
    assert found.decide(action, resource, {}) is wanted  # what is remembered is the same
    limited = grants(statement(), statement(action="logs:*"), session=statements)
    in_session = {
        Decision.ALLOWED: Decision.ALLOWED,
        Decision.DENIED: Decision.DENIED_IN_SESSION,
        Decision.NOT_ALLOWED: Decision.NOT_IN_SESSION,
    }
    assert limited.decide(action, resource, {}) is in_session[wanted]


def test_what_is_not_meant() -> None:
    found = grants({"Effect": "Allow", "NotAction": "iam:*", "NotResource": f"{CLUSTER}*"})
    assert found.decide("ecs:DeleteCluster", SERVICE, {}) is Decision.ALLOWED
    assert found.decide("ecs:DeleteCluster", CLUSTER, {}) is Decision.NOT_ALLOWED
    assert found.decide("iam:CreateUser", SERVICE, {}) is Decision.NOT_ALLOWED


def test_resources_with_the_name_of_the_user() -> None:
    own = statement(resource="arn:aws:ecs:*:*:service/${aws:username}/*")
    assert decided(grants(own), aws__username="shop") is Decision.ALLOWED
    assert decided(grants(own), aws__username="mail") is Decision.NOT_ALLOWED
    assert decided(grants(own, version="2008-10-17"), aws__username="shop") is Decision.NOT_ALLOWED


# -- conditions -------------------------------------------------------------------------------

_HOLDS: list[tuple[str, Any, tuple[str, ...], bool]] = [
    ("StringEquals", "a", ("a",), True),
    ("StringEquals", ["b", "a"], ("a",), True),
    ("StringEquals", "A", ("a",), False),
    ("StringEquals", "a*", ("ab",), False),
    ("StringEquals", "a", (), False),
    ("StringEqualsIfExists", "a", (), True),
    ("StringEqualsIfExists", "a", ("b",), False),
    ("StringNotEquals", "a", ("a",), False),
    ("StringNotEquals", ["a", "b"], ("b",), False),
    ("StringNotEquals", "a", ("c",), True),
    ("StringNotEquals", "a", (), True),
    ("StringNotEqualsIfExists", "a", ("b",), True),
    ("StringEqualsIgnoreCase", "A", ("a",), True),
    ("StringNotEqualsIgnoreCase", "A", ("a",), False),
    ("StringLike", "a*c?", ("abbbcd",), True),
    ("StringNotLike", "a*", ("abc",), False),
    ("NumericEquals", "5", ("5.0",), True),
    ("NumericLessThan", 5, ("4",), True),
    ("NumericLessThanEquals", "5", ("6",), False),
    ("NumericGreaterThan", "5", ("x",), False),
    ("NumericGreaterThanEquals", "5", ("5",), True),
    ("NumericNotEquals", "5", ("6",), True),
    ("DateLessThan", "2030-01-01T00:00:00Z", ("2026-11-30T12:00:00+00:00",), True),
    ("DateGreaterThan", "2030-01-01", ("2026-11-30T12:00:00Z",), False),
    ("DateGreaterThanEquals", "1000", ("1970-01-01T00:16:40Z",), True),
    ("Bool", "true", ("true",), True),
    ("Bool", False, ("true",), False),
    ("Bool", "true", (), False),
    ("BoolIfExists", "true", (), True),
    ("IpAddress", ["10.0.0.0/8", "::1/128"], ("10.1.2.3",), True),
    ("IpAddress", "10.0.0.0/8", ("::ffff:10.1.2.3",), True),
    ("IpAddress", "10.0.0.0/8", ("11.1.2.3",), False),
    ("NotIpAddress", "10.0.0.0/8", ("11.1.2.3",), True),
    ("ArnEquals", CLUSTER, (CLUSTER,), True),
    ("ArnLike", "arn:aws:ecs:*:*:cluster/s*", (CLUSTER,), True),
    ("ArnLike", "arn:aws:ecs:*:cluster*:cluster/shop", (CLUSTER,), False),
    ("ArnNotEquals", CLUSTER, (CLUSTER,), False),
    ("ArnNotLike", "arn:aws:ecs:*:*:cluster/x*", (CLUSTER,), True),
    ("Null", "true", (), True),
    ("Null", "true", ("x",), False),
    ("Null", False, ("x",), True),
    ("ForAllValues:StringEquals", ["a", "b"], ("a", "b"), True),
    ("ForAllValues:StringEquals", ["a"], ("a", "b"), False),
    ("ForAllValues:StringEquals", ["a"], (), True),
    ("ForAnyValue:StringEquals", ["a"], ("a", "b"), True),
    ("ForAnyValue:StringLike", ["a*"], (), False),
    ("ForAllValues:StringNotEquals", ["a"], ("a", "b"), False),
    ("ForAnyValue:StringNotEquals", ["a"], ("a", "b"), True),
]


@pytest.mark.parametrize(("operator", "values", "found", "holds"), _HOLDS)
def test_operators(operator: str, values: Any, found: tuple[str, ...], holds: bool) -> None:
    condition = Condition(operator, "AWS:X", values, has_variables=True)
    assert condition.holds({"aws:x": found} if found else {}) is holds
    assert condition.holds({"aws:x": found}) is holds


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        ("BinaryEquals", "a"),
        ("StringMatches", "a"),
        ("ForEach:StringEquals", "a"),
        ("NullIfExists", "true"),
        ("", "a"),
        ("Bool", "yes"),
        ("IpAddress", "10.0.0.0/40"),
        ("NumericEquals", "many"),
        ("DateLessThan", "tomorrow"),
        ("ArnEquals", "shop"),
        ("ArnLike", "arn:*:cluster/shop"),
        ("StringEquals", []),
        ("StringEquals", {"a": "b"}),
        ("StringEquals", [None]),
    ],
)
def test_conditions_that_cannot_be_evaluated(operator: str, values: Any) -> None:
    with pytest.raises(ConditionInvalid):
        Condition(operator, "aws:username", values, has_variables=True)


def test_all_conditions_of_a_statement_must_hold() -> None:
    both = statement(
        Condition={
            "ArnEquals": {"ecs:cluster": CLUSTER},
            "StringEquals": {"aws:ResourceTag/Team": "${aws:username}"},
        }
    )
    found = grants(both)
    assert found.keys("ecs:RunTask") == {"ecs:cluster", "aws:resourcetag/team", "aws:username"}
    assert found.keys("logs:PutLogEvents") == frozenset()
    values = {"ecs:cluster": (CLUSTER,), "aws:resourcetag/team": ("ann",), "aws:username": ("ann",)}
    assert found.decide("ecs:RunTask", SERVICE, values) is Decision.ALLOWED
    for key in values:
        without = {name: value for name, value in values.items() if name != key}
        assert found.decide("ecs:RunTask", SERVICE, without) is Decision.NOT_ALLOWED, key


# -- documents --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"Condition": {"StringEquals": {"aws:FederatedProvider": "x"}}}, "aws:federatedprovider"),
        ({"Condition": {"StringEquals": {"s3:prefix": "x"}}}, "s3:prefix"),
        ({"Condition": {"StringEquals": {"aws:ResourceTag/": "x"}}}, "aws:resourcetag/"),
        ({"Condition": {"StringSounds": {"aws:username": "x"}}}, "StringSounds"),
        ({"Condition": {"StringEquals": "x"}}, "Condition"),
        ({"Resource": "arn:aws:ecs:*:*:cluster/${saml:sub}"}, "saml:sub"),
        ({"Resource": "${aws:username, 'x'}*"}, "ARN format"),
        ({"Resource": "arn:aws:ecs:::${aws:username, 'x'}"}, "Default values"),
        ({"Resource": "cluster/shop"}, "ARN format"),
        ({"Action": "RunTask"}, "vendor"),
        ({"Action": ":x"}, "vendor"),
        ({"Principal": "*"}, "principal"),
    ],
)
def test_what_cannot_be_evaluated_is_named(wrong: Statement, names: str) -> None:
    with pytest.raises(PolicyInvalid, match=re.escape(names)):
        grants(statement() | wrong)


def test_statements_about_other_services_are_kept_out() -> None:
    """Nothing here depends on them, so their conditions may be what they like."""
    foreign = statement(action=["s3:Get*", "sqs:*"], Condition={"StringLike": {"s3:prefix": "x"}})
    found = grants(foreign, statement(action="ecs:RunTask"))
    assert found.decide("ecs:RunTask", "*", {}) is Decision.ALLOWED
    assert found.decide("s3:GetObject", "*", {}) is Decision.NOT_ALLOWED
    with pytest.raises(PolicyInvalid, match="s3:prefix"):
        grants(foreign | {"Action": ["s3:*", "*:Get*"]})


# -- trust ------------------------------------------------------------------------------------

ACCOUNT = "000000000000"
ROOT_ARN, ANN_ARN = f"arn:aws:iam::{ACCOUNT}:root", f"arn:aws:iam::{ACCOUNT}:user/ann"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/web"
ANN = Caller(USER, "ann", ANN_ARN, "k", "AIDA")
OWNER = Caller(ROOT, "default", ROOT_ARN, "k")
WEB = Caller(ROLE, "web", f"arn:aws:sts::{ACCOUNT}:assumed-role/web/s", "k", "AROA:s", ROLE_ARN)


def trusting(principal: Any, effect: str = "Allow", **more: Any) -> Statement:
    return {"Effect": effect, "Action": "sts:AssumeRole", "Principal": principal, **more}


@pytest.mark.parametrize(
    ("principal", "of_owner", "of_ann", "of_web"),
    [
        ("*", Trust.FULL, Trust.FULL, Trust.FULL),
        ({"AWS": "*"}, Trust.FULL, Trust.FULL, Trust.FULL),
        ({"AWS": ACCOUNT}, Trust.FULL, Trust.ACCOUNT, Trust.ACCOUNT),
        ({"AWS": [ROOT_ARN]}, Trust.FULL, Trust.ACCOUNT, Trust.ACCOUNT),
        ({"AWS": ANN_ARN}, Trust.NONE, Trust.FULL, Trust.NONE),
        ({"AWS": ROLE_ARN}, Trust.NONE, Trust.NONE, Trust.FULL),
        ({"AWS": "arn:aws:iam::111111111111:root"}, Trust.NONE, Trust.NONE, Trust.NONE),
        ({"Service": "ecs-tasks.amazonaws.com"}, Trust.NONE, Trust.NONE, Trust.NONE),
        ({"Federated": "*"}, Trust.NONE, Trust.NONE, Trust.NONE),
    ],
)
def test_who_is_trusted(principal: Any, of_owner: Trust, of_ann: Trust, of_web: Trust) -> None:
    statements = compile_trust(json.dumps({"Statement": trusting(principal)}))
    found = tuple(trust.of_caller(statements, who, {}) for who in (OWNER, ANN, WEB))
    assert found == (of_owner, of_ann, of_web)


def test_trust_with_conditions_and_denials() -> None:
    only = {"StringEquals": {"sts:ExternalId": "x"}}
    document = {
        "Version": "2012-10-17",
        "Statement": [
            trusting({"AWS": "*", "Service": "ecs-tasks.amazonaws.com"}, Condition=only),
            trusting({"AWS": ANN_ARN}, "Deny"),
        ],
    }
    statements = compile_trust(json.dumps(document))
    values = {"sts:externalid": ("x",)}
    assert trust.of_caller(statements, OWNER, values) is Trust.FULL
    assert trust.of_caller(statements, OWNER, {}) is Trust.NONE
    assert trust.of_caller(statements, ANN, values) is Trust.NONE
    assert trust.of_service(statements, "ecs-tasks.amazonaws.com", values)
    assert not trust.of_service(statements, "ec2.amazonaws.com", values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"Principal": {"Group": "x"}},
        {"Principal": {"AWS": []}},
        {"Principal": {"AWS": [1]}},
        {"Resource": "*"},
        {"Condition": {"StringEquals": {"saml:aud": "x"}}},
    ],
)
def test_trust_that_cannot_be_evaluated(wrong: Statement) -> None:
    with pytest.raises(PolicyInvalid):
        compile_trust(json.dumps({"Statement": trusting({"AWS": "*"}) | wrong}))


# -- services that are not served here --------------------------------------------------------

_ALL = statement(action="*")


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([statement()], Decision.NOT_ALLOWED),
        ([statement(action="S3:*")], Decision.ALLOWED),
        ([statement(action=["ecs:*", "s3:*"])], Decision.ALLOWED),
        ([_ALL], Decision.ALLOWED),
        ([statement(action="s?:*")], Decision.ALLOWED),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], Decision.ALLOWED),
        ([{"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}], Decision.NOT_ALLOWED),
        ([statement(action="s3:Get*")], Decision.NOT_ALLOWED),
        ([statement(action="s3:*", resource="arn:aws:s3:::mine/*")], Decision.NOT_ALLOWED),
        ([{"Effect": "Allow", "Action": "s3:*", "NotResource": "*"}], Decision.NOT_ALLOWED),
        ([statement(action="s3:*", Condition={"Bool": {"s3:x": "true"}})], Decision.NOT_ALLOWED),
        ([_ALL, statement("Deny", "s3:DeleteObject", "arn:aws:s3:::mine/*")], Decision.DENIED),
        ([_ALL, statement("Deny", ["ecs:*", "s3:Put*"])], Decision.DENIED),
        ([_ALL, statement("Deny", "*:Delete*")], Decision.DENIED),
        ([_ALL, {"Effect": "Deny", "NotAction": "ecs:*", "Resource": "*"}], Decision.DENIED),
        (
            [_ALL, {"Effect": "Deny", "NotAction": ["ecs:*", "s3:*"], "Resource": "*"}],
            Decision.ALLOWED,
        ),
        ([_ALL, statement("Deny", "sqs:*")], Decision.ALLOWED),
    ],
)
def test_a_service_that_is_not_served_is_allowed_as_a_whole(
    statements: list[Statement], expected: Decision
) -> None:
    assert grants(*statements).decide_service("s3") is expected
    in_session = grants(_ALL, session=statements).decide_service("s3")
    assert (in_session is Decision.ALLOWED) == (expected is Decision.ALLOWED)
