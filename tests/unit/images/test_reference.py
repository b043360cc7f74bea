"""Image names in parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.images import reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "whole", "repository", "registry", "path"),
    [
        ("busybox", "busybox:latest", "busybox", "docker.io", "docker.io/library/busybox"),
        ("me/app:v1", "me/app:v1", "me/app", "docker.io", "docker.io/me/app"),
        ("docker.io/me/app", "docker.io/me/app:latest", "docker.io/me/app", "docker.io", "docker.io/me/app"),
        ("index.docker.io/x", "index.docker.io/x:latest", "index.docker.io/x", "docker.io", "docker.io/library/x"),
        ("localhost/app", "localhost/app:latest", "localhost/app", "localhost", "localhost/app"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b", "localhost:5000", "localhost:5000/a/b"),
        ("[::1]:5000/a:b", "[::1]:5000/a:b", "[::1]:5000/a", "[::1]:5000", "[::1]:5000/a"),
        ("q.io/a/b/c:v_1.2-x", "q.io/a/b/c:v_1.2-x", "q.io/a/b/c", "q.io", "q.io/a/b/c"),
        ("localhost:5000", "localhost:5000", "localhost", "docker.io", "docker.io/library/localhost"),
    ],
)  # fmt: skip
def test_parts(text: str, whole: str, repository: str, registry: str, path: str) -> None:
    found = reference.parse(text)
    assert (found.text, found.repository, found.registry, found.path) == (
        whole,
        repository,
        registry,
        path,
    )
    assert found.digest == ""
    assert found.pinned(DIGEST) == f"{repository}@{DIGEST}"


@pytest.mark.parametrize("name", ["q.io/a", "q.io/a:v1"])
def test_a_digest_needs_no_tag(name: str) -> None:
    found = reference.parse(f"{name}@{DIGEST}")
    assert found.text == f"{name}@{DIGEST}"
    assert (found.repository, found.digest) == ("q.io/a", DIGEST)


def test_the_local_digest_is_that_of_the_same_repository() -> None:
    found = reference.parse("docker.io/library/busybox:1")
    assert found.local_digest(("q.io/busybox@sha256:1", "busybox@sha256:2")) == "sha256:2"
    assert found.local_digest(("q.io/busybox@sha256:1",)) == ""
    assert found.local_digest(()) == ""


@given(st.text())
def test_no_name_is_too_strange(text: str) -> None:
    found = reference.parse(text)
    assert found.path
    assert reference.parse(found.text).text == found.text
