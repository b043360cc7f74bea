"""Determines the name servers of a task: those of the host that a task can reach.

A task's namespace has its own loopback, so a task cannot use a resolver on the host's loopback (the
stub of systemd-resolved, dnsmasq). It has only IPv4. Only reads files; a missing file counts as
empty.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST_FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""In order of preference: the second contains the real servers behind systemd's stub."""


class Resolvers(Struct, frozen=True, kw_only=True):
    """Content of a resolv.conf."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> Resolvers:
    """Parse a resolv.conf; invalid lines are skipped, the last search list counts."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        match line.split("#", 1)[0].split():
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search" | "domain", *domains]:
                search = tuple(domain for domain in domains if domain != ".")
            case ["options", *words]:
                options += words
    return Resolvers(servers=tuple(servers), search=search, options=tuple(options))


def overlaid(base: Resolvers, own: Resolvers) -> Resolvers:
    """Return the settings of a container with its own name servers: the rest comes from ``base``.

    As in the engine, each list that is given replaces the whole list.
    """
    return Resolvers(
        servers=own.servers or base.servers,
        search=own.search or base.search,
        options=own.options or base.options,
    )


def text_of(resolvers: Resolvers) -> str:
    """Return the text of a resolv.conf; a search list of only ``.`` means none."""
    search = tuple(domain for domain in resolvers.search if domain != ".")
    lines = [f"nameserver {server}" for server in resolvers.servers]
    lines += [f"search {' '.join(search)}"] if search else []
    lines += [f"options {' '.join(resolvers.options)}"] if resolvers.options else []
    return "".join(f"{line}\n" for line in lines)


def reachable(servers: Sequence[str]) -> tuple[str, ...]:
    """Return the servers that a task can reach: IPv4, and not on a loopback."""
    return tuple(server for server in servers if _is_reachable(server))


def _is_reachable(server: str) -> bool:
    try:
        address = IPv4Address(server)
    except ValueError:
        return False
    return not address.is_loopback and not address.is_unspecified


def of_host(files: Sequence[str] = HOST_FILES) -> Resolvers:
    """Return the host's resolvers, without those that a task cannot reach. Blocks on the disk.

    The first file with a usable server is used. If there is none, there are no servers, and the
    search domains are those of the first file.
    """
    found = [parse(_read(path)) for path in files]
    for resolvers in found:
        servers = reachable(resolvers.servers)
        if servers:
            return Resolvers(servers=servers, search=resolvers.search, options=resolvers.options)
    first = found[0] if found else Resolvers()
    return Resolvers(search=first.search, options=first.options)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
