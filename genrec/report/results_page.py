"""All evaluations as one table that people read and one file that programs read."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from genrec.generators.titles import model_titles

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REFERENCE = "item_knn"
SIGNAL_NAMES = {
    "log_prob": "the model's own order",
    "sasrec_log_prob": "SASRec",
    "log_cooccurrence": "co-occurrence",
    "log_popularity": "popularity",
}
TITLES = {
    ("test", "excluded"): "Test, items of the history excluded",
    ("test", "kept"): "Test, items of the history kept",
    ("validation", "excluded"): "Validation, items of the history excluded",
    ("validation", "kept"): "Validation, items of the history kept",
}

Tree = Mapping[str, Any]


def merge_results(
    metrics: Sequence[Tree], intervals: Sequence[Tree], differences: Tree, comparisons: Tree
) -> dict[str, Any]:
    """One tree of all models: model -> `values`, `intervals` or `differences` -> split -> protocol -> metric.

    Args:
        differences: model -> what it is compared with -> split -> protocol -> metric -> (difference, low, high).
        comparisons: model -> `slices`, `pairs`, `overlap`, as `genrec.report.comparisons` makes them.

    Raises:
        ValueError: a model has no row, so that it would vanish from the tables.
    """
    values = {model: tree for evaluation in metrics for model, tree in evaluation.items()}
    ends = {model: tree for evaluation in intervals for model, tree in evaluation.items()}
    unknown = sorted(values.keys() - model_titles().keys())
    if unknown:
        raise ValueError(f"each model must have an entry in genrec/generators/, {', '.join(unknown)} has none; add it")
    return {
        model: {
            "values": values[model],
            "intervals": ends[model],
            "differences": differences.get(model, {}),
            **comparisons.get(model, {}),
        }
        for model in values
    }


def references(model: str) -> list[str]:
    """What a model is compared with user by user: item co-occurrence, and a ranker with the best single signal too.

    Example:
        >>> references("tiger_ranked"), references("item_knn")
        (['item_knn', 'tiger_best_signal'], [])
    """
    if model == REFERENCE:
        return []
    generator, _, kind = model.rpartition("_")
    return [REFERENCE, f"{generator}_best_signal"] if kind == "ranked" else [REFERENCE]


def results_page(results: Tree, statistics: Tree) -> str:
    """A Markdown page: what was measured on what, then a table for each split and protocol."""
    ks, k = _ks(results), shown_k(results)
    sections = [_table(results, split, protocol, ks, k) for split, protocol in TITLES]
    return "\n\n".join([_introduction(statistics), *sections]) + "\n"


def split_in_words(statistics: Tree) -> str:
    """What is tested, what validates and what trains.

    Args:
        statistics: the figures of prepare_data.

    Example:
        >>> split_in_words({})
        "Leave-one-out: each user's last interaction is tested, the last but one validates, the rest trains."
        >>> split_in_words({"held_out_users": 64})[:27]
        'Leave-one-out of 64 users, '
    """
    if "held_out_users" in statistics:
        return (
            f"Leave-one-out of {statistics['held_out_users']:,} users, at even distances: their last interaction is"
            " tested, the last but one validates, all others train."
        )
    if "train_until" not in statistics:
        return "Leave-one-out: each user's last interaction is tested, the last but one validates, the rest trains."
    first, second = (moment_in_words(int(statistics[name])) for name in ("train_until", "validate_until"))
    return (
        f"Split in time: what is before {first} trains ({statistics['n_train_interactions']:,} interactions), between"
        f" it and {second} validates ({statistics['n_validation_targets']:,} targets of"
        f" {statistics['n_validation_users']:,} users), from then on tests ({statistics['n_test_targets']:,} targets of"
        f" {statistics['n_test_users']:,} users). A target's history is all that its user took before it; a user's very"
        f" first interaction is no target. {statistics['n_new_users']:,} users and {statistics['n_new_items']:,} items"
        " are not in training: they stay, and what a model cannot know of them counts as missed."
    )


def moment_in_words(second: int) -> str:
    """A second since 1970 as a date and a time in UTC.

    Example:
        >>> moment_in_words(889237269)
        '1998-03-07 02:21:09 UTC'
    """
    try:
        moment = EPOCH + timedelta(seconds=second)
    except OverflowError:  # numbers that are no seconds since 1970
        return f"{second:,}"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _introduction(statistics: Tree) -> str:
    return (
        "# Results\n\n"
        f"{statistics['n_users']:,} users, {statistics['n_items']:,} items, {statistics['n_interactions']:,} "
        f"interactions. {split_in_words(statistics)} "
        "Full ranking of all items, none sampled; of equal scores the lower item_id ranks first. Models are chosen on "
        "validation. In brackets: 95 % bootstrap intervals over users. Popularity bias: training interactions of the "
        "recommended items over those of the items that users really took (1 = as popular). Invalid beams: the share "
        "of an unconstrained search's beams that are no item; all ranked lists come from the constrained search. "
        "With memory: the model's probabilities mixed with item co-occurrence, by a share that validation chose. "
        "Ranked: the model's candidates in a ranker's order; their recall is the ceiling that no order passes. It sees "
        "the history, a candidate's attributes and semantic ID, its log-probability and place under the model, its "
        "log-probability under SASRec, its co-occurrence with the history, its popularity, and whether it was taken "
        "before. Best single signal: the same candidates ordered by one of these alone, the one that orders validation "
        "best; a ranker adds something where it is above that. Rankers learned from validation targets, so they are "
        "only tested."
    )


def _table(results: Tree, split: str, protocol: str, ks: Sequence[int], k: int) -> str:
    columns = [f"recall_at_{each}" for each in ks] + [f"ndcg_at_{each}" for each in ks]
    columns += [f"mrr_at_{k}", f"coverage_at_{k}", f"popularity_bias_at_{k}"]
    header = ["model", *(_title(column) for column in columns), "invalid beams", "ceiling"]
    rows = [_row(model, results[model], split, protocol, columns, k) for model in _measured(results, split)]
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {TITLES[split, protocol]}\n\n{table}\n\n{_verdict(results, split, protocol, k)}"


def _row(model: str, result: Tree, split: str, protocol: str, columns: Sequence[str], k: int) -> list[str]:
    values, intervals = result["values"][split][protocol], result["intervals"][split][protocol]
    cells = [f"{values[column]:.4f}" for column in columns]
    for i, column in enumerate(columns):
        if column.endswith(f"_at_{k}") and column in intervals:
            low, high = intervals[column]
            cells[i] += f" [{low:.4f}, {high:.4f}]"
    share = result["values"].get("invalid_beams_share")
    ceiling = values.get("candidate_recall")
    return [
        _name(model, result["values"]),
        *cells,
        *("" if each is None else f"{each:.4f}" for each in (share, ceiling)),
    ]


def _measured(results: Tree, split: str) -> list[str]:
    """The models that have figures of a split: rankers learn from validation and are only tested."""
    return [model for model in model_titles() if split in results.get(model, {"values": {}})["values"]]


def _name(model: str, values: Tree) -> str:
    """The model's name; of a best single signal also which it is."""
    signals = [title for signal, title in SIGNAL_NAMES.items() if f"by_{signal}" in values]
    return f"{model_titles()[model]} ({signals[0]})" if signals else model_titles()[model]


def _verdict(results: Tree, split: str, protocol: str, k: int) -> str:
    """Which models lose to item co-occurrence, and what rankers add, each with the interval of the difference."""
    metric = f"recall_at_{k}"
    compared = {
        (model, reference): results[model]["differences"][reference][split][protocol][metric]
        for model in _measured(results, split)
        for reference in references(model)
        if reference in results
    }
    losers = [
        f"{model_titles()[model]} {_difference(difference)}"
        for (model, reference), difference in compared.items()
        if reference == REFERENCE and difference[0] < 0
    ]
    added = [
        f"{model_titles()[model]} {_difference(difference)}"
        for (model, reference), difference in compared.items()
        if reference != REFERENCE
    ]
    lines = [
        f"**Below {model_titles()[REFERENCE]} at {_title(metric)}** (difference and its interval, of the same users): "
        f"{', '.join(losers)}."
        if losers
        else f"No model is below {model_titles()[REFERENCE]} at {_title(metric)}."
    ]
    if added:
        lines.append(f"What rankers add to the best single signal at {_title(metric)}: {', '.join(added)}.")
    return "\n\n".join(lines)


def _difference(difference: Sequence[float]) -> str:
    """`-0.0120 [-0.0200, 0.0010], not certain`: an interval that holds 0 leaves the order of the two open."""
    value, low, high = difference
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]{', not certain' if low <= 0 <= high else ''}"


def _title(column: str) -> str:
    """`popularity_bias_at_10` as `popularity bias@10`."""
    return column.replace("_at_", "@").replace("_", " ")


def shown_k(results: Tree) -> int:
    """The length of lists that people compare by: 10, or the largest that was measured."""
    ks = _ks(results)
    return 10 if 10 in ks else max(ks)


def _ks(results: Tree) -> list[int]:
    names = next(iter(results.values()))["values"]["test"]["kept"]
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"recall_at_(\d+)", name)))
