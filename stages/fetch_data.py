"""Fetch a data set's own files, unchanged, into data/raw/, with a note of how they are to be read."""

from pathlib import Path

from genrec.data.fetching import fetch
from genrec.params.fetch_data import FetchData
from genrec.params.reading import read_section
from genrec.pipeline.command import run_stage
from genrec.storage.output import replaced

RAW = Path("data/raw")


def main() -> None:
    config = read_section(FetchData)
    with replaced(RAW) as folder:
        fetch(config, folder).save(folder)


if __name__ == "__main__":
    run_stage(main, __doc__)
