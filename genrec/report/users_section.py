"""Section 8: thirty users, one card each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.evaluation.audit import Audit, sample_of_users
from genrec.report.charts import Look
from genrec.report.findings import Findings

CARDS = 30
SAMPLE = 200
HISTORY, PROPOSALS = 8, 5
GROUPS = ("most models find it", "some models find it", "no model finds it")


def users_section(found: Findings, look: Mapping[str, Look]) -> dict[str, Any]:
    """The cards of `chosen_users`."""
    models = [model for model in look if model in found.items and not model.endswith("_best_signal")]
    audited = next((audit.users.numpy() for audit in found.audits.values()), None)
    n_tested = len(found.histories.examples("test"))
    sample = sample_of_users(n_tested, SAMPLE).numpy() if audited is None else audited
    own = [model for model in models if not look[model].is_derived]
    hits = np.stack([found.ranks[model][sample - 1] <= found.k for model in own]).sum(0) if own else 0 * sample
    chosen = chosen_users(sample, hits, len(own))
    return {
        "cards": [card(found, look, models, example, group) for example, group in chosen],
        "n_sample": len(sample), "n_own": len(own), "groups": GROUPS, "k": found.k,
    }  # fmt: skip


def chosen_users(sample: NDArray[np.int64], hits: NDArray[np.int64], n_models: int) -> list[tuple[int, str]]:
    """Ten users whose target at least half of the models find, ten that fewer find, ten that none does.

    Each ten stand at even distances among those of the sample; where there are fewer, the later groups give more.

    Args:
        sample: (n,) which examples of the test, from 1; under leave-one-out these are the user_ids.
        hits: (n,) how many models found the target.

    Returns:
        (example, group) of up to thirty.
    """
    half = max((n_models + 1) // 2, 1)
    parts = [sample[hits >= half], sample[(hits > 0) & (hits < half)], sample[hits == 0]]
    chosen: list[tuple[int, str]] = []
    for i, (part, group) in enumerate(zip(parts, GROUPS, strict=True)):
        wanted = min((CARDS - len(chosen)) // (len(GROUPS) - i), len(part))
        chosen += [(int(part[j * len(part) // wanted]), group) for j in range(wanted)]
    return chosen


def card(found: Findings, look: Mapping[str, Look], models: list[str], example: int, group: str) -> dict[str, Any]:
    """What was known of a user, what came next, and what each model said."""
    examples = found.histories.examples("test").take(np.array([example - 1]))
    start, end = int(examples.starts[0]), int(examples.ends[0])
    target = int(found.histories.items[end])
    shown = found.histories.items[max(start, end - HISTORY) : end].tolist()
    rows: list[dict[str, Any]] = []
    for model in models:
        rank, items = int(found.ranks[model][example - 1]), found.items[model][example - 1][:PROPOSALS].tolist()
        rows.append({
            "title": look[model].title, "colour": look[model].colour,
            "place": rank if rank <= longest(found, model) else None,
            "items": [(found.names[item], item == target) for item in items if item],
        })  # fmt: skip
    audits = found.audits.items()
    codes = [each for name, audit in audits for each in code_rows(found, look[name].title, audit, example, target)]
    return {
        "example": example, "user": int(found.histories.users_of(examples)[0]), "group": group,
        "n_history": end - start, "history": [found.names[item] for item in shown],
        "target": found.names[target], "models": rows, "codes": codes,
        "n_hits": sum(row["place"] is not None and row["place"] <= found.k for row in rows),
    }  # fmt: skip


def longest(found: Findings, model: str) -> int:
    """How long the lists were: a rank above that means that the target was in none."""
    return int(found.ranks[model].max()) - 1 if found.ranks[model].max() > found.k else found.k


def code_rows(found: Findings, title: str, audit: Audit, example: int, target: int) -> list[dict[str, Any]]:
    """The codes of the target and of the model's first item, with their probabilities; none of a user not audited."""
    place = np.flatnonzero(audit.users.numpy() == example)
    if not len(place):
        return []
    i = int(place[0])
    table = next((codes.table for codes in found.codes if title in codes.title), None)
    first = int(audit.first_items[i])
    rows = [("target", target, audit.target_log_probs[i])]
    if first != target:
        rows.append(("its first choice", first, audit.first_log_probs[i]))
    return [
        {
            "model": title, "what": what, "name": found.names[item],
            "exact": int(audit.exact_ranks[i]) if item == target else 1,
            "codes": [
                ("" if table is None else int(table[item - 1, level]), float(log_prob.exp()))
                for level, log_prob in enumerate(log_probs)
            ],
            "whole": float(log_probs.sum().exp()),
        }
        for what, item, log_probs in rows
    ]  # fmt: skip
