"""docs/tutorial.md is run as a reader would: each block in one shell, with the real ``aws`` and one endpoint URL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import generated, images
from tests.support.fleet import KEYS, Fleet, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

pytestmark = pytest.mark.integration

PAGE = generated.DOCS / "tutorial.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IMAGE_OF_THE_PAGE = "image=nginx:alpine\n"
LIMIT_S = 220


@pytest.fixture
def host(leak_check: None, tmp_path: Path) -> Iterator[Fleet]:
    del leak_check
    # What ``standalone`` tells its agent.
    with fleet(tmp_path, ECS_OFFER_FARGATE="true", ECS_FARGATE_ALL_CLUSTERS="true") as made:
        yield made


def a_web_server(sdk: docker.APIClient) -> str:
    """Return an image like that of the page: its own command serves ``/www`` and logs requests."""
    applets = ("httpd", "sh", "wget")
    return images.build(
        sdk,
        "web",
        {"bin/busybox": images.BUSYBOX.read_bytes(), "www/index.html": b"hello from a task\n"},
        {f"bin/{applet}": "busybox" for applet in applets},
        config={"Cmd": ["httpd", "-f", "-vv", "-p", "80", "-h", "/www"]},
    )


def followed(text: str, image: str) -> str:
    """Return the page as a script that says where each block ends and ends with the first command that fails."""
    blocks = BLOCK.findall(text)
    assert sum(block.count(IMAGE_OF_THE_PAGE) for block in blocks) == 1
    given = [block.replace(IMAGE_OF_THE_PAGE, f"image={image}\n") for block in blocks]
    return "set -eu\n" + "echo '--- next'\n".join(given)


def test_the_tutorial_does_what_it_says(host: Fleet, sdk: docker.APIClient, tmp_path: Path) -> None:
    place = tmp_path / "reader"
    place.mkdir()
    (place / "page.sh").write_text(followed(PAGE.read_text(), a_web_server(sdk)))
    tools = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "page.sh"],
        cwd=place,
        env={
            **os.environ,
            **KEYS,
            "AWS_REGION": KEYS["AWS_DEFAULT_REGION"],
            "AWS_ENDPOINT_URL": host.control.url,
            "AWS_PAGER": "",
            "PATH": f"{tools}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}\n{host.agents[0].tail()}"
    assert done.returncode == 0, said
    blocks = done.stdout.split("--- next\n")
    *before, opened, cleaned = blocks
    assert '"Arn": "arn:aws:iam::000000000000:root"' in blocks[0], said
    assert before[-1].endswith("closed\n"), said
    page, _, logs = opened.partition("hello from a task\n")
    assert "true" in page, said
    assert "response:200" in logs, said
    assert "has reached a steady state" in logs, said
    assert '"INACTIVE"' in cleaned, said
    clusters = host.client("ecs").list_clusters()["clusterArns"]
    assert not [arn for arn in clusters if arn.endswith("/hello")], said
    assert host.client("iam").list_roles()["Roles"] == [], said
    assert len(host.client("ec2").describe_security_groups()["SecurityGroups"]) == 1, said
