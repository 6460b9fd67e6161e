"""From what is written about new items to vectors, codes and digits, by what was fitted before they came."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.data.words import WordModel, has_words
from genrec.digits.table import digits_of, fit_quantizers
from genrec.errors import UserError
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.serving.new_items import NewItems
from genrec.serving.package import Package
from genrec.serving.packaging import EMBEDDINGS, TOKENIZER, Origin
from genrec.storage.files import load_arrays

PENALTIES = 10.0 ** np.arange(-6, 4)
SAME_DIGITS = 0.99  # of the known items', beyond which quantizers count as the frozen ones


@dataclass(frozen=True)
class Frozen:
    """What known items became codes by; new ones become codes by the same.

    Attributes:
        name: whose it is, for messages.
        embeddings: (n + 1, dim), what the tokenizer was trained on, row = item_id.
        digits: (n + 1, num_digits) int, those of the known items; None without a model of parallel semantic IDs.
    """

    name: str
    origin: Origin
    tokenizer: RqVaeNetwork
    embeddings: NDArray[np.float32]
    digits: torch.Tensor | None

    @classmethod
    def of_package(cls, package: Package) -> "Frozen":
        n_rows = package.n_trained + 1
        network = _parallel_network(package)
        return cls(
            str(package.folder),
            package.origin,
            package.load_network(TOKENIZER),
            load_arrays(package.folder / TOKENIZER / EMBEDDINGS)["vectors"][:n_rows],
            None if network is None else network.digits[:n_rows],
        )


def encode(
    frozen: Frozen, known: pd.DataFrame, new: pd.DataFrame, vectors: NDArray[np.float32] | None
) -> tuple[NewItems, int]:
    """What models need to know of new items, and how many of these no word describes.

    Args:
        known: the item table that models were trained on.
        new: the same columns for the new items.
        vectors: (n, dim) in the space of data/item_embeddings.npy; None derives them from words.

    Raises:
        UserError: there are neither vectors nor words enough, or digits cannot be made again.
    """
    origin, embeddings = frozen.origin, frozen.embeddings
    there = bool(origin.word_columns) or has_words(known, origin.word_dim)
    words = WordModel.fit(known, origin.word_columns, origin.word_dim, seed=0) if there else None
    new_words = np.zeros((len(new), origin.word_dim), np.float32) if words is None else words.vectors(new)
    if vectors is None:
        if words is None:
            raise UserError(f"the items of {frozen.name} have no {origin.word_dim} dimensions of words; give --vectors")
        vectors = Regression(words.known.vectors[1:], embeddings[1:])(new_words)
    if vectors.shape != (len(new), embeddings.shape[1]) or not np.isfinite(vectors).all():
        raise UserError(
            f"vectors must be {len(new)} finite rows of {embeddings.shape[1]} dimensions, those of "
            f"data/item_embeddings.npy, got shape {vectors.shape}"
        )
    points = torch.from_numpy(vectors.astype(np.float32))
    codes = frozen.tokenizer.semantic_codes(points)
    digits = None
    if frozen.digits is not None:
        known_words = None if words is None or not origin.word_digits else words.known.vectors
        digits = _digits(frozen, frozen.digits, known_words, vectors, new_words)
    n_without = 0 if words is None else int((~new_words.any(axis=1)).sum())
    return NewItems(points, codes, digits), n_without


class Regression:
    """A ridge regression with a constant, its penalty by generalised cross-validation (Golub, Heath and Wahba 1979)."""

    def __init__(self, inputs: NDArray[np.floating], outputs: NDArray[np.floating]) -> None:
        """inputs (n, p), outputs (n, q)."""
        self.input_mean, self.output_mean = inputs.mean(axis=0, dtype=float), outputs.mean(axis=0, dtype=float)
        left, sizes, right = np.linalg.svd(inputs - self.input_mean, full_matrices=False)
        rotated = left.T @ (outputs - self.output_mean)
        rest = float(np.square(outputs - self.output_mean).sum() - np.square(rotated).sum())
        scores = []
        for penalty in PENALTIES:
            kept = sizes**2 / (sizes**2 + penalty)
            error = rest + float(np.square((1 - kept)[:, None] * rotated).sum())
            scores.append(error / (len(inputs) - 1 - kept.sum()) ** 2)
        penalty = PENALTIES[int(np.argmin(scores))]
        self.weights = right.T @ ((sizes / (sizes**2 + penalty))[:, None] * rotated)

    def __call__(self, inputs: NDArray[np.floating]) -> NDArray[np.float32]:
        predicted = (inputs - self.input_mean) @ self.weights + self.output_mean
        return np.asarray(predicted, np.float32)


def _parallel_network(package: Package) -> ParallelNetwork | None:
    for name, network in package.networks.items():
        if network.endswith(".ParallelNetwork"):
            loaded: ParallelNetwork = package.load_network(name)
            return loaded
    return None


def _digits(
    frozen: Frozen,
    own: torch.Tensor,
    known_words: NDArray[np.float32] | None,
    vectors: NDArray[np.float32],
    new_words: NDArray[np.float32],
) -> torch.Tensor:
    """By quantizers that are fitted again as `build_digits` fitted them, and must give known items their digits."""
    origin = frozen.origin
    fitted: list[tuple[NDArray[np.float32], int]] = [(frozen.embeddings, origin.embedding_digits)]
    points = [vectors]
    if known_words is not None:
        fitted.append((known_words, origin.word_digits))
        points.append(new_words)
    used = [place for place, (_, n) in enumerate(fitted) if n]
    fitted, points = [fitted[place] for place in used], [points[place] for place in used]
    quantizers = fit_quantizers(fitted, origin.digit_codes, origin.iterations, origin.seed)
    again = digits_of([table[1:] for table, _ in fitted], quantizers)
    if again.shape != own[1:].shape or (again == own[1:]).float().mean() < SAME_DIGITS:
        raise UserError(
            f"{frozen.name}: this machine does not make the digits of the known items again; add items on the one "
            "that made the package, or run `dvc repro`"
        )
    return digits_of(points, quantizers)


def read_csv(file: Path) -> pd.DataFrame:
    """New items, their keys as text.

    Raises:
        UserError: it is no table.
    """
    try:
        return pd.read_csv(file, dtype={"item_key": str})
    except (ValueError, OSError) as mistake:
        raise UserError(f"{file} is no table with commas between ({str(mistake).splitlines()[0]})") from None


def aligned(new: pd.DataFrame, known: pd.DataFrame, first_id: int) -> pd.DataFrame:
    """New items in the columns of the item table, with item_ids from `first_id` on; what it lacks is missing.

    Raises:
        UserError: there is no column item_key, a column that the table does not know, or a value of another kind.
    """
    if "item_key" not in new:
        raise UserError(f"new items need a column item_key, got {', '.join(map(str, new.columns))}")
    unknown = [column for column in new if column not in known]
    if unknown:
        raise UserError(f"new items have a column {unknown[0]!r}, but the table has {', '.join(_said(known))}")
    rows = new.reindex(columns=known.columns)
    rows["item_id"] = np.arange(first_id, first_id + len(rows))
    for column in known.columns:
        try:
            rows[column] = rows[column].astype(known[column].dtype)
        except (TypeError, ValueError) as mistake:
            raise UserError(f"column {column!r} of the new items must be {known[column].dtype} ({mistake})") from None
    return rows


def _said(known: pd.DataFrame) -> Sequence[str]:
    return [str(column) for column in known.columns if column != "item_id"]
