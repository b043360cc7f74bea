"""What the agent costs beside the container engine alone: ``make bench``.

Every figure is a median next to a floor measured in the same run: machines are noisy, ratios are
not. The agent runs as its users run it, as a process of its own; orders come from a scripted control
endpoint in this process, so that both ends of every interval are read from one clock.
"""
