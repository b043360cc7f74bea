"""Settings that are valid on their own but contradict each other. Pure.

Tests: ``tests/unit/config/test_load.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.files import ENVIRONMENT
from agent.config.settings import variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.config.files import GivenValue
    from agent.config.settings import Settings


def contradictions(settings: Settings, given: Mapping[str, GivenValue]) -> list[str]:
    """Return one line per contradiction: where it was set, what is wrong, and how to fix it.

    Args:
        settings: all settings after parsing.
        given: the values that were set explicitly, by name.
    """
    return [
        *_registry(given),
        *_socket(settings, given),
        *_control(settings, given),
        *_watermarks(settings, given),
        *_fleet(settings, given),
    ]


_ROTATION_LEAST_S = 3600
_OF_ENDPOINTS = frozenset({"ECS_CONTROL_TOKEN_FILE", "ECS_CONTROL_CA_FILE"})


def in_vain(settings: Settings, given: Mapping[str, GivenValue]) -> list[str]:
    """Return at most one line that lists settings that only matter to another kind of control.

    Environment variables that other programs also read are not listed.
    """
    if not settings.control_endpoint:
        names = sorted(given.keys() & _OF_ENDPOINTS)
        told = "settings without effect while ECS_CONTROL_ENDPOINT is not set"
        return [f"{told}: {', '.join(names)}"] if names else []
    usual = type(settings)()
    names = sorted(
        variable.name
        for field_name, variable in variables().items()
        if variable.amazon_only
        and (value := given.get(variable.name)) is not None
        and (value.origin != ENVIRONMENT or variable.name.startswith("ECS_"))
        and getattr(settings, field_name) != getattr(usual, field_name)
    )
    told = "settings without effect while ECS_CONTROL_ENDPOINT is set"
    return [f"{told}: {', '.join(names)}"] if names else []


def _registry(given: Mapping[str, GivenValue]) -> Iterator[str]:
    data, kind = given.get("ECS_ENGINE_AUTH_DATA"), given.get("ECS_ENGINE_AUTH_TYPE")
    if data and not kind:
        yield (
            f"{data.origin}: ECS_ENGINE_AUTH_DATA is set without ECS_ENGINE_AUTH_TYPE; "
            "set ECS_ENGINE_AUTH_TYPE to docker or dockercfg"
        )
    if kind and not data:
        yield (
            f"{kind.origin}: ECS_ENGINE_AUTH_TYPE is set without ECS_ENGINE_AUTH_DATA; "
            "set both or neither"
        )


def _socket(settings: Settings, given: Mapping[str, GivenValue]) -> Iterator[str]:
    if len(bytes(settings.socket_path)) > 107:
        yield (
            f"{given['ECS_AGENT_SOCKET'].origin}: ECS_AGENT_SOCKET is longer than 107 bytes, the "
            "kernel's limit for socket paths; choose a shorter path"
        )


def _watermarks(settings: Settings, given: Mapping[str, GivenValue]) -> Iterator[str]:
    low, high = settings.image_disk_low, settings.image_disk_high
    where = given.get("ECS_IMAGE_DISK_LOW") or given.get("ECS_IMAGE_DISK_HIGH")
    if low >= high and where is not None:
        yield (
            f"{where.origin}: ECS_IMAGE_DISK_LOW ({low}) is not below ECS_IMAGE_DISK_HIGH ({high}); "
            "set it some percent lower"
        )


def _fleet(settings: Settings, given: Mapping[str, GivenValue]) -> Iterator[str]:
    if 0 < settings.fleet_key_rotation_s < _ROTATION_LEAST_S:
        yield (
            f"{given['ECS_FLEET_KEY_ROTATION'].origin}: ECS_FLEET_KEY_ROTATION is less than an hour; set a "
            "longer time such as 720h, or 0 for never"
        )
    if settings.host_ipv6_address and ":" not in settings.host_ipv6_address:
        yield (
            f"{given['ECS_HOST_IPV6_ADDRESS'].origin}: ECS_HOST_IPV6_ADDRESS={settings.host_ipv6_address} is not "
            "an IPv6 address; that of IPv4 is ECS_HOST_ADDRESS"
        )
    if not settings.fleet_network:
        return
    where = given["ECS_FLEET_NETWORK"].origin
    if not settings.control_endpoint:
        yield (
            f"{where}: ECS_FLEET_NETWORK needs a control endpoint of this project, which gives hosts their "
            "ranges; set ECS_CONTROL_ENDPOINT, or remove it"
        )
    if settings.task_network_driver not in ("bridge", "routed"):
        yield (
            f"{where}: ECS_FLEET_NETWORK works with ECS_TASK_NETWORK_DRIVER=bridge and routed; with "
            f"{settings.task_network_driver}, tasks have addresses of the parent's network; remove one of "
            "the two"
        )


def _control(settings: Settings, given: Mapping[str, GivenValue]) -> Iterator[str]:
    """Control is either one of our endpoints or Amazon ECS; each has its own requirements."""
    if settings.control_endpoint:
        for value in _for_amazon(settings, given):
            yield (
                f"{value.origin}: {value.name} selects Amazon ECS, but ECS_CONTROL_ENDPOINT "
                f"({given['ECS_CONTROL_ENDPOINT'].origin}) selects another control endpoint; "
                "remove one of the two"
            )
        return
    if settings.external and not (settings.aws_region or settings.backend_host):
        yield (
            f"{given['ECS_EXTERNAL'].origin}: ECS_EXTERNAL is set without AWS_DEFAULT_REGION, and "
            "instance metadata is not used; set the region, for example to eu-central-1"
        )
    yield from _half_a_key(given)


def _for_amazon(settings: Settings, given: Mapping[str, GivenValue]) -> list[GivenValue]:
    chosen = {"ECS_BACKEND_HOST": bool(settings.backend_host), "ECS_EXTERNAL": settings.external}
    return [given[name] for name, is_on in chosen.items() if is_on and name in given]


def _half_a_key(given: Mapping[str, GivenValue]) -> Iterator[str]:
    key, secret, token = (
        given.get(name)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    )
    if key and not secret:
        yield (
            f"{key.origin}: AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY; "
            "set both or neither"
        )
    if secret and not key:
        yield (
            f"{secret.origin}: AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID; "
            "set both or neither"
        )
    if token and not key:
        yield (
            f"{token.origin}: AWS_SESSION_TOKEN is set without its access key; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or remove it"
        )
