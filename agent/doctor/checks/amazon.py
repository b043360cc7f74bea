"""Amazon ECS as control: known region, reachable, same time, and keys that it accepts.

Makes calls with ``agent.aws`` like the agent itself: one plain request, and one signed call that
changes nothing (``DiscoverPollEndpoint``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from yarl import URL

from agent.aws.clock import MOST_S
from agent.aws.cloud import open_cloud
from agent.aws.http import worded
from agent.doctor import reading
from agent.errors import AwsRefused, AwsUnavailable, ConfigError, CredentialsMissing
from agent.upstream.credentials import is_readable_on_the_way
from agent.upstream.hello import ahead_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.aws.cloud import Cloud
    from agent.config import Settings
    from agent.doctor.findings import Finding, FindingList

_REACH_LIMIT_S = 8.0
_KEYS_LIMIT_S = 10.0
_CALL_LIMIT_S = 8.0
_FAR_S = 2.0
_SKEW_WARN_S = 5.0
_OPERATION = "DiscoverPollEndpoint"
_ROLE = "AmazonEC2ContainerServiceforEC2Role"
_JOIN = "ecs-agent join URL --token TOKEN"
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """The results of asking Amazon ECS; fields after a failed step stay empty."""

    region: str = ""
    region_is_guess: bool = False
    region_trouble: str = ""
    endpoint: str = ""
    proxy: str = ""
    """Host and port of the proxy; empty without one."""
    addresses: tuple[str, ...] = ()
    name_trouble: str = ""
    trouble: str = ""
    """Why there was no answer."""
    ahead_s: float | None = None
    """How far this host's clock is ahead; None if the answer does not say."""
    took_s: float = 0.0
    keys_trouble: str = ""
    key: str = ""
    """The last characters of the access key."""
    refusal: str = ""
    """Why the signed call was refused."""
    code: str = ""
    """The error code of the refusal."""


def is_meant(settings: Settings) -> bool:
    """Tell whether the settings select Amazon ECS. An EC2 host without settings uses it too."""
    told = settings.aws_region or settings.backend_host or settings.external
    return not settings.control_endpoint and bool(told or settings.aws_access_key_id)


async def ask(settings: Settings, environ: Mapping[str, str]) -> Contact:
    """Take the same steps as the agent until one fails; ``environ`` names profiles and files."""
    try:
        async with open_cloud(settings, environ) as cloud:
            return await _ask(settings, cloud)
    except (ConfigError, AwsUnavailable) as error:
        return Contact(region_trouble=str(error))


async def _ask(settings: Settings, cloud: Cloud) -> Contact:
    api = cloud.ecs(override=settings.backend_host)
    url = api.endpoint
    proxy = cloud.http.proxy_for(url)
    way = proxy or url
    so_far = Contact(
        region=cloud.region,
        region_is_guess=cloud.region_is_guess,
        endpoint=str(url),
        proxy=f"{way.host}:{way.port}" if proxy else "",
    )
    try:
        addresses = await reading.look_up(way.host or "", way.port or 0)
    except (OSError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or f"no answer within {reading.NAME_LIMIT_S:g} s"
        return msgspec.structs.replace(so_far, name_trouble=str(why))
    so_far = msgspec.structs.replace(so_far, addresses=addresses)
    began = time.monotonic()
    try:
        ahead = await _reach(cloud, url)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        is_late = isinstance(error, TimeoutError)
        trouble = f"no answer within {_REACH_LIMIT_S:g} s" if is_late else worded(error)
        return msgspec.structs.replace(so_far, trouble=trouble)
    took_s = time.monotonic() - began
    so_far = msgspec.structs.replace(so_far, ahead_s=ahead, took_s=took_s)
    try:
        async with asyncio.timeout(_KEYS_LIMIT_S):
            keys = await cloud.chain.keys()
    except (CredentialsMissing, TimeoutError) as error:
        trouble = str(error) or f"no credentials were found within {_KEYS_LIMIT_S:g} s"
        return msgspec.structs.replace(so_far, keys_trouble=trouble)
    so_far = msgspec.structs.replace(so_far, key=keys.access_key[-4:])
    try:
        await api.call(_OPERATION, {"cluster": settings.cluster}, attempts=1, limit_s=_CALL_LIMIT_S)
    except AwsRefused as error:
        return msgspec.structs.replace(so_far, refusal=str(error), code=error.code)
    except (AwsUnavailable, CredentialsMissing) as error:
        return msgspec.structs.replace(so_far, trouble=str(error))
    return so_far


async def _reach(cloud: Cloud, url: URL) -> float | None:
    """Return how far our clock is ahead, according to an answer with any status."""
    before = time.time()
    async with (
        asyncio.timeout(_REACH_LIMIT_S),
        cloud.http.session.get(
            url, proxy=cloud.http.proxy_for(url), allow_redirects=False
        ) as response,
    ):
        return ahead_s(response.headers.get("Date", ""), before, time.time())


def judge(verdict: FindingList, settings: Settings, contact: Contact) -> list[Finding]:
    """Return the verdict on Amazon ECS. Pure."""
    if contact.region_trouble:
        _judge_region(verdict, settings, contact)
    elif contact.name_trouble:
        _judge_name(verdict, settings, contact)
    else:
        _judge_place(verdict, settings, contact)
        if contact.trouble:
            _judge_trouble(verdict, contact)
        else:
            _judge_answer(verdict, settings, contact)
    return verdict.findings


def _judge_region(verdict: FindingList, settings: Settings, contact: Contact) -> None:
    if not is_meant(settings):
        verdict.warn(
            "neither ECS_CONTROL_ENDPOINT nor a region of Amazon ECS is known: this host has not "
            f"joined ({contact.region_trouble.partition(';')[0]})",
            "join a control endpoint, or set AWS_DEFAULT_REGION for Amazon ECS",
            _JOIN,
        )
        return
    seen, _, mend = contact.region_trouble.partition("; ")
    verdict.error(
        f"the endpoint of Amazon ECS cannot be determined: {seen}",
        mend
        or "set AWS_DEFAULT_REGION; if this host is not an EC2 instance, set ECS_EXTERNAL=true",
    )


def _judge_name(verdict: FindingList, settings: Settings, contact: Contact) -> None:
    host = contact.proxy.rpartition(":")[0] or URL(contact.endpoint).host
    setting = "AWS_DEFAULT_REGION"
    if contact.proxy:
        setting = "HTTPS_PROXY"
    elif settings.backend_host:
        setting = "ECS_BACKEND_HOST"
    verdict.error(
        f"the name {host} does not resolve ({contact.name_trouble}): Amazon ECS is not reachable",
        f"fix the host's name servers, or {setting}",
        f"getent hosts {host}",
    )


def _within_pool(settings: Settings, contact: Contact) -> tuple[str, str, str]:
    """Return an address that is a task's, the setting and its pool; empty texts if none is."""
    pools = {
        "ECS_TASK_POOL_CIDR": settings.task_pool_cidr,
        "ECS_TASK_POOL_IPV6_CIDR": settings.task_pool_ipv6_cidr,
    }
    for setting, pool in pools.items():
        for address in contact.addresses if pool else ():
            if ipaddress.ip_address(address) in ipaddress.ip_network(pool):
                return address, setting, pool
    return "", "", ""


def _judge_place(verdict: FindingList, settings: Settings, contact: Contact) -> None:
    inside, setting, pool = _within_pool(settings, contact)
    if inside:
        verdict.error(
            f"{contact.proxy or 'Amazon ECS'} is at {inside}, within {setting} {pool}: "
            "once the agent runs, this host routes that address to its own tasks",
            f"set {setting} to a network that nothing else uses",
        )


def _judge_trouble(verdict: FindingList, contact: Contact) -> None:
    seen, _, mend = contact.trouble.partition("; ")
    url = URL(contact.endpoint)
    through = f" through the proxy {contact.proxy}" if contact.proxy else ""
    verdict.error(
        f"{contact.endpoint}{through} does not answer like Amazon ECS: {seen}",
        mend or f"make sure that no firewall blocks port {url.port}, or set HTTPS_PROXY",
        f"curl -sS -o /dev/null -w '%{{http_code}}\\n' {contact.endpoint}",
    )


def _judge_answer(verdict: FindingList, settings: Settings, contact: Contact) -> None:
    through = f" through {contact.proxy}" if contact.proxy else ""
    answers = f"Amazon ECS in {contact.region} ({contact.endpoint}) answers{through}"
    if contact.took_s > _FAR_S:
        verdict.warn(
            f"{answers}, but only after {contact.took_s:.1f} s: every report takes that long",
            "check the network between the two",
        )
    else:
        taken = f" and accepts the key ...{contact.key}" if _is_taken(contact) else ""
        verdict.ok(f"{answers} in {contact.took_s * 1000:.0f} ms{taken}")
    if contact.region_is_guess:
        verdict.warn(
            f"no region is set: the agent signs for {contact.region}",
            "set AWS_DEFAULT_REGION to the region of the endpoint",
        )
    if is_readable_on_the_way(URL(contact.endpoint)):
        verdict.warn(
            "Amazon ECS is used over plain HTTP: others on the network can read and change orders",
            "set ECS_BACKEND_HOST to an https:// address; http:// is for tests",
        )
    _judge_skew(verdict, contact.ahead_s)
    if contact.keys_trouble:
        _judge_keys(verdict, settings, contact.keys_trouble)
    elif contact.refusal:
        _judge_refusal(verdict, settings, contact)


def _is_taken(contact: Contact) -> bool:
    return bool(contact.key) and not contact.refusal


def _judge_skew(verdict: FindingList, ahead: float | None) -> None:
    if ahead is None or abs(ahead) < _SKEW_WARN_S:
        return
    seen = (
        f"this host's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Amazon's"
    )
    mend, command = "turn on time synchronization", "timedatectl set-ntp true"
    if abs(ahead) > MOST_S:
        verdict.error(f"{seen}: AWS refuses all signatures, and TLS may fail", mend, command)
    else:
        told = "the agent signs with Amazon's time, but task times are off by that much"
        verdict.warn(f"{seen}: {told}", mend, command)


def _judge_keys(verdict: FindingList, settings: Settings, trouble: str) -> None:
    if settings.external:
        verdict.error(
            f"there are no credentials to sign with: {trouble}",
            "register this host with the SSM agent, or set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY",
            "systemctl status amazon-ssm-agent",
        )
    else:
        verdict.error(
            f"there are no credentials to sign with: {trouble}",
            f"give the instance a role with the policy {_ROLE}; if this is not an EC2 instance, "
            "set ECS_EXTERNAL=true",
        )


def _judge_refusal(verdict: FindingList, settings: Settings, contact: Contact) -> None:
    if contact.code in _DENIED:
        mend = f"give the key's owner the permissions of the policy {_ROLE}"
    elif settings.external and not settings.aws_access_key_id:
        mend = "make sure that the SSM agent runs and has registered this host in this region"
    else:
        mend = "check the keys and the region"
    verdict.error(f"Amazon ECS refuses the key ...{contact.key} ({contact.refusal[:300]})", mend)
