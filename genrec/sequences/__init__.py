"""Users' histories, and the batches that models learn from."""
