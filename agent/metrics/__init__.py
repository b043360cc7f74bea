"""Resource usage of tasks and the host: cgroup and link counters, and Prometheus text."""
