"""Images: when they are pulled, with which credentials, and what a failed pull means.

::

    images.py      Images: one answer per reference for all who wait for it
    reference.py   registry, repository, tag and digest of an image name
    progress.py    Progress: what is told of a pull while it goes on
    auth.py        ECS_ENGINE_AUTH_DATA → credentials by registry
    verdict.py     what a failed pull says about trying again
    registries.py  which registries do not answer at the moment
"""

from agent.images.images import Images
from agent.images.progress import Progress

__all__ = ["Images", "Progress"]
