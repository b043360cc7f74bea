"""Syntax of the settings that name images and registries, and what contradicts itself."""

from __future__ import annotations

import pytest

from agent.config import image_names


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        ('{"docker.io": "mirror.example"}', {"docker.io": "mirror.example"}),
        (
            '{"quay.io:443": "127.0.0.1:5000/quay/all"}',
            {"quay.io:443": "127.0.0.1:5000/quay/all"},
        ),
        ('{"docker.io": "localhost/hub"}', {"docker.io": "localhost/hub"}),
    ],
)
def test_mirrors(text: str, value: dict[str, str]) -> None:
    assert image_names.parse_mirrors(text) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("docker.io=m", "is not valid JSON"),
        ('["m.example"]', "is not a JSON map"),
        ('{"docker.io": 5}', "is not a JSON map"),
        ('{"https://docker.io": "m.example"}', "without https://"),
        ('{"docker.io/library": "m.example"}', "without https://"),
        ('{"docker.io": "https://m.example"}', "without https://"),
        ('{"docker.io": "m.example/UPPER"}', "as in image names"),
        ('{"docker.io": "mirror"}', "needs a port"),
        ('{"docker.io": ""}', "as in image names"),
    ],
)
def test_mirrors_that_could_not_be_asked(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        image_names.parse_mirrors(text)


def test_names_are_separated_by_commas() -> None:
    assert image_names.parse_names(" a:1, b/c:2 ,,") == ("a:1", "b/c:2")
    with pytest.raises(ValueError, match="separate names with commas"):
        image_names.parse_names("a:1 b:2")
