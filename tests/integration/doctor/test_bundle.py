"""An archive of a real host with secrets planted all over: none may be found in it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import DOCKER_HOST
from tests.support.fleet import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import Containers

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("sdk")]

CANARIES = {
    name: f"canary-{name}-7f3a91c4"
    for name in (
        "token",
        "second-token",
        "registry",
        "registry-auth",
        "proxy",
        "mistyped",
        "pasted",
        "environment",
        "container-named",
        "container-other",
        "label",
        "command",
        "bearer",
        "password",
        "url",
    )
}
AWS_KEY = "AKIAIOSFODNN7CANARY0"


def plant(directory: Path) -> tuple[Path, Path]:
    """Write settings, token and log with a secret in every place; return settings and log."""
    token = directory / "token"
    token.write_text(f"# mine\n{CANARIES['token']}\n{CANARIES['second-token']}\n")
    token.chmod(0o600)
    auth = base64.b64encode(f"eve:{CANARIES['registry-auth']}".encode()).decode()
    registries = {
        "r1.example": {"username": "bob", "password": CANARIES["registry"]},
        "r2.example": {"auth": auth},
    }
    log = directory / "agent.log"
    log.write_text(
        f"level=info msg=started token={CANARIES['token']}\n"
        f"the token {CANARIES['token']} and {CANARIES['registry']} in plain words\n"
        f"as base64 {base64.b64encode(CANARIES['token'].encode()).decode()} {auth}\n"
        f"a task wrote {CANARIES['container-named']} and {CANARIES['container-other']}\n"
        f"GET /v1 Authorization: Bearer {CANARIES['bearer']}\n"
        f"msg=failed password='{CANARIES['password']}' url=https://u:{CANARIES['url']}@h/x\n"
        f"the environment's {CANARIES['environment']}; {AWS_KEY}; last and harmless\n"
    )
    config = directory / "ecs.config"
    config.write_text(
        f"DOCKER_HOST={DOCKER_HOST}\n"
        f"ECS_DATADIR={directory}/data\n"
        f"ECS_LOGFILE={log}\n"
        "ECS_CONTROL_ENDPOINT=http://127.0.0.1:9\n"
        f"ECS_CONTROL_TOKEN_FILE={token}\n"
        "ECS_ENGINE_AUTH_TYPE=docker\n"
        f"ECS_ENGINE_AUTH_DATA={json.dumps(registries)}\n"
        f"HTTP_PROXY=http://u:{CANARIES['proxy']}@proxy.example:3128\n"
        f"AWS_ACCESS_KEY_ID={AWS_KEY}\n"
        f"ECS_MISTYPED={CANARIES['mistyped']}\n"
        f"{CANARIES['pasted']}\n"
    )
    return config, log


def bundle(config: Path, target: Path) -> dict[str, bytes]:
    """Run the command; return every file of its archive."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("ECS_")}
    keep["SOME_PASSWORD"] = CANARIES["environment"]
    done = subprocess.run(
        [str(COMMAND), "doctor", "--quick", "--config", str(config), "--bundle", str(target)],
        env=keep,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = {}
    with tarfile.open(target) as archive:
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is not None
            files[entry.name.partition("/")[2]] = content.read()
    return files


async def planted_container(containers: Containers) -> str:
    body: dict[str, Any] = {
        "Env": [
            f"DB_PASSWORD={CANARIES['container-named']}",
            f"GREETING={CANARIES['container-other']}",
        ],
        "Labels": {"traefik.users": CANARIES["label"], "com.amazonaws.ecs.cluster": "prod"},
    }
    return await containers.create(["true", "--pw", CANARIES["command"]], **body)


async def test_no_planted_secret_is_in_the_archive(tmp_path: Path, containers: Containers) -> None:
    made = await planted_container(containers)
    config, _ = plant(tmp_path)
    files = bundle(config, tmp_path / "support.tar.gz")

    texts = {name: content.decode() for name, content in files.items()}
    leaked = [
        (canary, name)
        for canary in (*CANARIES.values(), AWS_KEY)
        for name, text in texts.items()
        for form in (canary, base64.b64encode(canary.encode()).decode().rstrip("="), canary[:16])
        if form in text
    ]
    assert leaked == []

    # What helps is still there, and JSON is still JSON.
    for name, text in texts.items():
        if name.endswith(".json") and not text.startswith("[nothing"):
            json.loads(text)
    assert made in texts["engine/containers.json"]
    assert '"com.amazonaws.ecs.cluster": "prod"' in texts["engine/containers.json"]
    assert "last and harmless" in texts["logs/ecs-agent-file.txt"]
    config_name = next(name for name in texts if name.endswith("_ecs.config"))
    assert "ECS_CONTROL_ENDPOINT=http://127.0.0.1:9" in texts[config_name]
    pieces = json.loads(texts["MANIFEST.json"])["pieces"]
    assert {piece["name"] for piece in pieces} == {*texts} - {"MANIFEST.json"}
    by_name = {piece["name"]: piece for piece in pieces}
    assert by_name["host/system.txt"]["trouble"] == ""
    assert "FileNotFoundError" in by_name["agent/agent.json"]["trouble"]
