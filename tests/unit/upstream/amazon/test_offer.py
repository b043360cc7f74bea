"""What a registration says, and what is read of its answer."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ControlUnavailable
from agent.model.resources import Gpu, HostResources
from agent.resources.attributes import TASK_NETWORK, Features, towards_ecs
from agent.upstream.amazon import offer
from agent.upstream.amazon.ec2.facts import Ec2Facts, IdentityProof
from agent.upstream.amazon.offer import Registrant
from agent.upstream.protocol import RegisterInfo

ARN = "arn:aws:ecs:us-east-1:1:container-instance/c/0123"
HOST = HostResources(
    cpu_units=4096,
    memory_mib=7482,
    reserved_tcp=frozenset({51678, 22}),
    architecture="arm64",
    os_family="debian_12",
)
INFO = RegisterInfo(
    resources=HOST,
    attributes=towards_ecs(HOST, Features(), api_version="1.41"),
    tags={"team": "a"},
)
NEW = Registrant(cluster="c", client_token="t", custom={"rack": "r1", "ecs.os-type": "plan9"})


def _names(body: dict[str, Any]) -> list[str]:
    return [item["name"] for item in body["attributes"]]


def test_a_new_instance() -> None:
    body = offer.request(INFO, NEW)
    assert "containerInstanceArn" not in body
    assert "platformDevices" not in body
    assert "tags" not in body
    assert "versionInfo" not in body
    assert body["cluster"] == "c"
    assert body["clientToken"] == "t"
    assert body["instanceIdentityDocument"] == body["instanceIdentityDocumentSignature"] == ""
    assert body["totalResources"] == [
        {"name": "CPU", "type": "INTEGER", "integerValue": 4096},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": 7482},
        {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "51678"]},
        {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
    ]
    attributes = body["attributes"]
    assert attributes[0] == {"name": "rack", "value": "r1"}
    assert {"name": "ecs.os-type", "value": "linux"} in attributes
    assert {"name": "ecs.capability.container-ordering"} in attributes
    assert {"name": TASK_NETWORK, "value": "1"} in attributes
    names = _names(body)
    assert len(names) == len(set(names))
    assert max(i for i, name in enumerate(names) if "capability" in name) < names.index(
        "ecs.os-type"
    )
    for never in ("ecs.capability.task-eni", "ecs.cpu-architecture", "ecs.vpc-id"):
        assert never not in names


def test_an_instance_that_comes_back() -> None:
    body = offer.request(INFO, Registrant(cluster="c", client_token="t", instance_arn=ARN))
    assert body["containerInstanceArn"] == ARN
    again = Registrant(cluster="c", client_token="t", instance_arn=ARN, custom=NEW.custom)
    assert "rack" not in _names(offer.request(INFO, again))


def test_all_that_an_instance_may_have() -> None:
    host = HostResources(cpu_units=0, memory_mib=1, gpus=(Gpu(uuid="GPU-1"), Gpu(uuid="GPU-2")))
    body = offer.request(
        RegisterInfo(resources=host, attributes={"ecs.capability.task-eni": ""}),
        Registrant(
            cluster="c",
            client_token="t",
            proof=IdentityProof(document="{}", signature="s"),
            facts=Ec2Facts(vpc_id="vpc-1", subnet_id="subnet-1", outpost_arn="arn:aws:outposts:x"),
            tags={"team": "a"},
        ),
    )
    assert body["totalResources"][0] == {"name": "CPU", "type": "INTEGER"}
    assert body["platformDevices"] == [
        {"id": "GPU-1", "type": "GPU"},
        {"id": "GPU-2", "type": "GPU"},
    ]
    assert body["tags"] == [{"key": "team", "value": "a"}]
    assert body["instanceIdentityDocument"] == "{}"
    assert body["instanceIdentityDocumentSignature"] == "s"
    assert body["attributes"] == [
        {"name": "ecs.capability.task-eni"},
        {"name": "ecs.vpc-id", "value": "vpc-1"},
        {"name": "ecs.subnet-id", "value": "subnet-1"},
        {"name": "ecs.outpost-arn", "value": "arn:aws:outposts:x"},
    ]


# -- tags -------------------------------------------------------------------------------------------


def test_outside_of_a_vpc_nothing_is_said_of_interfaces() -> None:
    offered = {"ecs.capability.task-eni": "", "ecs.capability.task-eni.ipv6": "", "ecs.x": ""}
    registrant = Registrant(cluster="c", client_token="t")
    assert list(offer.attributes(offered, registrant)) == ["ecs.x"]


def test_own_tags_win_and_odd_ones_stay_behind() -> None:
    of_ec2 = {
        "team": "b",
        "Name": "web 1",
        "odd!": "x",
        "AWS:x": "y",
        "Größe": "L",
        "big": "v" * 257,
    }
    chosen, left = offer.tags({"team": "a"}, of_ec2)
    assert chosen == {"team": "a", "Name": "web 1", "Größe": "L"}
    assert left == ["odd!", "AWS:x", "big"]


def test_there_are_never_more_tags_than_amazon_takes() -> None:
    chosen, left = offer.tags({"own": ""}, {f"k{n}": "" for n in range(50)})
    assert len(chosen) == 50
    assert left == ["k49"]


# -- the attribute check ----------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "ecs.os-type", "ecs.capability.x", "ecs-host-agent.y"])
ATTRIBUTES = st.dictionaries(NAMES, st.sampled_from(["", "1", "2"]))


@given(requested=ATTRIBUTES, extra=ATTRIBUTES)
def test_what_is_held_as_it_was_sent_is_met(
    requested: dict[str, str], extra: dict[str, str]
) -> None:
    assert offer.unmet(requested, extra | requested, requested) == []


@given(requested=ATTRIBUTES, returned=ATTRIBUTES)
def test_the_rule_of_the_reference_where_attributes_are_kept(
    requested: dict[str, str], returned: dict[str, str]
) -> None:
    kept = {"ecs.capability.kept": ""}
    missing = [
        name
        for name, value in requested.items()
        if returned.get(name, "") != value and value and not name.startswith("ecs-host-agent.")
    ]
    assert offer.unmet(requested | kept, returned | kept, ()) == missing


@given(requested=ATTRIBUTES)
def test_a_back_end_that_keeps_no_attributes_contradicts_none(requested: dict[str, str]) -> None:
    assert offer.unmet(requested, {}, ()) == []
    assert offer.unmet({"ecs.os-type": "linux"}, {"ecs.os-type": "x"}, ()) == ["ecs.os-type"]
    asked_for = [n for n, v in requested.items() if v and not n.startswith("ecs-host-agent.")]
    assert offer.unmet(requested, {}, requested) == asked_for


# -- the answer -------------------------------------------------------------------------------------


def test_reading_an_answer() -> None:
    answer = offer.read_answer(
        {
            "containerInstance": {
                "containerInstanceArn": ARN,
                "attributes": [
                    {"name": "ecs.availability-zone", "value": "us-east-1a"},
                    {"name": "ecs.capability.x"},
                    {"name": "y", "value": None},
                    {"value": "nameless"},
                    {"name": ["z"]},
                    None,
                    7,
                ],
            }
        }
    )
    assert answer.arn == ARN
    assert answer.availability_zone == "us-east-1a"
    assert answer.attributes == {
        "ecs.availability-zone": "us-east-1a",
        "ecs.capability.x": "",
        "y": "",
    }
    assert not answer.control_is_ours


@pytest.mark.parametrize("zone", [None, "", "a b", "us-east-1a\n", "\ud800", "z" * 65])
def test_an_odd_zone_is_none(zone: str | None) -> None:
    attributes = [{"name": "ecs.availability-zone", "value": zone}]
    body = {"containerInstanceArn": ARN, "attributes": attributes}
    assert offer.read_answer({"containerInstance": body}).availability_zone == ""


def test_our_own_control_is_known_by_an_attribute() -> None:
    attributes = [{"name": "ecs-host-agent.control", "value": "1"}]
    body = {"containerInstanceArn": ARN, "attributes": attributes}
    assert offer.read_answer({"containerInstance": body}).control_is_ours


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"containerInstance": None},
        {"containerInstance": []},
        {"containerInstance": {}},
        {"containerInstance": {"containerInstanceArn": None}},
        {"containerInstance": {"containerInstanceArn": 7}},
        {"containerInstance": {"containerInstanceArn": ""}},
        {"containerInstance": {"containerInstanceArn": "arn:aws:ecs:r:1:task/c/1"}},
        {"containerInstance": {"containerInstanceArn": ARN + "\r\n"}},
        {"containerInstance": {"containerInstanceArn": "arn:aws:ecs:r:1:container-instance/"}},
        {"containerInstance": {"containerInstanceArn": ARN + "x" * 3000}},
    ],
)
def test_an_answer_without_an_instance_is_trouble(answer: dict[str, Any]) -> None:
    with pytest.raises(ControlUnavailable, match="names no container instance"):
        offer.read_answer(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(string.printable, max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(attributes=JSON, items=st.lists(JSON), name=JSON, value=JSON)
def test_no_attributes_can_break_an_answer(
    attributes: Any, items: Any, name: Any, value: Any
) -> None:
    for listed in (attributes, items, [{"name": name, "value": value}]):
        body = {"containerInstanceArn": ARN, "attributes": listed}
        answer = offer.read_answer({"containerInstance": body})
        assert answer.arn == ARN
        assert all(isinstance(v, str) for v in answer.attributes.values())
