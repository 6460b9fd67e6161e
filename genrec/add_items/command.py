"""The command `python -m genrec.add_items`: a package with more items, beside the one that it is made of."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from genrec.errors import UserError
from genrec.pipeline.command import run_command

PACKAGE, PACKAGES = Path("data/package"), Path("data/packages")


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m genrec.add_items",
        description="Add items that came after training. Nothing is trained: they get codes by the frozen tokenizer.",
    )
    parser.add_argument(
        "--items", type=Path, required=True, metavar="FILE.csv",
        help="or .parquet: a column item_key, and those of the source's item table, such as title",
    )  # fmt: skip
    parser.add_argument(
        "--vectors", type=Path, metavar="FILE.parquet",
        help="item embeddings by item_key, as data/item_embeddings.npy has them; default: by a regression from words",
    )  # fmt: skip
    parser.add_argument("--package", type=Path, default=PACKAGE, metavar="FOLDER", help=f"default: {PACKAGE}")
    parser.add_argument(
        "--into", type=Path, default=PACKAGES, metavar="FOLDER",
        help=f"of packages, a version each, of which its file `current` names the newest; default: {PACKAGES}",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    for file in (options.items, options.vectors):
        if file is not None and not file.is_file():
            raise UserError(f"{file} not found")
    import numpy as np  # a mistake in the line is told at once, without a second of imports
    import pandas as pd

    from genrec.add_items.encoding import Frozen, aligned, encode, read_csv
    from genrec.data.embeddings import read_embeddings
    from genrec.serving.extension import check_new_keys, write_extended
    from genrec.serving.package import Package
    from genrec.serving.packaging import ITEMS
    from genrec.storage.output import read_parquet

    package = Package.open(options.package)
    known = read_parquet(package.folder / ITEMS)
    read = read_parquet(options.items) if options.items.suffix == ".parquet" else read_csv(options.items)
    new = aligned(read, known, len(known) + 1)
    keys = [str(key) for key in new["item_key"]]
    if not keys:
        raise UserError(f"{options.items} has no items")
    check_new_keys(package, keys)
    vectors = None if options.vectors is None else np.asarray(read_embeddings(options.vectors, keys)[1:])
    encoded, n_without = encode(Frozen.of_package(package), known.iloc[: package.n_trained], new, vectors)
    version, knows = write_extended(package, pd.concat([known, new], ignore_index=True), encoded, options.into)
    print(f"{len(new)} items added: {options.into / version}")
    if n_without and vectors is None:
        print(f"{n_without} of them have no word that known items have, and got the codes of an average item")
    able, unable = ([name for name, known in knows.items() if known is each] for each in (True, False))
    print(f"known to {', '.join(able) or 'no model'}" + f"; not to {', '.join(unable)}" * bool(unable))
    print(f"`python -m genrec.recommend --package {options.into}` answers from it, and so does the service")
