"""From an item embedding to one code a level, and back."""
