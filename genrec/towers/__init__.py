"""Two towers: their trainer, negatives within a batch."""
