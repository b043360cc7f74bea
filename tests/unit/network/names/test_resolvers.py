"""Which name servers a task gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from agent.network.names import resolvers

if TYPE_CHECKING:
    from pathlib import Path


def test_parse() -> None:
    found = resolvers.parse(
        "# made by hand\n"
        "nameserver 192.0.2.1 # first\n"
        "nameserver 2001:db8::1\n"
        "domain old.example\n"
        "search a.example b.example .\n"
        "options ndots:2\n"
        "options rotate timeout:1\n"
        "sortlist 1.2.3.4\n"
    )
    assert found.servers == ("192.0.2.1", "2001:db8::1")
    assert found.search == ("a.example", "b.example")
    assert found.options == ("ndots:2", "rotate", "timeout:1")


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    resolvers.reachable(resolvers.parse(text).servers)


def test_what_is_asked_for_replaces_list_by_list() -> None:
    base = resolvers.parse("nameserver 192.0.2.1\nsearch a.example\noptions ndots:2\n")
    assert resolvers.overlaid(base, resolvers.Resolvers()) == base
    own = resolvers.Resolvers(servers=("192.0.2.9", "192.0.2.8"))
    assert resolvers.text_of(resolvers.overlaid(base, own)) == (
        "nameserver 192.0.2.9\nnameserver 192.0.2.8\nsearch a.example\noptions ndots:2\n"
    )
    own = resolvers.Resolvers(search=("b.example", "c.example"), options=("rotate",))
    assert resolvers.text_of(resolvers.overlaid(base, own)) == (
        "nameserver 192.0.2.1\nsearch b.example c.example\noptions rotate\n"
    )


def test_a_dot_alone_is_no_search_list() -> None:
    base = resolvers.parse("nameserver 192.0.2.1\nsearch a.example\n")
    own = resolvers.Resolvers(search=(".",))
    assert resolvers.text_of(resolvers.overlaid(base, own)) == "nameserver 192.0.2.1\n"


_names = st.lists(st.from_regex(r"[a-z0-9.:-]{1,9}", fullmatch=True), max_size=3).map(tuple)


@given(_names, _names, _names)
def test_what_is_written_is_read_again(
    servers: tuple[str, ...], search: tuple[str, ...], options: tuple[str, ...]
) -> None:
    made = resolvers.Resolvers(servers=servers, search=search, options=options)
    read = resolvers.parse(resolvers.text_of(made))
    assert (read.servers, read.options) == (servers, options)
    assert read.search == tuple(domain for domain in search if domain != ".")


def test_reachable_leaves_out_loopback_ipv6_and_nonsense() -> None:
    servers = ["127.0.0.53", "::1", "fe80::1%eth0", "0.0.0.0", "host", "192.0.2.1"]
    assert resolvers.reachable(servers) == ("192.0.2.1",)


def _files(folder: Path, *texts: str) -> list[str]:
    paths = []
    for index, text in enumerate(texts):
        path = folder / f"resolv{index}.conf"
        path.write_text(text)
        paths.append(str(path))
    return paths


def test_the_first_file_with_a_usable_server_decides(tmp_path: Path) -> None:
    stub = "nameserver 127.0.0.53\nsearch stub.example\n"
    real = "nameserver 192.0.2.7\nsearch real.example\n"
    found = resolvers.of_host(_files(tmp_path, stub, real))
    assert (found.servers, found.search) == (("192.0.2.7",), ("real.example",))
    found = resolvers.of_host(_files(tmp_path, real, stub))
    assert (found.servers, found.search) == (("192.0.2.7",), ("real.example",))


def test_without_a_usable_server_the_search_list_is_kept(tmp_path: Path) -> None:
    files = _files(tmp_path, "nameserver 127.0.0.1\nsearch a.example\n")
    found = resolvers.of_host([*files, str(tmp_path / "absent")])
    assert (found.servers, found.search) == ((), ("a.example",))
    assert resolvers.of_host([str(tmp_path / "absent")]) == resolvers.Resolvers()
