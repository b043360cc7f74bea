"""Where an image is asked for."""

from __future__ import annotations

import pytest

from agent.images import reference
from agent.images.mirrors import sources

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "there"),
    [
        ("nginx", "m.example:5000/hub/library/nginx:latest"),
        ("docker.io/library/nginx:1", "m.example:5000/hub/library/nginx:1"),
        ("index.docker.io/shop/web:7", "m.example:5000/hub/shop/web:7"),
        (f"shop/web@{DIGEST}", f"m.example:5000/hub/shop/web@{DIGEST}"),
        (f"shop/web:7@{DIGEST}", f"m.example:5000/hub/shop/web:7@{DIGEST}"),
        ("quay.io:443/a/b:2", "q.example/a/b:2"),
    ],
)
def test_a_mirror_is_asked_first(image: str, there: str) -> None:
    mirrors = {"docker.io": "m.example:5000/hub", "quay.io:443": "q.example"}
    mirror, own = sources(reference.parse(image), mirrors)
    assert (mirror.reference.text, mirror.is_mirror) == (there, True)
    assert (own.reference, own.is_mirror) == (reference.parse(image), False)


def test_other_registries_are_asked_alone() -> None:
    (own,) = sources(reference.parse("ghcr.io/a/b"), {"docker.io": "m.example"})
    assert own.reference.text == "ghcr.io/a/b:latest"


def test_all_spellings_of_an_image_are_one() -> None:
    same = ["nginx", "nginx:latest", "docker.io/nginx", "docker.io/library/nginx:latest"]
    assert len({reference.parse(name).identity for name in same}) == 1
    tagged, plain = (reference.parse(f"a/b{tag}@{DIGEST}").identity for tag in (":1", ""))
    assert tagged == plain == f"docker.io/a/b@{DIGEST}"
