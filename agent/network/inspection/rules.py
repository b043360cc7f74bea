"""Lists the rules of the agent's nftables tables with their counters.

``listed`` runs ``nft`` and blocks; all else is pure.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from agent.errors import NetworkFailure
from agent.model.network_views import RuleView
from agent.network.kernel import nft

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIGEST: Final = re.compile(r" [0-9a-f]{12}$")
"""Ends the comment of every rule that ``nft.replacement`` made."""
_SHOWN: Final = 300


def tables_of(listing: Iterable[dict[str, Any]], name: str) -> list[tuple[str, str]]:
    """Return family and name of the tables called ``name``, or ``name_`` and more, in order."""
    tables = (each["table"] for each in listing if "table" in each)
    return sorted(
        (table["family"], table["name"])
        for table in tables
        if table["name"] == name or table["name"].startswith(f"{name}_")
    )


def rules_of(listing: Iterable[dict[str, Any]]) -> list[RuleView]:
    """Return the rules of one listed table, in the order in which the kernel tries them."""
    found = []
    listing = list(listing)
    # Rules of security groups count in objects of the table, which they name.
    named = {each["counter"]["name"]: each["counter"] for each in listing if "counter" in each}
    for each in listing:
        rule = each.get("rule")
        if rule is None:
            continue
        counter = next((e["counter"] for e in rule.get("expr", []) if "counter" in e), None)
        if isinstance(counter, str):
            counter = named.get(counter)
        found.append(
            RuleView(
                family=rule["family"],
                table=rule["table"],
                chain=rule["chain"],
                rule=_DIGEST.sub("", str(rule.get("comment", ""))) or f"handle {rule['handle']}",
                packets=counter["packets"] if counter else None,
                bytes=counter["bytes"] if counter else None,
            )
        )
    return found


def listed(name: str) -> list[RuleView]:
    """Return the rules of all tables of an agent whose tables begin with this name. Blocks.

    A table that is removed meanwhile is left out.

    Raises:
        NetworkFailure: ``nft`` is missing, failed or did not answer.
    """
    answer = nft.run("nft", "-j", "list", "tables")
    if answer.returncode != 0:
        raise NetworkFailure(f"nft does not list its tables: {answer.stderr.strip()[:_SHOWN]}")
    rules: list[RuleView] = []
    for family, table in tables_of(json.loads(answer.stdout)["nftables"], name):
        rules += rules_of(nft.listed(family, table) or [])
    return rules
