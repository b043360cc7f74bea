"""The tags of the EC2 instance."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from agent.errors import AwsRefused, AwsUnavailable
from agent.upstream.amazon.ec2.tags import InstanceTags, read_tags
from tests.support.ecs_calls import ScriptedMetadata

if TYPE_CHECKING:
    from collections.abc import Mapping

IMDS = ScriptedMetadata({"meta-data/instance-id": "i-1"})
XML = """
<DescribeTagsResponse><requestId>x</requestId><tagSet>
  <item><resourceId>i-1</resourceId><key>Name</key><value>web</value></item>
  <item><key>aws:autoscaling:groupName</key><value>g</value></item>
  <item><key>empty</key><value/></item>
  <item><value>nameless</value></item>
  <item/>
</tagSet></DescribeTagsResponse>
"""


class Ec2:
    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer
        self.calls: list[tuple[str, dict[str, str]]] = []

    async def query(self, action: str, params: Mapping[str, str]) -> ET.Element:
        self.calls.append((action, dict(params)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return ET.fromstring(self.answer)  # noqa: S314 - our own


async def test_tags_of_people_are_fetched() -> None:
    ec2 = Ec2(XML)
    assert await InstanceTags(IMDS, ec2)() == {"Name": "web", "empty": ""}
    assert ec2.calls == [
        (
            "DescribeTags",
            {
                "Filter.1.Name": "resource-id",
                "Filter.1.Value.1": "i-1",
                "Filter.2.Name": "resource-type",
                "Filter.2.Value.1": "instance",
            },
        )
    ]


def test_never_more_than_fifty() -> None:
    items = "".join(f"<item><key>k{n}</key></item>" for n in range(500))
    root = ET.fromstring(f"<r><tagSet>{items}</tagSet></r>")  # noqa: S314 - our own
    assert len(read_tags(root)) == 50


@pytest.mark.parametrize("answer", ["<r/>", "<r><tagSet/></r>", "<r><tagSet>text</tagSet></r>"])
async def test_an_answer_without_tags(answer: str) -> None:
    assert await InstanceTags(IMDS, Ec2(answer))() == {}


async def test_a_refusal_names_the_mend() -> None:
    denied = Ec2(AwsRefused("no", code="UnauthorizedOperation", status=403))
    with pytest.raises(AwsRefused, match="allow ec2:DescribeTags"):
        await InstanceTags(IMDS, denied)()
    with pytest.raises(AwsRefused, match=r"^odd$"):
        await InstanceTags(IMDS, Ec2(AwsRefused("odd", code="Odd")))()
    with pytest.raises(AwsUnavailable, match="away"):
        await InstanceTags(IMDS, Ec2(AwsUnavailable("away")))()


@pytest.mark.parametrize("imds", [None, ScriptedMetadata(enabled=False), ScriptedMetadata()])
async def test_a_host_that_is_no_ec2_instance(imds: ScriptedMetadata | None) -> None:
    with pytest.raises(AwsUnavailable, match="names no EC2 instance"):
        await InstanceTags(imds, Ec2(XML))()
