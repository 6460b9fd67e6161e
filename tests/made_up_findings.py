"""Findings of a made-up run, small or as large as Beauty, for the tests of the page."""

import numpy as np
import pandas as pd
import torch

from genrec.evaluation.audit import Audit, sample_of_users
from genrec.generators.titles import model_titles
from genrec.report.comparisons import comparisons, groups_of_users
from genrec.report.findings import Codes, Findings
from genrec.report.lists_section import MEASURES
from genrec.report.results_page import merge_results
from genrec.retrieval.candidates import Candidates
from genrec.sequences.histories import Histories

SEED = 7


def findings(
    n_users=60, n_items=90, title="A <b>film</b> called \u201c{}\u201d </script>", with_times=True, missing=()
):
    """Everything drawn at random; what is `missing` of audits, candidates, codes, curves, new_items is absent."""
    random = np.random.default_rng(SEED)
    lengths = random.integers(4, 15, n_users)
    items = random.integers(1, n_items + 1, lengths.sum()).astype(np.int32)
    histories = Histories(items, np.concatenate([[0], np.cumsum(lengths)]), n_items)
    times = random.integers(10**9, 2 * 10**9, len(items)) if with_times else None
    models = list(model_titles())
    ranks = {model: random.integers(1, 22, n_users).astype(np.int32) for model in models}
    beams = [name for name in ("tiger", "etegrec") if "audits" not in missing]
    return Findings(
        results=results_of(models, ranks, histories, times),
        statistics={"n_users": n_users, "n_items": n_items, "n_interactions": len(items), "density": 0.1,
                    "median_history": 7.0, "tied_pairs_share": 0.2},
        histories=histories,
        names=["", *(title.format(item) for item in range(1, n_items + 1))],
        has_titles=True,
        times=times,
        ranks=ranks,
        items={model: random.integers(1, n_items + 1, (n_users, 10)).astype(np.int32) for model in models},
        codes=[] if "codes" in missing else codes_of(n_items, random),
        code_num=32,
        audits={name: audit_of(n_users, n_items, random) for name in beams},
        candidates={} if "candidates" in missing else {"tiger": candidates_of(n_users, n_items, histories)},
        curves={} if "curves" in missing else {
            "train_tiger": pd.DataFrame({"epoch": [0, 1, 2], "train_loss": [3.0, 2, 1], "val_ndcg_at_10": [0, 0.1, 0]})
        },
        figures={"train_tiger": {"best_val_ndcg_at_10": 0.1, "n_epochs": 3}},
        new_items=None if "new_items" in missing else new_items(),
        settings={"seed": SEED, "fetch_data": {"name": "made-up", "columns": {"user": "u"}}, "model": {"code_num": 32}},
        stages={"prepare_data": {"desc": "Read.", "outs": ["data/prepared"]},
                "train_tiger": {"deps": ["data/prepared/histories.npz"], "outs": ["data/models/tiger.ckpt"]},
                "report": {"deps": ["data/models/tiger.ckpt", "data/prepared"]}},
        versions={"torch": "2"},
    )  # fmt: skip


def new_items():
    cells = {"new": [0.25, 0.1, 0.4], "known": [0.5, 0.45, 0.55], "n_new": 8, "n_known": 52}
    rows = [{"model": "words", "boost": 0.0, **cells}, {"model": "tiger", "boost": 2.5, **cells, "known": None}]
    return {"state": "made-up", "k": 10, "most_boost": 8.0, "n_new_items": 5, "n_known_items": 85, "rows": rows}


def results_of(models, ranks, histories, times):
    random = np.random.default_rng(SEED)
    names = [f"{metric}_at_10" for metric in ("recall", "ndcg", "mrr", "coverage", "popularity_bias")]
    values, intervals = {}, {}
    for model in models:
        places = [(split, p) for split in ("test", "validation") for p in ("kept", "excluded")]
        tree = {split: {} for split, _ in places}
        for split, p in places:
            tree[split][p] = dict(zip(names, random.random(5).round(6).tolist(), strict=True))
        values[model] = tree
        intervals[model] = {split: {p: {name: [0.01, 0.99] for name in names[:3]} for p in protocols}
                            for split, protocols in tree.items()}  # fmt: skip
    values["tiger"]["invalid_beams_share"] = 0.001
    compared = comparisons(ranks, groups_of_users(histories, times), 10, 20, SEED)
    for model in models:
        compared[model]["lists"] = {
            f"{name}_at_10": {"value": round(random.random(), 6), "low": 0.01, "high": 0.99} for name in MEASURES
        }
        compared[model]["lists"]["gini_at_10"] = {"value": 0.5}
    return merge_results([values], [intervals], {}, compared)


def codes_of(n_items, random):
    codes = np.stack([random.integers(0, 32, n_items) for _ in range(3)], 1).astype(np.int32)
    likeness = [{"codes": depth, "groups": 2, "pairs": 3, "cosine": depth / 4} for depth in range(3)]
    table = np.concatenate([codes, np.zeros((n_items, 1), np.int32)], 1)
    return [
        Codes("tokenizer (TIGER)", table, likeness, [0.5, 0.3, 0.2]),
        Codes("ETEGRec, its own", table, likeness, []),
    ]


def audit_of(n_users, n_items, random):
    users = sample_of_users(n_users, 200)
    n, log_probs = len(users), torch.from_numpy(np.log(random.random((len(users), 4)))).float()
    exact, searched = (torch.from_numpy(random.integers(1, 60, n)) for _ in range(2))
    return Audit(users, exact, searched, log_probs, torch.from_numpy(random.integers(1, n_items + 1, n)), log_probs)


def candidates_of(n_users, n_items, histories):
    random = np.random.default_rng(SEED)
    items = torch.from_numpy(random.integers(1, n_items + 1, (n_users, 20)))
    items[:, 3] = torch.from_numpy(histories.targets(histories.examples("test"))).long()
    return Candidates(items, torch.from_numpy(np.log(random.random((n_users, 20)))).float())
