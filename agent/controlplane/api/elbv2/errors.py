"""Errors of Elastic Load Balancing, and what those of the store become there.

The query protocol shows their names without ``Exception``. Source of names and texts: its service model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.front.errors import ApiError, InvalidParameterException
from agent.controlplane.loadbalancing import stored

if TYPE_CHECKING:
    from agent.controlplane.api.translation import Translations

ValidationError = InvalidParameterException
"""A parameter is not valid; the query protocol calls it by this name."""


class LoadBalancerNotFoundException(ApiError):
    """There is no such load balancer."""


class ListenerNotFoundException(ApiError):
    """There is no such listener."""


class RuleNotFoundException(ApiError):
    """There is no such rule."""


class TargetGroupNotFoundException(ApiError):
    """There is no such target group."""


class DuplicateLoadBalancerNameException(ApiError):
    """There is another load balancer of that name."""


class DuplicateListenerException(ApiError):
    """The load balancer has another listener for that port."""


class DuplicateTargetGroupNameException(ApiError):
    """There is another target group of that name."""


class DuplicateTagKeysException(ApiError):
    """A tag is given twice."""


class IncompatibleProtocolsException(ApiError):
    """A listener cannot forward to a target group of that protocol."""


class InvalidConfigurationRequestException(ApiError):
    """What is asked for does not go together, or is not served here."""


class InvalidLoadBalancerActionException(ApiError):
    """An action is not valid."""


class InvalidTargetException(ApiError):
    """A target does not exist, or does not fit its group."""


class OperationNotPermittedException(ApiError):
    """It may not be done: to a default rule, or to what is protected."""


class PriorityInUseException(ApiError):
    """Another rule has that priority."""


class ResourceInUseException(ApiError):
    """A target group is used."""


class TooManyActionsException(ApiError):
    """A rule has more than one action."""


class TooManyListenersException(ApiError):
    """A load balancer has as many listeners as it may."""


class TooManyLoadBalancersException(ApiError):
    """There are as many load balancers as there may be."""


class TooManyRulesException(ApiError):
    """A listener has as many rules as it may."""


class TooManyTagsException(ApiError):
    """There would be too many tags."""


class TooManyTargetGroupsException(ApiError):
    """There are as many target groups as there may be."""


class TooManyTargetsException(ApiError):
    """A target group has as many targets as it may."""


class UnsupportedProtocolException(ApiError):
    """The protocol is not served here."""


TRANSLATIONS: Translations = {
    stored.BalancerMissing: LoadBalancerNotFoundException,
    stored.ListenerMissing: ListenerNotFoundException,
    stored.RuleMissing: RuleNotFoundException,
    stored.GroupMissing: TargetGroupNotFoundException,
    stored.GroupInUse: ResourceInUseException,
    stored.PortTaken: DuplicateListenerException,
    stored.BalancerProtected: OperationNotPermittedException,
}
