"""What the host has (inventory, GPUs, attributes) and which tasks use it (ledger)."""
