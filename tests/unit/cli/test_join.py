"""`ecs-agent join` against a real control endpoint, an operator socket and a scripted systemctl."""

from __future__ import annotations

import asyncio
import io
import json
import os
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.cli import join, main, membership, unit
from agent.cli.membership import JoinRequest
from agent.config import load
from agent.errors import ConfigError, ExitCode
from agent.model.views import AgentView
from tests.support import certificates
from tests.support.control_endpoint import control_endpoint
from tests.support.fleet import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.config import Settings
    from tests.support.control_endpoint import Endpoint
    from tests.unit.cli.conftest import Source

TOKEN, WRONG = "1" * 32, "2" * 32
SYSTEMCTL = """\
#!/bin/sh
echo "$*" >> "$0.calls"
case "$1" in
  is-active) cat "$0.state" ;;
  is-enabled) test -e "$0.enabled" ;;
  enable) touch "$0.enabled"; case "$*" in *--now*) up=1 ;; esac ;;
  restart) up=1 ;;
  reset-failed) echo inactive > "$0.state" ;;
esac
if [ "$up" ]; then echo active > "$0.state"; ln -sfn "$0.agent" "$0.socket"; fi
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Desk:
    """A host on which somebody joins: a configuration, control, and a service manager."""

    def __init__(
        self,
        directory: Path,
        endpoint: Endpoint,
        source: Source,
        capture: pytest.CaptureFixture[str],
    ) -> None:
        self.config = directory / "etc" / "ecs.config"
        self.config.parent.mkdir()
        self.endpoint = endpoint
        self.source = source
        self.systemctl = directory / "bin" / "systemctl"
        self.systemctl.parent.mkdir()
        # The agent of the service can be reached once the service has been started.
        Path(f"{self.systemctl}.agent").symlink_to(directory / "a.sock")
        self.socket = Path(f"{self.systemctl}.socket")
        self.config.write_text(f"# ours\nECS_AGENT_SOCKET={self.socket}\n")
        self.config.chmod(0o640)
        self.systemctl.write_text(SYSTEMCTL)
        self.systemctl.chmod(0o755)
        self.stands("inactive")
        self._capture = capture

    def stands(self, state: str) -> None:
        Path(f"{self.systemctl}.state").write_text(f"{state}\n")

    def runs(self, state: str = "active", **fields: object) -> None:
        """Have an agent run already."""
        self.stands(state)
        self.socket.symlink_to(f"{self.systemctl}.agent")
        self.agent(**fields)

    def calls(self) -> list[str]:
        file = Path(f"{self.systemctl}.calls")
        found = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [call for call in found if not call.startswith(("is-", "reset-failed"))]

    def agent(self, **fields: object) -> None:
        self.source.agent = msgspec.structs.replace(self.source.agent, **fields)

    def renew_when_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have another agent answer once the service was started anew, and not at once."""
        for name in ("start", "restart"):
            monkeypatch.setattr(unit, name, self._renewing(getattr(unit, name)))

    def _renewing(self, act: Callable[[], None]) -> Callable[[], None]:
        def ordered() -> None:
            act()
            later = time.time()
            threading.Timer(0.05, lambda: self.agent(started_at=later)).start()

        return ordered

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.config.parent.iterdir()}

    async def settings(self) -> Settings:
        return await asyncio.to_thread(load, {}, [self.config])

    async def join(self, *more: str, url: str = "") -> Done:
        words = ["join", url or self.endpoint.url, "--config", str(self.config), *more]
        code = await asyncio.to_thread(main, words)
        return Done(code, *self._capture.readouterr())


@pytest.fixture
async def desk(
    tmp_path: Path,
    source: Source,
    agent_socket: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Desk]:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    tokens.chmod(0o600)
    # Its log lines would be on the command's standard output.
    with structlog.testing.capture_logs():
        async with control_endpoint(tmp_path / "control", token_file=tokens) as endpoint:
            made = Desk(tmp_path, endpoint, source, capsys)
            made.agent(
                cluster="default",
                instance_arn="arn:aws:ecs:us-east-1:0:container-instance/default/i1",
                control_endpoint=endpoint.url,
                control_connected=True,
                control_error="",
                degraded=[],
            )
            monkeypatch.setattr(unit, "RUNS_HERE", tmp_path)
            monkeypatch.setattr(join, "DEFAULT_FILES", (made.config,))
            monkeypatch.setattr(membership, "DEFAULT_FILES", (made.config,))
            monkeypatch.setattr(join, "ASK_EVERY_S", 0.01)
            made.renew_when_started(monkeypatch)
            monkeypatch.setenv("PATH", f"{made.systemctl.parent}:{os.environ['PATH']}")
            monkeypatch.setattr(os, "geteuid", lambda: 0)
            yield made


async def test_a_host_joins_and_joins_again(desk: Desk) -> None:
    done = await desk.join("--token", TOKEN, "--attribute", "rack=a 1")
    assert done.code == 0, done.err
    assert done.out == "joined: cluster default, instance i1\n"
    token_file = desk.config.parent / "control.token"
    assert token_file.read_text() == f"{TOKEN}\n"
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert desk.config.stat().st_mode & 0o777 == 0o640
    assert desk.config.read_text().startswith("# ours\nECS_AGENT_SOCKET=")
    settings = await desk.settings()
    assert settings.control_endpoint == desk.endpoint.url
    assert settings.control_token_file == token_file
    assert settings.instance_attributes == {"rack": "a 1"}
    assert desk.calls() == ["enable --now --no-block ecs-agent"]
    assert TOKEN not in done.err + done.out

    before = desk.files()
    for words in (["--token", TOKEN], [], ["--attribute", "rack=a 1"]):
        again = await desk.join(*words)
        assert again.code == 0
        assert again.err == ""
        assert again.out == (
            "already a member, nothing was changed: cluster default, instance i1\n"
        )
    assert desk.calls() == []
    assert desk.files() == before


async def test_a_change_restarts_the_service_and_keeps_what_was_not_given(desk: Desk) -> None:
    await desk.join("--token", TOKEN, "--attribute", "rack=a")
    desk.calls()
    done = await desk.join("--attribute", "disk=ssd")
    assert done.code == 0, done.err
    assert desk.calls() == ["enable ecs-agent", "restart --no-block ecs-agent"]
    settings = await desk.settings()
    assert settings.instance_attributes == {"rack": "a", "disk": "ssd"}
    assert settings.control_token_file == desk.config.parent / "control.token"


async def test_the_token_comes_from_a_file_or_from_standard_input(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "given"
    file.write_text(f"# of control\n{TOKEN}\n{WRONG}\n")
    assert (await desk.join("--token-file", str(file), "--no-start")).code == 0
    assert desk.files()["control.token"] == f"{TOKEN}\n".encode()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TOKEN}\n"))
    done = await desk.join("--token", "-", "--no-start")
    assert done.code == 0
    assert done.out.startswith("nothing was changed; ")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 1, "control requires a token; give --token"),
        (["--token", WRONG], 1, "control refused the token; use one of those"),
        (["--token", "short"], 2, "--token is shorter than 16 characters"),
        (["--token", TOKEN, "--token-file", "x"], 2, "give --token or --token-file, not both"),
        (["--token-file", "/none"], 1, "--token-file /none: no such file; check the path"),
        (["--token-file", "/etc"], 1, "token file /etc: is a directory; name the token file in it"),
        (["--token", TOKEN, "--cluster", "nope"], 1, "there is no cluster nope at http"),
        (["--token", TOKEN, "--cluster", "a b"], 2, "--cluster a b: is not a cluster name or ARN"),
        (["--token", TOKEN, "--attribute", "a b=x"], 2, "--attribute a b=x: has the name 'a b'"),
        (["--token", TOKEN, "--attribute", "a=ü"], 2, "--attribute a=ü: has the value 'ü' for a"),
        (["--token", TOKEN, "--attribute", "x"], 2, "--attribute x: is not NAME=VALUE"),
        (["--token", TOKEN, "--ca-file", "/none"], 1, "--ca-file /none: no such file"),
        (["--token", TOKEN, "--ca-file", "/etc"], 1, "--ca-file /etc: is a directory; give a PEM"),
        (["--token", TOKEN, "--ca-file", "/dev/zero"], 1, "--ca-file /dev/zero: is larger than"),
        (["--token", TOKEN, "--ca-file", "/dev/null"], 1, "--ca-file /dev/null: has no usable"),
    ],
)
async def test_what_is_wrong_is_one_line_and_nothing_is_written(
    desk: Desk, words: list[str], code: int, told: str
) -> None:
    before = desk.files()
    done = await desk.join(*words)
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert len(done.err.splitlines()) == 1
    assert TOKEN not in done.err
    assert desk.files() == before
    assert desk.calls() == []


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        (
            "control:6820",
            2,
            "does not begin with http:// or https://; write for example http://con",
        ),
        ("http://control:99999", 2, "http://control:99999 has the port 99999, which is too large"),
        (
            "ftp://control",
            2,
            "is not an http or https URL; write for example http://192.0.2.10:6820",
        ),
        ("https://u:secret@c", 2, "the URL contains a user name or password"),
        ("http://control.invalid", 1, "the name control.invalid does not resolve"),
    ],
)
async def test_a_url_of_no_use(desk: Desk, url: str, code: int, told: str) -> None:
    done = await desk.join("--token", TOKEN, url=url)
    assert done.code == code
    assert told in done.err
    assert "secret" not in done.err


async def test_nobody_there(desk: Desk) -> None:
    done = await desk.join(url=f"http://127.0.0.1:{free_port()}")
    assert done.code == ExitCode.ERROR
    assert "no process listens on 127.0.0.1" in done.err
    assert "start control there, or correct the URL" in done.err


async def test_a_settings_file_that_is_none(desk: Desk) -> None:
    done = await desk.join("--token", TOKEN, "--config", "/dev/zero", "--dry-run")
    assert done.code == ExitCode.TERMINAL
    assert (
        "/dev/zero: is larger than 1 MiB, too large for a settings file; check the path" in done.err
    )


async def test_the_scheme_of_the_url_is_the_wrong_one(desk: Desk, tmp_path: Path) -> None:
    made = certificates.make(tmp_path / "tls")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        done = await desk.join("--token", TOKEN, url=f"http://127.0.0.1:{port}")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"127.0.0.1:{port} speaks TLS; use https:// in the URL" in done.err
    done = await desk.join("--token", TOKEN, url=desk.endpoint.url.replace("http:", "https:"))
    assert "does not speak TLS; use http:// in the URL" in done.err


async def test_control_is_trusted_by_the_fingerprint_in_the_token(
    desk: Desk, tmp_path: Path
) -> None:
    """Nothing is copied by hand, and a wrong fingerprint writes nothing."""
    where = f"127.0.0.1:{free_port()}"
    file = tmp_path / "tokens"
    async with control_endpoint(
        tmp_path / "with-tls", token_file=file, tls_own=True, agent_listen=(where,)
    ) as there:
        async with there.session.post(f"{there.url}/control/pki", json={}) as answer:
            fingerprint = (await answer.json())["fingerprint"]
        url = f"https://{where}"
        desk.agent(control_endpoint=url)
        before = desk.files()
        wrong = await desk.join("--token", f"ecs-join.{'0' * 64}.{TOKEN}", url=url)
        assert (wrong.code, "another fingerprint" in wrong.err) == (1, True)
        assert desk.files() == before
        shown = await desk.join("--token", f"ecs-join.{fingerprint}.{TOKEN}", "--dry-run", url=url)
        assert (shown.code, desk.files()) == (0, before), shown.err
        done = await desk.join("--token", f"ecs-join.{fingerprint}.{TOKEN}", url=url)
        assert done.code == 0, done.err
        settings = await desk.settings()
        ca_file = desk.config.parent / "control-ca.pem"
        assert settings.control_ca_file == ca_file
        assert ca_file.read_text().startswith("# Authority of an ecs-agent control endpoint\n")
        assert (desk.config.parent / "control.token").read_text() == f"{TOKEN}\n"
        again = await desk.join("--token", TOKEN, "--ca-fingerprint", fingerprint.upper(), url=url)
        assert again.out.startswith("already a member"), again.err
        plain = await desk.join("--token", TOKEN, url=url)  # what is known of control stays
        assert plain.out.startswith("already a member"), plain.err
    for words, told in (
        (["--ca-fingerprint", "12"], "64 hexadecimal digits"),
        (["--ca-fingerprint", "1" * 64, "--ca-file", str(ca_file)], "not both"),
    ):
        done = await desk.join("--token", TOKEN, *words, url=url)
        assert (done.code, told in done.err) == (ExitCode.USAGE, True)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            (404, "<!DOCTYPE HTML><html><title>Not here</title></html>"),
            "GET /v1/hello was answered 404; this is not a control endpoint, or an older one: check",
        ),
        ((500, "<html><body><h1>It is   broken</h1></body></html>"), "500: It is broken\n"),
        ((200, "hello"), "the answer (greeting) is invalid"),
    ],
)
async def test_another_server_is_told_from_control(
    desk: Desk, answer: tuple[int, str], told: str
) -> None:
    async def other(_request: web.Request) -> web.Response:
        return web.Response(status=answer[0], text=answer[1], content_type="text/html")

    app = web.Application()
    app.router.add_get("/{all:.*}", other)
    async with TestServer(app) as server:
        done = await desk.join("--token", TOKEN, url=str(server.make_url("/")))
    assert done.code == ExitCode.ERROR
    assert told in done.err
    assert "<" not in done.err


async def test_a_configuration_that_is_bad_already_is_not_replaced(desk: Desk) -> None:
    with desk.config.open("a") as out:
        out.write("ECS_CLUSTR=x\n")
    before = desk.files()
    done = await desk.join("--token", TOKEN)
    assert done.code == ExitCode.TERMINAL
    assert done.err == (
        f"ecs-agent: {desk.config}:3: ECS_CLUSTR is not a known setting; "
        "did you mean ECS_CLUSTER?\n"
    )
    assert desk.files() == before


async def test_a_host_of_amazon_ecs_is_not_taken_away_from_it(desk: Desk) -> None:
    text = f"{desk.config.read_text()}ECS_EXTERNAL=true\nAWS_DEFAULT_REGION=eu-west-1\n"
    desk.config.write_text(text)
    done = await desk.join("--token", TOKEN)
    assert done.code == ExitCode.TERMINAL
    assert "set up for Amazon ECS by ECS_EXTERNAL; remove that" in done.err
    assert desk.config.read_text() == text


async def test_a_dry_run_shows_it_all_but_the_token(desk: Desk) -> None:
    before = desk.files()
    done = await desk.join("--token", TOKEN, "--dry-run")
    assert done.code == 0
    assert f"+ECS_CONTROL_ENDPOINT={desk.endpoint.url}" in done.out
    assert "control.token: would be written (33 bytes, not shown)" in done.out
    assert TOKEN not in done.out
    assert desk.files() == before
    assert desk.calls() == []
    shown = json.loads((await desk.join("--token", TOKEN, "--dry-run", "--json")).out)
    assert shown["dryRun"] is True
    assert shown["changes"] == [str(desk.config.parent / "control.token"), str(desk.config)]


async def test_machines_read_json(desk: Desk) -> None:
    done = await desk.join("--token", TOKEN, "--json")
    result = json.loads(done.out)
    assert result["cluster"] == "default"
    assert result["instanceArn"].endswith("/i1")
    assert result["controlId"]
    assert TOKEN not in done.out


async def test_tasks_of_another_control_are_not_stopped_by_accident(desk: Desk) -> None:
    desk.runs(control_endpoint="http://elsewhere:6820", running=2, pending=1)
    before = desk.files()
    done = await desk.join("--token", TOKEN)
    assert done.code == ExitCode.ERROR
    assert "this host runs 3 tasks for http://elsewhere:6820" in done.err
    assert desk.files() == before
    assert (await desk.join("--token", TOKEN, "--force", "--no-start")).code == 0


async def test_an_agent_that_is_not_the_service_is_not_left_beside_it(desk: Desk) -> None:
    desk.runs(state="inactive")
    before = desk.files()
    done = await desk.join("--token", TOKEN)
    assert done.code == ExitCode.ERROR
    assert "an agent runs here outside the service" in done.err
    assert desk.files() == before
    assert (await desk.join("--token", TOKEN, "--no-start")).code == 0


async def test_an_agent_stays_in_its_cluster(desk: Desk) -> None:
    desk.runs()
    await desk.endpoint.call("CreateCluster", clusterName="two")
    done = await desk.join("--token", TOKEN, "--cluster", "two", "--force")
    assert done.code == ExitCode.ERROR
    assert "registered in cluster default, and an agent cannot change its cluster" in done.err


async def test_the_token_of_one_control_is_not_shown_to_another(desk: Desk, tmp_path: Path) -> None:
    await desk.join("--token", TOKEN, "--no-start")
    async with control_endpoint(tmp_path / "other") as other:
        desk.runs(running=0, pending=0)
        done = await desk.join("--no-start", url=other.url)
    assert done.code == 0, done.err
    settings = await desk.settings()
    assert settings.control_endpoint == other.url
    assert settings.control_token_file is None


async def test_it_waits_for_the_registration_and_says_for_what(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "REGISTERED_LIMIT_S", 0.1)
    desk.agent(control_connected=False, control_error="control refused the token in FILE")
    done = await desk.join("--token", TOKEN)
    assert done.code == ExitCode.ERROR
    assert "waiting: control refused the token in FILE" in done.err
    assert "not registered within 0.1 s" in done.err
    assert "ecs-agent status" in done.err


async def test_a_service_that_fails_is_told_with_its_last_words(desk: Desk) -> None:
    journal = desk.systemctl.with_name("journalctl")
    journal.write_text("#!/bin/sh\necho it cannot go on\n")
    journal.chmod(0o755)
    desk.systemctl.write_text(SYSTEMCTL.replace("echo active", "echo failed").replace("ln", ":"))
    done = await desk.join("--token", TOKEN)
    assert done.code == ExitCode.ERROR
    assert done.err.splitlines()[-1].endswith("  it cannot go on")


async def test_an_old_failure_of_the_service_does_not_count(desk: Desk) -> None:
    desk.stands("failed")
    done = await desk.join("--token", TOKEN)
    assert done.code == 0, done.err


async def test_a_service_that_is_not_installed(desk: Desk) -> None:
    desk.systemctl.write_text(
        SYSTEMCTL.replace("enable)", "enable) echo 'no such unit' >&2; exit 1;;\n x)")
    )
    done = await desk.join("--token", TOKEN)
    assert done.code == ExitCode.ERROR
    assert "failed: no such unit; install the ecs-agent package" in done.err


@pytest.mark.parametrize(
    ("managed", "default", "how"),
    [
        (False, True, "ecs-agent run"),
        (True, False, "ecs-agent run --config "),
        (True, True, "systemctl enable --now ecs-agent"),
    ],
)
async def test_where_the_service_is_not_ours_to_start_it_says_how(
    desk: Desk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    managed: bool,
    default: bool,
    how: str,
) -> None:
    if not managed:
        monkeypatch.setattr(unit, "RUNS_HERE", tmp_path / "none")
    if not default:
        monkeypatch.setattr(join, "DEFAULT_FILES", ())
    words = ["--no-start"] if managed and default else []
    done = await desk.join("--token", TOKEN, *words)
    assert done.code == 0, done.err
    assert f"once its agent runs: {how}" in done.out
    assert desk.calls() == []


async def test_it_needs_root(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert (await desk.join("--token", TOKEN)).code == ExitCode.TERMINAL
    assert (await desk.join("--token", TOKEN, "--dry-run")).code == 0


def test_the_environment_of_the_caller_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECS_CLUSTER", "elsewhere")
    config = tmp_path / "ecs.config"
    plan = membership.plan(JoinRequest("http://c:1", config, "", "", None, {}))
    assert plan.cluster == "default"
    assert not config.exists()


def test_a_problem_is_told_in_the_words_of_the_file(tmp_path: Path) -> None:
    config = tmp_path / "ecs.config"
    with pytest.raises(ConfigError, match="^" + str(config) + ":2: ECS_LOGLEVEL"):
        membership.checked(config, "ECS_CLUSTER=a\nECS_LOGLEVEL=loud\n")


def test_a_host_that_was_never_registered_may_join(tmp_path: Path) -> None:
    view = AgentView(version="1", cluster="elsewhere", running=3)
    plan = membership.plan(JoinRequest("http://c:1", tmp_path / "ecs.config", "", "", None, {}))
    assert membership.why_not(view, plan, force=False) == ""
