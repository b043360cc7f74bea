"""The number that tells old manifests from new ones: kept, raised, and begun anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.errors import StateFailure
from agent.state import Batch
from agent.upstream.amazon.acs.fields import UnusableMessage
from agent.upstream.amazon.acs.manifests import ManifestHandler
from agent.upstream.amazon.acs.message_queue import AcsMessage
from agent.upstream.amazon.registration import MANIFEST_SEQ, Instance
from tests.support.acs_host import ORIGIN, FakeTasks

if TYPE_CHECKING:
    from agent.state import StateStore


class Scene:
    def __init__(self, store: StateStore) -> None:
        self.tasks = FakeTasks()
        self.manifests = ManifestHandler(store, self.tasks, self.tasks.take)
        self.answers: list[Any] = []

    async def answer(self, raw: bytes) -> None:
        self.answers.append(msgspec.json.decode(raw)["type"])

    async def give(self, timeline: int) -> None:
        body = msgspec.json.encode(ORIGIN | {"messageId": "m", "timeline": timeline, "tasks": []})
        instance = Instance(arn="i", cluster="c")
        order = AcsMessage("TaskManifestMessage", msgspec.Raw(body), 0.0, instance, self.answer)
        await self.manifests.manifest(order)


@pytest.fixture
def scene(store: StateStore) -> Scene:
    return Scene(store)


async def test_the_number_of_the_last_manifest_goes_on_over_connections(scene: Scene) -> None:
    await scene.manifests.begin()
    with pytest.raises(UnusableMessage):
        await scene.give(0)
    await scene.give(9)
    await scene.manifests.begin()
    assert scene.manifests.latest == 9
    with pytest.raises(UnusableMessage):
        await scene.give(9)
    assert scene.answers == ["AckRequest"]


@pytest.mark.parametrize("saved", ["x", "", "1e9"])
async def test_a_number_that_cannot_be_read_counts_as_none(
    scene: Scene, store: StateStore, saved: str
) -> None:
    batch = Batch()
    batch.put_meta(MANIFEST_SEQ, saved)
    await store.commit(batch)
    await scene.manifests.begin()
    assert scene.manifests.latest == 0


async def test_a_manifest_whose_number_cannot_be_kept_may_come_again(
    scene: Scene, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.manifests.begin()

    async def full(_batch: Batch) -> None:
        raise StateFailure("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", full)
        with pytest.raises(StateFailure):
            await scene.give(5)
    assert not scene.answers
    await scene.give(5)
    assert scene.answers == ["AckRequest"]
