"""The configuration of a log router, as fluentd and Fluent Bit read it. Pure.

Sections and their order are those of Amazon ECS agent 1.105.1; each is followed by an empty line. What a
user gives has no line breaks (``order``), so that nobody adds sections by an option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.engine.firelens.order import EXCLUDE, FLUENTD, INCLUDE, NOT_OF_THE_PLUGIN, PLUGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent.engine.firelens.order import Firelens, Routed

SOCKET: Final = "/var/run/fluent.sock"
"""In the router."""
PORT: Final = 24224
_HEALTH_PORT: Final = 8877
_HEALTH_TAG: Final = "firelens-healthcheck"
_LEAST_BUFFER_MB: Final = 25


class RouterHost(NamedTuple):
    """What the configuration says besides the order."""

    metadata: Mapping[str, str]
    """Fields that are added to each record."""
    listen: str
    """Address for records over TCP; empty for none."""
    memory_mib: int
    """Of the router; 0 if it has no limit."""


def text(firelens: Firelens, host: RouterHost) -> str:
    """Return the configuration."""
    write = _fluentd if firelens.kind == FLUENTD else _fluent_bit
    return "\n\n".join(write(firelens, host)) + "\n"


def _fluentd(firelens: Firelens, host: RouterHost) -> Iterator[str]:
    yield _block("source", "", [("@type", "unix"), ("path", SOCKET)])
    if host.listen:
        yield _block("source", "", [("@type", "forward"), ("bind", host.listen), ("port", PORT)])
    for option, kind in ((INCLUDE, "regexp"), (EXCLUDE, "exclude")):
        for routed in firelens.routed:
            if routed.options.get(option):
                grep = _block(kind, "", [("key", "log"), ("pattern", routed.options[option])])
                yield _block("filter", f"{routed.name}-firelens**", [("@type", "grep")], grep)
    if firelens.with_metadata and host.metadata:
        record = _block("record", "", sorted(host.metadata.items()))
        yield _block("filter", "**", [("@type", "record_transformer")], record)
    if firelens.external_path:
        yield f"@include {firelens.external_path}"
    for routed in firelens.routed:
        options = _options(routed, lambda variable: f"\"#{{ENV['{variable}']}}\"")
        if options:
            plugin = options.pop(PLUGIN[FLUENTD])
            lines = [("@type", plugin), *sorted(options.items())]
            yield _block("match", f"{routed.name}-firelens**", lines)


def _block(name: str, argument: str, lines: Iterable[tuple[str, object]], inner: str = "") -> str:
    head = f"<{name} {argument}>" if argument else f"<{name}>"
    body = [f"    {key} {value}" for key, value in lines]
    body += [f"    {line}" for line in inner.splitlines()]
    return "\n".join([head, *body, f"</{name}>"])


def _fluent_bit(firelens: Firelens, host: RouterHost) -> Iterator[str]:
    buffer_mb = host.memory_mib // 2 or _LEAST_BUFFER_MB
    yield _section(
        "INPUT",
        [("Name", "forward"), ("Mem_Buf_Limit", f"{buffer_mb}MB"), ("unix_path", SOCKET)],
    )
    if host.listen:
        yield _section("INPUT", [("Name", "forward"), ("Listen", host.listen), ("Port", PORT)])
        yield _section(
            "INPUT",
            [
                ("Name", "tcp"),
                ("Tag", _HEALTH_TAG),
                ("Listen", "127.0.0.1"),
                ("Port", _HEALTH_PORT),
            ],
        )
    for option, kind in ((INCLUDE, "Regex"), (EXCLUDE, "Exclude")):
        for routed in firelens.routed:
            if routed.options.get(option):
                match = ("Match", f"{routed.name}-firelens*")
                keep = (kind, f"log {routed.options[option]}")
                yield _section("FILTER", [("Name", "grep"), match, keep])
    if firelens.with_metadata and host.metadata:
        records = [("Record", f"{field} {value}") for field, value in sorted(host.metadata.items())]
        yield _section("FILTER", [("Name", "record_modifier"), ("Match", "*"), *records])
    if firelens.external_path:
        yield f"@INCLUDE {firelens.external_path}"
    if host.listen:
        yield _section("OUTPUT", [("Name", "null"), ("Match", _HEALTH_TAG)])
    for routed in firelens.routed:
        options = _options(routed, lambda variable: f"${{{variable}}}")
        if options:
            plugin = options.pop(PLUGIN[firelens.kind])
            match = ("Match", f"{routed.name}-firelens*")
            yield _section("OUTPUT", [("Name", plugin), match, *sorted(options.items())])


def _section(name: str, lines: Iterable[tuple[str, object]]) -> str:
    return "\n".join([f"[{name}]", *(f"    {key} {value}" for key, value in lines)])


def _options(routed: Routed, reference: Callable[[str], str]) -> dict[str, str]:
    """Return the options of a container's output; a secret one refers to the router's variable."""
    given = {**routed.options, **{o: reference(v) for o, v in routed.secrets.items()}}
    return {name: value for name, value in given.items() if name not in NOT_OF_THE_PLUGIN}
