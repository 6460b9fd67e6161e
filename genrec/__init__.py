"""genrec: a reproducible workflow for generative recommendation. Import the module you need."""
