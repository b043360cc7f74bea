"""Labels of results, in which ``${...}`` stands for properties and values of the metric. Pure.

Source: CloudWatch user guide, "Use dynamic labels". What depends on times as texts is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.controlplane.api.cloudwatch.errors import ValidationException

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DYNAMIC: Final = re.compile(r"\$\{([^}]{0,300})\}")
_PROPERTY: Final = re.compile(r"PROP\('([^']{1,255})'\)")
_SHOWN: Final = 64


def resolved(
    label: str, default: str, properties: Mapping[str, str], values: Sequence[float]
) -> str:
    """Return a label as it is shown.

    Args:
        label: as in the request.
        default: what ``${LABEL}`` stands for.
        properties: what ``${PROP('...')}`` stands for; empty for others.
        values: of the result, the oldest first.

    Raises:
        ValidationException: something in it is not supported.
    """

    def put(match: re.Match[str]) -> str:
        asked = match[1].strip()
        if asked == "LABEL":
            return default
        if found := _PROPERTY.fullmatch(asked):
            return properties.get(found[1], "")
        if asked in _OF_VALUES:
            return f"{_OF_VALUES[asked](values):g}" if values else "--"
        raise ValidationException(
            f"The dynamic label ${{{asked[:_SHOWN]}}} is not supported; use LABEL, PROP('...'), "
            f"{', '.join(_OF_VALUES)}."
        )

    return _DYNAMIC.sub(put, label)


_OF_VALUES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "AVG": lambda values: sum(values) / len(values),
    "DATAPOINT_COUNT": len,
    "FIRST": lambda values: values[0],
    "LAST": lambda values: values[-1],
    "MAX": max,
    "MIN": min,
    "SUM": sum,
}
