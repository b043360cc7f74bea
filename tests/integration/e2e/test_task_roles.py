"""Credentials of tasks' roles in real containers of each network mode, with boto3 as the client.

One control, one agent, and an AWS on the loopback that checks signatures and policies. boto3 runs inside the
containers, with the Python of this host mounted into them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register, run
from tests.support.aws_stand_in import REGION, StandIn
from tests.support.fleet import Fleet, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

MODES = ("bridge", "awsvpc", "host")
AGENT = "http://169.254.170.2"
AWS_ADDRESS = "198.51.100.10"
"""Address of this host at which containers of every mode reach the AWS."""
VARIABLE = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
BUCKET = "photos"
TASKS = "ecs-tasks.amazonaws.com"
CLIENT = """
import json, sys, time, boto3, botocore.config
session = boto3.Session(region_name=sys.argv[1])
limits = botocore.config.Config(connect_timeout=3, read_timeout=3, retries={"total_max_attempts": 1})
s3 = session.client("s3", endpoint_url=sys.argv[2], config=limits)
while True:
    try:
        said = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    except Exception as error:
        said = repr(error)
    print(json.dumps([session.get_credentials().access_key, said]), flush=True)
    time.sleep(0.5)
"""
OF_CONTROL = """
import json, boto3, botocore.exceptions
def said(service, call, **members):
    try:
        getattr(boto3.client(service), call)(**members)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return "OK"
print(json.dumps([
    boto3.client("sts").get_caller_identity()["Arn"],
    said("ecs", "list_clusters"),
    said("ecs", "create_cluster", clusterName="x"),
    said("logs", "create_log_group", logGroupName="/shop/a"),
    said("logs", "create_log_group", logGroupName="/mail/a"),
    said("secretsmanager", "list_secrets"),
]), flush=True)
import time; time.sleep(600)
"""
CPU_UNITS = 128
"""Of each container: on a busy machine, the clients of few units would wait for a processor, and not for the agent."""
RATE_PER_S, BURST = 10, 20
"""How often a task may ask for one path: little, so that also a flood on a slow machine is above it."""
FLOOD = """
import asyncio, collections, json, os, time
seen, began = collections.Counter({"400": 0, "429": 0}), time.monotonic()
async def ask():
    head = b"GET %s HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" % os.environ["PATH_ASKED"].encode()
    while True:
        try:
            reader, writer = await asyncio.open_connection("169.254.170.2", 80)
            writer.write(head)
            said = await asyncio.wait_for(reader.readline(), 5)
            seen[said[9:12].decode() or "closed"] += 1
            writer.close()
        except (OSError, TimeoutError):
            seen["refused"] += 1
async def main():
    asked = [asyncio.create_task(ask()) for _ in range(300)]
    while True:
        await asyncio.sleep(0.5)
        print(json.dumps({**seen, "for_s": time.monotonic() - began}), flush=True)
asyncio.run(main())
"""
ASK_ONCE = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)"
ASK = f"for path in $STOLEN; do timeout 5 wget -O - {AGENT}$path 2>&1; done; echo asked; sleep 600"
USURP = (
    "ip addr flush dev eth0; ip addr add $VICTIM/16 dev eth0; ip route add default via $GATEWAY; "
    "arping -c 2 -A -I eth0 $VICTIM >/dev/null; "
)


@dataclass
class Site:
    """AWS, control, one agent, and a task of each mode that uses a role."""

    aws: StandIn
    fleet: Fleet
    image: str
    role: str
    owners: dict[str, str]
    """ARN of the task of each mode."""

    @cached_property
    def ecs(self) -> Any:
        return self.fleet.client()

    def start(
        self, mode: str, command: list[str], env: dict[str, str], *, role: str = "", **more: Any
    ) -> str:
        """Run a task with a role, that of AWS if none is given, and return its ARN."""
        container = {
            "command": command,
            "memory": 192,
            "cpu": CPU_UNITS,
            "environment": [{"name": name, "value": value} for name, value in env.items()],
        }
        definition = register(
            self.ecs,
            self.image,
            "",
            mode=mode,
            containers=[container | more],
            taskRoleArn=role or self.role,
            volumes=[
                {"name": f"v{n}", "host": {"sourcePath": path}}
                for n, path in enumerate(_python_paths())
            ],
        )
        network: dict[str, Any] = {"networkConfiguration": NETWORK} if mode == "awsvpc" else {}
        (arn,) = run(self.ecs, definition, **network)
        return arn

    def python(self, mode: str, script: str, *arguments: str, role: str = "", **env: str) -> str:
        """Run a script with the Python of this host in a container of a task."""
        mounts = [
            {"sourceVolume": f"v{n}", "containerPath": path, "readOnly": True}
            for n, path in enumerate(_python_paths())
        ]
        command = [sys.executable, "-c", script, *arguments]
        return self.start(mode, command, env, role=role, mountPoints=mounts)

    def container(self, arn: str) -> dict[str, Any]:
        """Return what the engine says of a task's container, once it runs."""

        def ids() -> list[str]:
            (task,) = describe(self.ecs, arn)
            assert task["lastStatus"] != "STOPPED", task
            return _containers_of(arn) if task["lastStatus"] == "RUNNING" else []

        (found,) = eventually(ids, what="the container runs")
        inspected: list[dict[str, Any]] = json.loads(_docker("inspect", found).stdout)
        return inspected[0]

    def path_of(self, arn: str) -> str:
        """Return the path below which a task finds its credentials."""
        env = dict(pair.split("=", 1) for pair in self.container(arn)["Config"]["Env"])
        return str(env[VARIABLE])

    def said(self, arn: str) -> str:
        """Return what a task's container has written."""
        done = _docker("logs", self.container(arn)["Id"])
        return done.stdout + done.stderr

    def newest(self, arn: str) -> tuple[str, Any]:
        """Return access key and answer of the newest call that a task's client has made."""
        lines = self.said(arn).splitlines()
        key, answer = json.loads(lines[-1]) if lines else ("", None)
        return key, answer


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True)


def _containers_of(arn: str) -> list[str]:
    """Return the ids of a task's containers that run."""
    label = f"label=com.amazonaws.ecs.task-arn={arn}"
    return _docker("ps", "-q", "--no-trunc", "--filter", label).stdout.split()


def _python_paths() -> list[str]:
    """Return what a container needs of this host to run its Python."""
    return ["/usr", "/lib", "/lib64", *dict.fromkeys((sys.base_prefix, sys.prefix))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, busybox_image: str) -> Iterator[Site]:
    address = ["ip", "addr", "add", f"{AWS_ADDRESS}/32", "dev", "lo"]
    subprocess.run(address, check=True)
    directory = tmp_path_factory.mktemp("roles")
    with StandIn("0.0.0.0") as aws:
        location = {"LocationConstraint": REGION}
        aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
        fleet = Fleet(directory)
        fleet.control.arguments += ["--region", REGION, "--role-duration", "15m"]
        fleet.control.arguments += ["--task-endpoint", fleet.control.url]
        fleet.control.environment = {
            **aws.admin.environment(), "AWS_ENDPOINT_URL_STS": aws.url,
        }  # fmt: skip
        fleet.add_agent(
            ECS_AUDIT_LOGFILE=str(directory / "audit.log"),
            ECS_TASK_METADATA_RPS_LIMIT=f"{RATE_PER_S},{BURST}",
        )
        role = aws.add_role("app", "s3:ListAllMyBuckets")
        made = Site(aws, fleet, busybox_image, role, {})
        try:
            fleet.start()
            url = f"http://{AWS_ADDRESS}:{aws.port}"
            made.owners.update({m: made.python(m, CLIENT, REGION, url) for m in MODES})
            yield made
        except BaseException:
            for process in (fleet.control, *fleet.agents):
                sys.stderr.write(f"--- {process.name}\n{process.tail()}\n")
            raise
        finally:
            fleet.end()
            subprocess.run([*address[:2], "del", *address[3:]], check=False)


def works(site: Site, arn: str) -> str:
    """Return the key with which a task's client was served; empty if it was not yet."""
    key, answer = site.newest(arn)
    return key if answer == [BUCKET] else ""


def has_asked(site: Site, arn: str) -> bool:
    """Tell whether a thief has tried everything."""
    return "asked" in site.said(arn)


def has_new_key(site: Site, arn: str, old: str) -> bool:
    """Tell whether a task's client was served with another key than an old one."""
    return works(site, arn) not in ("", old)


@pytest.mark.parametrize("mode", MODES)
def test_boto3_in_a_container_uses_the_role_of_its_task(site: Site, mode: str) -> None:
    arn = site.owners[mode]
    key = eventually(partial(works, site, arn), what="S3 answers")
    assert key.startswith("ASIA")
    assert json.loads(site.said(arn).splitlines()[0]) == [key, [BUCKET]], "its first call"
    audit = (site.fleet.directory / "audit.log").read_text()
    assert '"/v2/credentials" "' in audit
    assert f" {arn} GetCredentials 2 default arn:aws:ecs:" in audit
    log = site.fleet.agents[0].log.read_text()
    assert not any(secret in audit + log for secret in (site.path_of(arn), key))


def test_boto3_in_a_container_calls_control_with_a_role_kept_there(site: Site) -> None:
    """With the SDK's defaults: address, region and keys all come from the task's environment."""
    iam = site.fleet.client("iam")
    trusts = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": TASKS}}
    iam.create_role(RoleName="shop", AssumeRolePolicyDocument=json.dumps({"Statement": trusts}))
    allowed = [
        {"Effect": "Allow", "Action": "ecs:List*", "Resource": "*"},
        {"Effect": "Allow", "Action": "logs:*", "Resource": "arn:aws:logs:*:*:log-group:/shop/*"},
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": allowed})
    iam.put_role_policy(RoleName="shop", PolicyName="shop", PolicyDocument=document)
    arn = site.python("host", OF_CONTROL, role="shop")
    lines = eventually(lambda: site.said(arn).splitlines(), what="control answers")
    assert json.loads(lines[-1]) == [
        f"arn:aws:sts::000000000000:assumed-role/shop/{arn.rpartition('/')[2]}",
        "OK",
        "AccessDeniedException",
        "OK",
        "AccessDeniedException",
        "AccessDeniedException",
    ]
    site.ecs.stop_task(task=arn)


def test_whoever_knows_the_path_of_another_task_gets_nothing(site: Site) -> None:
    stolen = {"STOLEN": " ".join(site.path_of(arn) for arn in site.owners.values())}
    keys = {eventually(partial(works, site, arn), what="S3") for arn in site.owners.values()}
    bridged = site.container(site.owners["bridge"])["NetworkSettings"]["Networks"]["bridge"]
    victim = {"VICTIM": bridged["IPAddress"], "GATEWAY": bridged["Gateway"]}
    thieves = {mode: site.start(mode, ["sh", "-c", ASK], stolen) for mode in MODES}
    usurper = site.start(
        "bridge",
        ["sh", "-c", USURP + ASK],
        stolen | victim,
        linuxParameters={"capabilities": {"add": ["NET_ADMIN"]}},
    )
    for name, arn in {**thieves, "usurper": usurper}.items():
        eventually(partial(has_asked, site, arn), what=f"{name} has asked")
        said = site.said(arn)
        assert "SecretAccessKey" not in said, name
        assert not any(key in said for key in keys), name
        if name != "usurper":  # what it is answered goes to its victim
            assert said.count("400 Bad Request") == len(MODES), said
        site.ecs.stop_task(task=arn)
    eventually(lambda: not _containers_of(usurper), what="the usurper is gone")
    # The MAC address of the usurper may be the next container's, so the host would not notice that it is wrong.
    subprocess.run(["ip", "neigh", "flush", "dev", "docker0"], check=True)
    nobody = ["setpriv", "--reuid=65534", "--clear-groups", "curl", "-s", "-m", "5"]
    for path in stolen["STOLEN"].split():
        done = subprocess.run([*nobody, AGENT + path], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["code"] == "InvalidIdInRequest"


def test_a_flood_slows_down_only_whoever_sends_it(
    site: Site, request: pytest.FixtureRequest
) -> None:
    units = [{"cpu": CPU_UNITS}]
    idle = register(site.ecs, site.image, "sleep 600", mode="none", containers=units)

    def launch_s() -> float:
        began = time.monotonic()
        (arn,) = run(site.ecs, idle)
        eventually(lambda: describe(site.ecs, arn)[0]["lastStatus"] == "RUNNING", what="it runs")
        took_s = time.monotonic() - began
        site.ecs.stop_task(task=arn)
        return took_s

    def ask_s() -> float:
        began = time.monotonic()
        subprocess.run(["curl", "-sf", "-m", "30", url], capture_output=True, check=True)
        return time.monotonic() - began

    url = AGENT + site.path_of(site.owners["host"])
    usual_s, usual_ask_s = max(launch_s() for _ in range(3)), max(ask_s() for _ in range(3))
    before = {mode: len(site.said(arn).splitlines()) for mode, arn in site.owners.items()}
    flood = site.python("bridge", FLOOD, PATH_ASKED="/v2/credentials/x")
    request.addfinalizer(partial(site.ecs.stop_task, task=flood))
    flooding = site.container(flood)["Id"]

    def seen() -> dict[str, float]:
        lines = _docker("logs", "--tail", "1", flooding).stdout.splitlines()
        counts: dict[str, float] = json.loads(lines[-1]) if lines else {"429": 0}
        return counts

    def refused() -> float:
        # Most of a flood does not get as far as an answer: its connections are closed.
        counts = seen()
        return counts["429"] + counts.get("closed", 0)

    def is_above(count: float) -> bool:
        return refused() > count

    eventually(partial(is_above, 30), what="the flood is refused", shown=seen)
    began, refused_before = seen(), refused()
    meanwhile_s = [launch_s() for _ in range(3)]
    meanwhile_ask_s = [ask_s() for _ in range(3)]
    eventually(partial(is_above, refused_before), what="the flood goes on", shown=seen)
    ended = seen()
    assert 0 < ended["400"] <= BURST + RATE_PER_S * (ended["for_s"] + 1), (began, ended)
    assert min(meanwhile_s) < 2 * usual_s + 1, (meanwhile_s, usual_s, ended)
    assert min(meanwhile_ask_s) < 2 * usual_ask_s + 1, ("another client", meanwhile_ask_s, ended)
    for mode, arn in site.owners.items():
        more = partial(lambda arn, n: len(site.said(arn).splitlines()) > n, arn, before[mode] + 5)
        # Its first requests may meet a full queue, which its kernel and boto3 wait out.
        eventually(more, within_s=180, what=f"the owner in {mode} mode goes on")
        assert works(site, arn)


def test_after_a_restart_credentials_are_awaited_and_then_renewed(site: Site) -> None:
    """The agent has them in memory alone; control sends all of them again, with new keys."""
    control, (agent,) = site.fleet.control, site.fleet.agents
    paths = {mode: site.path_of(arn) for mode, arn in site.owners.items()}
    first = {m: eventually(partial(works, site, arn)) for m, arn in site.owners.items()}
    containers = {mode: site.container(arn)["Id"] for mode, arn in site.owners.items()}
    control.kill()
    assert agent.stop() == 0
    shown = subprocess.run(["ip", "addr", "show", "dev", "lo"], capture_output=True, check=True)
    assert b" 169.254.170.2/32 " in shown.stdout, "what tasks ask must not leave the host"
    agent.start()

    def is_pending(mode: str) -> bool:
        ask = [sys.executable, "-c", ASK_ONCE, AGENT + paths[mode]]
        command = ["docker", "exec", containers[mode], *ask]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "HTTP Error 503" in done.stderr

    for mode in MODES:
        eventually(partial(is_pending, mode), what=f"credentials are awaited in {mode} mode")
    subprocess.run(["nft", "delete", "table", "inet", "ecs_test_0"], check=True)
    eventually(partial(is_pending, "bridge"), what="the table is there again")
    control.start()
    control.ready()
    for mode, arn in site.owners.items():
        eventually(
            partial(has_new_key, site, arn, first[mode]),
            what=f"new keys in {mode} mode",
        )
        assert site.path_of(arn) == paths[mode]
