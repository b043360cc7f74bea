"""Images: when they are pulled, with which credentials, and what a failed pull means.

::

    images.py      Images: one pull per reference, shared by all callers
    reference.py   registry, repository, tag and digest of an image name
    progress.py    Progress: the state of a running pull
    auth.py        ECS_ENGINE_AUTH_DATA → credentials by registry
    verdict.py     whether a failed pull should be retried
    registries.py  which registries do not answer at the moment
"""

from agent.images.images import Images
from agent.images.progress import Progress

__all__ = ["Images", "Progress"]
