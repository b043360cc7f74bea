"""Listeners, groups and targets as HAProxy's configuration. Pure.

A rule becomes conditions that decide which backend a request goes to. A rule with several groups draws a
number for each request and compares it with the sums of their weights. Every group is one backend, so that
health is checked once for all rules.

Source: HAProxy 2.6 configuration manual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.ingress.quoting import literal, pattern, word

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.model.ingress import Check, Condition, Group, Listener, Rule, Target

WEIGHT: Final = 100
"""Of a server that gets requests."""
NOBODY: Final = "nobody"
"""The backend of requests that no group with a weight is for."""
_PROBE_AFTER_S: Final = 5
_PROBE_EVERY_S: Final = 2
_PROBES: Final = 3
"""A connection to a target that was silent so long is probed; as many probes without an answer end it."""
_PORTS: Final = {"HTTP": "80", "HTTPS": "443"}
"""Of a redirect to another protocol, which need not be named."""


class Place(NamedTuple):
    """What a proxy has on its host."""

    socket: Path
    """Of the runtime API."""
    log: Path
    """Socket that gets the messages about health."""
    address: str = "*"
    """Where listeners listen."""
    user: str = ""
    """Whom a proxy that was started by root runs as; empty to stay as it is."""
    stop_s: int = 3600
    """After how many seconds the process before a reload ends its last connections."""
    connections: int = 20_000
    """How many a process has at most."""


def backend_name(group_id: str) -> str:
    """Return the name of a group's backend."""
    return f"group-{group_id}"


def server_name(target: Target) -> str:
    """Return the name of a target's server, which has no meaning but is unique in its backend."""
    return f"{target.address.replace(':', '-')}_{target.port}"


def text(
    listeners: Sequence[Listener],
    groups: Sequence[Group],
    targets: Mapping[str, Sequence[Target]],
    *,
    place: Place,
    serial: int,
    healthy: Container[tuple[str, str]] = (),
) -> str:
    """Return the configuration.

    Args:
        listeners: what to listen on; no two have the same port (``without_conflicts``).
        groups: all that their rules name.
        targets: by group id.
        place: of this proxy.
        serial: number of this configuration, which the runtime API tells.
        healthy: backend and name of the servers that get requests at once; others first have to pass a check.
    """
    lines = [
        "global",
        f"    description {serial}",
        f"    stats socket {word(str(place.socket))} mode 600 level admin expose-fd listeners",
        f"    log {word(str(place.log))} format raw local0 notice",
        f"    hard-stop-after {place.stop_s}s",
        f"    maxconn {place.connections}",
        # All first checks begin within this time, not within the interval of the checks.
        "    max-spread-checks 500",
        *([f"    user {place.user}", f"    group {place.user}"] if place.user else []),
        "",
        "defaults",
        "    log global",
        "    timeout connect 5s",
        "    timeout client 60s",
        "    timeout server 60s",
        "    timeout http-request 60s",
        "    timeout queue 10s",
        "    option log-health-checks",
        "    option redispatch 1",
        "    retries 3",
        "",
    ]
    for listener in listeners:
        lines += [*_frontend(listener, place.address), ""]
    idle_s = max((each.idle_s for each in listeners), default=60)
    for group in groups:
        lines += [*_backend(group, targets.get(group.id, ()), healthy, idle_s), ""]
    lines += [f"backend {NOBODY}", "    mode http", "    http-request return status 503", ""]
    lines += [f"backend {NOBODY}-tcp", "    mode tcp", "    tcp-request content reject"]
    return "\n".join([*lines, ""])


def without_conflicts(listeners: Sequence[Listener]) -> tuple[list[Listener], list[Listener]]:
    """Return the listeners that can be listened on, and those whose port another one has."""
    taken: set[int] = set()
    served: list[Listener] = []
    others: list[Listener] = []
    for each in listeners:
        (others if each.port in taken else served).append(each)
        taken.add(each.port)
    return served, others


def check_words(check: Check, *, is_tls: bool) -> list[str]:
    """Return the words of a server about its health check."""
    words = [
        "check",
        f"inter {check.interval_s}s",
        f"rise {check.healthy_threshold}",
        f"fall {check.unhealthy_threshold}",
    ]
    if check.port:
        words.append(f"port {check.port}")
    if is_tls:
        words.append("check-ssl verify none")
    return words


def _frontend(listener: Listener, address: str) -> Iterator[str]:
    is_http = listener.protocol == "HTTP"
    yield f"frontend listener-{listener.id}"
    yield "    no log"
    yield f"    mode {'http' if is_http else 'tcp'}"
    yield f"    bind {address}:{listener.port}"
    yield f"    timeout client {listener.idle_s}s"
    if is_http:
        yield f"    timeout http-keep-alive {listener.idle_s}s"
        # A reload closes no connection on which a request may be on its way.
        yield "    option idle-close-on-response"
        yield "    option forwardfor"
        yield "    http-request set-header X-Forwarded-Proto http"
        yield f"    http-request set-header X-Forwarded-Port {listener.port}"
    choices: list[str] = []
    for number, rule in enumerate(listener.rules):
        acls = []
        for index, condition in enumerate(rule.conditions):
            name = f"r{number}c{index}"
            acls.append(name)
            yield from (f"    acl {name} {test}" for test in _tests(condition))
        for line in _action(number, rule, acls, listener):
            if line.startswith("use_backend"):
                choices.append(f"    {line}")
            else:
                yield f"    {line}"
    yield from choices


def _action(number: int, rule: Rule, acls: Sequence[str], listener: Listener) -> Iterator[str]:
    """Yield what a rule does, under its conditions, unless an earlier rule has matched."""
    is_http = listener.protocol == "HTTP"
    verb = "http-request" if is_http else "tcp-request content"
    free = "!{ var(txn.rule) -m found }"
    when = " ".join([free, *acls])
    if rule.kind == "redirect":
        code = rule.settings["StatusCode"].removeprefix("HTTP_")
        target = word(_location(rule.settings, listener.port))
        yield f"http-request redirect code {code} location {target} if {when}"
        return
    if rule.kind == "fixed-response":
        body = rule.settings.get("MessageBody", "")
        content = f" content-type {word(rule.settings['ContentType'])} string {word(body)}"
        code = rule.settings["StatusCode"]
        yield f"http-request return status {code}{content if body else ''} if {when}"
        return
    yield f"{verb} set-var(txn.rule) int({number}) if {when}"
    chosen = f"{{ var(txn.rule) -m int {number} }}"
    total = sum(share.weight for share in rule.shares)
    if len(rule.shares) > 1 and total:
        yield f"{verb} set-var(txn.draw) rand({total}) if {chosen}"
    least = 0
    for share in rule.shares:
        if not share.weight:
            continue
        least += share.weight
        drawn = f" {{ var(txn.draw) -m int lt {least} }}" if len(rule.shares) > 1 else ""
        yield f"use_backend {backend_name(share.group)} if {chosen}{drawn}"
    if not total:
        yield f"use_backend {NOBODY}{'' if is_http else '-tcp'} if {chosen}"


def _tests(condition: Condition) -> Iterable[str]:
    """Return what an access list of a condition tests; one test of them must hold."""
    values = condition.values
    match condition.kind:
        case "host-header":
            return [f"req.hdr(host),field(1,:) -m reg -i {_regexes(values)}"]
        case "path-pattern":
            return [f"path -m reg {_regexes(values)}"]
        case "http-header":
            return [f"req.fhdr({word(condition.header)}) -m reg -i {_regexes(values)}"]
        case "http-request-method":
            return [f"method {' '.join(word(value) for value in values)}"]
        case "source-ip":
            return [f"src {' '.join(word(value) for value in values)}"]
        case _:
            return [f"query -m reg -i {word(_pair(*pair))}" for pair in condition.pairs]


def _regexes(values: Iterable[str]) -> str:
    return " ".join(word(f"^{pattern(value)}$") for value in values)


def _pair(key: str, value: str) -> str:
    name = pattern(key) if key else "[^&=]*"
    return f"(^|&){name}={pattern(value)}(&|$)"


def _location(settings: Mapping[str, str], port: int) -> str:
    """Return the log format of a redirect's location."""
    protocol = settings["Protocol"].replace("#{protocol}", "http").lower()
    wanted = settings["Port"].replace("#{port}", str(port))
    shown = "" if wanted == _PORTS[protocol.upper()] else f":{wanted}"
    query = _filled(settings["Query"])
    return (
        f"{protocol}://{_filled(settings['Host'])}{shown}{_filled(settings['Path'])}"
        f"{'?' + query if query else ''}"
    )


_PARTS: Final = {
    "#{protocol}": "http",
    "#{host}": "%[req.hdr(host),field(1,:)]",
    "#{path}": "%[path,regsub(^/,)]",
    "#{query}": "%[query]",
}


def _filled(part: str) -> str:
    """Return a part of a location, with what it takes from the request."""
    filled = literal(part)
    for name, value in _PARTS.items():
        filled = filled.replace(name, value)
    return filled


def _backend(
    group: Group, targets: Sequence[Target], healthy: Container[tuple[str, str]], idle_s: int
) -> Iterator[str]:
    check, name = group.check, backend_name(group.id)
    is_http = group.protocol == "HTTP"
    yield f"backend {name}"
    yield f"    mode {'http' if is_http else 'tcp'}"
    yield f"    balance {'leastconn' if group.least_requests else 'roundrobin'}"
    yield f"    timeout server {idle_s}s"
    yield f"    timeout check {check.timeout_s}s"
    # The kernel notices in 11 s that the host of a target is gone, while requests wait for their answers.
    yield "    option srvtcpka"
    yield f"    srvtcpka-idle {_PROBE_AFTER_S}s"
    yield f"    srvtcpka-intvl {_PROBE_EVERY_S}s"
    yield f"    srvtcpka-cnt {_PROBES}"
    if is_http:
        # A target may close an idle connection just when a request is sent on it.
        yield "    retry-on conn-failure empty-response"
        yield "    http-request disable-l7-retry unless { method GET HEAD OPTIONS }"
    if check.protocol != "TCP":
        yield "    option httpchk"
        yield f"    http-check send meth GET uri {word(check.path)} ver HTTP/1.1 hdr Host localhost"
        yield f"    http-check expect status {check.matcher}"
    words = " ".join(check_words(check, is_tls=check.protocol == "HTTPS"))
    for target in targets:
        server = server_name(target)
        weight = WEIGHT if (name, server) in healthy and not target.drains else 0
        yield f"    server {server} {target.address}:{target.port} {words} weight {weight}"
