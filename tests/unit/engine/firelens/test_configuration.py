"""What routers read: sections, their order, and every word of them."""

from __future__ import annotations

from typing import Any

import pytest

from agent.engine.firelens import configuration, order
from agent.engine.firelens.configuration import RouterHost
from agent.errors import PayloadError
from agent.model.payload import Container, EngineConfig, Secret, TaskPayload
from tests.support.tasks import ARN, container, payload

METADATA = {"ecs_cluster": "c", "ecs_task_arn": ARN, "ecs_task_definition": "web:1"}


def router(kind: str = "fluentbit", **options: str) -> Container:
    return container("router", firelens_configuration={"type": kind, "options": options})


def routed(name: str = "app", *secrets: str, **options: str) -> Container:
    config = {"LogConfig": {"Type": "awsfirelens", "Config": options}}
    return container(
        name,
        docker_config=EngineConfig(host_config=config),
        secrets=[
            Secret(name=s, value_from="p", provider="ssm", target="LOG_DRIVER") for s in secrets
        ],
    )


def text(task: TaskPayload, listen: str = "0.0.0.0", memory_mib: int = 0) -> str:
    return configuration.text(order.read(task), RouterHost(METADATA, listen, memory_mib))


def read(task: TaskPayload) -> order.Firelens:
    order.check_routed(task)
    return order.read(task)


PATTERNS = {"include-pattern": "*fail*", "exclude-pattern": "*ok*", "log-driver-buffer-limit": "9"}


def test_fluent_bit_whole() -> None:
    task = payload(
        router(**{"config-file-type": "file", "config-file-value": "/extra.conf"}),
        routed("app", "key", Name="firehose", region="eu-west-1", **PATTERNS),
        routed("quiet"),
    )
    assert (
        text(task, memory_mib=200)
        == f"""\
[INPUT]
    Name forward
    Mem_Buf_Limit 100MB
    unix_path /var/run/fluent.sock

[INPUT]
    Name forward
    Listen 0.0.0.0
    Port 24224

[INPUT]
    Name tcp
    Tag firelens-healthcheck
    Listen 127.0.0.1
    Port 8877

[FILTER]
    Name grep
    Match app-firelens*
    Regex log *fail*

[FILTER]
    Name grep
    Match app-firelens*
    Exclude log *ok*

[FILTER]
    Name record_modifier
    Match *
    Record ecs_cluster c
    Record ecs_task_arn {ARN}
    Record ecs_task_definition web:1

@INCLUDE /extra.conf

[OUTPUT]
    Name null
    Match firelens-healthcheck

[OUTPUT]
    Name firehose
    Match app-firelens*
    key ${{key_1}}
    region eu-west-1
"""
    )


def test_fluentd_whole() -> None:
    s3 = {"config-file-type": "s3", "config-file-value": "arn:aws:s3:::bucket/a/b.conf"}
    task = payload(
        router("fluentd", **s3),
        routed("app", "key", **{"@type": "http", "endpoint": "http://x"}, **PATTERNS),
    )
    assert (
        text(task, listen="127.0.0.1")
        == f"""\
<source>
    @type unix
    path /var/run/fluent.sock
</source>

<source>
    @type forward
    bind 127.0.0.1
    port 24224
</source>

<filter app-firelens**>
    @type grep
    <regexp>
        key log
        pattern *fail*
    </regexp>
</filter>

<filter app-firelens**>
    @type grep
    <exclude>
        key log
        pattern *ok*
    </exclude>
</filter>

<filter **>
    @type record_transformer
    <record>
        ecs_cluster c
        ecs_task_arn {ARN}
        ecs_task_definition web:1
    </record>
</filter>

@include /fluentd/etc/external.conf

<match app-firelens**>
    @type http
    endpoint http://x
    key "#{{ENV['key_1']}}"
</match>
"""
    )
    assert order.read(task).external == order.S3Object("bucket", "a/b.conf")


def test_without_a_network_of_its_own_a_router_has_the_socket_alone() -> None:
    found = text(payload(router(**{"enable-ecs-log-metadata": "false"}), routed()), listen="")
    assert found == (
        "[INPUT]\n    Name forward\n    Mem_Buf_Limit 25MB\n    unix_path /var/run/fluent.sock\n"
    )


@pytest.mark.parametrize(
    ("containers", "why"),
    [
        ([routed()], "the task has none"),
        ([router(), container("b", firelens_configuration={"type": "fluentd"})], "not 2"),
        ([router("logstash")], "not fluentd or fluentbit"),
        ([router(), routed(region="x")], "missing output key Name which is required"),
        ([router("fluentd"), routed(Name="x")], "missing output key @type"),
        ([router(), routed(Name="x\n[INPUT]")], "has line breaks"),
        ([router(**{"config-file-type": "file"})], "belong together"),
        ([router(**{"config-file-type": "s3", "config-file-value": "x"})], "the ARN of an object"),
        ([router(**{"config-file-type": "http", "config-file-value": "x"})], "write file"),
        ([router(**{"enable-ecs-log-metadata": "perhaps"})], "is not true or false"),
        ([router(other="x")], "'other' of log router router is not known"),
        ([container("r", firelens_configuration={"type": "fluentd", "options": [1]})], "not texts"),
    ],
)
def test_what_cannot_be_routed_is_refused_by_name(containers: list[Any], why: str) -> None:
    with pytest.raises(PayloadError, match=why):
        read(payload(*containers))
