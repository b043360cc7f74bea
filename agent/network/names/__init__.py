"""What resolves names inside a task: its name servers and its ``resolv.conf``. Touches no netlink."""
