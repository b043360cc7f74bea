"""Operations of Amazon ECS that are refused with a reason of their own. Pure.

All others that are not served are refused by their name alone (``front.service_api``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_DAEMONS = "use a service with the scheduling strategy DAEMON, which runs one task on each host"
_EXPRESS = (
    "nothing here creates the load balancer of a service with it; create one with elbv2, and name its target "
    "group in CreateService"
)
_GATEWAYS = "there are no gateways here"

REASONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            *("CreateDaemon", "DeleteDaemon", "DescribeDaemon", "ListDaemons", "UpdateDaemon"),
            *("DescribeDaemonDeployments", "DescribeDaemonRevisions", "ListDaemonDeployments"),
            *("RegisterDaemonTaskDefinition", "DeleteDaemonTaskDefinition"),
            *("DescribeDaemonTaskDefinition", "ListDaemonTaskDefinitions"),
        ),
        _DAEMONS,
    ),
    **dict.fromkeys(
        (
            *("CreateExpressGatewayService", "DeleteExpressGatewayService"),
            *("DescribeExpressGatewayService", "UpdateExpressGatewayService"),
        ),
        _EXPRESS,
    ),
    **dict.fromkeys(
        (
            *("AssociateGatewayWithCluster", "CreateGateway", "DeleteGateway", "DescribeGateway"),
            *("DescribeGatewayResources", "DescribeGatewayRoute"),
            *("DisassociateGatewayFromCluster", "ListGatewayClusterAssociations"),
            *("ListGatewayRoutes", "ListGateways", "UpdateGateway"),
        ),
        _GATEWAYS,
    ),
}
"""By the operation: why it is refused, and what to do instead."""
