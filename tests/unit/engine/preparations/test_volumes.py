from __future__ import annotations

from typing import Any

import pytest

from agent.engine.preparations.efs import EfsSettings
from agent.engine.preparations.volumes import WantedVolume, volume_sources, wanted_volumes
from agent.errors import PayloadError
from agent.model import ids
from agent.model.payload import HostVolume, Volume
from tests.support.tasks import ARN, container, payload

NAME = ids.volume_engine_name(ARN, "web", "1", "v")


def volume(docker: dict[str, Any] | None = None, **fields: Any) -> Volume:
    return Volume(name="v", docker_volume_configuration=docker, **fields)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (volume(), [WantedVolume(engine_name=NAME)]),
        (volume(type="host"), [WantedVolume(engine_name=NAME)]),
        (volume(host=HostVolume(source_path="/srv")), []),
        (volume({"scope": "task"}), [WantedVolume(engine_name=NAME)]),
        (
            volume(
                {"scope": "task", "driver": "nfs", "driverOpts": {"o": "ro"}, "labels": {"a": "b"}}
            ),
            [WantedVolume(engine_name=NAME, driver="nfs", options={"o": "ro"}, labels={"a": "b"})],
        ),
        (
            volume({"scope": "shared", "autoprovision": True}),
            [WantedVolume(engine_name="v", shared=True)],
        ),
        (
            volume({"scope": "shared"}, type="docker"),
            [WantedVolume(engine_name="v", shared=True, must_exist=True)],
        ),
    ],
)
def test_which_volumes_are_made(given: Volume, expected: list[WantedVolume]) -> None:
    assert wanted_volumes(payload(container("a"), volumes=[given]), EfsSettings()) == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (volume(type="attachment"), "'attachment' of v is not supported"),
        (volume(type="efs"), "empty volume configuration"),
        (volume(type="docker"), "empty volume configuration"),
        (volume({"scope": "task", "autoprovision": True}), "takes no autoprovision"),
        (volume({"scope": "task", "driverOpts": ["x"]}), "must be texts"),
        (volume({"scope": "task", "labels": {"a": 1}}), "must be texts"),
    ],
)
def test_which_are_refused(given: Volume, text: str) -> None:
    with pytest.raises(PayloadError, match=text) as caught:
        wanted_volumes(payload(container("a"), volumes=[given]), EfsSettings())
    assert str(caught.value).startswith(f"resource cannot be initialized for task {ARN}: ")


@pytest.mark.parametrize(
    "given",
    [
        volume({"scope": "shared"}, type="host"),
        volume({"scope": "shared", "autoprovision": True}, type="docker"),
        volume({"scope": "task"}, host=HostVolume(source_path="/srv"), type="docker"),
        volume({"scope": "shared"}, host=HostVolume(source_path="/srv")),
        volume({"scope": "shared"}, host=HostVolume(source_path="/srv"), type="host"),
    ],
)
def test_what_is_made_is_what_is_mounted(given: Volume) -> None:
    """Also where a volume carries the fields of two types; a shared one is never removed."""
    task = payload(container("a"), volumes=[given])
    made = wanted_volumes(task, EfsSettings())
    source = volume_sources(task)["v"]
    assert [volume_made.engine_name for volume_made in made] == (
        [] if source == "/srv" else [source]
    )
    assert all(volume_made.shared is (volume_made.engine_name == "v") for volume_made in made)
