"""Checks of a host, before and after it joins: each ok, warning or error, with its mend.

Looks and changes nothing; what has to be tried out (links, rules) is tried in a network namespace
that ends with the process that made it. A check that fails or hangs is told as such and takes no
other one down. Never imported by the agent process.
"""
