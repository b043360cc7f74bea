"""What instance metadata tells; nothing of it has to be there."""

from __future__ import annotations

import asyncio

import pytest

from agent.errors import AwsUnavailable
from agent.upstream.amazon.ec2 import facts
from agent.upstream.amazon.ec2.facts import Ec2Facts, IdentityProof, identity_proof, read_facts
from tests.support.ecs_calls import ScriptedMetadata

MAC = "0e:49:61:0f:c3:11"
INTERFACE = f"meta-data/network/interfaces/macs/{MAC}"
ALL = {
    "meta-data/mac": MAC,
    f"{INTERFACE}/vpc-id": "vpc-1",
    f"{INTERFACE}/subnet-id": "subnet-1",
    "meta-data/outpost-arn": "arn:aws:outposts:r:1:outpost/op-1",
    "meta-data/local-ipv4": "192.0.2.7",
}


async def test_all_facts() -> None:
    assert await read_facts(ScriptedMetadata(ALL)) == Ec2Facts(
        mac=MAC,
        vpc_id="vpc-1",
        subnet_id="subnet-1",
        outpost_arn="arn:aws:outposts:r:1:outpost/op-1",
        local_ipv4="192.0.2.7",
    )


@pytest.mark.parametrize("value", [None, AwsUnavailable("away"), "a\nb", "x" * 999, "a b"])
@pytest.mark.parametrize("path", sorted(ALL))
async def test_a_fact_that_is_not_there_is_empty(path: str, value: str | Exception | None) -> None:
    found = await read_facts(ScriptedMetadata(ALL | {path: value}))
    assert "" in (found.mac, found.vpc_id, found.subnet_id, found.outpost_arn, found.local_ipv4)


async def test_slow_metadata_is_not_waited_for() -> None:
    class Slow(ScriptedMetadata):
        async def text(self, path: str) -> str | None:
            await asyncio.sleep(3600)
            return path

    assert await read_facts(Slow(), limit_s=0.01) == Ec2Facts()


async def test_the_proof_is_whole_or_absent() -> None:
    document, signature = '{ "instanceId" : "i-1" }', "c2lnbmF0dXJl"
    both = {facts.DOCUMENT: document, facts.SIGNATURE: signature}
    proof = await identity_proof(ScriptedMetadata(both))
    assert proof == IdentityProof(document=document, signature=signature)
    assert proof
    for path in both:
        for value in (None, AwsUnavailable("away")):
            assert not await identity_proof(ScriptedMetadata(both | {path: value}))


async def test_without_a_document_no_signature_is_asked_for() -> None:
    imds = ScriptedMetadata()
    assert not await identity_proof(imds)
    assert imds.asked == [facts.DOCUMENT]


@pytest.mark.parametrize("imds", [None, ScriptedMetadata(enabled=False)])
async def test_hosts_without_metadata(imds: ScriptedMetadata | None) -> None:
    assert await read_facts(imds) == Ec2Facts()
    assert await identity_proof(imds) == IdentityProof()
