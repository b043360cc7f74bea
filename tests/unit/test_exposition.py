"""Pages of metrics, read back by Prometheus' own parsers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from agent import exposition
from agent.exposition import Family, Labels, one
from agent.model.histogram import Histogram


def families() -> list[Family]:
    histogram = Histogram((0.1, 2.0))
    histogram.observe(0.05)
    histogram.observe(3.0)
    return [
        one("up", "gauge", 'A "gauge" with \\ and\nmore.', True),
        one("missing", "gauge", "Has no value.", None),
        Family(
            "calls_total",
            "counter",
            "A counter.",
            [(Labels({"to": "a"}), 3), (Labels({"to": "b"}).plus(more="c"), 1.5)],
        ),
        one("wait_seconds", "histogram", "A histogram.", histogram),
        Family("run_seconds", "histogram", "Another.", [(Labels({"phase": "pull"}), histogram)]),
    ]


def read(text: str, *, is_open: bool) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    parse = (
        open_metrics.text_string_to_metric_families if is_open else text_string_to_metric_families
    )
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("is_open", [False, True])
def test_both_formats_say_the_same(is_open: bool) -> None:
    page = read(exposition.page(families(), open_metrics=is_open), is_open=is_open)
    assert page["up", frozenset()] == 1
    assert page["calls_total", frozenset({("to", "a")})] == 3
    assert page["calls_total", frozenset({("to", "b"), ("more", "c")})] == 1.5
    assert page["wait_seconds_bucket", frozenset({("le", "0.1")})] == 1
    assert page["wait_seconds_bucket", frozenset({("le", "+Inf")})] == 2
    assert page["wait_seconds_sum", frozenset()] == 3.05
    assert page["run_seconds_count", frozenset({("phase", "pull")})] == 2
    assert page["run_seconds_bucket", frozenset({("phase", "pull"), ("le", "2.0")})] == 1
    assert not [name for name, _ in page if name.startswith("missing")]


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", True),
        ("text/plain, Application/OpenMetrics-Text", True),
        ("application/openmetrics-text;q=0, text/plain", False),
    ],
)
def test_a_scraper_gets_the_format_that_it_asks_for(accept: str, is_open: bool) -> None:
    assert exposition.wants_open_metrics(accept) is is_open


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=30),
    st.one_of(st.integers(0, 2**63), st.floats(0, 1e18)),
)
def test_any_label_and_number_survives(text: str, value: float) -> None:
    page = exposition.page([Family("x", "gauge", "Help.", [(Labels({"l": text}), value)])])
    assert read(page, is_open=False) == {("x", frozenset({("l", text)})): value}
