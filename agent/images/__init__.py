"""Images: when they are pulled, with which credentials, and what a failed pull means.

::

    images.py      Images: one answer per reference for all who wait for it
    reference.py   registry, repository, tag and digest of an image name
    auth.py        ECS_ENGINE_AUTH_DATA → credentials by registry
    verdict.py     what a failed pull says about trying again
    registries.py  which registries do not answer at the moment
"""

from agent.images.images import Images

__all__ = ["Images"]
