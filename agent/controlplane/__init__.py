"""The control endpoint: ECS API, scheduler, agents' wire and the store behind them.

Runs as a process of its own and never imports what the agent process runs.
"""
