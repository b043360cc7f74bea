"""The client of our own control endpoint: calls over HTTP, the outbox in order, held polls."""
