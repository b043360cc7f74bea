"""A control with other keys than the one that led does not lead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.server.settings import ControlSettings
from agent.controlplane.server.site_files import SiteFiles, check
from agent.controlplane.store import etcd_settings
from agent.controlplane.store.etcd import EtcdStore
from agent.errors import ConfigError
from tests.support import etcd_nodes

if TYPE_CHECKING:
    from pathlib import Path


def settings(directory: Path) -> ControlSettings:
    return ControlSettings(
        data_dir=directory,
        token_file=directory / "agent.tokens",
        keys_file=directory / "credentials",
        tls_own=True,
    )


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        file = directory / name.replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


async def test_files_that_differ_are_named(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    await asyncio.to_thread(write, one, agent_tokens="t1", secrets_keys="s1")
    await asyncio.to_thread(write, other, agent_tokens="t1", credentials="c1")
    with etcd_nodes.running() as cluster:
        store = await EtcdStore.open(etcd_settings.parse(cluster.address("/files"), {}))
        try:
            await check(store, settings(other))  # nobody has led yet
            notes = SiteFiles(store, settings(one))
            await notes.note()
            noted = await store.own("files")
            assert noted is not None
            assert b"s1" not in noted.value
            with pytest.raises(
                ConfigError, match=r"keys of secrets .*secrets\.keys.* copy its file"
            ):
                await check(store, settings(other))
            await asyncio.to_thread(write, other, secrets_keys="s1")
            await check(store, settings(other))  # of credentials, the one that led had none
            await asyncio.to_thread(write, one, agent_tokens="t1\nt2")
            await notes.note()
            with pytest.raises(ConfigError, match="tokens of agents"):
                await check(store, settings(other))
            revision = store.revision
            await notes.note()
            assert store.revision == revision
        finally:
            await store.close()
