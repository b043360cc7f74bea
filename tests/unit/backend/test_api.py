"""The API of the back end, driven by boto3 and by requests that are wrong."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tests.backend import faults
from tests.backend.api import task_arn
from tests.backend.backend import KEYS, Backend
from tests.backend.signatures import Keys
from tests.unit.backend.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable


def test_registers_and_registers_again(backend: Backend, client: Client) -> None:
    arn = client.register()
    assert client.register(containerInstanceArn=arn) == arn
    assert backend.api.instances[arn].registrations == 2
    assert backend.problems() == []


def test_one_token_makes_one_instance(backend: Backend, client: Client) -> None:
    mark = "7a5ad1a5-5d50-4dd0-9f3c-0d4ad2ba3a11"
    assert client.register(clientToken=mark) == client.register(clientToken=mark)
    assert len(backend.api.instances) == 1


def test_serves_boto3(backend: Backend, client: Client) -> None:
    arn, task = client.register(), task_arn()
    api = client.api()
    found = api.discover_poll_endpoint(containerInstance=arn, cluster="default", zoneId="")
    assert found["endpoint"] == f"{backend.url}/acs"
    answer = api.submit_task_state_change(
        cluster="default", task=task, status="RUNNING", reason="", pullStartedAt=1746802078.031
    )
    assert answer["acknowledgment"] == "ACK"
    api.update_container_instances_state(
        cluster="default", containerInstances=[arn], status="DRAINING"
    )
    assert backend.api.instances[arn].status == "DRAINING"
    assert api.list_tags_for_resource(resourceArn=arn)["tags"] == []
    assert backend.wait_status(task, "RUNNING").accepted
    assert backend.problems() == []


def test_takes_session_tokens() -> None:
    keys = Keys("ASIAX", "sec/ret+=", "to/k+en==")
    with Backend(keys) as backend:
        Client(backend, keys).register()
        assert backend.problems() == []
        wrong = Client(backend, Keys("ASIAX", "sec/ret+=", "another"))
        answer = wrong.post("CreateCluster", {"clusterName": "default"})
        assert answer["__type"] == "UnrecognizedClientException"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"clientToken": None}, "clientToken is missing"),
        ({"clientToken": "1"}, "not a UUID"),
        ({"surprise": 1}, "Unknown parameter"),
        ({"versionInfo": {"agentVersion": "1"}}, "versionInfo is sent"),
        ({"tags": []}, "empty lists"),
        ({"totalResources": []}, "totalResources are"),
        ({"instanceIdentityDocument": "{}"}, "no identity document"),
        ({"cluster": 5}, "Invalid type"),
    ],
)
def test_refuses_wrong_registrations(
    backend: Backend, client: Client, changes: dict[str, Any], problem: str
) -> None:
    answer = client.post("RegisterContainerInstance", client.registration(**changes))
    assert answer["__type"] == "InvalidParameterException"
    assert problem in "".join(backend.problems())


def _task(**changes: Any) -> dict[str, Any]:
    whole = {
        "cluster": "default",
        "task": task_arn(),
        "status": "STOPPED",
        "reason": "",
        "containers": [{"containerName": "app", "status": "STOPPED", "exitCode": 0}],
        **changes,
    }
    return {k: v for k, v in whole.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "CREATED"}, "status 'CREATED'"),
        ({"reason": None}, "reason None"),
        ({"reason": "é" * 513}, "more than 1024 bytes"),
        ({"containers": []}, "containers is empty"),
        ({"containers": [{"containerName": "a", "status": "STOPPED", "exitCode": True}]}, "number"),
        ({"containers": [{"containerName": "a", "status": "STOPPED", "reason": ""}]}, "sent empty"),
        ({"containers": [{"containerName": "a", "status": "DEAD"}]}, "container"),
        ({"pullStartedAt": 1746802078.0315}, "finer"),
        ({"pullStartedAt": "2025-05-09"}, "not a number"),
        ({"attachments": [{"attachmentArn": "a", "status": "ATTACHED"}]}, "carries"),
        (
            {
                "containers": [
                    {
                        "containerName": "a",
                        "status": "RUNNING",
                        "networkBindings": [
                            {"bindIP": "::", "containerPort": 1, "hostPort": 1, "protocol": "tcp"}
                        ],
                    }
                ]
            },
            "on ::",
        ),
    ],
)
def test_refuses_wrong_reports(
    backend: Backend, client: Client, changes: dict[str, Any], problem: str
) -> None:
    answer = client.post("SubmitTaskStateChange", _task(**changes))
    assert answer["__type"] == "InvalidParameterException"
    assert problem in "".join(backend.problems())


@pytest.mark.parametrize(
    "raw", [b'{"cluster":null}', b'{"a":NaN}', b'{"a":1,"a":2}', b"[]", b"{", b"[" * 100_000]
)
def test_reads_json_without_mercy(backend: Backend, client: Client, raw: bytes) -> None:
    answer = client.post("SubmitTaskStateChange", None, raw=raw)
    assert answer["__type"] == "SerializationException"
    assert backend.problems()


def test_refuses_wrong_keys_and_old_signatures(backend: Backend, client: Client) -> None:
    wrong = Client(backend, Keys(KEYS.access_key, "another"))
    answer = wrong.post("CreateCluster", {"clusterName": "c"})
    assert answer["__type"] == "InvalidSignatureException"
    assert len(backend.problems()) == 1
    for ahead_s, word in ((3600.0, "expired"), (-3600.0, "not yet current")):
        backend.clock.ahead_s = ahead_s
        answer = client.post("CreateCluster", {"clusterName": "c"})
        assert word in answer["message"]
    assert len(backend.problems()) == 1, "a clock that is wrong on purpose is nobody's fault"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (faults.THROTTLED, "ThrottlingException"),
        (faults.SERVER_ERROR, "ServerException"),
        (faults.INVALID, "InvalidParameterException"),
        (faults.NO_CLUSTER, "ClusterNotFoundException"),
    ],
)
def test_refuses_as_scripted(
    backend: Backend, client: Client, fault: faults.Refuse, code: str
) -> None:
    backend.fault("SubmitTaskStateChange", fault, where=lambda r: r["status"] == "STOPPED")
    api = client.api()
    arn = task_arn()

    def submit(status: str) -> Any:
        return api.submit_task_state_change(cluster="default", task=arn, status=status, reason="")

    submit("RUNNING")
    with pytest.raises(ClientError, match=code):
        submit("STOPPED")
    submit("STOPPED")
    assert [c.code for c in backend.reports(arn)] == ["", code, ""]


@pytest.mark.parametrize("fault", [faults.HTML, faults.HTML_OK, faults.Half(), faults.Drop()])
def test_breaks_answers(backend: Backend, client: Client, fault: faults.Fault) -> None:
    backend.fault("CreateCluster", fault)
    with pytest.raises((ValueError, http.client.HTTPException, ConnectionError)):
        client.post("CreateCluster", {"clusterName": "c"})
    assert client.post("CreateCluster", {"clusterName": "c"})["cluster"]["clusterName"] == "c"


def test_hangs_and_delays(backend: Backend, client: Client) -> None:
    backend.fault("CreateCluster", faults.Delay(0.2))
    begun = time.monotonic()
    client.post("CreateCluster", {"clusterName": "c"})
    assert time.monotonic() - begun >= 0.2
    backend.fault("CreateCluster", faults.Hang())
    api = client.api()
    api.meta.config.read_timeout = 0.2
    with pytest.raises((ReadTimeoutError, TimeoutError)):
        _impatient(client)(0.2)
    assert backend.wait_calls("CreateCluster", 2)[-1].code == "(hung)"


def _impatient(client: Client) -> Callable[[float], None]:
    def ask(limit_s: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", client.backend.port, timeout=limit_s)
        body = b'{"clusterName":"c"}'
        signed = client.sign(
            "POST",
            f"{client.backend.url}/",
            body,
            {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.CreateCluster",
            },
        )
        try:
            connection.request("POST", "/", body, {**signed, "User-Agent": "unit test"})
            connection.getresponse()
        finally:
            connection.close()

    return ask


def test_goes_dark_and_comes_back_where_it_was(backend: Backend, client: Client) -> None:
    client.register()
    port = backend.port
    backend.go_dark()
    with pytest.raises(ConnectionRefusedError):
        client.register()
    backend.come_back()
    assert backend.port == port
    client.register()
