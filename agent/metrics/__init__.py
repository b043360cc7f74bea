"""What tasks and the host use: cgroup and link counters on one timer, and Prometheus text."""
