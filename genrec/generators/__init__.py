"""The list of generators, a file each: what the pipeline must know about it, in names alone."""
