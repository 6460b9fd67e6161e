"""A memory of which items stood near which, beside any model that scores all items."""
