"""Where the engine's driver is told to find CloudWatch Logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.awslogs import cloudwatch

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
BY_IPV4 = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
LAN = "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
ZEROS = "0" * 32
BY_IPV6 = f"{ZEROS} 00 {ZEROS} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n"
REJECT = f"{ZEROS} 00 {ZEROS} 00 {ZEROS} ffffffff 00000001 00000000 00200200 lo\n"


def routes(path: Path, ipv4: str, ipv6: str) -> Path:
    (path / "route").write_text(HEAD + ipv4)
    (path / "ipv6_route").write_text(ipv6)
    return path


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("us-east-1", ""),
        ("cn-north-1", ""),
        ("us-gov-west-1", ""),
        ("us-iso-east-1", "https://logs.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "https://logs.us-isob-east-1.sc2s.sgov.gov"),
        ("us-isof-south-1", "https://logs.us-isof-south-1.csp.hci.ic.gov"),
        ("eu-isoe-west-1", "https://logs.eu-isoe-west-1.cloud.adc-e.uk"),
        ("eusc-de-east-1", "https://logs.eusc-de-east-1.amazonaws.eu"),
    ],
)
async def test_isolated_regions_are_named(tmp_path: Path, region: str, url: str) -> None:
    assert await cloudwatch.endpoint(region, routes(tmp_path, LAN + BY_IPV4, BY_IPV6)) == url


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "url"),
    [
        (LAN, BY_IPV6, "https://logs.eu-west-1.api.aws"),
        (LAN + BY_IPV4, BY_IPV6, ""),
        (LAN, REJECT, ""),
        ("", "", ""),
        ("nonsense\n", "nonsense\n", ""),
    ],
)
async def test_a_host_without_ipv4_uses_the_endpoint_for_both(
    tmp_path: Path, ipv4: str, ipv6: str, url: str
) -> None:
    assert await cloudwatch.endpoint("eu-west-1", routes(tmp_path, ipv4, ipv6)) == url


async def test_a_host_that_tells_nothing_is_an_ordinary_one(tmp_path: Path) -> None:
    assert await cloudwatch.endpoint("eu-west-1", tmp_path) == ""
