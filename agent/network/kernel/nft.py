"""Runs ``nft``: replaces whole tables, lists them, recognizes them by a digest in comments.

Commands are in the JSON schema of nftables (libnftables-json(5)). Everything here that is not
marked as pure blocks, and runs in a thread lane of the caller.

Tests: ``tests/unit/network/host/test_shared.py``,
``tests/unit/network/bridge/test_bridge_port_rules.py``.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import TYPE_CHECKING, Any, Final

from agent.errors import NetworkFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Rule = tuple[str, list[dict[str, Any]]]
"""Comment and expressions of a rule."""
COUNTED_DROP: Final[tuple[dict[str, Any], ...]] = ({"counter": None}, {"drop": None})
"""The last expressions of a rule that drops packets, and tells how many."""
_LIMIT_S = 15.0
_SHOWN = 300


def replacement(family: str, table: str, body: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the commands that replace a table by this one in one transaction. Pure.

    A digest of all rules is appended to the comment of every rule. It excludes the elements of
    sets, which change independently of the rules.
    """
    added = [{kind: _writable(what) for kind, what in command.items()} for command in body]
    bare = [{kind: _without_elements(what) for kind, what in command.items()} for command in added]
    digest = hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()[:12]
    for command in added:
        if "rule" in command:
            command["rule"]["comment"] = f"{command['rule']['comment']} {digest}"
    name = {"family": family, "name": table}
    # A table can be deleted only if it exists, so it is added first.
    replaced: list[dict[str, Any]] = [
        {"add": {"table": name}},
        {"delete": {"table": name}},
        {"add": {"table": name}},
    ]
    return [*replaced, *({"add": command} for command in added)]


def has_rules_of(commands: Iterable[dict[str, Any]], listed: Sequence[dict[str, Any]]) -> bool:
    """Return whether a listed table has exactly the rules that these commands create. Pure."""
    rules = [c["add"]["rule"] for c in commands if "rule" in c.get("add", {})]
    present = [o["rule"].get("comment") for o in listed if "rule" in o]
    return sorted(map(str, present)) == sorted(rule["comment"] for rule in rules)


def elements(listed: Iterable[dict[str, Any]], name: str) -> list[Any]:
    """Return the elements of a set as listed; none if there is no such set. Pure."""
    for each in listed:
        if each.get("set", {}).get("name") == name:
            return list(each["set"].get("elem", []))
    return []


def apply(commands: Sequence[dict[str, Any]]) -> None:
    """Execute all of the commands, or none.

    Raises:
        NetworkFailure: ``nft`` is missing or failed; the text contains its error.
    """
    answer = run("nft", "-j", "-f", "-", text=json.dumps({"nftables": commands}))
    if answer.returncode != 0:
        raise NetworkFailure(f"nft refused our rules: {answer.stderr.strip()[:_SHOWN]}")


def remove(family: str, table: str) -> None:
    """Remove a table; not an error if it does not exist.

    Raises:
        NetworkFailure: ``nft`` is missing or failed.
    """
    name = {"family": family, "name": table}
    apply([{"add": {"table": name}}, {"delete": {"table": name}}])


def listed(family: str, table: str) -> list[dict[str, Any]] | None:
    """Return the content of a table; None if there is no such table.

    Raises:
        NetworkFailure: ``nft`` is missing or did not answer.
    """
    answer = run("nft", "-j", "list", "table", family, table)
    return json.loads(answer.stdout)["nftables"] if answer.returncode == 0 else None


def run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Raises:
        NetworkFailure: it is not installed, cannot be started, or did not answer in time; the cause
            of the first is ``FileNotFoundError``.
    """
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except FileNotFoundError as error:
        mend = f"{command[0]} is not installed; install the package that contains it"
        raise NetworkFailure(mend) from error
    except OSError as error:  # too many processes or open files, no memory
        raise NetworkFailure(f"{command[0]} cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise NetworkFailure(f"{command[0]} did not answer within {_LIMIT_S:g} s") from None


def hooked(
    place: dict[str, Any], name: str, kind: str, hook: str, priority: int, *, device: str = ""
) -> dict[str, Any]:
    """Return the chain of a table (``family`` and ``table``) that packets enter. Pure."""
    bound = {"dev": device} if device else {}
    entry = {"type": kind, "hook": hook, **bound, "prio": priority, "policy": "accept"}
    return {"chain": {**place, "name": name, **entry}}


def rule(
    place: dict[str, Any], chain: str, comment: str, *expressions: dict[str, Any]
) -> dict[str, Any]:
    """Return a rule of a chain of a table (``family`` and ``table``). Pure."""
    return {"rule": {**place, "chain": chain, "comment": comment, "expr": list(expressions)}}


def rules(place: dict[str, Any], chain: str, described: Iterable[Rule]) -> list[dict[str, Any]]:
    """Return the rules of a chain that are described by comment and expressions. Pure."""
    return [rule(place, chain, comment, *expressions) for comment, expressions in described]


def match(left: dict[str, Any], right: Any, operator: str = "==") -> dict[str, Any]:
    """Return the expression that compares a field with a value or a set. Pure."""
    return {"match": {"op": operator, "left": left, "right": right}}


def field(protocol: str, name: str) -> dict[str, Any]:
    """Return the expression for a field of a header. Pure."""
    return {"payload": {"protocol": protocol, "field": name}}


def meta(key: str) -> dict[str, Any]:
    """Return the expression for packet metadata. Pure."""
    return {"meta": {"key": key}}


def prefix(cidr: str) -> dict[str, Any]:
    """Return an address prefix as a value. Pure."""
    address, _, length = cidr.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}


def prefixes(cidrs: Iterable[str], *, ipv6: bool = False) -> list[dict[str, Any]]:
    """Return those prefixes of one IP version as values, each once and in order. Pure."""
    return [prefix(cidr) for cidr in sorted(set(cidrs)) if (":" in cidr) is ipv6]


def _writable(what: dict[str, Any]) -> dict[str, Any]:
    # nft rejects an empty list of elements.
    return {key: value for key, value in what.items() if key != "elem" or value}


def _without_elements(what: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in what.items() if key != "elem"}
