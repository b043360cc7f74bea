"""The host's part of task networks: firewall, forwarding, the agent's address, and what others remove.

What is here exists once per host and is shared by all sandboxes. Imports ``bridge`` and ``kernel``.
"""
