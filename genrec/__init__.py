"""genrec: a reproducible workflow for generative recommendation. Importing it has no effect; import the module you need."""
