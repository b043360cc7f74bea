"""A host in EC2: keys, identity and notices come from the instance metadata service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.backend import faults
from tests.backend.backend import Backend
from tests.backend.imds import FakeImds
from tests.backend.signatures import Keys
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration

FIRST = Keys("ASIAFIRST", "first/secret", "first/token==")
SECOND = Keys("ASIASECOND", "second/secret", "second/token==")
SPOT = "meta-data/spot/instance-action"


@pytest.fixture
def imds() -> Iterator[FakeImds]:
    with FakeImds() as made:
        made.give_keys(FIRST.access_key, FIRST.secret_key, FIRST.token, for_s=3600)
        yield made
        assert made.problems == []


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend(FIRST, SECOND) as made:
        yield made


def ec2_settings(imds: FakeImds) -> dict[str, str]:
    return {
        "ECS_EXTERNAL": "false",
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint,
        "AWS_DEFAULT_REGION": "",
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
    }


def test_lives_by_instance_metadata(
    backend: Backend, imds: FakeImds, fresh: Callable[..., Host]
) -> None:
    settings = {**ec2_settings(imds), "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "true"}
    imds.fail("meta-data/spot", 500)
    host = fresh(backend, **settings).start()
    [registration] = backend.journal.calls("RegisterContainerInstance")
    named = {a["name"] for a in registration.request["attributes"]}
    assert "ecs.capability.external" not in named
    request, documents = registration.request, imds.documents
    found = request["instanceIdentityDocument"]
    assert found == documents["dynamic/instance-identity/document"]
    found = request["instanceIdentityDocumentSignature"]
    assert found == documents["dynamic/instance-identity/signature"]
    arn = host.run_task()

    # The keys change before their time: what was signed with the old ones is signed again.
    imds.give_keys(SECOND.access_key, SECOND.secret_key, SECOND.token, for_s=3600)
    del backend.verifier.keys[FIRST.access_key]
    host.stop_task(arn)
    assert all("UnrecognizedClientException" in p for p in backend.problems())
    assert len(backend.problems()) <= 4
    backend.journal.forgive("UnrecognizedClientException")

    # The instance is taken away: told until it was understood, and tasks are left alone.
    arn = host.run_task()
    imds.fail("meta-data/spot", 0)
    backend.fault("UpdateContainerInstancesState", faults.THROTTLED)
    backend.fault("UpdateContainerInstancesState", faults.DENIED)
    imds.announce_spot("terminate")
    last = backend.wait_calls("UpdateContainerInstancesState", 3)[-1]
    assert (last.accepted, last.request["status"]) == (True, "DRAINING")
    [instance] = backend.api.instances.values()
    assert instance.status == "DRAINING"
    looks = len(imds.seen(SPOT))
    time.sleep(2.5)
    assert len(imds.seen(SPOT)) <= looks + 1, "asked on after all was said"
    assert host.containers(arn, only_running=True)
    host.stop_task(arn)
    assert FIRST.secret_key not in host.log()
    assert SECOND.token not in host.log()


def test_waits_in_a_warm_pool(backend: Backend, imds: FakeImds, fresh: Callable[..., Host]) -> None:
    imds.set("meta-data/autoscaling/target-lifecycle-state", "Warmed:Running")
    host = fresh(backend, **ec2_settings(imds), ECS_WARM_POOLS_CHECK="true")
    host.agent.start()
    imds.wait_seen("meta-data/autoscaling/target-lifecycle-state")
    time.sleep(1.5)
    assert backend.journal.calls() == []
    assert host.agent.stop() == 0
    imds.set("meta-data/autoscaling/target-lifecycle-state", "InService")
    host.start()
    assert len(backend.api.instances) == 1


def test_starts_without_instance_metadata_if_it_must(
    backend: Backend, imds: FakeImds, fresh: Callable[..., Host]
) -> None:
    for path in ("dynamic", "meta-data/instance-id"):
        imds.fail(path, 404)
    settings = ec2_settings(imds) | {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": SECOND.access_key,
        "AWS_SECRET_ACCESS_KEY": SECOND.secret_key,
        "AWS_SESSION_TOKEN": SECOND.token,
    }
    host = fresh(backend, **settings)
    host.agent.start()
    [registration] = backend.wait_calls("RegisterContainerInstance", within_s=90)
    assert registration.request["instanceIdentityDocument"] == ""
    assert registration.request["instanceIdentityDocumentSignature"] == ""
    host.wait_session()
    eventually(lambda: backend.tcs.is_open)
