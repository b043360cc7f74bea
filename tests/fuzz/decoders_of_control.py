"""The decoders of control: what agents, operators, browsers, clients of sessions and its own files say."""

from __future__ import annotations

from typing import Any, Final

from multidict import CIMultiDict, CIMultiDictProxy

from agent.controlplane import bounds, names
from agent.controlplane.agents import reports
from agent.controlplane.agents.amazon import shapes
from agent.controlplane.agents.longpoll import (
    held,
    identity_calls,
    ingress_calls,
    log_calls,
    messages,
    protection_calls,
    secret_calls,
    tag_calls,
)
from agent.controlplane.agents.longpoll.errors import WireError
from agent.controlplane.api.cloudwatch import expressions, search
from agent.controlplane.api.logs import patterns
from agent.controlplane.authorization import policy
from agent.controlplane.authorization.policy import PolicyInvalid
from agent.controlplane.definition import sizes
from agent.controlplane.execute_command import frames
from agent.controlplane.front import forward_targets, pages, signatures
from agent.controlplane.front.codecs import query
from agent.controlplane.front.codecs.table import Codecs
from agent.controlplane.front.errors import ApiError
from agent.controlplane.front.service_model import ApiModel
from agent.controlplane.front.signatures import SignedRequest
from agent.controlplane.log_store import blocks
from agent.controlplane.log_store import frames as log_frames
from agent.controlplane.log_store.contract import Event
from agent.controlplane.pki import requests
from agent.controlplane.scheduler import query as placement
from agent.controlplane.schedules import expressions as schedules
from agent.errors import AgentError
from agent.upstream.certificates import key_pair
from tests.fuzz.decoder import Decoder, of_text, packed
from tests.fuzz.headed import Sent

_REFUSED: Final = (AgentError, ValueError)
_MODELS: Final[dict[str, ApiModel]] = {}
"""Read when they are needed: the first call takes a second."""


def _of_agents() -> list[Decoder]:
    report = {
        "id": "a",
        "taskArn": "b",
        "status": "RUNNING",
        "at": 1,
        "containers": [{"containerName": "a"}],
    }
    register = {
        "cluster": "default",
        "clientToken": "a",
        "resources": {"cpuUnits": 1, "memoryMib": 1},
    }
    usage = {"tasks": [{"taskArn": "a", "cpuUnits": [1, 1, 1, 1]}]}
    batch = {"id": "a", "group": "/a", "stream": "b", "events": [[1, "c"]]}
    wire = (WireError,)
    named: list[tuple[str, Any, bytes]] = [
        ("registration", messages.read_registration, packed(register)),
        ("usage", messages.read_usage, packed(usage)),
        ("status", messages.read_status, packed({"status": "DRAINING"})),
        ("reports", reports.read, packed({"changes": [report]})),
        ("held", held.read, packed({"tasks": []})),
        ("identity", identity_calls.read, packed({"request": "a"})),
        ("ingress", ingress_calls.read, packed({"groups": {"a": None}})),
        ("logs", log_calls.read_logs, packed({"instance": "a", "batches": [batch]})),
        (
            "log stream",
            log_calls.read_stream,
            packed({"instance": "a", "group": "/a", "stream": "b"}),
        ),
        ("protection", protection_calls.read, packed({"taskArn": "a"})),
        ("secrets", secret_calls.read, packed({"instance": "a", "taskArn": "a", "names": ["b"]})),
        ("tags", tag_calls.read, packed({"instance": "a", "resource": "a"})),
    ]
    acked = packed(
        {
            "type": "AckRequest",
            "message": {"messageId": "a", "cluster": "a", "containerInstance": "b"},
        }
    )
    return [
        *(Decoder(f"wire: {name}", "agents", read, (one,), wire) for name, read, one in named),
        Decoder("acs and tcs", "agents", shapes.read, (acked,), (shapes.FrameError,)),
        Decoder("bounds", "agents", lambda d: bounds.look(d, most_items=9, most_values=99), (packed([[1], {"a": 2}]),), _REFUSED),
        Decoder("certificate request", "agents", of_text(requests.read), (key_pair.make().request.encode(),), _REFUSED),
    ]  # fmt: skip


def _of_sessions() -> list[Decoder]:
    frame = frames.encode(frames.Frame(kind="input_stream_data", payload=b"hello"))
    return [
        Decoder("session message", "sessions", _session_message, (frame,), (frames.FrameInvalid,)),
    ]


def _session_message(data: bytes) -> None:
    frame = frames.decode(data)
    try:
        frames.acknowledged(frame)
    except frames.FrameInvalid:
        return


def _of_operators() -> list[Decoder]:
    policy_text = packed(
        {"Version": "2012-10-17", "Statement": [
            {"Effect": "Deny", "NotAction": "ecs:*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}
        ]}
    )  # fmt: skip
    trust = packed(
        {
            "Version": "2012-10-17",
            "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}},
        }
    )
    texts: list[tuple[str, Any, tuple[bytes, ...]]] = [
        ("policy", lambda t: policy.compile_permissions(t, ("ecs",)), (policy_text,)),
        ("trust policy", policy.compile_trust, (trust,)),
        ("arn", names.parse_arn, (b"arn:aws:ecs:us-east-1:000000000000:task/default/a",)),
        ("task definition", names.split_task_definition, (b"web:5",)),
        ("cpu", sizes.cpu_units, (b"1 vCPU", b"256")),
        ("memory", sizes.memory_mib, (b"0.5 GB",)),
        ("placement", placement.parse, (b"attribute:a == b and not (task:group in [a, 'b'])", b"attribute:a =~ t[2]?.*")),
        ("schedule", schedules.parse, (b"cron(0/5 8-17 ? * MON-FRI *)", b"rate(5 minutes)", b"at(2030-01-01T00:00:00)")),
        ("log pattern", _log_pattern, (b'{ $.a[0].b = "c*" && ($.d > 1 || $.e IS NULL) }', b'?a -b "c d"'),),
        ("metric expression", expressions.parsed, (b"SUM([m1, m2]) * 100 / (m2 + 1)", b"SUM(METRICS())")),
        ("metric search", search.parsed, (b'{AWS/ECS,ClusterName} MetricName="CPUUtilization"',)),
        ("forward target", lambda t: forward_targets.parse([t]), (b"s3=https://a:1",)),
        ("page token", _page, (pages.token("A", {}, "b").encode(),)),
    ]  # fmt: skip
    return [
        *(Decoder(name, "operators", of_text(read), given, (AgentError, ValueError, PolicyInvalid)) for name, read, given in texts),
        Decoder("signature", "operators", of_text(_signature, "surrogateescape"), (_SIGNED, _PRESIGNED), (ApiError,)),
        Decoder("json call", "operators", _call("ecs", _JSON), (b'{"taskDefinition":"a"}',), (ApiError,)),
        Decoder("query call", "operators", _call("cloudwatch", {"Content-Type": query.FORM}), (b"Action=GetMetricData&MetricDataQueries.member.1.Id=a&StartTime=1&EndTime=2",), (ApiError,)),
        Decoder("cbor call", "operators", _call("cloudwatch", _CBOR, "/service/GraniteServiceVersion20100801/operation/ListMetrics"), (b"\xbf\x69Namespace\x61a\xff", b"\xa1\x69Namespace\x61a"), (ApiError,)),
    ]  # fmt: skip


_JSON: Final = {
    "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.RunTask",
    "Content-Type": "application/x-amz-json-1.1",
}
_CBOR: Final = {"Smithy-Protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
_SIGNED: Final = (
    b"AWS4-HMAC-SHA256 Credential=AKIA/20300101/us-east-1/ecs/aws4_request, "
    b"SignedHeaders=host;x-amz-date, Signature=" + b"a" * 64
)


_PRESIGNED: Final = (
    b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20300101%2Fus-east-1%2Fecs%2Faws4_request"
    b"&X-Amz-Date=20300101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature="
    + b"a"
    * 64
)


def _log_pattern(text: str) -> None:
    matches = patterns.parse(text)
    if matches is not None:
        for message in ('{"a":[{"b":"c"}],"d":5,"e":null}', "a b c", "", text):
            matches(message)


def _page(text: str) -> None:
    pages.start_after("A", {"nextToken": text})


def _signature(text: str) -> None:
    if "X-Amz-" in text:
        target, headers = f"/?{text}", {"Host": "a"}
    else:
        target, headers = (
            "/",
            {"Authorization": text, "X-Amz-Date": "20300101T000000Z", "Host": "a"},
        )
    call = SignedRequest(
        method="POST",
        target=target,
        headers=CIMultiDictProxy(CIMultiDict(headers)),
        digest="a" * 64,
    )
    claim = signatures.read_claim(call)
    signatures.check_time(claim, 1_893_456_000.0)
    signatures.check_whole(call, claim)
    assert not signatures.makers(("secret",), call, claim)


def _call(service: str, headers: dict[str, str], path: str = "/") -> Any:
    sent = Sent(path=path, headers=CIMultiDict(headers))

    def read(data: bytes) -> None:
        model = _MODELS.get(service) or _MODELS.setdefault(service, ApiModel.load(service))
        operation, request = Codecs(model).of(sent).read(sent, data)
        model.check(operation, request)

    return read


def _of_files() -> list[Decoder]:
    block = blocks.encode([Event(1, 5, 1, 1, "a")])
    return [
        Decoder("log block", "records", blocks.decode, (block,), (blocks.BlockBroken,)),
        Decoder("log journal", "records", log_frames.scan, (log_frames.frame(b"a") * 2,)),
    ]


DECODERS: Final[list[Decoder]] = [
    *_of_agents(),
    *_of_sessions(),
    *_of_operators(),
    *_of_files(),
]
