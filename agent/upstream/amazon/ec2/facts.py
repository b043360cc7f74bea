"""Facts from instance metadata: the proof of this instance's identity, and its interface.

Reads instance metadata. Every fact may be absent; nothing here raises.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct

from agent.errors import AwsUnavailable
from agent.upstream.amazon.calls import asked

if TYPE_CHECKING:
    from agent.upstream.amazon.calls import InstanceMetadata

_log = structlog.get_logger()

DOCUMENT: Final = "dynamic/instance-identity/document"
SIGNATURE: Final = "dynamic/instance-identity/signature"
PROOF_LIMIT_S: Final = 30.0
"""Time limit for each half of the proof."""
FACTS_LIMIT_S: Final = 10.0
"""Time limit for all other facts together."""
_LIMIT_CHARACTERS: Final = 256


class IdentityProof(Struct, frozen=True, kw_only=True):
    """The identity document of an EC2 instance and AWS's signature of it; both or neither."""

    document: str = ""
    signature: str = ""

    def __bool__(self) -> bool:
        return bool(self.document)


class Ec2Facts(Struct, frozen=True, kw_only=True):
    """The instance's primary interface and location; empty if unknown."""

    mac: str = ""
    vpc_id: str = ""
    """Also empty if the instance is not in a VPC."""
    subnet_id: str = ""
    outpost_arn: str = ""
    local_ipv4: str = ""


async def identity_proof(
    imds: InstanceMetadata | None, limit_s: float = PROOF_LIMIT_S
) -> IdentityProof:
    """Return the proof for Amazon ECS of which EC2 instance this is; empty if there is none.

    Each half is retried for up to ``limit_s``. The document is sent unchanged, because the
    signature covers its bytes.
    """
    metadata = asked(imds)
    if metadata is None:
        return IdentityProof()
    document = await _half(metadata, DOCUMENT, limit_s)
    signature = await _half(metadata, SIGNATURE, limit_s) if document else ""
    return IdentityProof(document=document, signature=signature) if signature else IdentityProof()


async def read_facts(imds: InstanceMetadata | None, limit_s: float = FACTS_LIMIT_S) -> Ec2Facts:
    """Return the facts about this instance; facts not read within ``limit_s`` are empty."""
    metadata = asked(imds)
    if metadata is None:
        return Ec2Facts()
    try:
        async with asyncio.timeout(limit_s):
            mac = await _word(metadata, "meta-data/mac")
            interface = f"meta-data/network/interfaces/macs/{mac}"
            vpc_id, subnet_id, outpost_arn, local_ipv4 = await asyncio.gather(
                _word(metadata, f"{interface}/vpc-id" if mac else ""),
                _word(metadata, f"{interface}/subnet-id" if mac else ""),
                _word(metadata, "meta-data/outpost-arn"),
                _word(metadata, "meta-data/local-ipv4"),
            )
    except TimeoutError:
        _log.warning("instance metadata is slow; continuing without it", limit_s=limit_s)
        return Ec2Facts()
    return Ec2Facts(
        mac=mac,
        vpc_id=vpc_id,
        subnet_id=subnet_id,
        outpost_arn=outpost_arn,
        local_ipv4=local_ipv4,
    )


async def _half(imds: InstanceMetadata, path: str, limit_s: float) -> str:
    try:
        return await imds.insist(path, limit_s=limit_s) or ""
    except AwsUnavailable as error:
        _log.warning("instance metadata has no proof of identity", error=str(error))
        return ""


async def _word(imds: InstanceMetadata, path: str) -> str:
    """Return a short value on one line; empty if there is none, or something else."""
    if not path:
        return ""
    try:
        text = (await imds.text(path) or "").strip()
    except AwsUnavailable:
        return ""
    odd = len(text) > _LIMIT_CHARACTERS or not text.isprintable() or " " in text
    return "" if odd else text
