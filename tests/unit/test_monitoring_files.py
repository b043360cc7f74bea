"""The dashboard, alert rules and configuration that we ship name metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

from agent.controlplane.monitoring import families as of_control
from agent.metrics import agent_families, container_families, host_families

FILES = Path(__file__).parents[2] / "packaging/files/monitoring"
SOURCES = (of_control, agent_families, container_families, host_families)
METRIC = re.compile(r"\b(?:ecs|container|machine)_[a-z0-9_]+(?=[\[{ )]|$)")
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


def known() -> str:
    return "".join(Path(str(module.__file__)).read_text() for module in SOURCES)


def expressions() -> list[str]:
    dashboard = json.loads((FILES / "grafana-dashboard.json").read_text())
    queries = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]
    alerts = re.findall(r"^ +expr: (.+)$", (FILES / "alerts.yml").read_text(), flags=re.MULTILINE)
    return queries + alerts


def test_every_metric_that_is_asked_for_exists() -> None:
    source = known()
    named = {SUFFIX.sub("", name) for text in expressions() for name in METRIC.findall(text)}
    assert len(named) > 30
    missing = {name for name in named if f'"{name}"' not in source}
    assert not missing


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = json.loads((FILES / "grafana-dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
