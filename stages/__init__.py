"""One thin file per stage of dvc.yaml: read params, read files, call genrec, write files."""
