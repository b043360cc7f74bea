"""Task addresses by a bridge of our own: links into sandboxes, and what may pass through their ports.

Imports ``kernel`` and the plain values of the room (addresses, settings, rows of sandboxes).
"""
