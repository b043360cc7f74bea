"""Which paths there are, and what each asks for. Pure data.

An id is whatever has no slash, also nothing; trailing slashes count.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Subject(Enum):
    """What is asked for."""

    CONTAINER = "container metadata"
    TASK = "task metadata"
    TASK_WITH_TAGS = "task metadata with tags"
    CONTAINER_STATS = "container stats"
    TASK_STATS = "task stats"
    ASSOCIATIONS = "container associations"
    ASSOCIATION = "container association"


class Path(NamedTuple):
    """One path of one version."""

    version: int
    pattern: str
    """Regular expression of the whole path, with the groups ``id`` (of a container, in its URI), ``docker_id``,
    ``type`` and ``name`` (of an association)."""
    subject: Subject


_OF_CALLER: Final = (
    (r"metadata/?", Subject.TASK),
    (r"metadata/(?P<docker_id>[^/]+)", Subject.CONTAINER),
    (r"metadataWithTags/?", Subject.TASK_WITH_TAGS),
    (r"stats/?", Subject.TASK_STATS),
    (r"stats/(?P<docker_id>[^/]+)", Subject.CONTAINER_STATS),
)
_OF_ID: Final = (
    (r"", Subject.CONTAINER),
    (r"/task", Subject.TASK),
    (r"/taskWithTags", Subject.TASK_WITH_TAGS),
    (r"/stats", Subject.CONTAINER_STATS),
    (r"/task/stats", Subject.TASK_STATS),
    (r"/associations/(?P<type>[^/]*)", Subject.ASSOCIATIONS),
    (r"/associations/(?P<type>[^/]*)/(?P<name>.*)", Subject.ASSOCIATION),
)

PATHS: Final = (
    *(Path(2, f"/v2/{rest}", subject) for rest, subject in _OF_CALLER),
    *(
        Path(version, f"/v{version}/(?P<id>[^/]*){rest}", subject)
        for version in (3, 4)
        for rest, subject in _OF_ID
    ),
)
