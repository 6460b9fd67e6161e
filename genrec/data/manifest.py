"""data/raw/source.json: which files a data set has and how each is laid out; from fetch_data to prepare_data."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from genrec.errors import UserError

MANIFEST_FILE = "source.json"

Format = Literal["delimited", "parquet", "json_lines", "sequences"]


@dataclass(frozen=True)
class Layout:
    """How a file is read.

    Attributes:
        format: delimited text with a column a field; json_lines with an object a line, strict JSON or the Python
            literals of older Amazon files; sequences with `user item item ...` a line, oldest first.
        columns: the file's column (or key) for each of our names: user_key, item_key, time, rating in interactions;
            item_key or user_key alone in a table, whose other columns are kept as they are.
        separator: between two fields, one character or several; only commas go with quotes.
        names: all columns in order, for delimited text without a header line.
        typed_header: the header reads `name:type`, as in RecBole's atomic files.
        encoding: of the text.
        time_unit: of the column `time`; `unknown` is told by the size of most numbers, `dates` are text in ISO 8601,
            in UTC where they name no zone.
        before_1970: whether times may be negative.
    """

    format: Format
    columns: dict[str, str] = field(default_factory=dict)
    separator: str = ","
    names: tuple[str, ...] = ()
    typed_header: bool = False
    encoding: str = "utf-8"
    time_unit: Literal["seconds", "milliseconds", "unknown", "dates"] = "seconds"
    before_1970: bool = False


@dataclass(frozen=True)
class RawFile:
    """A file in data/raw/, or a folder of its parts.

    Attributes:
        sha256: of a folder that of a line `sha256  name` for each part, as the program sha256sum prints them.
    """

    name: str
    sha256: str
    layout: Layout


def parts_of(place: Path) -> list[Path]:
    """A file itself; of a folder the files in it and below, numbers in their names by value: part-2 before part-10.

    As in Spark and Hive, names that begin with `_` or `.` are notes, and a part without a byte holds no row.
    """
    if not place.is_dir():
        return [place]

    def is_part(file: Path) -> bool:
        is_note = any(name.startswith(("_", ".")) for name in file.relative_to(place).parts)
        return not is_note and file.is_file() and file.stat().st_size > 0

    def by_number(file: Path) -> list[tuple[int, str]]:
        pieces = re.findall("[0-9]+|[^0-9]+", file.relative_to(place).as_posix())
        return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]

    return sorted(filter(is_part, place.rglob("*")), key=lambda file: (by_number(file), file.as_posix()))


@dataclass(frozen=True)
class Manifest:
    """What lies in data/raw/."""

    dataset: str
    interactions: RawFile
    items: RawFile | None = None
    users: RawFile | None = None

    def save(self, folder: Path) -> None:
        text = json.dumps(asdict(self), sort_keys=True, indent=2, ensure_ascii=False)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read what `save` wrote.

        Raises:
            UserError: there is none, or it is not fetch_data's.
        """
        file = folder / MANIFEST_FILE
        if not file.is_file():
            raise UserError(f"{file} not found; run `dvc repro fetch_data` first")
        try:
            return TypeAdapter(cls).validate_json(file.read_bytes())
        except ValidationError as mistake:
            fault = mistake.errors()[0]
            place = ".".join(map(str, fault["loc"])) or "the file"
            raise UserError(
                f"{file} is not what fetch_data writes ({place}: {fault['msg']}); run `dvc repro -f fetch_data`"
            ) from None
