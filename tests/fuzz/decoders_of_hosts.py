"""The decoders of the agent: control's answers, the kernel, the engine, tasks, files and settings."""

from __future__ import annotations

import itertools
import struct
from typing import Any, Final

import msgspec

from agent.aws import faults, query
from agent.awslogs import wire as awslogs
from agent.config import (
    addresses,
    files,
    host_policy_file,
    image_names,
    json_file,
    network_values,
    nfs_servers,
    values,
)
from agent.dns import message as dns
from agent.endpoints import exec_sessions
from agent.endpoints.http import RequestRefused
from agent.engine import admissible
from agent.engine.preparations import environment_files
from agent.errors import AgentError
from agent.images import reference
from agent.images.auth import Credentials
from agent.ingress import figures as ingress
from agent.metrics import cgroup_texts, host_texts, links
from agent.model import changes, payload, tokens
from agent.model.exec import ClientMessage, ExecRequest
from agent.network import other_firewalls
from agent.network.host import kernel_messages
from agent.network.kernel import connections, neighbours, raw_messages, route_talk, set_elements
from agent.network.names import resolvers
from agent.network.sandbox_record import SandboxRecord
from agent.network.tracing import messages as tracing
from agent.runtime.docker import details, parse, streams
from agent.state import wal
from agent.task_endpoint import fault_requests, protection
from agent.upstream.amazon import frames
from agent.upstream.amazon.acs import messages as acs
from agent.upstream.amazon.acs import tasks as acs_tasks
from agent.upstream.amazon.acs.fields import UnusableMessage
from agent.upstream.amazon.ec2 import spot
from agent.upstream.longpoll import answers
from tests.fuzz.decoder import Decoder, of_environment, of_object, of_text, packed

_NETLINK: Final = struct.Struct("=IHHII")
_OURS: Final = kernel_messages.Ours(
    bridge="ecs-br0",
    bridge_index=7,
    bridge_mac="0a:58:0a:09:00:01",
    port_master=7,
    is_port=lambda name: name.startswith("ecs"),
    rules=(b"ecs_agent\0",),
)
_ORDER: Final = {
    "arn": "arn:aws:ecs:us-east-1:000000000000:task/default/a",
    "family": "web",
    "version": "1",
    "containers": [
        {
            "name": "a",
            "image": "busybox",
            "command": ["sleep", "1"],
            "environment": {"A": "1"},
            "portMappings": [{"containerPort": 80, "hostPort": 0}],
            "dockerConfig": {"hostConfig": '{"CapAdd": ["NET_ADMIN"]}'},
        }
    ],
    "volumes": [{"name": "v", "host": {"sourcePath": "/srv"}}],
}


def _netlink(kind: int, body: bytes) -> bytes:
    return _NETLINK.pack(_NETLINK.size + len(body), kind, 0, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return raw_messages.attribute(kind, value)


def _of_kernel() -> list[Decoder]:
    new_link = _netlink(16, struct.pack("=BBHiII", 0, 0, 0, 7, 1, 0) + _attribute(3, b"ecs-br0\0"))
    refused = _netlink(2, struct.pack("=i", -2) + bytes(16))
    seen = (
        bytes(4) + _attribute(1, _attribute(1, _attribute(1, bytes(4)))) + _attribute(18, b"\0\1")
    )
    traced = _netlink(
        10 << 8 | 17, bytes(4) + _attribute(1, b"t\0") + _attribute(4, (3).to_bytes(4, "big"))
    )
    return [
        Decoder("host links", "kernel", lambda d: kernel_messages.touched([d], _OURS), (new_link,)),
        Decoder("route answers", "kernel", lambda d: list(route_talk.answers(d)), (refused,)),
        Decoder("set answers", "kernel", set_elements.errors, (refused,)),
        Decoder("neighbours", "kernel", lambda d: neighbours.read(d, set()), (new_link,), (OSError,)),
        Decoder(
            "connections",
            "kernel",
            lambda d: [connections.tuples_of(b, "10.0.0.1") for _, b in raw_messages.messages(d)]
            + [connections.tuples_of(d, "fd00::1")],
            (_netlink(256, seen), seen),
        ),
        Decoder("traces", "kernel", tracing.decode, (traced,)),
        Decoder(
            "firewalls",
            "kernel",
            of_text(other_firewalls.chains_of),
            (packed({"nftables": [_RULE]}),),
        ),
        Decoder("net/dev", "kernel", links.parse_net_dev, (_NET_DEV,)),
        Decoder("host figures", "kernel", _host_figures, (b"cpu 1 2 3 4 5 6 7\nMemTotal: 1 kB\n", b"0-3,5")),
        Decoder("cgroup figures", "kernel", _cgroup_figures, (_PRESSURE, b"8:0 rbytes=1 wbytes=2\n8:0 Read 4")),
        Decoder("resolv.conf", "kernel", of_text(resolvers.parse), (b"nameserver 10.0.0.1\noptions ndots:2",)),
    ]  # fmt: skip


_RULE: Final = {
    "rule": {
        "family": "inet", "table": "ecs_agent", "chain": "forward", "handle": 3, "comment": "a",
        "expr": [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "a"}}, {"drop": None}],
    }
}  # fmt: skip
_NET_DEV: Final = (
    b"Inter-| Receive | Transmit\n face |bytes\n eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
)
_PRESSURE: Final = (
    b"some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0 avg300=0 total=1\n"
)


def _host_figures(data: bytes) -> None:
    host_texts.cpu_times(data)
    host_texts.memory(data)
    host_texts.loads(data)
    host_texts.online_cpus(data)


def _cgroup_figures(data: bytes) -> None:
    cgroup_texts.number(data)
    cgroup_texts.table(data)
    cgroup_texts.pressure(data)
    cgroup_texts.io_v1(data)
    cgroup_texts.io_v2(data)


def _of_control() -> list[Decoder]:
    """What control and Amazon ECS answer and order."""
    refused = (AgentError,)
    orders = packed({"revision": 5, "full": True, "tasks": [{"taskArn": "a", "payload": _ORDER}]})
    named: list[tuple[str, Any, bytes]] = [
        ("assignments", answers.assignments, orders),
        ("registered", answers.registered, packed({"instanceArn": "a", "generation": 1, "leaseS": 5, "controlId": "a"})),
        ("changes answer", answers.changes, packed({"results": [{"id": "a", "status": "ok"}]})),
        ("logs answer", answers.logs, packed({"results": []})),
        ("hello", answers.hello, packed({"controlId": "a", "version": "1"})),
        ("protection answer", answers.protection, packed({"protection": {}})),
        ("secrets answer", answers.secrets, packed({"values": {"a": "b"}})),
        ("tags answer", answers.tags, packed({"tags": {"a": "b"}})),
        ("host identity", answers.host_identity, packed({"id": "a", "certificate": "b", "expiresAt": 2, "renewAt": 1})),
        ("failure", lambda d: answers.failure(409, {}, d, "call"), packed({"code": "A", "message": "b"})),
        ("retry-after", of_text(answers.retry_after_s), b"120"),
    ]  # fmt: skip
    ours = [Decoder(name, "control", read, (one,), refused) for name, read, one in named]
    message = packed(
        {"type": "PayloadMessage", "message": {"messageId": "a", "tasks": [_ACS_TASK]}}
    )
    return [
        *ours,
        Decoder("acs", "control", _acs, (message,), (UnusableMessage, ValueError)),
        Decoder("refused upgrade", "control", lambda d: frames.refusal(d, {}), (b'{"__type":"a#B"}',)),
        Decoder("aws fault", "control", lambda d: faults.json_fault(400, {}, d), (b'{"__type":"a#B"}',)),
        Decoder("aws xml fault", "control", lambda d: query.xml_fault(400, {}, d), (b"<R><Error><Code>A</Code></Error></R>",)),
        Decoder("spot notice", "control", of_text(spot.read_notice), (b'{"action":"stop","time":"2030-01-01T00:00:00Z"}',)),
        Decoder("order", "control", _order, (packed(_ORDER),), (AgentError, ValueError)),
    ]  # fmt: skip


_ACS_TASK: Final = {
    "arn": "arn:aws:ecs:us-east-1:000000000000:task/default/a",
    "family": "web",
    "version": "1",
    "desiredStatus": "RUNNING",
    "containers": [
        {"name": "a", "image": "busybox", "cpu": 1, "memory": 64, "essential": True,
         "dockerConfig": {"config": "{}", "hostConfig": '{"CapAdd":["SYS_ADMIN"]}', "version": "1.17"}}
    ],
}  # fmt: skip
_ACS_KINDS: Final = (
    acs.heartbeat, acs.payload, acs.credentials, acs.manifest, acs.stop_verified, acs.volume, acs.update, acs.told,
    lambda raw: acs.interfaces(raw, of_task=True), acs_tasks.read,
)  # fmt: skip


def _acs(data: bytes) -> None:
    raw = frames.frame(data).message
    for read in _ACS_KINDS:
        try:
            read(raw)
        except UnusableMessage:
            continue


def _order(data: bytes) -> None:
    admissible.check(payload.decode(data))


def _of_engine() -> list[Decoder]:
    container = {
        "Id": "a", "Name": "/a", "Image": "b", "Created": "2030-01-01T00:00:00Z",
        "State": {"Status": "running", "Pid": 1, "ExitCode": 0, "StartedAt": "0001-01-01T00:00:00Z"},
        "Config": {"Labels": {"a": "b"}, "Env": ["A=1"]}, "HostConfig": {"NetworkMode": "none"},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostPort": "1"}]}}, "Mounts": [],
    }  # fmt: skip
    event = {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "a", "Attributes": {"exitCode": "0"}},
        "timeNano": 5,
    }
    return [
        Decoder("container", "engine", of_object(_container), (packed(container),)),
        Decoder("event", "engine", of_object(parse.event), (packed(event),)),
        Decoder("images", "engine", of_object(_images), (packed({"Id": "a", "RepoTags": ["b"], "Size": 1}),)),
        Decoder("log frames", "engine", _log_frames, (b"\1\0\0\0\0\0\0\5hello\2\0\0\0\0\0\0\2hi",)),
        Decoder("put log events", "engine", awslogs.read_put, (_PUT,), (awslogs.LogsRefused,)),
        Decoder("log stream", "engine", awslogs.read_stream, (_PUT,), (awslogs.LogsRefused,)),
        Decoder("log group", "engine", awslogs.read_group, (_PUT,), (awslogs.LogsRefused,)),
        Decoder("image name", "engine", of_text(reference.parse), (b"registry:5000/a/b:c@sha256:" + b"a" * 64,), (AgentError, ValueError)),
        Decoder("registry logins", "engine", of_text(_logins), (b'{"a":{"auth":"YTpi","username":"a","password":"b"}}', b'{"auths":{}}'), (AgentError, ValueError)),
    ]  # fmt: skip


_PUT: Final = packed(
    {
        "logGroupName": "a",
        "logStreamName": "b",
        "logEvents": [{"timestamp": 1_700_000_000_000, "message": "c"}],
    }
)


def _logins(text: str) -> None:
    for kind in ("docker", "dockercfg"):
        found = Credentials(kind, values.parse_secret(text))
        found.find(reference.parse("registry:5000/a"))


def _container(raw: dict[str, Any]) -> None:
    parse.container_state(raw)
    parse.container_summary(raw)
    details.container_details(raw)
    parse.exec_state(raw)


def _images(raw: dict[str, Any]) -> None:
    parse.image_info(raw)
    parse.image_summary(raw)


def _log_frames(data: bytes) -> None:
    half = len(data) // 2
    whole, cut = list(streams.frames([data])), list(streams.frames([data[:half], data[half:]]))
    for kind in (1, 2):
        one, other = (b"".join(part for k, part in found if k == kind) for found in (whole, cut))
        assert one == other, "where a chunk ends makes a difference"
    list(itertools.islice(streams.stamped_lines(whole), 1000))


def _of_tasks() -> list[Decoder]:
    """What tasks, operators and proxies of the host send."""
    fault = packed(
        {"Port": 80, "Protocol": "tcp", "TrafficType": "ingress", "SourcesToFilter": ["10.0.0.0/8"],
         "DelayMilliseconds": 5, "JitterMilliseconds": 1, "Sources": ["10.0.0.1"], "LossPercent": 5}
    )  # fmt: skip
    question = b"\0\1\1\0\0\1\0\0\0\0\0\0\3web\4shop\0\0\1\0\1"
    bad = (fault_requests.BadFault,)
    return [
        Decoder("dns", "tasks", _dns, (question,), (dns.NotForUs,)),
        Decoder("fault: black hole", "tasks", fault_requests.blackhole, (fault,), bad),
        Decoder("fault: latency", "tasks", fault_requests.latency, (fault,), bad),
        Decoder("fault: loss", "tasks", fault_requests.packet_loss, (fault,), bad),
        Decoder("protection", "tasks", protection.read_change, (b'{"ProtectionEnabled":true,"ExpiresInMinutes":5}',), (ValueError,)),
        Decoder("exec", "tasks", of_text(_exec), (b'{"type":"exec","command":{"words":["sh"]}}', b'{"type":"resize","size":{"rows":5,"columns":6}}'), (RequestRefused,)),
        Decoder("haproxy statistics", "tasks", of_text(ingress.read), (_STATISTICS,)),
        Decoder("environment file", "tasks", environment_files.variables, (b"A=1\n# b\nC=\n",), (ValueError,)),
    ]  # fmt: skip


_STATISTICS: Final = (
    b"# pxname,svname,status,check_status,check_code,uweight,scur,\na,b,UP,L7OK,200,1,0,\n"
)


def _dns(data: bytes) -> None:
    asked = dns.read(data)
    records = [dns.address_of(asked.name, 5, "10.0.0.1")] * 100
    assert len(dns.response(asked, dns.NO_ERROR, records)) <= asked.most_bytes


def _exec(text: str) -> None:
    exec_sessions.decoded(text, ExecRequest if '"exec"' in text else ClientMessage)


def _of_files() -> list[Decoder]:
    """What the agent reads of its own files and settings."""
    policy = b'base = "restricted"\nhost_paths = ["/srv/**:ro"]\nmax_ulimits = {nofile = 5}\n[max_task]\ncpu = 1\n'
    refused = (ValueError, AgentError)
    settings: list[tuple[str, Any, bytes]] = [
        ("listen", addresses.parse_listen, b"127.0.0.1:80"),
        ("url", addresses.parse_url, b"https://a:1/b"),
        ("backend", addresses.parse_backend, b"https://a:1"),
        ("proxy", addresses.parse_proxy, b"http://a:b@c:1"),
        ("docker host", addresses.parse_docker_host, b"unix:///a"),
        ("mirrors", image_names.parse_mirrors, b'{"docker.io":"a:5000"}'),
        ("image names", image_names.parse_names, b"a,b:1"),
        ("ports", network_values.parse_ports, b"[1,2]"),
        ("addresses", network_values.parse_addresses, b'["10.0.0.1"]'),
        ("pool", network_values.parse_ipv4_pool, b"10.0.0.0/16"),
        ("ipv6 network", network_values.parse_ipv6_network, b"fd00::/64"),
        ("port range", network_values.parse_port_range, b"49153-65535"),
        ("table name", network_values.parse_table_name, b"ecs_agent"),
        ("nfs servers", nfs_servers.parse_nfs_servers, b'{"fs-1":"a:/b"}'),
        ("attributes", values.parse_attributes, b'{"a":"b"}'),
        ("tags", values.parse_tags, b'{"a":"b"}'),
        ("duration", values.parse_duration_s, b"1h5m3s"),
        ("request rate", values.parse_request_rate, b"40,60"),
        ("log drivers", values.parse_logging_drivers, b'["json-file"]'),
        ("headers", values.parse_headers, b'{"a":"b"}'),
    ]
    return [
        Decoder("ecs.config", "files", of_environment(lambda t: files.parse(t, name="f")), (b"ECS_CLUSTER=a\n#b\n export C='d'\n",), refused),
        Decoder("ecs.config.json", "files", of_environment(lambda t: json_file.parse(t, name="f")), (b'{"Cluster":"a","TaskCPUMemLimit":{"Value":true}}',), refused),
        Decoder("host policy", "files", of_text(lambda t: host_policy_file.parse(t, source="f")), (policy,), refused),
        Decoder("tokens", "files", of_text(tokens.parse_named), (b"a" * 32 + b"\n" + b"b" * 32 + b" web-1\n",), refused),
        Decoder("join token", "files", of_text(tokens.split), (b"ecs-join." + b"a" * 64 + b"." + b"t" * 32,), refused),
        Decoder("write-ahead log", "files", wal.read, (_WAL,)),
        Decoder("change in the outbox", "files", changes.decode, (packed({"id": "a", "taskArn": "b", "status": "RUNNING", "at": 1}),), (msgspec.DecodeError, ValueError)),
        Decoder("sandbox", "files", lambda d: msgspec.json.decode(d, type=SandboxRecord), (_SANDBOX,), (msgspec.DecodeError, ValueError)),
        *(Decoder(name, "settings", of_environment(read), (one,), refused) for name, read, one in settings),
    ]  # fmt: skip


_SANDBOX: Final = packed(
    {"ipv4": "10.0.0.1", "prefixLen": 16, "gateway": "10.0.0.2", "mac": "a", "mtu": 1500, "hostname": "a",
     "hostInterface": "ecs0", "containerId": "a", "pid": 1, "startedTicks": 1, "netns": 1, "createdAt": 1.0}
)  # fmt: skip
_WAL: Final = struct.pack(">IIIIIIII", 0x377F0682, 3007000, 512, 0, 1, 2, 0, 0) + bytes(536)

DECODERS: Final[list[Decoder]] = [
    *_of_kernel(),
    *_of_control(),
    *_of_engine(),
    *_of_tasks(),
    *_of_files(),
]
