"""Items' texts, and their embeddings by a language model of sentence-transformers (`pip install genrec[text]`)."""

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec.data.words import plain_text
from genrec.errors import UserError
from genrec.storage.files import user_path

MISSING = "Unknown"


def template_of(columns: Sequence[str]) -> str:
    """The template that names each column before its value.

    Example:
        >>> template_of(["title", "brand"])
        'title: {title}; brand: {brand}'
    """
    return "; ".join(f"{column}: {{{column}}}" for column in columns)


def template_fields(template: str) -> list[str]:
    """The columns that a template names.

    Raises:
        UserError: a field is more than a column's name, such as `{price:.2f}`.

    Example:
        >>> template_fields("{title} by {brand}, {title}")
        ['title', 'brand', 'title']
    """
    return [column for _, column in _parts(template) if column is not None]


def item_texts(items: pd.DataFrame, template: str) -> list[str]:
    """A text for each row: the template with the row's values in place of its `{column}`s.

    A missing value reads "Unknown"; a list, also as JSON, reads as its distinct members in their order.

    Raises:
        UserError: the frame has no such column.

    Example:
        >>> items = pd.DataFrame({"title": ["Lacquer", None], "categories": ['[["Beauty", "Nails"]]', "Tools"]})
        >>> item_texts(items, "{title} ({categories})")
        ['Lacquer (Beauty, Nails)', 'Unknown (Tools)']
    """
    pieces: list[Iterable[str]] = []
    for literal, column in _parts(template):
        pieces.append(repeat(literal, len(items)))
        if column is not None:
            if column not in items:
                raise UserError(
                    f"item texts need a column {column!r}, but the item table has {', '.join(map(str, items.columns))};"
                    " choose columns that it has, or fetch a table with more"
                )
            pieces.append(plain_text(value) or MISSING for value in items[column])
    return ["".join(piece) for piece in zip(*pieces, strict=True)]


def _parts(template: str) -> list[tuple[str, str | None]]:
    """The literals of a template, each with the column after it, None at the end."""
    parts = list(Formatter().parse(template))
    for _, column, specification, conversion in parts:
        if column == "" or specification or conversion:
            raise UserError(f"a template's fields must be columns, such as {{title}}, got {template!r}; name columns")
    return [(literal, column) for literal, column, _, _ in parts]


def encode_texts(
    texts: Sequence[str], model: str, *, batch_size: int, max_length: int, device: str | None, normalize: bool
) -> NDArray[np.float32]:
    """Embed texts; each distinct text once, so that equal texts have equal embeddings.

    Args:
        model: the folder of a sentence-transformers model, or a name that it downloads.
        max_length: in tokens; longer texts are cut, and the model's own limit counts if it is lower.
        device: None takes a GPU if there is one.
        normalize: each embedding to length 1.

    Returns:
        float32 (n_texts, dim).

    Raises:
        UserError: sentence-transformers is not installed, or has no such model.
    """
    encoder = _load_encoder(model, device)
    encoder.max_seq_length = min(max_length, encoder.max_seq_length or max_length)
    places, distinct = pd.factorize(np.array(texts, dtype=object))
    vectors = encoder.encode(
        distinct.tolist(),
        batch_size=batch_size,
        normalize_embeddings=normalize,
        convert_to_numpy=True,
        show_progress_bar=sys.stderr.isatty(),
    )
    embeddings: NDArray[np.float32] = np.asarray(vectors, np.float32)[places]
    return embeddings


def _load_encoder(model: str, device: str | None) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as mistake:
        raise UserError(
            f"item texts are embedded by sentence-transformers, which cannot be imported ({mistake});"
            " `pip install genrec[text]`, or give a file of item embeddings"
        ) from mistake
    try:
        return SentenceTransformer(_place_of(model), device=device)
    except (OSError, ValueError) as mistake:
        raise UserError(
            f"sentence-transformers cannot load the model {model!r} ({str(mistake).splitlines()[0]});"
            " give the folder of a model, or a name that can be downloaded"
        ) from mistake


def _place_of(model: str) -> str:
    """The folder that `~` begins; a name that is to be downloaded stays as it is."""
    return str(user_path(model, "the model of item texts")) if model.startswith("~") else model


def encoding_digest(key: str, model: str, texts: Sequence[str]) -> str:
    """What tells one encoding from another: sha256 of a key, of the model's files if it is a folder, and of all texts.

    Example:
        >>> encoding_digest("a", "no-folder", ["x", "y"]) == encoding_digest("a", "no-folder", ["xy"])
        False
    """
    digest = hashlib.sha256(json.dumps([key, model, list(texts)]).encode())
    folder = Path(_place_of(model))
    for file in sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else ():
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(json.dumps([file.relative_to(folder).as_posix(), content]).encode())
    return digest.hexdigest()
