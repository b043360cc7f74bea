"""Somebody else's idea of Amazon ECS and EC2, moto's server, takes what this agent sends it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aiohttp import web
from yarl import URL

from agent.aws.api import JsonApi
from agent.aws.clock import AwsClock
from agent.aws.credentials import CredentialChain
from agent.aws.http import AwsHttp
from agent.aws.imds import Imds
from agent.aws.keys import Keys
from agent.aws.query import EC2_VERSION, QueryApi
from agent.aws.signing import Signer
from agent.aws.sources import ConfiguredKeys
from agent.model.resources import HostResources
from agent.resources.attributes import Features, towards_ecs
from agent.state import StateStore
from agent.upstream.amazon import identity
from agent.upstream.amazon.calls import SteppedBackoff
from agent.upstream.amazon.ec2.spot import PATH, SpotNotices
from agent.upstream.amazon.ec2.tags import InstanceTags
from agent.upstream.amazon.poll_endpoint import PollEndpoints
from agent.upstream.amazon.registration import (
    AmazonRegistration,
    RegistrationSettings,
    read_saved_arn,
)
from agent.upstream.connection import ConnectionStatus
from agent.upstream.protocol import RegisterInfo
from tests.support.fleet import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

REGION = "eu-central-1"
CLUSTER = "moto"
HOST = HostResources(cpu_units=2048, memory_mib=1024, os_family="debian_12")
INFO = RegisterInfo(resources=HOST, attributes=towards_ecs(HOST, Features(), api_version="1.41"))


@dataclass(frozen=True)
class Moto:
    """A running server, with a cluster and one EC2 instance."""

    url: str
    ecs: Any
    ec2_id: str


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ | {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"{url}/moto-api/data.json", process)
        session = boto3.Session("AKIDEXAMPLE", "secret", region_name=REGION)
        ec2 = session.client("ec2", endpoint_url=url)
        ecs = session.client("ecs", endpoint_url=url)
        tags = [{"Key": "Name", "Value": "web 1"}]
        made = ec2.run_instances(
            ImageId="ami-12345678",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        ecs.create_cluster(clusterName=CLUSTER)
        yield Moto(url, ecs, made["Instances"][0]["InstanceId"])
        for client in (ec2, ecs):
            client.close()
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            assert process.poll() is None, "moto's server ended"
            assert time.monotonic() < until, "moto's server does not answer"
            time.sleep(0.05)
        else:
            return


@asynccontextmanager
async def _metadata(ec2_id: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Serve instance metadata v2 of this instance; the table may be changed."""
    values = {
        "dynamic/instance-identity/document": json.dumps({"instanceId": ec2_id}),
        "dynamic/instance-identity/signature": "c2lnbmF0dXJl",
        "meta-data/instance-id": ec2_id,
    }

    async def answer(request: web.Request) -> web.Response:
        path = request.path.removeprefix("/latest/")
        if (request.method, path) == ("PUT", "api/token"):
            return web.Response(text="token")
        assert request.headers["X-aws-ec2-metadata-token"] == "token"
        if path not in values:
            raise web.HTTPNotFound
        return web.Response(text=values[path])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", values
    finally:
        await runner.cleanup()


class Agent:
    """What of the agent speaks to the API, over a real connection and with real signatures."""

    def __init__(
        self, moto: Moto, store: StateStore, http: AwsHttp, metadata: str, saved_arn: str = ""
    ) -> None:
        clock = AwsClock()
        chain = CredentialChain([ConfiguredKeys(Keys("AKIDEXAMPLE", "secret"))], clock)
        url = URL(moto.url)
        self.imds = Imds(http, endpoint=metadata)
        self.api = JsonApi(http, chain, Signer(REGION, "ecs", clock), url)
        self.registration = AmazonRegistration(
            RegistrationSettings(cluster=CLUSTER),
            store,
            self.api,
            self.imds,
            lambda: INFO,
            ConnectionStatus(moto.url),
            SteppedBackoff(0.1, 1.0),
            saved_arn=saved_arn,
            instance_tags=InstanceTags(
                self.imds, QueryApi(http, chain, Signer(REGION, "ec2", clock), url, EC2_VERSION)
            ),
        )


async def test_an_ec2_host_registers_comes_back_and_drains(moto: Moto, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(30),
        _metadata(moto.ec2_id) as (metadata, values),
        AwsHttp() as http,
    ):
        store = await StateStore.open(tmp_path / "agent.db")
        first = Agent(moto, store, http, metadata)
        here = await identity.read_host_identity(first.imds)
        assert here.ec2_instance_id == moto.ec2_id
        assert await identity.verdict(store, here) == ""
        await identity.remember(store, here)
        await first.registration.run()
        instance = await first.registration.instance()
        assert f":container-instance/{CLUSTER}/" in instance.arn
        assert instance.availability_zone == f"{REGION}a"
        assert not instance.control_is_ours
        await store.close()

        known = await asyncio.to_thread(
            moto.ecs.describe_container_instances,
            cluster=CLUSTER,
            containerInstances=[instance.arn],
        )
        assert known["containerInstances"][0]["ec2InstanceId"] == moto.ec2_id

        store = await StateStore.open(tmp_path / "agent.db")
        saved_arn = await read_saved_arn(store, CLUSTER)
        again = Agent(moto, store, http, metadata, saved_arn)
        assert again.registration.instance_arn == instance.arn
        await again.registration.run()
        # moto makes a new instance each time; the agent stays what it was.
        assert await again.registration.instance() == instance

        endpoints = PollEndpoints(again.api, CLUSTER)
        assert await endpoints.acs(instance.arn) == "http://localhost"
        assert await endpoints.tcs(instance.arn) == "http://localhost"

        told: list[str] = []
        spot = SpotNotices(
            again.imds, again.api, again.registration.instance, told.append, interval_s=0.05
        )
        watching = asyncio.create_task(spot.run())
        await asyncio.sleep(0.2)
        assert not watching.done()
        values[PATH] = '{"action": "terminate", "time": "2026-11-23T09:30:00Z"}'
        await watching
        assert told == ["terminate at 2026-11-23T09:30:00Z"]
        await store.close()
    known = await asyncio.to_thread(
        moto.ecs.describe_container_instances, cluster=CLUSTER, containerInstances=[instance.arn]
    )
    assert known["containerInstances"][0]["status"] == "DRAINING"


async def test_tags_of_the_instance_are_read(moto: Moto) -> None:
    async with _metadata(moto.ec2_id) as (metadata, _), AwsHttp() as http:
        clock = AwsClock()
        chain = CredentialChain([ConfiguredKeys(Keys("AKIDEXAMPLE", "secret"))], clock)
        ec2 = QueryApi(http, chain, Signer(REGION, "ec2", clock), URL(moto.url), EC2_VERSION)
        tags = InstanceTags(Imds(http, endpoint=metadata), ec2)
        assert await tags() == {"Name": "web 1"}
