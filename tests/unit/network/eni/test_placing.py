"""Which addresses of an interface are changed, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.model.eni import TaskEni
from agent.network.eni.placing import changes, name_on_host

ADDRESSES = st.sampled_from([f"10.7.0.{n}" for n in range(2, 8)])
ADDRESSES6 = st.sampled_from([f"2001:db8::{n}" for n in range(2, 8)])


def kernel(
    present: list[tuple[str, int]], surplus: list[tuple[str, int]], missing: list[tuple[str, int]]
) -> list[tuple[str, int]]:
    """Do what Linux does: the first address of a network takes the others along when it goes."""
    now = list(present)
    for each in surplus:
        if each not in now:
            continue  # EADDRNOTAVAIL, which is tolerated
        alike = [e for e in now if ":" not in e[0] and e[1] == each[1]]
        now = (
            [e for e in now if e not in alike]
            if alike and each == alike[0]
            else [e for e in now if e != each]
        )
    return [*now, *(each for each in missing if each not in now)]


@given(
    st.lists(st.tuples(ADDRESSES, st.sampled_from([20, 24])), max_size=4, unique_by=lambda e: e[0]),
    st.lists(
        st.tuples(ADDRESSES6, st.sampled_from([64, 128])), max_size=3, unique_by=lambda e: e[0]
    ),
    st.lists(ADDRESSES, max_size=4, unique=True),
    st.lists(ADDRESSES6, max_size=3, unique=True),
)
def test_every_beginning_ends_with_the_addresses_of_the_eni_in_order(
    ipv4: list[tuple[str, int]],
    ipv6: list[tuple[str, int]],
    wanted: list[str],
    wanted6: list[str],
) -> None:
    eni = TaskEni(mac="", eni_id="", ipv4=tuple(wanted), ipv4_prefix_len=24, ipv6=tuple(wanted6))
    present = [*ipv4, *ipv6]
    after = kernel(present, *changes(present, eni))
    assert [e for e in after if ":" not in e[0]] == [(a, 24) for a in wanted]
    assert sorted(e for e in after if ":" in e[0]) == sorted((a, 64) for a in wanted6)
    assert changes(after, eni) == ([], [])


def test_the_name_on_the_host_is_as_long_as_the_kernel_allows() -> None:
    assert name_on_host("06:ec:57:0a:0b:0c") == "eni06ec570a0b0c"
    assert len(name_on_host("06:ec:57:0a:0b:0c")) == 15
