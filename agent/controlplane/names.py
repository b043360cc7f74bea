"""Names and ARNs of the control endpoint: made and parsed only here.

All ARNs have the long format (with the cluster), as Amazon ECS returns since 2021. Region and account
have no meaning here; their defaults look like Amazon's, because botocore and Terraform check the
format.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

DEFAULT_REGION = "us-east-1"
DEFAULT_ACCOUNT = "000000000000"

_ARN = re.compile(r"arn:(aws[a-z-]*):ecs:([a-z0-9-]+):([0-9]{12}):([a-z-]+)/(.+)")
_TASK_DEFINITION = re.compile(r"([A-Za-z0-9_-]{1,255})(?::(.*))?", re.DOTALL)
_REVISION = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Arn:
    """The parts of an ECS ARN."""

    partition: str
    region: str
    account: str
    kind: str
    """``cluster``, ``task``, ``container-instance``, ``task-definition``, ``container``..."""
    path: tuple[str, ...]
    """What follows the kind, split at slashes: for a task, cluster and id."""

    @property
    def id(self) -> str:
        """The last element of the path."""
        return self.path[-1]


def parse_arn(text: str) -> Arn | None:
    """Return the parts of an ECS ARN, or None if the text is not one."""
    match = _ARN.fullmatch(text)
    if match is None:
        return None
    partition, region, account, kind, path = match.groups()
    return Arn(partition, region, account, kind, tuple(path.split("/")))


def new_id() -> str:
    """Return a new id of 32 hex digits, for a task or a container instance."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Names:
    """Makes the ARNs of one control endpoint."""

    region: str = DEFAULT_REGION
    account: str = DEFAULT_ACCOUNT
    partition: str = "aws"

    def owns(self, arn: Arn) -> bool:
        """Return whether an ARN has this control endpoint's partition, account and region."""
        return (arn.partition, arn.region, arn.account) == (
            self.partition,
            self.region,
            self.account,
        )

    def _arn(self, resource: str) -> str:
        return f"arn:{self.partition}:ecs:{self.region}:{self.account}:{resource}"

    def cluster(self, name: str) -> str:
        """Return the ARN of a cluster."""
        return self._arn(f"cluster/{name}")

    def task(self, cluster: str, task_id: str) -> str:
        """Return the ARN of a task in the named cluster."""
        return self._arn(f"task/{cluster}/{task_id}")

    def container(self, cluster: str, task_id: str) -> str:
        """Return a new ARN for a container of a task."""
        return self._arn(f"container/{cluster}/{task_id}/{uuid.uuid4()}")

    def capacity_provider(self, name: str) -> str:
        """Return the ARN of a capacity provider."""
        return self._arn(f"capacity-provider/{name}")

    def instance(self, cluster: str, instance_id: str) -> str:
        """Return the ARN of a container instance in the named cluster."""
        return self._arn(f"container-instance/{cluster}/{instance_id}")

    def attachment(self, attachment_id: str) -> str:
        """Return the ARN of a task's attachment, for example its network interface."""
        return self._arn(f"attachment/{attachment_id}")

    def task_definition(self, family: str, revision: int) -> str:
        """Return the ARN of one revision of a task definition."""
        return self._arn(f"task-definition/{family}:{revision}")

    def service(self, cluster: str, name: str) -> str:
        """Return the ARN of a service in the named cluster."""
        return self._arn(f"service/{cluster}/{name}")

    def task_set(self, cluster: str, service: str, digits: str) -> str:
        """Return the ARN of a task set, whose id is ``ecs-svc/`` and the digits."""
        return self._arn(f"task-set/{cluster}/{service}/ecs-svc/{digits}")

    def service_deployment(self, cluster: str, service: str, deployment_id: str) -> str:
        """Return the ARN of a service deployment."""
        return self._arn(f"service-deployment/{cluster}/{service}/{deployment_id}")

    def service_revision(self, cluster: str, service: str, digits: str) -> str:
        """Return the ARN of a service revision, which has the digits of its deployment."""
        return self._arn(f"service-revision/{cluster}/{service}/{digits}")

    def schedule(self, group: str, name: str) -> str:
        """Return the ARN of a schedule in a group."""
        return (
            f"arn:{self.partition}:scheduler:{self.region}:{self.account}:schedule/{group}/{name}"
        )

    def schedule_group(self, name: str) -> str:
        """Return the ARN of a group of schedules."""
        return f"arn:{self.partition}:scheduler:{self.region}:{self.account}:schedule-group/{name}"

    def rule(self, name: str) -> str:
        """Return the ARN of a rule of EventBridge."""
        return f"arn:{self.partition}:events:{self.region}:{self.account}:rule/{name}"

    def alarm(self, name: str) -> str:
        """Return the ARN of an alarm."""
        return f"arn:{self.partition}:cloudwatch:{self.region}:{self.account}:alarm:{name}"

    def parameter(self, name: str) -> str:
        """Return the ARN of a parameter of Parameter Store, which leaves out its first slash."""
        return f"arn:{self.partition}:ssm:{self.region}:{self.account}:parameter/{name.lstrip('/')}"

    def stored_secret(self, name: str) -> str:
        """Return the ARN of a secret of Secrets Manager; ``name`` has its six characters behind it."""
        return f"arn:{self.partition}:secretsmanager:{self.region}:{self.account}:secret:{name}"

    def namespace(self, namespace_id: str) -> str:
        """Return the ARN of a namespace of Cloud Map."""
        return (
            f"arn:{self.partition}:servicediscovery:{self.region}:{self.account}:"
            f"namespace/{namespace_id}"
        )

    def registry(self, registry_id: str) -> str:
        """Return the ARN of a registry, which Cloud Map calls a service."""
        return (
            f"arn:{self.partition}:servicediscovery:{self.region}:{self.account}:"
            f"service/{registry_id}"
        )

    def root(self) -> str:
        """Return the ARN of the account's root: of who may do everything."""
        return f"arn:{self.partition}:iam::{self.account}:root"


def split_task_definition(text: str) -> tuple[str, str | None] | None:
    """Return family and revision of ``family``, ``family:revision`` or an ARN; None if malformed.

    The revision is the text after the colon, valid or not (``revision_number``), and None if only
    the family is given.
    """
    arn = parse_arn(text)
    if arn is not None:
        if arn.kind != "task-definition" or len(arn.path) != 1:
            return None
        text = arn.id
    elif text.startswith("arn:"):
        return None
    match = _TASK_DEFINITION.fullmatch(text)
    return None if match is None else (match[1], match[2])


def revision_number(text: str) -> int | None:
    """Return the number of a revision, or None if the text is not one."""
    return int(text) if _REVISION.fullmatch(text) else None
