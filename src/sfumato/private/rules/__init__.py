"""Per-example gradients of torch operations, one file per operation."""
