"""Pages of metrics in the two text formats that Prometheus reads: families of series in, text out.

Pure, and fast enough for pages of thousands of series: a set of labels is turned into text once,
however many metrics have it. A family without series is left out of a page.

Sources: Prometheus' text format 0.0.4 (``prometheus/docs``, exposition formats) and OpenMetrics 1.0.

Tests: ``tests/unit/test_exposition.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from agent.model.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_OPEN_METRICS_NAME: Final = "application/openmetrics-text"

Kind = Literal["counter", "gauge", "histogram"]
Value = float | Histogram


class Labels:
    """A set of labels, and how it is written; immutable."""

    __slots__ = ("pairs", "text")

    def __init__(self, pairs: Mapping[str, str]) -> None:
        self.pairs = pairs
        self.text = ",".join(f'{name}="{escape(value)}"' for name, value in pairs.items())
        """Without the braces."""

    def plus(self, **more: str) -> Labels:
        """Return these labels and others behind them."""
        return Labels({**self.pairs, **more})


NONE: Final = Labels({})


class Family(NamedTuple):
    """One metric with all of its series."""

    name: str
    """A counter's ends in ``_total``."""
    kind: Kind
    help: str
    series: Sequence[tuple[Labels, Value]]


def one(name: str, kind: Kind, text: str, value: Value | None) -> Family:
    """Return a metric with one series without labels; with none if there is no value."""
    return Family(name, kind, text, () if value is None else ((NONE, value),))


def wants_open_metrics(accept: str) -> bool:
    """Tell whether a scraper asks for OpenMetrics, by its ``Accept`` header."""
    return any(
        part.split(";")[0].strip() == _OPEN_METRICS_NAME and not _is_refused(part)
        for part in accept.lower().split(",")
    )


def _is_refused(part: str) -> bool:
    parameters = [word.strip() for word in part.split(";")[1:]]
    return any(word in {"q=0", "q=0.0"} for word in parameters)


def page(families: Iterable[Family], *, open_metrics: bool = False) -> str:
    """Return the text of a whole page."""
    lines = [line for family in families for line in _lines(family, open_metrics)]
    if open_metrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _lines(family: Family, open_metrics: bool) -> Iterator[str]:
    name, kind, text, series = family
    if not series:
        return
    titled = name.removesuffix("_total") if open_metrics and kind == "counter" else name
    yield f"# HELP {titled} {_escape_help(text)}"
    yield f"# TYPE {titled} {kind}"
    for labels, value in series:
        if isinstance(value, Histogram):
            yield from _buckets(name, labels.text, value)
        elif labels.text:
            yield f"{name}{{{labels.text}}} {number(value)}"
        else:
            yield f"{name} {number(value)}"


def _buckets(name: str, labels: str, value: Histogram) -> Iterator[str]:
    before = f"{labels}," if labels else ""
    count = 0
    for bound_s, count in value.cumulative():
        bound = "+Inf" if bound_s == float("inf") else repr(float(bound_s))
        yield f'{name}_bucket{{{before}le="{bound}"}} {count}'
    braces = f"{{{labels}}}" if labels else ""
    yield f"{name}_sum{braces} {number(value.sum_s)}"
    yield f"{name}_count{braces} {count}"  # that of the last bucket, also while another thread counts


def number(value: float) -> str:
    """Return a number as both formats have it: whole ones without a point."""
    if isinstance(value, int):
        return str(int(value))  # a bool too
    return str(int(value)) if value.is_integer() else repr(value)


def escape(text: str) -> str:
    """Return a label's value as it is written between quotes."""
    if "\\" in text or "\n" in text or '"' in text:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
