"""Addresses and namespaces of awsvpc tasks, and host ports of bridge tasks.

``pool.TaskNetworks`` and ``ports.HostPorts`` are the doors. Nothing else of this room is for others.
"""
