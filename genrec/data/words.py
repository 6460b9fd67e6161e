"""The words of the item table: as sets, and as item embeddings by TF-IDF of words and pairs, reduced by an SVD."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from genrec.errors import UserError

WORD = re.compile(r"\w\w+")
IDS = ("item_id", "item_key")
# where item tables keep categories, the finest first, and what may stand between two of them
CATEGORIES = ("genres", "class", "categories", "category", "cluster")
SEPARATORS = ("|", ", ", " ")


@dataclass(frozen=True)
class WordEmbeddings:
    """What the item table says of each item.

    Attributes:
        vectors: float32 (n_items + 1, dim), row = item_id, row 0 = padding; zero for items without words.
        n_without: how many items have no word that another item has too.
    """

    vectors: NDArray[np.float32]
    n_without: int


def embed_words(items: pd.DataFrame, columns: Sequence[str], dim: int, seed: int) -> WordEmbeddings:
    """Embed items by what is written about them; no language model, nothing to download.

    Args:
        items: a row for each item_id, in their order.
        columns: those of `items` to read; one that stands twice counts twice. None stands for all but the ids.
        dim: of the vectors.
        seed: of the SVD's random start.

    Raises:
        UserError: there is no such column, or the words make fewer dimensions.

    Example:
        >>> items = pd.DataFrame({"title": ["red lacquer", "red balm", "blue lacquer", None]})
        >>> words = embed_words(items, ["title"], dim=2, seed=0)
        >>> words.vectors.shape, words.n_without
        ((5, 2), 1)
    """
    columns = columns or described_by(items)
    weights = _weights(items, columns)
    if dim > min(weights.shape):
        raise UserError(
            f"words of {', '.join(dict.fromkeys(columns))} make at most {min(weights.shape)} dimensions "
            f"({weights.shape[0]} items, {weights.shape[1]} words and pairs that two items share), got dim={dim}; "
            "lower it, or name columns with more words"
        )
    n_without = int((np.diff(weights.indptr) == 0).sum())
    return WordEmbeddings(np.pad(_reduced(weights, dim, seed), ((1, 0), (0, 0))), n_without)


@dataclass(frozen=True)
class WordModel:
    """The terms, their weights and the components of `embed_words`, frozen: what it says of items that come later.

    Attributes:
        known: what `embed_words` gives the items that it was fitted to.
    """

    columns: Sequence[str]
    known: WordEmbeddings
    _vectorizer: Any
    _components: NDArray[np.float64]

    @classmethod
    def fit(cls, items: pd.DataFrame, columns: Sequence[str], dim: int, seed: int) -> "WordModel":
        """As `embed_words`, whose arguments and errors these are."""
        columns = columns or described_by(items)
        known = embed_words(items, columns, dim, seed)
        vectorizer = _vectorizer()
        weights = sparse.csr_array(vectorizer.fit_transform(_fields(items, columns)))
        # the components, signs included, that turn weights into the vectors above: the weights' own least squares
        svd = _svd(dim, seed).fit(weights)
        signs = np.sign((np.asarray(svd.transform(weights)) * known.vectors[1:]).sum(axis=0))
        return cls(columns, known, vectorizer, svd.components_ * signs[:, None])

    def vectors(self, items: pd.DataFrame) -> NDArray[np.float32]:
        """float32 (n, dim), a row for each of `items`; zero where it has no word of the items that it was fitted to."""
        weights = sparse.csr_array(self._vectorizer.transform(_fields(items, self.columns)))
        projected: NDArray[np.float32] = np.asarray(weights @ self._components.T, np.float32)
        return projected


def described_by(items: pd.DataFrame) -> list[str]:
    """The columns of an item table that say something of items: all but their ids.

    Raises:
        UserError: there is none.
    """
    columns = [column for column in map(str, items.columns) if column not in IDS]
    if not columns:
        raise UserError(
            "words of items need an item table, but these data come without one; give fetch_data.items_path, or do "
            "without words (extract_embeddings.source, train_sasrec.adds_words)"
        )
    return columns


def has_words(items: pd.DataFrame, dim: int) -> bool:
    """Whether the item table, all columns but the ids, has words enough for so many dimensions."""
    if set(map(str, items.columns)) <= set(IDS):
        return False
    return bool(dim <= min(_weights(items, described_by(items)).shape))


def plain_text(value: Any) -> str:
    """One value of the item table as words on one line, "" where there are none.

    Example:
        >>> plain_text('[["Beauty", "Nails"], ["Beauty"]]'), plain_text(None)
        ('Beauty, Nails', '')
    """
    if isinstance(value, str) and value.startswith("["):
        value = _parsed(value)
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(dict.fromkeys(_leaves(value)))
    return "" if pd.isna(value) else " ".join(str(value).split())


def _parsed(text: str) -> Any:
    """JSON as what it says, other text as it is: a title may begin with a bracket."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _leaves(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, list | tuple | np.ndarray):
            yield from _leaves(value)
        elif value is not None:
            yield " ".join(str(value).split())


def _weights(items: pd.DataFrame, columns: Sequence[str]) -> sparse.csr_array:
    missing = [column for column in columns if column not in items]
    if missing:
        raise UserError(
            f"the item table has no column {missing[0]!r}; it has {', '.join(map(str, items.columns))}; choose columns "
            "that it has, or fetch a table with more"
        )
    return _tf_idf(_fields(items, columns))


def _fields(items: pd.DataFrame, columns: Sequence[str]) -> list[list[str]]:
    return [[plain_text(value) for value in row] for row in zip(*(items[c] for c in columns), strict=True)]


def _tf_idf(fields: list[list[str]]) -> sparse.csr_array:
    """(n_items, n_terms) float64, rows of length 1; terms of one item alone say nothing of what items share."""
    try:
        return sparse.csr_array(_vectorizer().fit_transform(fields))
    except ValueError:  # it found no term at all
        return sparse.csr_array((len(fields), 0), dtype=np.float64)


def _vectorizer() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer  # here: it takes a second to import

    return TfidfVectorizer(analyzer=_terms, min_df=2)


def _terms(fields: list[str]) -> Iterator[str]:
    """Words of two and more characters and pairs of neighbours; no pair reaches from one field into the next."""
    for field in fields:
        words = WORD.findall(field.lower())
        yield from words
        yield from map(" ".join, pairwise(words))


def _reduced(weights: sparse.csr_array, dim: int, seed: int) -> NDArray[np.float32]:
    vectors = _svd(dim, seed).fit_transform(weights)
    # a component and its negative explain as much: the item that has most of it, of nearly equal ones the first, has
    # it positively
    sizes = np.abs(vectors)
    largest = (sizes >= sizes.max(axis=0) * (1 - 1e-6)).argmax(axis=0)
    signed: NDArray[np.float32] = (vectors * np.sign(vectors[largest, np.arange(dim)])).astype(np.float32)
    return signed


def _svd(dim: int, seed: int) -> Any:
    from sklearn.decomposition import TruncatedSVD

    return TruncatedSVD(dim, random_state=seed)


def join_embeddings(sources: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Several embeddings of the same items side by side, none louder than another.

    Each is centred and divided by one number, so that an item's squared length is 1 on average; within a source large
    dimensions stay large. An item of which a source knows nothing, a row of zeros, gets that source's mean.

    Args:
        sources: each (n_items + 1, dim), row = item_id, row 0 = padding.

    Returns:
        float32 (n_items + 1, sum of dims); row 0 is zero.
    """
    return np.concatenate([_scaled(source) for source in sources], axis=1)


def _scaled(source: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors = source.astype(np.float64)
    known = (vectors != 0).any(axis=1)
    known[0] = False
    centred = np.where(known[:, None], vectors - vectors[known].mean(axis=0), 0)
    length = np.sqrt(np.square(centred).sum() / max(known.sum(), 1))
    return (centred / (length if length > 0 else 1)).astype(np.float32)


def item_words(items: pd.DataFrame) -> sparse.csr_array | None:
    """Which words of two and more characters stand in an item's row, in whichever column but its ids.

    Args:
        items: a row for each item_id, in their order.

    Returns:
        bool (n_items + 1, n_words), row = item_id, row 0 empty; None where the table says nothing of items.

    Example:
        >>> items = pd.DataFrame({"item_id": [1, 2], "title": ["Red lacquer", "red"], "year": ["1995", None]})
        >>> words = item_words(items)
        >>> words.sum(axis=1).tolist()
        [0, 3, 1]
    """
    columns = [column for column in items.columns if column not in IDS]
    texts = [[plain_text(value) for value in items[column]] for column in columns]
    return _members([WORD.findall(" ".join(row).lower()) for row in zip(*texts, strict=True)])


def item_categories(items: pd.DataFrame) -> sparse.csr_array | None:
    """Which categories, such as genres, each item belongs to, by the first column that is named like that.

    Args:
        items: a row for each item_id, in their order.

    Returns:
        bool (n_items + 1, n_categories), row = item_id, row 0 empty; None where no column has any.

    Example:
        >>> item_categories(pd.DataFrame({"class": ["Comedy Drama", "Drama"]})).sum(axis=0).tolist()
        [1, 2]
    """
    name = next((name for name in CATEGORIES if name in items), None)
    if name is None:
        return None
    texts = [plain_text(value) for value in items[name]]
    separator = next((each for each in SEPARATORS if any(each in text for text in texts)), "\0")
    return _members([[part.strip() for part in text.split(separator) if part.strip()] for text in texts])


def _members(sets: Sequence[Sequence[str]]) -> sparse.csr_array | None:
    """bool (n_sets + 1, n_names), columns in the order of the names; None where all are empty."""
    names = sorted({name for each in sets for name in each})
    if not names:
        return None
    place = {name: column for column, name in enumerate(names)}
    rows = np.repeat(np.arange(1, len(sets) + 1), [len(set(each)) for each in sets])
    columns = np.array([place[name] for each in sets for name in sorted(set(each))])
    shape = (len(sets) + 1, len(names))
    return sparse.csr_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)
