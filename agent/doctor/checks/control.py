"""Control: its name resolves, it is reachable and trusted, and it accepts this host.

Makes one real call with the host's own token (``upstream.hello``), so that the result is what the
agent would get.
"""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING

import msgspec
from yarl import URL

from agent.doctor import reading
from agent.doctor.checks import amazon
from agent.doctor.findings import Finding, FindingList
from agent.errors import AgentError
from agent.upstream.credentials import is_readable_on_the_way, read_token
from agent.upstream.hello import HelloResult, meet
from agent.upstream.longpoll.answers import TokenRefused

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.doctor.host import HostFacts

_FAR_S = 1.0
"""A slower answer delays every launch."""
_SKEW_WARN_S, _SKEW_ERROR_S = 5.0, 300.0
_SETTING = "ECS_CONTROL_ENDPOINT"


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """The results of asking control."""

    addresses: tuple[str, ...] = ()
    name_trouble: str = ""
    meeting: HelloResult | None = None
    trouble: str = ""
    refused: bool = False
    """Control refused the token."""
    with_token: bool = False
    token_unread: str = ""
    """The token file, if this user may not read it; then control is not asked."""
    took_s: float = 0.0


async def check(host: HostFacts) -> list[Finding]:
    """Resolve the name, then ask control who it is; check Amazon ECS if no endpoint is set."""
    settings = host.settings
    if not settings.control_endpoint:
        contact = await amazon.ask(settings, host.environ)
        return amazon.judge(FindingList("control"), settings, contact)
    return judge(settings, await _contact(settings))


async def _contact(settings: Settings) -> Contact:
    url = URL(settings.control_endpoint)
    try:
        addresses = await reading.look_up(url.host or "", url.port or 0)
    except (OSError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or f"no answer within {reading.NAME_LIMIT_S:g} s"
        return Contact(name_trouble=str(why))
    try:
        token = await _token(settings)
    except PermissionError:
        return Contact(addresses=addresses, token_unread=str(settings.control_token_file))
    began = time.monotonic()
    try:
        meeting = await meet(
            settings.control_endpoint,
            token=token,
            ca_file=settings.control_ca_file,
            cluster=settings.cluster.rpartition("/")[2],
            data_dir=settings.data_dir,
        )
    except (AgentError, TimeoutError) as error:
        return Contact(
            addresses=addresses,
            trouble=str(error) or "no answer",
            refused=isinstance(error, TokenRefused),
            with_token=bool(token),
        )
    took_s = time.monotonic() - began
    return Contact(addresses=addresses, meeting=meeting, with_token=bool(token), took_s=took_s)


async def _token(settings: Settings) -> str:
    """Return the token, or nothing: the credentials check reports why it cannot be read.

    Raises:
        PermissionError: only root may read it, and this is not root.
    """
    path = settings.control_token_file
    if path is None:
        return ""
    try:
        return await reading.blocking(lambda: read_token(path))
    except PermissionError:
        raise
    except (OSError, ValueError):
        return ""


def judge(settings: Settings, contact: Contact) -> list[Finding]:
    """Return the verdict on control. Pure."""
    verdict = FindingList("control")
    url = URL(settings.control_endpoint)
    if contact.name_trouble:
        verdict.error(
            f"control's name {url.host} does not resolve ({contact.name_trouble})",
            f"fix the host's name servers, or the name in {_SETTING}",
            f"getent hosts {url.host}",
        )
        return verdict.findings
    _judge_place(verdict, settings, contact)
    if contact.token_unread:
        verdict.unknown(
            f"whether control at {url.host}:{url.port} accepts this host",
            f"only root can read {contact.token_unread}",
        )
        return verdict.findings
    if contact.meeting is None:
        _judge_trouble(verdict, url, contact)
        return verdict.findings
    _judge_meeting(verdict, settings, contact, contact.meeting)
    if contact.with_token and is_readable_on_the_way(url):
        verdict.warn(
            f"the token goes to {url.host} over plain HTTP: others on the network can read it",
            "set up TLS on control, and join with its https:// address",
            "ecs-agent join https://CONTROL:PORT --token TOKEN",
        )
    return verdict.findings


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
            f"control is at {inside}, within {setting} {pool}: once the agent runs, "
            "this host routes that address to its own tasks",
            f"set {setting} to a network that nothing else uses",
        )


def _judge_trouble(verdict: FindingList, url: URL, contact: Contact) -> None:
    if contact.refused:
        what = "refuses this host's token" if contact.with_token else "requires a token"
        verdict.error(
            f"control at {url.host}:{url.port} {what}",
            "get a token from control's operator (a line of its --token-file), and join with it",
            f"ecs-agent join {url} --token TOKEN",
        )
        return
    seen, _, mend = contact.trouble.removeprefix("GET /v1/hello: ").partition("; ")
    verdict.error(
        f"control at {url} does not answer as it should: {seen}",
        mend or f"make sure that control runs and that no firewall blocks port {url.port}",
        f"curl -sS -o /dev/null -w '%{{http_code}}\\n' {url}/healthz",
    )


def _judge_meeting(
    verdict: FindingList, settings: Settings, contact: Contact, meeting: HelloResult
) -> None:
    hello, cluster = meeting.hello, settings.cluster.rpartition("/")[2]
    with_what = "with this host's token" if contact.with_token else "without a token"
    answered = f"control {hello.version} at {settings.control_endpoint} answers {with_what}"
    if contact.took_s > _FAR_S:
        verdict.warn(
            f"{answered}, but only after {contact.took_s:.1f} s: every order takes that long",
            "check the network between the two, or move control closer",
        )
    else:
        verdict.ok(f"{answered} in {contact.took_s * 1000:.0f} ms")
    if hello.takes_cluster is False:
        known = ", ".join(hello.clusters[:10]) or "none"
        verdict.error(
            f"control has no active cluster {cluster!r}; it has: {known}",
            "create it, or set ECS_CLUSTER to another one",
            f"aws ecs create-cluster --cluster-name {cluster} --endpoint-url CONTROL",
        )
    _judge_skew(verdict, meeting.ahead_s)


def _judge_skew(verdict: FindingList, ahead_s: float | None) -> None:
    if ahead_s is None or abs(ahead_s) < _SKEW_WARN_S:
        return
    which = "ahead of" if ahead_s > 0 else "behind"
    tell = verdict.error if abs(ahead_s) > _SKEW_ERROR_S else verdict.warn
    tell(
        f"this host's clock is {abs(ahead_s):.0f} s {which} control's: task times are off by that "
        "much, and certificates may seem expired",
        "turn on time synchronization on both",
        "timedatectl set-ntp true",
    )
