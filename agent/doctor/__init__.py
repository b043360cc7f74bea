"""Checks of a host, before and after it joins: each gives ok, warning or error, with its fix.

Reads the host and changes nothing. What must be tried out (links, rules) is tried in a network
namespace that ends with its process. A check that fails or hangs is reported and does not affect
the others. Never imported by the agent process.
"""
