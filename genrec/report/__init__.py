"""All evaluations as pages that people read."""
