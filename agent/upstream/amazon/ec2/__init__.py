"""What only EC2 instances have: metadata facts, tags, warm pools, spot notices."""
