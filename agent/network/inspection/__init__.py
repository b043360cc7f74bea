"""Task networks for operators: what there is, and how the kernel differs from what is recorded."""
