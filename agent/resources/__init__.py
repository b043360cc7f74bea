"""What the host has (inventory, GPUs, attributes) and who holds it (ledger)."""
