"""The command `python -m genrec.recommend`: one user, somebody's items, or all users into a file."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from genrec.errors import UserError
from genrec.pipeline.command import run_command
from genrec.recommend.instructions import PACKAGE
from genrec.storage.files import user_path

if TYPE_CHECKING:
    from genrec.serving.recommender import Answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer the command line."""
    options = _parser().parse_args(arguments)
    run_command(lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m genrec.recommend",
        description="What a packaged model recommends. `dvc repro package` makes the package.",
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="KEY", help="a user, by the key of the source")
    who.add_argument("--items", metavar="A,B,C", help="items of anybody, oldest first, by the keys of the source")
    who.add_argument("--all", action="store_true", help="all users, into the file of -o; goes on where it was stopped")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.parquet", help="for --all")
    parser.add_argument("--package", type=Path, default=PACKAGE, metavar="FOLDER", help=f"default: {PACKAGE}")
    parser.add_argument("--model", metavar="NAME", help="default: the package's first")
    parser.add_argument("--k", type=int, default=10, help="how many items; default: 10")
    parser.add_argument("--with-history", action="store_true", help="items of the history may be recommended again")
    parser.add_argument("--exclude", metavar="A,B,C", default="", help="items that may not be recommended")
    parser.add_argument("--allow", metavar="A,B,C", help="the only items that may")
    parser.add_argument("--temperature", type=float, default=0.0, help="above 0 a sample; default: 0, the best items")
    parser.add_argument("--boost", type=float, default=0.0, help="added to the score of items that came after training")
    parser.add_argument("--seed", type=int, default=0, help="of the sample; default: 0")
    parser.add_argument(
        "--without-last", type=int, default=0, metavar="N",
        help="as if each user's last N interactions had not happened; 1 gives the lists of the test",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="of the processor; default: 1")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of a table")
    return parser


def _run(options: argparse.Namespace) -> None:
    _check(options)
    import torch  # a mistake in the line is told at once, without a second of imports

    from genrec.serving.recommender import Recommender, Request

    torch.set_num_threads(options.threads)
    recommender = Recommender.load(user_path(options.package, "--package"))
    if options.all:
        from genrec.serving.all_users import write_all

        output = user_path(options.output, "--output")
        rows = write_all(recommender, output, options.k, options.model, not options.with_history, options.without_last)
        print(f"{rows} recommendations in {output}")
        return
    request = Request(
        user=options.user, items=None if options.items is None else _keys(options.items), k=options.k,
        model=options.model, exclude_history=not options.with_history, exclude=_keys(options.exclude),
        allow=None if options.allow is None else _keys(options.allow), temperature=options.temperature,
        seed=options.seed, boost=options.boost, without_last=options.without_last,
    )  # fmt: skip
    (answer,) = recommender.recommend([request])
    print(json.dumps(asdict(answer), ensure_ascii=False, indent=2) if options.json else table(answer))


def _check(options: argparse.Namespace) -> None:
    if options.all != (options.output is not None):
        raise UserError("--all and -o FILE.parquet go together; give both or neither")
    if options.k < 1:
        raise UserError(f"--k must be at least 1, got {options.k}")
    if options.threads < 1:
        raise UserError(f"--threads must be at least 1, got {options.threads}")
    of_one = ("exclude", "allow", "temperature", "boost", "json")
    if options.all and any(getattr(options, name) not in ("", None, 0.0, False) for name in of_one):
        raise UserError(f"--all takes none of --{', --'.join(of_one)}; ask user by user for those")


def _keys(text: str) -> list[str]:
    return [key.strip() for key in text.split(",") if key.strip()]


def table(answer: "Answer") -> str:
    """An answer for people: rank, title, score, semantic ID, and the item of the history that is most like it."""
    rows = [("", "item", "title", "score", "semantic ID", "most like")]
    for rank, each in enumerate(answer.recommendations, start=1):
        codes = "-".join(map(str, each.semantic_id))
        like = each.nearest_title or each.nearest or ""
        rows.append((str(rank), each.item, each.title, f"{each.score:.3f}", codes, like))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    said = [f"from {answer.source}" + (f": {answer.note}" if answer.note else "")]
    return "\n".join([*lines, *said])
