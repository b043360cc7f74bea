"""Numbers of metrics are stored, names are documented."""

from __future__ import annotations

from pathlib import Path

from agent.controlplane.metric_store import catalogue

PAGE = Path(__file__).parents[4] / "docs" / "metrics-api.md"


def test_every_metric_has_a_number_and_a_name_of_its_own() -> None:
    numbers = [metric.number for metric in catalogue.ALL]
    assert numbers == list(range(1, len(catalogue.ALL) + 1))
    # A set of them is stored as bits of an integer of 64.
    assert max(numbers) < 63
    names = {(metric.namespace, metric.name) for metric in catalogue.ALL}
    assert len(names) == len(catalogue.ALL)
    for metric in catalogue.ALL:
        assert catalogue.named(metric.namespace, metric.name) is metric


def test_the_page_has_every_metric() -> None:
    page = PAGE.read_text()
    assert [m.name for m in catalogue.ALL if f"`{m.name}`" not in page] == []
