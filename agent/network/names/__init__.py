"""What resolves names inside a task: its name servers, its ``resolv.conf`` and its hosts file. Touches no netlink."""
