"""A real Prometheus discovers tasks and agents from control, scrapes them, and feeds the dashboard that we ship.

The agent of the scene also sends its metrics by OTLP.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, register, run
from tests.support.fleet import Fleet, eventually, fleet, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

SHIPPED = Path(__file__).parents[3] / "packaging/files/monitoring"
SERVE = "mkdir /www; echo 'demo_requests_total 42' > /www/metrics; exec httpd -f -p {port} -h /www"
BUSY = "while :; do echo x > /tmp/x; sync; done & "
FAST = {"Delay": 0.2, "MaxAttempts": 450}
WITHOUT_DATA = re.compile("container_cpu_cfs_")
"""Queries that have no data here: no container of the scene has a CPU limit of its own."""


@dataclass
class Prometheus:
    """The process, and a client of its API."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            return bool(self.get("status/runtimeinfo"))
        return False


class Collector:
    """Takes OTLP over HTTP, and keeps the newest request."""

    def __init__(self) -> None:
        newest: dict[str, Any] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Encoding"] == "gzip"
                newest[self.path] = json.loads(gzip.decompress(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.newest = newest
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def resources(self) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """Return attributes and metrics of each resource of the newest request."""
        found = []
        for one in self.newest.get("/v1/metrics", {}).get("resourceMetrics", ()):
            pairs = one["resource"]["attributes"]
            metrics = {m["name"]: m for scope in one["scopeMetrics"] for m in scope["metrics"]}
            found.append(({p["key"]: p["value"]["stringValue"] for p in pairs}, metrics))
        return found


@dataclass
class Scene:
    """A fleet of one host that Prometheus watches, with a task in each network mode."""

    fleet: Fleet
    prometheus: Prometheus
    tasks: dict[str, str]
    """ARN by network mode."""
    agent_port: int
    token: str
    collector: Collector


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, busybox_image: str) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("monitoring")
    port, collector = free_port(), Collector()
    settings: dict[str, Any] = {
        "ECS_ENABLE_PROMETHEUS_METRICS": "true",
        "ECS_PROMETHEUS_PORT": str(port),
        "ECS_HOST_ADDRESS": "127.0.0.1",
        "ECS_POLLING_METRICS_WAIT_DURATION": "1s",
        "ECS_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        "ECS_OTLP_INTERVAL": "1s",
    }
    with (
        contextlib.closing(collector),
        fleet(directory, **settings) as made,
        watching(made, directory) as prometheus,
    ):
        # Before anything is launched, so that rates of launches and placements have a beginning.
        seen = 'up{job=~"ecs-agents|ecs-control"} == 1'
        eventually(lambda: len(prometheus.query(seen)) == 2, what="agent and control are scraped")
        tasks = launch(made, busybox_image)
        token = (directory / "control/metrics.tokens").read_text().split()[-1]
        yield Scene(made, prometheus, tasks, port, token, collector)


@contextlib.contextmanager
def watching(made: Fleet, directory: Path) -> Iterator[Prometheus]:
    """Run Prometheus with our example, at this fleet and with short intervals."""
    token = directory / "reader-token"
    token.write_text((directory / "control/metrics.tokens").read_text().split()[-1])
    text = (SHIPPED / "prometheus.yml").read_text()
    text = text.replace("control.example:6820", f"127.0.0.1:{made.control.port}")
    text = text.replace("/etc/prometheus/ecs-token", str(token)).replace("15s", "1s")
    text = text.replace("prometheus/agents\n", "prometheus/agents\n        refresh_interval: 1s\n")
    text = text.replace("prometheus/tasks\n", "prometheus/tasks\n        refresh_interval: 1s\n")
    config = directory / "prometheus.yml"
    config.write_text(text)
    (directory / "alerts.yml").write_text((SHIPPED / "alerts.yml").read_text())
    port, log = free_port(), directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=output,
        )
    try:
        prometheus = Prometheus(port, process, log)
        eventually(prometheus.is_ready, what="Prometheus answers")
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)


def launch(made: Fleet, image: str) -> dict[str, str]:
    """Start a task per network mode, each of which asks to be scraped in another way."""
    client = made.client()
    host_port = free_port()
    asking: dict[str, tuple[int, dict[str, Any]]] = {
        "awsvpc": (80, {"dockerLabels": {"ECS_PROMETHEUS_EXPORTER_PORT": "80"}}),
        "bridge": (
            8080,
            {
                "dockerLabels": {"prometheus.io/scrape": "true"},
                "portMappings": [{"containerPort": 8080, "hostPort": 0}],
            },
        ),
        "host": (host_port, {"portMappings": [{"containerPort": host_port, "name": "metrics"}]}),
    }
    tasks = {}
    for mode, (port, more) in asking.items():
        command = BUSY + SERVE.format(port=port)
        definition = register(client, image, command, mode=mode, family=mode, containers=[more])
        network: dict[str, Any] = {"networkConfiguration": NETWORK} if mode == "awsvpc" else {}
        (tasks[mode],) = run(client, definition, **network)
    # One that no host has room for.
    large = register(client, image, "true", family="large", memory="1000000")
    assert client.run_task(taskDefinition=large)["failures"]
    client.get_waiter("tasks_running").wait(tasks=list(tasks.values()), WaiterConfig=FAST)
    return tasks


def test_tasks_of_each_mode_are_discovered_and_scraped(scene: Scene) -> None:
    def scraped() -> dict[str, str]:
        found = scene.prometheus.query('demo_requests_total{job="ecs-tasks"}')
        return {one["metric"]["family"]: one["value"][1] for one in found}

    expected = dict.fromkeys(scene.tasks, "42")
    eventually(lambda: scraped() == expected, what="all tasks are scraped")
    targets = scene.prometheus.get("targets", state="active")["activeTargets"]
    by_arn = {one["discoveredLabels"].get("__meta_ecs_task_arn"): one for one in targets}
    for mode, arn in scene.tasks.items():
        assert by_arn[arn]["health"] == "up", by_arn[arn]["lastError"]
        assert by_arn[arn]["discoveredLabels"]["__meta_ecs_network_mode"] == mode


def test_agents_and_control_are_scraped(scene: Scene) -> None:
    up = {one["metric"]["job"]: one["value"][1] for one in scene.prometheus.query("up")}
    assert up["ecs-agents"] == up["ecs-control"] == "1"
    (info,) = scene.prometheus.query('ecs_task_info{family="awsvpc"}')
    assert info["metric"]["task_arn"] == scene.tasks["awsvpc"]


def queries() -> list[str]:
    """Return every query of the dashboard, with its variables filled in."""
    dashboard = json.loads((SHIPPED / "grafana-dashboard.json").read_text())
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]
    filled = [text.replace("$__rate_interval", "5m") for text in expressions]
    return [re.sub(r"\$\w+", ".*", text) for text in filled]


def test_every_query_of_the_dashboard_has_data(scene: Scene) -> None:
    def empty() -> list[str]:
        return [
            text
            for text in queries()
            if not WITHOUT_DATA.search(text)
            and not [one for one in scene.prometheus.query(text) if one["value"][1] != "NaN"]
        ]

    with contextlib.suppress(AssertionError):
        eventually(lambda: not empty(), what="data for each query")
    assert not empty()
    for text in filter(WITHOUT_DATA.search, queries()):
        scene.prometheus.query(text)  # it is a valid query at least


def test_every_alert_can_be_evaluated(scene: Scene) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = scene.prometheus.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    eventually(lambda: all(rule["health"] == "ok" for rule in rules()), what="rules are evaluated")
    firing = {rule["name"] for rule in rules() if rule["state"] == "firing"}
    assert firing <= {"EcsNoRoom", "EcsHostMemoryFull", "EcsHostDiskFull"}
    done = subprocess.run(
        ["promtool", "check", "rules", str(SHIPPED / "alerts.yml")],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_has_no_complaint_about_real_pages(scene: Scene) -> None:
    control = urllib.request.Request(
        f"{scene.fleet.control.url}/metrics", headers={"Authorization": f"Bearer {scene.token}"}
    )
    agent = urllib.request.Request(f"http://127.0.0.1:{scene.agent_port}/metrics")
    for request in (control, agent):
        with urllib.request.urlopen(request, timeout=10) as answer:
            page = answer.read()
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=page, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_collector_gets_the_same_figures(scene: Scene) -> None:
    def cpu_s() -> float | None:
        for attributes, metrics in scene.collector.resources():
            if attributes.get("aws.ecs.task.arn") == scene.tasks["host"]:
                points = metrics["container.cpu.time"]["sum"]["dataPoints"]
                return float(sum(point["asDouble"] for point in points))
        return None

    def scraped_s() -> float:
        query = 'container_cpu_usage_seconds_total{family="host"}'
        return float(scene.prometheus.query(query)[0]["value"][1])

    first = scraped_s()
    sent = eventually(lambda: (cpu_s() or 0.0) >= first and cpu_s(), what="newer figures by OTLP")
    eventually(lambda: scraped_s() >= sent, what="and newer ones for Prometheus")
    host = next(a for a, _ in scene.collector.resources() if "service.name" in a)
    assert host["aws.ecs.cluster.arn"].endswith(":cluster/default")


def test_a_task_that_stops_is_scraped_no_longer(scene: Scene) -> None:
    arn = scene.tasks["bridge"]
    scene.fleet.client().stop_task(task=arn)

    def listed() -> bool:
        targets = scene.prometheus.get("targets", state="active")["activeTargets"]
        return any(one["discoveredLabels"].get("__meta_ecs_task_arn") == arn for one in targets)

    eventually(lambda: not listed(), what="the target is gone")
