"""An AWS on the loopback: moto's server, which checks signatures, roles and policies.

Also a gate before one of its services, which a test can shut or let hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.support.fleet import free_port

if TYPE_CHECKING:
    from types import TracebackType

SESSION_TOKEN = b"FQoGZXIvYXdzEBYaD"
"""With which every session token of moto's begins."""
REGION = "eu-west-1"
ACCOUNT = "123456789012"
_START_S = 60.0
_ALL = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)


@dataclass(frozen=True)
class Key:
    """An access key of a user."""

    key_id: str
    secret: str

    def environment(self) -> dict[str, str]:
        """Return the variables by which programs find it."""
        return {
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class StandIn:
    """A running server with one user who may do everything. Use it as a context manager."""

    def __init__(self, listen: str = "127.0.0.1") -> None:
        """Take the address to listen on; the host's own clients use the loopback in any case."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._listen = listen
        self.admin: Key
        self.given: list[str] = []
        """Secret parts of all keys of roles that were asked for here."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", self._listen, "-p", str(self.port)],
            env=os.environ | {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()
        self.admin = Key("AKIDEXAMPLE", "any")  # nothing is checked yet
        iam = self.client("iam")
        iam.create_user(UserName="admin")
        iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=_ALL)
        made = iam.create_access_key(UserName="admin")["AccessKey"]
        self.admin = Key(made["AccessKeyId"], made["SecretAccessKey"])
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(request, timeout=30):
            pass  # from here on, every call needs a key, a good signature and a policy
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def client(self, service: str) -> Any:
        """Return a boto3 client of a service, with the keys of the user."""
        import boto3  # noqa: PLC0415 - slow to import; only end-to-end tests need it

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.admin.key_id,
            aws_secret_access_key=self.admin.secret,
        )

    def add_role(self, name: str, *actions: str) -> str:
        """Make a role that may do these actions and nothing else; return its ARN."""
        iam = self.client("iam")
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_ALL)["Role"]["Arn"]
        if actions:
            statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
            document = {"Version": "2012-10-17", "Statement": [statement]}
            iam.put_role_policy(
                RoleName=name, PolicyName="some", PolicyDocument=json.dumps(document)
            )
        return str(arn)

    def assume(self, role_arn: str, credentials_id: str) -> dict[str, str]:
        """Return credentials of a role as control sends them."""
        answer = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")
        given = answer["Credentials"]
        self.given += [given["SecretAccessKey"], given["SessionToken"]]
        return {
            "credentialsId": credentials_id,
            "roleArn": role_arn,
            "accessKeyId": given["AccessKeyId"],
            "secretAccessKey": given["SecretAccessKey"],
            "sessionToken": given["SessionToken"],
            "expiration": given["Expiration"].isoformat(),
        }

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            assert self._process is not None
            assert self._process.poll() is None, "moto ended"
            with (
                contextlib.suppress(urllib.error.URLError, ConnectionError),
                urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=5),
            ):
                return
            assert time.monotonic() < deadline, "moto does not answer"
            time.sleep(0.05)


class Gate:
    """A port before another one of the loopback: open, hanging, or shut. A context manager."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.calls = 0
        """Connections that came."""
        self._target = target_port
        self._hangs = False
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate")

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        """Let everything through."""
        self._hangs = False
        self._do(self._listen())

    def hang(self) -> None:
        """Accept connections and answer nothing on them."""
        self._hangs = True
        self._do(self._listen())

    def shut(self) -> None:
        """Refuse connections, and drop those there are."""
        self._do(self._close())

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        await self._close()
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        with contextlib.closing(writer):
            if self._hangs:
                await asyncio.Event().wait()
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
            with contextlib.closing(back_writer):
                there = asyncio.create_task(_copy(reader, back_writer))
                try:
                    await _copy(back_reader, writer)
                finally:
                    there.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
