"""Reading what ACS says: any bytes are read or refused, and nothing else ever happens."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine import task_commands
from agent.errors import PayloadError
from agent.model import payload as payloads
from agent.model.wire import Assignments
from agent.upstream.amazon import frames
from agent.upstream.amazon.acs import fields as f
from agent.upstream.amazon.acs import messages, tasks, validity
from agent.upstream.amazon.acs.fields import UnusableMessage
from tests.support.acs_host import CLUSTER, INSTANCE, ORIGIN, arn, task

if TYPE_CHECKING:
    from collections.abc import Callable

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["RUNNING", "STOPPED", "amazonebs", "vlan", arn("a"), "TaskApplication"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=3)
            | st.sampled_from(
                [
                    "messageId",
                    "clusterArn",
                    "containerInstanceArn",
                    "tasks",
                    "arn",
                    "taskArn",
                    "desiredStatus",
                    "timeline",
                    "seqNum",
                    "roleCredentials",
                    "credentialsId",
                    "elasticNetworkInterfaces",
                    "ipv4Addresses",
                    "ipv6Addresses",
                    "attachment",
                    "attachmentProperties",
                    "name",
                    "value",
                    "containers",
                    "stopTasks",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)

READERS: list[Callable[[msgspec.Raw], object]] = [
    messages.heartbeat,
    messages.payload,
    messages.credentials,
    messages.manifest,
    messages.stop_verified,
    messages.volume,
    messages.update,
    messages.told,
    tasks.read,
    lambda raw: messages.interfaces(raw, of_task=True),
    lambda raw: messages.interfaces(raw, of_task=False),
    lambda raw: validity.interface(f.read(raw, "interface")),
]


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@settings(max_examples=150)
@given(ANY_JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    for read in READERS:
        with contextlib.suppress(UnusableMessage):
            read(raw(value))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_refused(told: bytes) -> None:
    with contextlib.suppress(ValueError):
        frame = frames.frame(told)
        assert frame.type
    assert len(frames.refusal(told, {}).text) <= 4096


@given(st.integers(0, 400))
def test_half_a_message_is_refused(cut: int) -> None:
    whole = msgspec.json.encode(
        {"type": "PayloadMessage", "message": ORIGIN | {"messageId": "m", "tasks": [task("a")]}}
    )
    if cut < len(whole):
        with pytest.raises(ValueError, match=r"\w"):
            frames.frame(whole[:cut])


@pytest.mark.parametrize("depth", [10, 500, 900, 2000, 100_000])
def test_deep_nesting_is_refused_at_some_depth_and_harms_nothing(depth: int) -> None:
    one = json.dumps(task("a", desiredStatus="CREATED"))
    told = msgspec.Raw((one[:-1] + ',"x":' + nested(depth) + "}").encode())
    with contextlib.suppress(UnusableMessage):
        order = tasks.read(told)
        assert order.arn == arn("a")
        assert order.unreadable or payloads.decode(order.payload).arn == arn("a")
    with contextlib.suppress(ValueError):
        frames.frame(f'{{"type":"A","message":{nested(depth)}}}'.encode())


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 400, "1.5", "1e3", "true", '"7"'])
def test_odd_numbers_count_as_none(number: str) -> None:
    told = json.dumps(ORIGIN | {"messageId": "m", "tasks": []})
    body = msgspec.Raw((told[:-1] + f',"seqNum":{number}' + "}").encode())
    assert messages.payload(body).seq_num is None


@settings(max_examples=150)
@given(st.sampled_from(sorted(payloads.TaskPayload.__struct_encode_fields__)), ANY_JSON)
def test_any_value_in_any_field_of_a_task_ends_as_an_order_of_the_engine(
    name: str, value: Any
) -> None:
    try:
        order = tasks.read(raw(task("a", **{name: value})))
    except UnusableMessage:
        assert name == "arn"
        return
    read = task_commands.read(Assignments(revision=0, tasks=[order.assignment]), known=())
    assert [one.arn for one in read] == [order.arn]


@given(ANY_JSON)
def test_nulls_never_make_a_difference(value: Any) -> None:
    whole = task("a", desiredStatus="CREATED", group=None, extra=value)
    order = tasks.read(raw(whole))
    assert payloads.decode(order.payload) == payloads.decode(json.dumps(task("a")).encode())


def test_what_is_as_we_have_it_is_handed_on_untouched() -> None:
    told = raw(task("a"))
    assert tasks.read(told).payload is told


def test_a_stop_is_read_though_all_else_is_wrong() -> None:
    order = tasks.read(raw({"arn": arn("a"), "desiredStatus": "STOPPED", "containers": 7}))
    assert order.assignment.desired_status == "STOPPED"
    assert not order.assignment.stopped_reason


def test_what_the_payload_itself_cannot_hold_is_worded_by_the_engine() -> None:
    order = tasks.read(raw(task("a", containers=[{"name": "x", "image": 7}])))
    with pytest.raises(PayloadError, match="image"):
        payloads.decode(order.payload)


def container(overrides: Any) -> dict[str, Any]:
    return {"name": "main", "image": "img", "overrides": overrides}


@pytest.mark.parametrize(
    "overrides", [None, "", "{}", {}, '{"command":["a"]}', {"command": ["a"]}, '{"command":null}']
)
def test_overrides_that_a_task_may_have(overrides: Any) -> None:
    order = tasks.read(raw(task("a", containers=[container(overrides)])))
    assert not order.unreadable
    payloads.decode(order.payload)


@pytest.mark.parametrize(
    "overrides", ['{"surprise":1}', {"command": [], "cpu": 1}, "{", "[]", 7, [], "null"]
)
def test_other_overrides_make_the_whole_task_unreadable(overrides: Any) -> None:
    order = tasks.read(raw(task("a", containers=[container(""), container(overrides)])))
    assert order.unreadable.startswith("overrides of container main")


ENI: dict[str, Any] = {
    "ec2Id": "eni-1",
    "macAddress": "02:00:00:00:00:01",
    "ipv4Addresses": [{"primary": True, "privateAddress": "10.0.0.7"}],
    "subnetGatewayIpv4Address": "10.0.0.1/24",
}
V6 = {"ipv4Addresses": [], "ipv6Addresses": [{"address": "fd00::7"}]}
PREFIX = "eni message validation: "


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ipv4Addresses": None}, f"{PREFIX}no ipv4 addresses in the message"),
        (
            {"subnetGatewayIpv4Address": None},
            f"{PREFIX}no subnet gateway ipv4 address in the message",
        ),
        (
            {"subnetGatewayIpv4Address": "10.0.0.1"},
            f"{PREFIX}invalid subnet gateway ipv4 address 10.0.0.1",
        ),
        (
            {"subnetGatewayIpv4Address": "a/b/c"},
            f"{PREFIX}invalid subnet gateway ipv4 address a/b/c",
        ),
        (V6, f"{PREFIX}no subnet gateway ipv6 address in the message"),
        (
            V6 | {"subnetGatewayIpv6Address": "fd00::1"},
            f"{PREFIX}invalid subnet gateway ipv6 address fd00::1",
        ),
        ({"macAddress": ""}, f"{PREFIX}empty eni mac address in the message"),
        ({"ec2Id": None}, f"{PREFIX}empty eni id in the message"),
        (
            {"interfaceAssociationProtocol": "veth"},
            "invalid interface association protocol: veth",
        ),
        ({"interfaceAssociationProtocol": "vlan"}, "vlan interface properties missing"),
        (
            {
                "interfaceAssociationProtocol": "vlan",
                "interfaceVlanProperties": {"vlanId": "1", "trunkInterfaceMacAddress": ""},
            },
            "vlan interface properties missing",
        ),
    ],
)
def test_what_is_wrong_with_an_interface_is_said_in_the_words_of_ecs(
    changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(UnusableMessage) as caught:
        validity.interface(f.read(raw(ENI | changes), "interface"))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "changes",
    [
        {},
        V6 | {"subnetGatewayIpv6Address": "fd00::1/64"},
        {"interfaceAssociationProtocol": "default"},
        {
            "interfaceAssociationProtocol": "vlan",
            "interfaceVlanProperties": {"vlanId": "1", "trunkInterfaceMacAddress": "02:"},
        },
    ],
)
def test_interfaces_that_are_valid(changes: dict[str, Any]) -> None:
    assert validity.interface(f.read(raw(ENI | changes), "interface")).mac == ENI["macAddress"]


def test_ids_of_absurd_length_count_as_absent() -> None:
    with pytest.raises(UnusableMessage, match="messageId"):
        messages.payload(raw(ORIGIN | {"messageId": "m" * 100_000}))


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("tasks", messages.payload),
        ("tasks", messages.manifest),
        ("stopTasks", messages.stop_verified),
        ("elasticNetworkInterfaces", lambda raw: messages.interfaces(raw, of_task=False)),
    ],
)
def test_lists_of_absurd_length_are_refused_before_they_are_read(
    kind: str, read: Callable[[msgspec.Raw], object]
) -> None:
    told = ORIGIN | {
        "messageId": "m",
        "timeline": 1,
        "waitTimeoutMs": 1,
        kind: [{}] * (f.PARTS_LIMIT + 1),
    }
    with pytest.raises(UnusableMessage, match=f"{kind} has 5001 entries"):
        read(msgspec.Raw(json.dumps(told).encode()))


def test_answers_repeat_what_the_message_said() -> None:
    origin = messages.Origin(message_id="m", cluster=CLUSTER, instance=INSTANCE)
    assert json.loads(messages.ack(origin)) == {
        "type": "AckRequest",
        "message": {"cluster": CLUSTER, "containerInstance": INSTANCE, "messageId": "m"},
    }
