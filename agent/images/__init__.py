"""Images: when they are pulled, with which credentials, and what a failed pull means.

::

    images.py        Images: one pull per reference, shared by all callers
    puller.py        one try of a pull: its turn, mirrors, digests
    mirrors.py       where an image is asked for
    retries.py       when a failed pull is tried again
    single_flight.py one run of a job for all who ask for it
    reference.py     registry, repository, tag and digest of an image name
    progress.py      Progress: the state of a running pull
    auth.py          ECS_ENGINE_AUTH_DATA → credentials by registry
    logins.py        the login for a pull: the host's, a secret of Secrets Manager, a token of ECR
    token_cache.py   tokens of ECR: one request for all, renewed ahead
    failure_kind.py  whether a failed pull should be retried
    registries.py    which registries do not answer at the moment
    uses.py          which images the agent got, and when they were last used; in the store
    locks.py         a pull and a removal of the same image wait for each other
    removal_plan.py  which images may be removed, in which order
    cleanup.py       ImageCleanup: removes images by age, and before pulls if the disk is full
    disk.py          how full the disk of the engine is
    containers.py    which containers of others may be removed

``ensure`` pulls by policy (``default``, ``always``, ``once``, ``prefer-cached``), returns digest and
name, and raises ``PayloadError`` with the ECS reason. Where a cached image will do, a registry that
failed is left alone and asked again in the background, so that an outage never slows a launch.
Touches the container engine, and AWS through ``logins.RegistryServices``. Tests: ``tests/unit/images``, ``tests/integration/images``,
``tests/unit/engine/test_engine_pulls.py``.
"""

from agent.images.images import Images
from agent.images.logins import ExecutionRole
from agent.images.progress import Progress
from agent.images.puller import Obtained, PullLimits

__all__ = ["ExecutionRole", "Images", "Obtained", "Progress", "PullLimits"]
