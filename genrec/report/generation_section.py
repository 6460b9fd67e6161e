"""Section 7: is a miss the search's or the model's, and do probabilities mean what they say?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from genrec.evaluation.audit import Audit
from genrec.report.charts import COLOURS, Chart, Look, chart, lines, stacked
from genrec.report.findings import Findings
from genrec.retrieval.candidates import Candidates
from genrec.sequences.histories import Histories

FATES = ("found", "missed by the search", "missed by the model", "found by the search alone")
BINS = 12


def generation_section(found: Findings, look: Mapping[str, Look]) -> dict[str, Any]:
    """Of each generator that was audited or proposed candidates."""
    fates = {look[name].title: fates_of(audit, found.k) for name, audit in found.audits.items()}
    curves = {
        look[name].title: calibration(candidates, found.histories) for name, candidates in found.candidates.items()
    }
    colours = [look[name].colour for name in found.candidates]
    invalid = [
        (look[model].title, result["values"]["invalid_beams_share"])
        for model, result in found.results.items()
        if "invalid_beams_share" in result["values"]
    ]
    return {
        "n_users": max((len(audit.users) for audit in found.audits.values()), default=0),
        "fates": fates, "names": FATES, "invalid": invalid,
        "fate_chart": fate_chart(fates, found.k) if fates else None,
        "calibration": calibration_chart(curves, colours) if any(len(x) for x, _ in curves.values()) else None,
        "agreement": [(look[name].title, agreement(audit, found.k)) for name, audit in found.audits.items()],
    }  # fmt: skip


def fates_of(audit: Audit, k: int) -> list[int]:
    """How many users' targets met each of `FATES`.

    The last is possible: the search excludes another beam's item, and a shorter list moves the target up.
    """
    exact, searched = audit.exact_ranks <= k, audit.searched_ranks <= k
    return [int(each.sum()) for each in (exact & searched, exact & ~searched, ~exact & ~searched, ~exact & searched)]


def agreement(audit: Audit, k: int) -> dict[str, float]:
    """Recall at k by the search and by exact scoring of the same users, and how often the first item's codes say so."""
    return {
        "searched": float((audit.searched_ranks <= k).float().mean()),
        "exact": float((audit.exact_ranks <= k).float().mean()),
    }


def fate_chart(fates: Mapping[str, list[int]], k: int) -> Chart:
    """Bars of the users of each fate."""
    series = {fate: [counts[i] for counts in fates.values()] for i, fate in enumerate(FATES)}
    figure = stacked(list(fates), {fate: counts for fate, counts in series.items() if any(counts)}, "users")
    said = "; ".join(
        f"{title}: {', '.join(f'{n} {fate}' for fate, n in zip(FATES, counts, strict=True))}"
        for title, counts in fates.items()
    )
    return chart("fates", f"What became of the target, within the first {k}", f"{said}.", figure, 120 + 44 * len(fates))


def calibration(candidates: Candidates, histories: Histories) -> tuple[list[float], list[float]]:
    """Proposed items in bins of their probability: the mean of what was said, and the share that was taken.

    Returns:
        Both by bin, the least probable first; bins in which nothing was taken are left out of a logarithmic axis.
    """
    targets = torch.from_numpy(histories.targets(histories.examples("test"))).long()
    there = candidates.items != 0
    said = candidates.log_probs[there].double().exp().numpy()
    taken = (candidates.items == targets[:, None])[there].numpy()
    order = np.argsort(said, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    means = [(float(said[part].mean()), float(taken[part].mean())) for part in parts]
    kept = [(x, y) for x, y in means if x > 0 and y > 0]
    return [x for x, _ in kept], [y for _, y in kept]


def calibration_chart(curves: Mapping[str, tuple[list[float], list[float]]], colours: list[str]) -> Chart:
    """Said against taken, both logarithmic, with the line on which they are equal."""
    figure = lines(curves, "probability that the model gives", "share that was taken", colours)
    everything = [value for x, y in curves.values() for value in (*x, *y)]
    ends = [min(everything), max(everything)]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="equal", line={"color": COLOURS[0], "dash": "dot", "width": 1.5}
    )
    figure.update_xaxes(type="log", dtick="D2", tickformat=".1%").update_yaxes(type="log", dtick="D2", tickformat=".1%")
    said = "; ".join(
        f"{title}: of what it calls {x[-1]:.1%} likely, {y[-1]:.1%} was taken" for title, (x, y) in curves.items() if x
    )
    return chart("calibration", "Do probabilities come true?", f"{said}.", figure, 380)
