"""``make bench-fleet``: what a control process holds out with up to ten thousand simulated hosts.

``wire`` speaks HTTP over raw sockets, ``hosts`` are the simulated agents, ``operator`` gives orders, ``measured`` reads
the figures of one size, and ``__main__`` compares sizes.
"""
