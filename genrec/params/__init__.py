"""params.yaml: a file for each section, and the one reader; sections of generators stand in genrec/generators/."""
