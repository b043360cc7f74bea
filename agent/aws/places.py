"""The region of this host, and the endpoints of AWS services in it.

Uses instance metadata and a small kernel file. Raises ``ConfigError`` if only a setting can help,
and ``AwsUnavailable`` if waiting may help.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from yarl import URL

from agent.errors import AwsUnavailable, ConfigError

if TYPE_CHECKING:
    from agent.aws.imds import Imds

_FIPS: Final = Path("/proc/sys/crypto/fips_enabled")
_REGION: Final = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]{1,16}){1,4}")
_DOCUMENT: Final = "dynamic/instance-identity/document"
_PLACEMENT: Final = "meta-data/placement/region"
_READ_S: Final = 5.0
_NAMES_REGION: Final = re.compile(
    r"(?:^|\.)ecs(?:-fips)?\.([a-z]{2,8}(?:-[a-z]{1,16}){1,3}-[0-9]{1,2})\."
)
"""Finds the region in names of Amazon's ECS endpoints, including private ones (``vpce-...``)."""
_MEND: Final = "set AWS_DEFAULT_REGION, and ECS_EXTERNAL=true if this host is not an EC2 instance"
_USUAL_REGION: Final = "us-east-1"
"""Used if the region is unknown, since signatures must name a region."""


class Region(NamedTuple):
    """The region of this host, and whether it is a guess."""

    name: str
    is_guess: bool = False
    """Nothing names the region: ``ECS_BACKEND_HOST`` must accept signatures for any region."""


class _Partition(NamedTuple):
    """A separate part of AWS, recognized by the prefix of its region names."""

    prefix: str
    suffix: str
    dual_stack_suffix: str


_PARTITIONS: Final = (
    _Partition("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    _Partition("us-gov-", "amazonaws.com", "api.aws"),
    _Partition("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    _Partition("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    _Partition("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    _Partition("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    _Partition("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    _Partition("", "amazonaws.com", "api.aws"),
)
"""Source: partitions.json of botocore. Its tables of individual endpoints take a megabyte to load,
and add nothing for the services that the agent calls."""


def is_region(text: str) -> bool:
    """Return whether a text looks like a region, so that it can be part of a host name. Pure."""
    return _REGION.fullmatch(text) is not None


def service_url(
    service: str,
    region: str,
    *,
    override: str = "",
    setting: str = "ECS_BACKEND_HOST",
    fips: bool = False,
    dual_stack: bool = False,
) -> URL:
    """Return the endpoint of a service; ``override`` wins over everything else. Pure.

    Raises:
        ConfigError: ``override`` is not an HTTP URL; the text names ``setting``, where it is from.
    """
    if override:
        return _overridden(override, setting)
    partition = next(p for p in _PARTITIONS if region.startswith(p.prefix))
    suffix = partition.dual_stack_suffix if dual_stack else partition.suffix
    # In GovCloud, the plain EC2 endpoints meet FIPS.
    plain = not fips or (service == "ec2" and partition.prefix == "us-gov-" and not dual_stack)
    return URL(f"https://{service if plain else f'{service}-fips'}.{region}.{suffix}")


def _overridden(text: str, setting: str = "ECS_BACKEND_HOST") -> URL:
    mend = "write HOST, HOST:PORT or a URL that begins with https://"
    try:
        url = URL(text if "://" in text else f"https://{text}")
    except ValueError as error:
        raise ConfigError(f"{setting} is not a URL ({error}); {mend}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"{setting} {text!r} is not an HTTP URL; {mend}")
    return url.with_user(None).with_query(None).with_fragment(None)


async def find_region(
    configured: str,
    imds: Imds,
    *,
    external: bool = False,
    override: str = "",
) -> Region:
    """Return the region of this host: the configured one, or the one from instance metadata.

    With ``override``, a host that does not use metadata needs no configured region: the region in
    the endpoint's name is used, or a default.

    Args:
        configured: the region in the settings; empty if there is none.
        imds: instance metadata.
        external: the host is not an EC2 instance, so metadata is not used.
        override: the endpoint to use instead of the region's.

    Raises:
        ConfigError: the operator must set the region, because metadata is not used.
        AwsUnavailable: metadata does not answer.
    """
    if configured:
        return Region(configured)
    if external or not imds.enabled:
        return _by_endpoint(override)
    try:
        return Region(await _region_of(imds))
    except AwsUnavailable as error:
        raise AwsUnavailable(f"the region is unknown: {error}", code=error.code) from None


def _by_endpoint(override: str) -> Region:
    if not override:
        raise ConfigError(f"the region is unknown, and instance metadata is not used; {_MEND}")
    named = _NAMES_REGION.search(_overridden(override).host or "")
    return Region(named[1]) if named else Region(_USUAL_REGION, is_guess=True)


async def _region_of(imds: Imds) -> str:
    document = await imds.json(_DOCUMENT)
    told = document.get("region") if isinstance(document, dict) else None
    if not isinstance(told, str):
        told = await imds.text(_PLACEMENT)
    if not isinstance(told, str) or not _REGION.fullmatch(told):
        raise AwsUnavailable("instance metadata does not contain a region")
    return told


async def fips_enabled(file: Path = _FIPS) -> bool:
    """Return whether the kernel runs in FIPS mode. Source: Amazon ECS agent 1.105.1, agent/config."""
    return (await _first_line(file)).startswith("1")


async def _first_line(file: Path) -> str:
    """Return the first line of a small kernel file; empty if there is none."""

    def read() -> str:
        try:
            return file.read_text(errors="replace").partition("\n")[0].strip()[:100]
        except OSError:
            return ""

    try:
        async with asyncio.timeout(_READ_S):
            return await asyncio.to_thread(read)
    except TimeoutError:
        return ""
