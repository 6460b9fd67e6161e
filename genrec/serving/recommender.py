"""Who asks is answered: histories by the source's own keys in, ranked items with titles, scores and reasons out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from genrec.errors import UserError
from genrec.serving.catalogue import Catalogue
from genrec.serving.constrained import Ranked, RanksItems, Sampling, Scoring, Searching
from genrec.serving.package import Package
from genrec.serving.packaging import SEQUENCE_MODEL, TRANSITIONS, RankedBy

POPULARITY = "popularity"
USERS_AT_ONCE = 256
SHOWN_KEYS = 3


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes:
        user: a user's key in the source, or
        items: keys of somebody's items, oldest first.
        model: a name of the package; None for the one that stands first there.
        boost: what is added to the score of items that came after training, 0 or above.
        exclude_history: recommend nothing that is in the history.
        exclude: keys of items that may not be recommended.
        allow: keys of the only items that may; None for all.
        temperature: 0 for the best items; above it a sample, which leaves them the farther the higher it is.
        seed: of the sample.
        without_last: answer as if a user's last interactions had not happened yet; 1 gives the lists of leave-one-out's
            test.
    """

    user: str | None = None
    items: Sequence[str] | None = None
    k: int = 10
    model: str | None = None
    boost: float = 0.0
    exclude_history: bool = True
    exclude: Sequence[str] = ()
    allow: Sequence[str] | None = None
    temperature: float = 0.0
    seed: int = 0
    without_last: int = 0

    def __post_init__(self) -> None:
        if (self.user is None) == (self.items is None):
            raise UserError("a request needs either `user` or `items`; give one of them")
        if self.k < 1:
            raise UserError(f"k must be at least 1, got {self.k}")
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature must be 0 or above, got {self.temperature}; 0 gives the best items")
        if not 0 <= self.boost < float("inf"):
            raise UserError(f"boost must be 0 or above, got {self.boost}")
        if self.boost and self.temperature:
            raise UserError("boost orders the best items and temperature draws others; give one of them")
        if self.without_last < 0:
            raise UserError(f"without_last must be 0 or above, got {self.without_last}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed must be from 0 to 2**63 - 1, got {self.seed}")


@dataclass(frozen=True)
class Recommendation:
    """One item of an answer, and why it is there.

    Attributes:
        score: the natural logarithm of its probability under the model, or of what its ranker orders by.
        semantic_id: its codes from the first level on, under the model if that has codes of its own.
        nearest: the key of the item of the history that is most like it; None without a history.
        shared_levels: how many codes from the first on it shares with that item.
    """

    item: str
    title: str
    score: float
    semantic_id: list[int]
    nearest: str | None
    nearest_title: str
    shared_levels: int


@dataclass(frozen=True)
class Answer:
    """What a request is answered with.

    Attributes:
        source: the name of the model, or `popularity` where there was no history to read.
        note: what the asker should know, "" for nothing.
        unknown_items: how many items of the request the catalogue does not have; they were left out.
    """

    source: str
    note: str
    unknown_items: int
    recommendations: list[Recommendation] = field(default_factory=list)


class _Asked(NamedTuple):
    """A request in numbers.

    Attributes:
        read: of the history what the model knows.
    """

    request: Request
    model: str
    history: NDArray[np.int32]
    read: NDArray[np.int32]
    allowed: NDArray[np.bool_]
    note: str
    unknown: int


class Recommender:
    """A package that answers; models are loaded when they are first asked.

    Example:
        recommender = Recommender.load(Path("data/package"))
        (answer,) = recommender.recommend([Request(user="196", k=5)])
        print([each.title for each in answer.recommendations])
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self._models: dict[str, RanksItems] = {}
        self._networks: dict[str, Any] = {}
        self._known: dict[str, int] = {}
        self._tables: dict[str, NDArray[np.int32]] = {}

    @classmethod
    def load(cls, folder: Path) -> "Recommender":
        """Open a package.

        Raises:
            UserError: it is none, or is damaged.
        """
        return cls(Package.open(folder))

    @property
    def catalogue(self) -> Catalogue:
        return self.package.catalogue

    @torch.inference_mode()
    def recommend(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer requests, in their order; those that ask alike are computed together.

        Raises:
            UserError: a model is not in the package.
        """
        asked = [self._asked(request) for request in requests]
        answers: dict[int, Answer] = {}
        for places in _groups(asked):
            group = [asked[place] for place in places]
            ranked = self._rank(group)
            for row, place in enumerate(places):
                k = asked[place].request.k
                one = Ranked(ranked.items[row, :k], ranked.log_probs[row, :k])
                answers[place] = self._answer(asked[place], one)
        return [answers[place] for place in range(len(requests))]

    @torch.inference_mode()
    def rank(
        self, histories: Sequence[NDArray[np.integer]], k: int, model: str | None = None, exclude_history: bool = True
    ) -> Ranked:
        """The lists alone, for whoever needs many: histories of item_ids, oldest first, none of them empty.

        Returns:
            Rows in the order of the histories.
        """
        name = self.package.model_named(model).name
        ranks, n_known = self.model(name), self.n_known(name)
        parts = []
        for start in range(0, len(histories), USERS_AT_ONCE):
            part = histories[start : start + USERS_AT_ONCE]
            read = _padded([each[each <= n_known] for each in part])
            parts.append(ranks.rank(read, self._allowed(_padded(part), exclude_history), k))
        return Ranked(torch.cat([part.items for part in parts]), torch.cat([part.log_probs for part in parts]))

    def model(self, name: str) -> RanksItems:
        """What ranks under a name, `popularity` included."""
        if name not in self._models:
            self._models[name] = self._popularity if name == POPULARITY else self._load(name)
        return self._models[name]

    def codes_of(self, name: str) -> NDArray[np.int32]:
        """The semantic IDs that a model speaks, (n_items + 1, length); the package's where it speaks none."""
        return self._tables.get(name, self.catalogue.codes)

    def n_known(self, name: str) -> int:
        """How many items of the catalogue, from the first on, exist for a model; the others came after its training."""
        if name == POPULARITY or self.catalogue.n_items == self.package.n_trained:
            return self.catalogue.n_items
        self.model(name)
        return self._known[name]

    def _load(self, name: str) -> RanksItems:
        model = self.package.model_named(name)
        network = self._network(model.base)
        n_items = self.package.network_arguments(model.base)["n_items"]
        self._known[name] = n_items if model.ranker is None else self.package.n_trained
        alone: Scoring | Searching
        if model.ranks == "scores":
            alone = Scoring(self._scores(network, n_items), network.max_history)
        else:
            alone = Searching(network.generator, network.max_history, self.package.n_beams)
            table = getattr(network.generator, "code_table", None)
            if table is not None:
                self._tables[name] = table.numpy()
        if model.ranker is not None:
            return self._reranked(alone, name, model.ranker)
        return self._with_memory(alone, network, model.memory_share) if model.memory_share else alone

    def _scores(self, network: Any, n_items: int) -> Any:
        missing = self.catalogue.n_items - n_items
        if not missing:
            return network.scores
        return lambda history: F.pad(network.scores(history), (0, missing), value=-torch.inf)

    def _with_memory(self, alone: Scoring | Searching, network: Any, share: float) -> RanksItems:
        # here: most answers need neither, nor the second of imports
        from genrec.serving.beside import scoring_with_memory, searching_with_memory

        if isinstance(alone, Scoring):
            return scoring_with_memory(alone, self._transitions, share, getattr(network, "repeats", None))
        return searching_with_memory(alone, self._transitions, share)

    def _reranked(self, alone: Scoring | Searching, name: str, settings: RankedBy) -> RanksItems:
        from genrec.ranking.rows import RowBuilder
        from genrec.serving.beside import Reranked, candidates_of

        sequence, histories = self._network(SEQUENCE_MODEL), self.catalogue.histories
        builder = RowBuilder(
            histories, self.catalogue.popularity, self._scores(sequence, self.package.n_trained), self._transitions,
            min(settings.max_history, sequence.max_history),
        )  # fmt: skip
        proposed, n_known = candidates_of(alone, settings.n_candidates), self.package.n_trained

        def search(history: Tensor) -> tuple[Tensor, Tensor]:
            items, log_probs = proposed(history)
            order = (items > n_known).int().argsort(dim=1, stable=True)  # a ranker compares with the first
            items = items.gather(1, order)
            return items.masked_fill(items > n_known, 0), log_probs.gather(1, order)

        return Reranked(alone, search, alone.max_history, self._network(name), builder, settings.rating_weight)

    def _network(self, folder: str) -> Any:
        """The network of a folder; models that stand on one share it."""
        if folder not in self._networks:
            self._networks[folder] = self.package.load_network(folder)
        return self._networks[folder]

    @cached_property
    def _transitions(self) -> Any:
        from genrec.retrieval.transitions import Transitions

        return Transitions.load(self.package.folder / TRANSITIONS, self.catalogue.n_items)

    @cached_property
    def _popularity(self) -> RanksItems:
        scores = torch.from_numpy(self.catalogue.popularity).float().log1p()
        return Scoring(lambda history: scores.expand(len(history), -1), 1)

    def _asked(self, request: Request) -> _Asked:
        model = self.package.model_named(request.model).name
        history, note, unknown = self._history(request)
        read = history[history <= self.n_known(model)]
        if len(read) < len(history):
            n_new = len(history) - len(read)
            new = f"{n_new} items of the history came after the training of {model}, which reads the others"
            note = f"{note}; {new}" if note else new
        if not len(read):
            model, read = POPULARITY, history
        allowed = np.ones(self.catalogue.n_items + 1, bool)
        if request.allow is not None:
            chosen, left_out = self.catalogue.ids_of(request.allow)
            unknown += len(left_out)
            allowed[:] = False
            allowed[chosen] = True
        if request.exclude:
            forbidden, left_out = self.catalogue.ids_of(request.exclude)
            unknown += len(left_out)
            allowed[forbidden] = False
        if request.exclude_history:
            allowed[history] = False
        allowed[0] = False
        return _Asked(request, model, history, read, allowed, note, unknown)

    def _history(self, request: Request) -> tuple[NDArray[np.int32], str, int]:
        """A history in item_ids, what is to be said of it, and how many of its items are unknown."""
        nobody = np.array([], np.int32)
        if request.user is not None:
            row = self.catalogue.user_rows.get(request.user)
            if row is None:
                return nobody, f"user {request.user!r} is unknown: the most popular items", 0
            history = self.catalogue.history_of(row, request.without_last)
            return history, "" if len(history) else "the history is empty: the most popular items", 0
        history, unknown = self.catalogue.ids_of(list(request.items or ()))
        history = history[: max(len(history) - request.without_last, 0)]
        note = ""
        if unknown:
            shown = ", ".join(unknown[:SHOWN_KEYS]) + (", ..." if len(unknown) > SHOWN_KEYS else "")
            note = f"{len(unknown)} of {len(request.items or ())} items are unknown and left out: {shown}"
        if not len(history):
            note = f"{note}; " * bool(note) + "the history is empty: the most popular items"
        return history, note, len(unknown)

    def _rank(self, group: Sequence[_Asked]) -> Ranked:
        first = group[0]
        sampling = Sampling(first.request.temperature, first.request.seed) if first.request.temperature else None
        allowed = torch.from_numpy(np.stack([each.allowed for each in group]))
        # no more than there are: a list of a million places would be padding
        k = min(max(each.request.k for each in group), self.catalogue.n_items)
        ranks = self.model(first.model)
        if first.request.boost and self.catalogue.n_items > self.package.n_trained:
            from genrec.serving.new_items import Boosting

            ranks = Boosting(ranks, self.package.n_trained, first.request.boost)
        return ranks.rank(_padded([each.read for each in group]), allowed, k, sampling)

    def _allowed(self, history: Tensor, exclude_history: bool) -> Tensor:
        allowed = torch.ones(len(history), self.catalogue.n_items + 1, dtype=torch.bool)
        if exclude_history:
            allowed.scatter_(1, history, False)
        allowed[:, 0] = False
        return allowed

    def _answer(self, asked: _Asked, ranked: Ranked) -> Answer:
        there = ranked.items != 0
        items, scores = ranked.items[there].numpy(), ranked.log_probs[there].tolist()
        catalogue, codes = self.catalogue, self.codes_of(asked.model)
        has_history = len(asked.history) > 0 and len(items) > 0
        nearest = catalogue.nearest(items, asked.history) if has_history else np.zeros(len(items), np.int64)
        shared = np.cumprod(codes[items] == codes[nearest], axis=1).sum(1) if has_history else nearest
        found = [
            Recommendation(
                catalogue.keys[item], catalogue.titles[item], round(score, 6), codes[item].tolist(),
                catalogue.keys[near] if has_history else None, catalogue.titles[near], int(levels),
            )
            for item, score, near, levels in zip(items, scores, nearest, shared, strict=True)
        ]  # fmt: skip
        note = asked.note
        if len(found) < asked.request.k:
            short = f"only {len(found)} items are allowed, {asked.request.k} were asked for"
            note = f"{note}; {short}" if note else short
        return Answer(asked.model, note, asked.unknown, found)


def _groups(asked: Sequence[_Asked]) -> Iterator[list[int]]:
    """The places of what is computed in one batch: the same model and width of search, and nothing that is drawn."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, each in enumerate(asked):
        alone = place if each.request.temperature else -1
        # a wider search may find other items: nobody's list depends on what others ask for
        groups.setdefault((each.model, each.request.k, each.request.boost, alone), []).append(place)
    for places in groups.values():
        for start in range(0, len(places), USERS_AT_ONCE):
            yield places[start : start + USERS_AT_ONCE]


def _padded(histories: Sequence[NDArray[np.integer]]) -> Tensor:
    """(n, the longest) int64, padded with 0 on the right; one column at least."""
    width = max(max((len(each) for each in histories), default=0), 1)
    padded = np.zeros((len(histories), width), np.int64)
    for row, each in enumerate(histories):
        padded[row, : len(each)] = each
    return torch.from_numpy(padded)
