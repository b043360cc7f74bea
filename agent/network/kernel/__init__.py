"""How the kernel is asked: netlink requests, nftables, namespaces, tracked connections, devices.

Knows nothing of tasks or sandboxes. The rest of the room imports it; it imports nothing of the room.
"""
