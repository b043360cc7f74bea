"""Sets of ports on a real kernel, while others change them."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from agent.network.addresses import link_name_of, mac_of
from agent.network.bridge.bridge_port_rules import BridgePort, BridgePortRules, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.network.kernel.set_elements import Change

TABLE = "ecs_ports_test"
LAYOUT = Layout(frozenset({"10.207.0.0/20"}), frozenset({"10.207.0.1"}))

pytestmark = pytest.mark.integration


class Watched(BridgePortRules):
    """Does something between a look at the kernel and the change that follows."""

    after_look: Callable[[], object] | None = None

    def _off(self, layout: Layout) -> tuple[list[Change], list[Change]]:
        off = super()._off(layout)
        act, self.after_look = self.after_look, None
        if act is not None:
            act()
        return off


def port(number: int) -> BridgePort:
    ipv4 = f"10.207.{number >> 8}.{number & 255}"
    return BridgePort(link_name_of(ipv4), mac_of(ipv4), ipv4)


@pytest.fixture
def rules() -> Iterator[Watched]:
    made = Watched(TABLE, ())
    yield made
    made.remove()


def test_a_port_dismissed_between_look_and_change_is_no_failure(rules: Watched) -> None:
    """The removal that both want is made by one of them, and what else is due is still done."""
    rules.ensure(LAYOUT, [port(2), port(3)])
    rules._ports.pop(port(2).link)  # dismissed, but not yet in the kernel
    delete = f"delete element bridge {TABLE} addresses"
    subprocess.run(["nft", f"{delete} {{ {port(3).ipv4} }}"], check=True)
    rules.after_look = lambda: subprocess.run(["nft", f"{delete} {{ {port(2).ipv4} }}"], check=True)
    rules.ensure(LAYOUT)
    assert rules.differences(LAYOUT) == []


def test_ports_come_and_go_while_all_is_put_right(rules: Watched) -> None:
    rules.ensure(LAYOUT, [port(number) for number in range(2, 202)])

    def replace(numbers: range) -> None:
        for number in numbers:
            rules.dismiss(port(number).link)
            rules.admit(port(number + 400))

    with ThreadPoolExecutor(4) as lanes:
        work = [lanes.submit(replace, range(2 + n, 202, 4)) for n in range(4)]
        while not all(each.done() for each in work):
            rules.ensure(LAYOUT)
        for each in work:
            each.result()
    rules.ensure(LAYOUT)
    assert rules.differences(LAYOUT) == []
