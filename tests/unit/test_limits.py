"""docs/limits.md has every limit with its value: ``make docs`` writes it anew.

Each row names the constant that it is about. A constant of the packages that strangers reach, and that looks like a
limit, is in a table or in ``NOT_HELD`` with the reason.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import generated

ROOT = Path(__file__).parents[2]
PAGE = generated.DOCS / "limits.md"
Row = tuple[str, str, str, str]
"""What is limited, the constant below ``agent``, its unit, and what happens at it."""

_GIVES_WAY = "the oldest gives way; what is needed again is read again"
_CLOSED = "the connection is closed"

CONNECTIONS: tuple[Row, ...] = (
    ("connections of one server of control", "listening.limits.Limits.connections", "", "of strangers as below; then the one that is idle for longest is closed, or the newest if a call is in progress on all; less where descriptors are short"),
    ("connections that have sent nothing", "listening.limits.Limits.silent", "", "the oldest is closed"),
    ("the same, of one address or IPv6 /64", "listening.limits.Limits.silent_per_address", "", "the oldest is closed"),
    ("connections that are not proven", "listening.limits.Limits.unproven", "", "the oldest is closed"),
    ("the same, of one address or IPv6 /64", "listening.limits.Limits.unproven_per_address", "", "the oldest is closed"),
    ("data of unproven senders in memory", "listening.limits.Limits.unproven_bytes", "bytes", "their connections are closed"),
    ("line and headers of a request", "listening.limits.Limits.head_bytes", "bytes", "400, and the connection is closed"),
    ("headers of a request", "listening.connection._MAX_HEADERS", "", "400, and the connection is closed"),
    ("time for the head of a request", "listening.limits.Limits.head_s", "s", _CLOSED),
    ("idle time of a proven connection", "listening.limits.Limits.idle_s", "s", _CLOSED),
    ("answers to strangers, of one address", "listening.limits.Limits.answers_per_s", "a second", "further answers wait"),
    ("body that a stranger sends after its answer", "listening.limits.Limits.lingering_bytes", "bytes", _CLOSED),
    ("connections that wait to be accepted", "listening.server.BACKLOG", "", "the kernel refuses more"),
    ("connections to the agent's operator socket, introspection and metrics, each", "endpoints.http._LIMITS.connections", "", "as above"),
    ("connections of containers to the agent", "task_endpoint.server._LIMITS.connections", "", "as above"),
    ("connections of the engine's log driver", "awslogs.relay._LIMITS.connections", "", "as above"),
)  # fmt: skip
CONTROL: tuple[Row, ...] = (
    ("body of an API call, inflated too", "controlplane.front.service_api.BODY_LIMIT_BYTES", "bytes", "413 or the API's own error"),
    ("body of a call of the command line or console", "controlplane.front.own_calls._BODY_BYTES", "bytes", "413"),
    ("body that is sent on with `--forward`", "controlplane.front.forwarder.BODY_MOST_BYTES", "bytes", "413"),
    ("calls that are sent on at once", "controlplane.front.forwarder._AT_ONCE", "", "503"),
    ("time for a whole body", "controlplane.front.bodies.BODY_S", "s", "408"),
    ("bodies that are inflated at once", "controlplane.front.bodies._LANES", "", "further ones wait"),
    ("time that RunTask and StartTask wait for those before them", "controlplane.api.ecs.turns.WAIT_S", "s", "`ThrottlingException`; SDKs try again"),
    ("calls of etcd at once", "controlplane.store.etcd_client.PLACES", "", "further ones wait"),
    ("time that a call of etcd waits for others", "controlplane.store.etcd_client.PLACE_S", "s", "500, nothing was done"),
    ("items of one list of an API call", "controlplane.front.codecs.contract.ITEMS_MOST", "", "400"),
    ("values of an API call", "controlplane.front.codecs.contract.VALUES_MOST", "", "400"),
    ("nesting of an agent's message", "controlplane.bounds._DEEPEST", "", "400"),
    ("signatures that are remembered against replay", "controlplane.front.operators._REMEMBERED", "", "the oldest is forgotten"),
    ("readers of events", "controlplane.front.event_stream.READERS_MOST", "", "503"),
    ("readers of events with one key", "controlplane.front.event_stream.READERS_OF_ONE_MOST", "", "503"),
    ("readers of changes (console)", "controlplane.console.stream.READERS_MOST", "", "503"),
    ("readers of changes with one key", "controlplane.console.stream.READERS_OF_ONE_MOST", "", "503"),
    ("changes that wait for a slow reader of the store", "controlplane.store.watching.BACKLOG_LIMIT", "", "it reads again from the store, or is told of a gap"),
    ("decisions that are remembered for a user", "controlplane.authorization.grants._REMEMBERED", "", "all are decided anew"),
    ("sessions of roles that are remembered, of one holder", "controlplane.iam.directory._OPENED_MOST", "", "they are read again"),
    ("audit records that wait for the disk", "controlplane.audit.trail.WAITING_MOST_BYTES", "bytes", "further ones are lost, and counted"),
    ("request or answer in an audit record", "controlplane.audit.record.PART_MOST_BYTES", "bytes", "it is left out"),
    ("task definition", "controlplane.definition.rules.SIZE_LIMIT_BYTES", "bytes", "400"),
    ("containers of a task definition", "controlplane.definition.rules.CONTAINER_LIMIT", "", "400"),
    ("overrides of a task", "controlplane.definition.overrides.LENGTH_LIMIT", "characters", "400"),
    ("events of a service", "controlplane.services.record.EVENT_LIMIT", "", "the oldest gives way"),
    ("body of an agent's call, inflated too", "controlplane.agents.longpoll.http.BODY_LIMIT_BYTES", "bytes", "413"),
    ("time that a poll is held", "controlplane.agents.longpoll.http.MAX_WAIT_S", "s", "it is answered"),
    ("polls that are held of one host or ingress", "controlplane.agents.held_polls.POLLS_MOST", "", "the oldest is answered"),
    ("keys of the SQLite store that control keeps in memory", "controlplane.store.recent_keys.MOST_BYTES", "bytes", "the one not used for longest is read from the file again"),
    ("reports in one call", "controlplane.agents.report_rules.BATCH_MOST", "", "400"),
    ("containers in a report", "controlplane.agents.report_rules._CONTAINERS_MOST", "", "the report is rejected"),
    ("port bindings in a report", "controlplane.agents.report_rules._BINDINGS_MOST", "", "the report is rejected"),
    ("payload of a task that an agent brings back", "controlplane.agents.report_rules.PAYLOAD_MOST_BYTES", "bytes", "it is rejected"),
    ("attributes of a host", "controlplane.agents.host_rules.ATTRIBUTES_MOST", "", "400"),
    ("GPUs of a host", "controlplane.agents.host_rules.GPUS_MOST", "", "400"),
    ("tasks that a host says it has", "controlplane.agents.host_rules.TASKS_MOST", "", "400"),
    ("tasks in a report of usage", "controlplane.agents.usage_rules.TASKS_MOST", "", "400"),
    ("tasks of a host whose usage is kept", "controlplane.metric_store.store.TASKS_MOST", "", "further ones are left out"),
    ("log events in one call", "controlplane.agents.longpoll.log_calls.EVENTS_MOST", "", "400"),
    ("batches of logs in one call", "controlplane.agents.longpoll.log_calls.BATCHES_MOST", "", "400"),
    ("log events of a batch", "controlplane.log_store.rules.BATCH_EVENTS", "", "the batch is refused"),
    ("size of a batch of logs", "controlplane.log_store.rules.BATCH_BYTES", "bytes", "the batch is refused"),
    ("streams that hosts may write to and that are remembered", "controlplane.agents.log_rights._REMEMBERED", "", _GIVES_WAY),
    ("names of secrets in one call", "controlplane.agents.longpoll.secret_calls.NAMES_MOST", "", "400"),
    ("ingresses", "controlplane.agents.ingress_leases.INGRESSES_MOST", "", "429 for a new one"),
    ("targets of a group in a report of an ingress", "controlplane.agents.longpoll.ingress_calls._TARGETS_MOST", "", "400"),
    ("groups in a report of an ingress", "controlplane.agents.longpoll.ingress_calls._ITEMS_MOST", "", "400"),
    ("new hosts that were never heard of again, without a token", "controlplane.agents.new_hosts.UNHEARD_MOST", "", "429"),
    ("addresses whose registrations are counted", "controlplane.agents.new_hosts._ADDRESSES_MOST", "", "the oldest is forgotten"),
    ("key of a host", "controlplane.agents.bindings.KEY_MOST", "characters", "it counts as none"),
    ("hosts of which leases, clusters and orders are remembered", "controlplane.recent.HOSTS_MOST", "", _GIVES_WAY),
    ("frame of Amazon's agent (ACS)", "controlplane.agents.amazon.acs.FRAME_LIMIT_BYTES", "bytes", _CLOSED),
    ("frame of Amazon's agent (TCS)", "controlplane.agents.amazon.tcs.FRAME_LIMIT_BYTES", "bytes", _CLOSED),
    ("frames of Amazon's agent at once", "controlplane.agents.amazon.sockets.BURST_FRAMES", "", "further ones wait"),
    ("tasks whose health is remembered for a connection", "controlplane.agents.amazon.tcs._REMEMBERED_TASKS", "", _GIVES_WAY),
    ("discovered instances in an answer", "controlplane.discovery.stored.INSTANCES_MOST", "", "400 for a further registration"),
    ("log events that wait to be sent on", "controlplane.log_forward.forwarder.WINDOW_BYTES", "bytes", "the forwarder reads on when they are sent"),
    ("sessions of ExecuteCommand, begun and open", "controlplane.execute_command.sessions.SESSIONS_MOST", "", "`ServerException`"),
    ("begun sessions of one caller", "controlplane.execute_command.sessions.BEGUN_MOST", "", "the oldest that nobody has opened is forgotten"),
    ("message of a session", "controlplane.execute_command.frames.FRAME_LIMIT_BYTES", "bytes", "the session ends"),
    ("input of a session that control holds", "controlplane.execute_command.plugin.TYPED_MOST_BYTES", "bytes", "later input is dropped, and sent again by the plugin"),
    ("messages of a session behind a missing one", "controlplane.execute_command.stream.AHEAD_MOST", "", "later ones are dropped, and sent again"),
    ("messages of a session that are not acknowledged", "controlplane.execute_command.stream.IN_FLIGHT_MOST", "", "the command waits"),
    ("answer of Loki", "controlplane.log_forward.loki._ANSWER_BYTES", "bytes", "the rest is ignored"),
)  # fmt: skip
AGENT: tuple[Row, ...] = (
    ("tasks that an agent holds", "engine.order_batch.TASKS_MOST", "", "further ones are STOPPED, with the reason"),
    ("reason of a task or container", "model.reasons.REASON_LIMIT", "characters", "it is cut"),
    ("reports in memory; more are on disk", "state.outbox._IN_MEMORY", "", "they are read when it is their turn"),
    ("events of the engine that wait", "runtime.docker.events._PENDING_LIMIT", "", "everything is listed anew"),
    ("line of the engine's answers", "runtime.docker.streams.LINE_LIMIT_BYTES", "bytes", "the stream is read anew"),
    ("commands in containers at once", "endpoints.exec_sessions.MOST_SESSIONS", "", "429"),
    ("input of one command that waits in the agent", "endpoints.exec_channel._MOST_BYTES", "bytes", "400, and the session ends"),
    ("message of such a command", "model.exec.MESSAGE_LIMIT_BYTES", "bytes", _CLOSED),
    ("body of a call to the operator socket", "endpoints.http._BODY_LIMIT_BYTES", "bytes", "413"),
    ("body of a call to introspection", "endpoints.introspection._BODY_BYTES", "bytes", "413"),
    ("body of a container's call", "task_endpoint.contract.BODY_LIMIT_BYTES", "bytes", "413"),
    ("clients and paths whose calls are counted", "task_endpoint.throttle._MOST_BUCKETS", "", "the oldest is forgotten"),
    ("containers whose description is kept", "task_endpoint.metadata.observations.KEPT_MOST", "", _GIVES_WAY),
    ("resources whose tags are kept", "task_endpoint.metadata.tags.KEPT_MOST", "", _GIVES_WAY),
    ("lines of the audit log that wait for the disk", "task_endpoint.audit_file.WAITING_MOST", "", "further ones are lost, and counted"),
    ("networks with injected faults", "task_endpoint.fault_requests._MOST_NETWORKS", "", "400"),
    ("body of the engine's log driver", "awslogs.wire.BODY_LIMIT_BYTES", "bytes", "413"),
    ("log events of a batch", "awslogs.wire.EVENTS_LIMIT", "", "400"),
    ("log events that are taken from the spool at once", "awslogs.spool.EVENTS_AT_ONCE", "", "the others wait on disk: `ECS_LOG_SPOOL_MB`"),
    ("questions for names that are passed on at once", "dns.server._AT_ONCE", "", "further ones get no answer"),
    ("the same, of one task", "dns.server.OF_ONE_MOST", "", "further ones get no answer"),
    ("addresses in an answer", "dns.zones.ANSWERS_MOST", "", "some of them, in turn"),
    ("messages of metrics that wait for a collector", "otlp.exporter.QUEUE_MOST", "", "the oldest is dropped, and counted"),
    ("images whose use is remembered", "images.uses.MOST", "", "the oldest is forgotten"),
    ("registry logins that are kept", "images.token_cache.LIMIT", "", "they are fetched again"),
    ("registries whose outage is remembered", "images.registries.OUTAGES_MOST", "", "the oldest is forgotten, and asked again"),
    ("environment file", "engine.preparations.environment_files.FILE_BYTES", "bytes", "the task fails"),
    ("configuration file of FireLens", "engine.preparations.firelens.FILE_BYTES", "bytes", "the task fails"),
    ("secrets that are fetched at once for a task", "engine.preparations.together.AT_ONCE", "", "further ones wait"),
    ("answer of an AWS service", "aws.exchange.ANSWER_BYTES", "bytes", "the call fails"),
    ("orders of Amazon ECS that wait", "upstream.amazon.acs.message_queue.ORDER_LIMIT", "", "control sends them again"),
    ("attachments that are expected", "upstream.amazon.attachments.PENDING_LIMIT", "", "the one that ends first is dropped"),
    ("telemetry that waits for Amazon ECS", "upstream.amazon.tcs.queue.WAITING_BYTES", "bytes", "the oldest is dropped"),
    ("policy file of the host", "config.host_policy_file.MOST_BYTES", "bytes", "it is refused"),
    ("time to find out where paths lead", "host_policy.resolving.LIMIT_S", "s", "the task is refused"),
    ("settings file", "config.files.MAX_BYTES", "bytes", "it is refused"),
    ("load statistics of HAProxy", "ingress.runtime._ANSWER_MOST_BYTES", "bytes", "they are read the next time"),
)  # fmt: skip
TABLES = {"connections": CONNECTIONS, "control": CONTROL, "agent": AGENT}

OPEN_TO_STRANGERS = (
    "listening",
    "controlplane/front",
    "controlplane/agents",
    "controlplane/console",
    "controlplane/execute_command",
    "task_endpoint",
    "endpoints",
    "awslogs",
    "dns",
)
LOOKS_LIKE_A_LIMIT = re.compile(
    r"^(_?(?:[A-Z]+_)*(?:MOST|LIMIT|REMEMBERED|AT_ONCE|MAX)(?:_[A-Z]+)*)(?:: Final)? = ",
    re.MULTILINE,
)
NOT_HELD = {
    # Values of one field, which a rule of bounds checks with others.
    "controlplane.agents.host_rules.CPU_UNITS_MOST",
    "controlplane.agents.host_rules.MEMORY_MIB_MOST",
    "controlplane.agents.host_rules._ARN_MOST",
    "controlplane.agents.host_rules._TAGS_MOST",
    "controlplane.agents.host_rules._VALUES_MOST",
    "controlplane.agents.host_rules._PORTS_MOST",
    "controlplane.agents.report_rules.DETAILS_MOST",
    "controlplane.agents.report_rules._VALUES_MOST",
    "controlplane.agents.usage_rules._VALUES_MOST",
    "controlplane.agents.amazon.shapes._ITEMS_MOST",
    "controlplane.agents.amazon.shapes._VALUES_MOST",
    "controlplane.agents.amazon.acs._VERSION_LIMIT",
    "controlplane.agents.amazon.registering._DOCUMENT_LIMIT",
    "controlplane.agents.amazon.tcs_usage.REMEMBERED",
    "controlplane.agents.longpoll.log_calls.ID_MOST",
    "controlplane.agents.longpoll.ingress_calls._NAMES_MOST",
    "controlplane.agents.longpoll.ingress_calls._TEXT_MOST",
    "controlplane.agents.longpoll.ingress_calls._VALUES_MOST",
    "controlplane.front.codecs.rest_json._PARAMETERS_MOST",
    "controlplane.front.forwarded_names._FIELDS_MOST",
    "controlplane.front.protocols._SERVICE_LIMIT",
    "controlplane.front.pki_calls._REASON_MOST",
    "awslogs.wire.BATCH_LIMIT_BYTES",
    "awslogs.wire._NAME_LIMIT",
    "dns.message._LABEL_MOST",
    "dns.message._NAME_MOST",
    # Work of our own that is done in steps.
    "controlplane.agents.assignments._REMEMBERED_DEFINITIONS",
    "controlplane.agents.new_hosts._TAKEN_OUT_AT_ONCE",
    "task_endpoint.metadata.observations.AT_ONCE",
    "task_endpoint.processes._MOST_NAMESPACES",
    # Files of the operator, and what is only shown.
    "controlplane.front.certificate._MAX_BYTES",
    "controlplane.front.keys._LIMIT_BYTES",
    "endpoints.operator._REMEMBERED",
    "listening.connection._CAUSE_LIMIT",
    # In the table by what is made of them.
    "listening.limits._MOST_CONNECTIONS",
    "listening.limits._MOST_SILENT",
    "listening.limits._MOST_UNPROVEN",
}


def _value(place: str) -> Any:
    """Return a constant, or the default of a field of a structure, or a field of a constant."""
    words = place.split(".")
    for at in range(len(words) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(f"agent.{'.'.join(words[:at])}")
        except ModuleNotFoundError:
            continue
        for word in words[at:]:
            if isinstance(found, type) and hasattr(found, "__struct_fields__"):
                found = found()
            found = getattr(found, word)
        return found
    raise AssertionError(f"there is no agent.{place}")


def _shown(value: float, unit: str) -> str:
    if unit != "bytes":
        return f"{value:,g} {unit}".strip() if value < 1e6 else f"{int(value):,} {unit}".strip()
    for size, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if value % size == 0:
            return f"{value // size} {name}"
    return f"{value:,} bytes"


def _table(rows: tuple[Row, ...]) -> str:
    return generated.table(
        ["What", "Limit", "What happens at it", "Constant"],
        [
            [what, _shown(_value(place), unit), then, f"`{place}`"]
            for what, place, unit, then in rows
        ],
    )


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_limits_of_the_code(name: str) -> None:
    generated.holds(PAGE, name, _table(TABLES[name]))


def test_every_constant_that_looks_like_a_limit_is_in_a_table() -> None:
    told = {place for rows in TABLES.values() for _, place, _, _ in rows} | NOT_HELD
    found = set()
    for package in OPEN_TO_STRANGERS:
        for path in (ROOT / "agent" / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT / "agent").with_suffix("").parts)
            found |= {
                f"{module}.{name}"
                for name in LOOKS_LIKE_A_LIMIT.findall(path.read_text())
                if not name.endswith("_S")
            }
    assert found - told == set(), "tell what happens at them, or why they hold nothing"
    assert NOT_HELD - found == set(), "these are gone"
