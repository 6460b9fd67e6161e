"""How results reach the disk and come back: whole files or none, the same bytes each time."""
