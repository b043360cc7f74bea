"""SEARCH of metric math: ``SEARCH('{AWS/ECS,ClusterName} MetricName="CPUUtilization"', 'Average', 300)``. Pure.

What Grafana and dashboards write: a schema or a namespace, and names with exact values, which all must
be true. Words without quotes, which CloudWatch compares by parts, and OR and NOT of conditions are refused.

Source: CloudWatch user guide, "Search expression syntax".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.controlplane.api.cloudwatch import dimensions
from agent.controlplane.api.cloudwatch.errors import ValidationException

if TYPE_CHECKING:
    from agent.controlplane.metric_store.catalogue import Metric
    from agent.controlplane.metric_store.scopes import Scope

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_SCHEMA: Final = re.compile(r"\s*\{([^}]*)\}")
_NAME: Final = rf"(?P<name>{_QUOTED}|[:A-Za-z0-9_.]+)"
_CONDITION: Final = re.compile(
    rf"\s*(?:AND\s+)?{_NAME}"
    rf"(?:\s*=\s*(?:(?P<value>{_QUOTED})|\((?P<values>\s*{_QUOTED}(?:\s+OR\s+{_QUOTED})*\s*)\)))?"
)
_ESCAPED: Final = re.compile(r"\\(.)")
_ACCOUNT: Final = ":aws.AccountId"
_SHOWN: Final = 64


class Search(Struct, frozen=True):
    """What to look for."""

    namespaces: frozenset[str] = frozenset()
    """Empty for any."""
    exactly: frozenset[str] | None = None
    """All dimensions that a metric has; None for any."""
    having: frozenset[str] = frozenset()
    """Dimensions that it has, with any value."""
    values: Mapping[str, frozenset[str]] = {}
    """What dimensions and ``MetricName`` may be."""
    accounts: frozenset[str] = frozenset()

    def finds(self, metric: Metric, scope: Scope, account: str) -> bool:
        """Return whether a metric is looked for."""
        has = dimensions.of(scope)
        return (
            (not self.namespaces or metric.namespace in self.namespaces)
            and (self.exactly is None or self.exactly == has.keys())
            and self.having <= has.keys()
            and (not self.accounts or account in self.accounts)
            and all(
                (has | {"MetricName": metric.name}).get(name) in wanted
                for name, wanted in self.values.items()
            )
        )


def parsed(text: str) -> Search:
    """Return the search of a search term.

    Raises:
        ValidationException: it is invalid, or asks for more than is supported.
    """
    namespaces: frozenset[str] = frozenset()
    exactly = None
    at = 0
    if schema := _SCHEMA.match(text):
        namespace, *names = [_plain(part.strip()) for part in schema[1].split(",")]
        namespaces, exactly = frozenset({namespace}), frozenset(names)
        at = schema.end()
    having: set[str] = set()
    values: dict[str, frozenset[str]] = {}
    while text[at:].strip():
        found = _CONDITION.match(text, at)
        if found is None or (
            (found["value"] or found["values"]) is None and found["name"][0] != '"'
        ):
            raise ValidationException(
                f"The search is not supported from '{text[at:].strip()[:_SHOWN]}' on: use "
                'Name="value", Name=("one" OR "other") and "DimensionName".'
            )
        at = found.end()
        name = _plain(found["name"])
        if found["value"] is None and found["values"] is None:
            having.add(name)
            continue
        listed = re.findall(_QUOTED, found["value"] or found["values"])
        values[name] = frozenset(_plain(each) for each in listed)
    return Search(
        namespaces=namespaces | values.pop("Namespace", frozenset()),
        exactly=exactly,
        having=frozenset(having),
        accounts=values.pop(_ACCOUNT, frozenset()),
        values=values,
    )


def _plain(text: str) -> str:
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        return _ESCAPED.sub(r"\1", text[1:-1])
    return text
