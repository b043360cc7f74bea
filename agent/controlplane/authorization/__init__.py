"""Who calls, and what the policies of that user or role permit.

::

    caller.py           who calls: the object that a request carries
    wildcards.py        pure: patterns with ``*``, ``?`` and policy variables
    conditions.py       pure: the operators of conditions
    condition_keys.py   pure: the keys that conditions can name here
    policy.py           pure: policy documents, read and compiled
    grants.py           pure: what some policies say of an action on a resource
    trust.py            pure: who may assume a role
    actions/            which permission each served call needs, on which resources

A policy is compiled once, when it is stored or first used. What cannot be evaluated is refused when a policy
is stored, by name; a stored policy that cannot be compiled forbids everything.

May use ``names``, ``records`` and ``access``. Tests: ``tests/unit/controlplane/authorization``.

Source of rules and texts: "IAM JSON policy reference" and "Policy evaluation logic" in the IAM user guide;
"Actions, resources, and condition keys" of each service in the Service Authorization Reference.
"""
