"""Our measures beside RecTools', RecBole's and trec_eval's on the same lists, which must give the same numbers:

    .venv-parity/bin/python -m benchmarks.parity.measures

It prints a line a measure and library with the largest difference over users, and fails where one is above 1e-6.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytrec_eval
import torch
from numpy.typing import NDArray
from recbole.evaluator import metrics as recbole_metrics
from recbole.evaluator.collector import DataStruct
from rectools import Columns
from rectools.metrics import MRR, NDCG, IntraListDiversity, MeanInvUserFreq, Recall, Serendipity
from rectools.metrics.distances import PairwiseHammingDistanceCalculator

from genrec.evaluation.list_measures import code_diversity, gini, novelty, serendipity
from genrec.evaluation.measures import coverage, user_metrics
from genrec.retrieval.ranks import ranks_in_lists

N_USERS, N_ITEMS, K, LEVELS = 400, 120, 10, 3
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Case:
    """Lists of different items, targets of which two thirds are listed, training interactions, and codes."""

    lists: NDArray[np.int32]
    targets: NDArray[np.int32]
    users: NDArray[np.int64]
    taken: NDArray[np.int64]
    codes: NDArray[np.int32]

    @classmethod
    def drawn(cls, seed: int) -> "Case":
        generator = np.random.default_rng(seed)
        weights = 1 / np.arange(1, N_ITEMS + 1)
        lists = np.stack(
            [generator.choice(N_ITEMS, K, replace=False, p=weights / weights.sum()) + 1 for _ in range(N_USERS)]
        )
        is_found, places = generator.random(N_USERS) < 2 / 3, generator.integers(0, K, N_USERS)
        targets = np.where(is_found, lists[np.arange(N_USERS), places], generator.integers(1, N_ITEMS + 1, N_USERS))
        users = np.repeat(np.arange(N_USERS), 12)
        taken = generator.choice(N_ITEMS - 5, len(users), p=weights[:-5] / weights[:-5].sum()) + 1  # five items are new
        codes = np.concatenate([np.full((1, LEVELS), -1), generator.integers(0, 4, (N_ITEMS, LEVELS))])
        return cls(lists.astype(np.int32), targets.astype(np.int32), users, taken, codes.astype(np.int32))

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.bincount(self.taken, minlength=N_ITEMS + 1)

    @property
    def n_takers(self) -> NDArray[np.int64]:
        pairs = np.unique(np.stack([self.users, self.taken]), axis=1)
        return np.bincount(pairs[1], minlength=N_ITEMS + 1)

    @property
    def reco(self) -> pd.DataFrame:
        places = np.tile(np.arange(1, K + 1), N_USERS)
        return pd.DataFrame(
            {Columns.User: np.repeat(np.arange(N_USERS), K), Columns.Item: self.lists.ravel(), Columns.Rank: places}
        )

    @property
    def relevant(self) -> pd.DataFrame:
        return pd.DataFrame({Columns.User: np.arange(N_USERS), Columns.Item: self.targets})

    @property
    def previous(self) -> pd.DataFrame:
        return pd.DataFrame({Columns.User: self.users, Columns.Item: self.taken})


def ours(case: Case) -> dict[str, NDArray[np.float64]]:
    """Our measures: a value a user, or one of all lists."""
    ranks = ranks_in_lists(torch.from_numpy(case.lists), torch.from_numpy(case.targets))
    found = {name: value.double().numpy() for name, value in user_metrics(ranks, [5, K]).items()}
    return {
        **found,
        "novelty": novelty(case.lists, case.n_takers, N_USERS),
        "code_diversity": code_diversity(case.lists, case.codes),
        "serendipity": serendipity(case.lists, case.targets, case.counts),
        "gini": np.array([gini(case.lists, N_ITEMS)]),
        "coverage": np.array([coverage(torch.from_numpy(case.lists), N_ITEMS)]),
    }


def of_rectools(case: Case) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """NDCG divided by the best that one relevant item allows, 1, as trec_eval has it."""
    for k in (5, K):
        for name, metric in (("recall", Recall(k)), ("ndcg", NDCG(k, divide_by_achievable=True)), ("mrr", MRR(k))):
            yield f"{name}_at_{k}", metric.calc_per_user(case.reco, case.relevant).sort_index().to_numpy()
    yield "novelty", MeanInvUserFreq(K).calc_per_user(case.reco, case.previous).sort_index().to_numpy()
    features = pd.DataFrame(case.codes[1:], index=np.arange(1, N_ITEMS + 1))
    distances = IntraListDiversity(K, PairwiseHammingDistanceCalculator(features))
    # theirs counts the levels that differ
    yield "code_diversity", distances.calc_per_user(case.reco).sort_index().to_numpy() / LEVELS
    catalogue = np.arange(1, N_ITEMS + 1)
    found = Serendipity(K).calc_per_user(case.reco, case.relevant, case.previous, catalogue)
    yield "serendipity", found.sort_index().to_numpy()


def of_recbole(case: Case) -> Iterator[tuple[str, NDArray[np.float64]]]:
    vars(np)["float"] = float  # RecBole asks numpy for a name that it dropped
    config = {"topk": [5, K], "metric_decimal_place": 12}
    hits = case.lists == case.targets[:, None]
    data = DataStruct()
    data.set("rec.topk", torch.from_numpy(np.concatenate([hits, np.ones((N_USERS, 1))], axis=1).astype(np.int64)))
    data.set("rec.items", torch.from_numpy(case.lists.astype(np.int64)))
    data.set("data.num_items", N_ITEMS)
    for name in ("Recall", "NDCG", "MRR"):
        metric = getattr(recbole_metrics, name)(config)
        per_place = metric.metric_info(*((hits, np.ones(N_USERS, int)) if name != "MRR" else (hits,)))
        for k in (5, K):
            yield f"{name.lower()}_at_{k}", per_place[:, k - 1]
    yield "gini", np.array([recbole_metrics.GiniIndex(config).calculate_metric(data)[f"giniindex@{K}"]])
    yield "coverage", np.array([recbole_metrics.ItemCoverage(config).calculate_metric(data)[f"itemcoverage@{K}"]])


def of_trec_eval(case: Case) -> Iterator[tuple[str, NDArray[np.float64]]]:
    relevant = {str(user): {str(item): 1} for user, item in enumerate(case.targets)}
    for k in (5, K):
        run = {
            str(user): {str(item): float(K - place) for place, item in enumerate(row[:k])}
            for user, row in enumerate(case.lists)
        }
        found = pytrec_eval.RelevanceEvaluator(relevant, {f"recall.{k}", f"ndcg_cut.{k}", "recip_rank"}).evaluate(run)
        for name, theirs in (("recall", f"recall_{k}"), ("ndcg", f"ndcg_cut_{k}"), ("mrr", "recip_rank")):
            yield f"{name}_at_{k}", np.array([found[str(user)][theirs] for user in range(N_USERS)])


def main() -> None:
    case = Case.drawn(seed=0)
    mine, failed = ours(case), False
    for library, measures in (("RecTools", of_rectools), ("RecBole", of_recbole), ("trec_eval", of_trec_eval)):
        for name, theirs in measures(case):
            difference = float(np.abs(mine[name] - theirs).max())
            failed |= not difference <= TOLERANCE
            print(f"{library:10} {name:15} {float(mine[name].mean()):.6f}  largest difference {difference:.1e}")
    if failed:
        sys.exit(f"a measure differs by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
