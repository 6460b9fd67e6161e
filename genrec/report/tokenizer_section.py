"""Section 6: what the semantic IDs are like."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.codes.tokenizer.code_health import code_health
from genrec.report.charts import Chart, bars, chart, icicle, lines
from genrec.report.findings import Codes, Findings

ITEMS_DRAWN = 300  # a browser measures each label: thousands take it ten seconds
GROUPS, NAMES = 10, 8
LONGEST_NAME = 44


def tokenizer_section(found: Findings) -> dict[str, Any]:
    """Figures of each code table; the tree and the neighbours of the first."""
    if not found.codes:
        return {"tables": []}
    health = {codes.title: code_health(torch.from_numpy(codes.table[:, :-1]), found.code_num) for codes in found.codes}
    n_levels = found.codes[0].table.shape[1] - 1
    counts = np.bincount(found.histories.items, minlength=found.histories.n_items + 1)[1:]
    drawn, n_drawn = tree_chart(found, counts)
    return {
        "tables": [{"title": title, **figures} for title, figures in health.items()],
        "levels": range(n_levels),
        "health": health,
        "charts": [level_chart(health, n_levels, "usage"), level_chart(health, n_levels, "entropy"),
                   likeness_chart(found.codes), *lost_chart(found.codes)],
        "tree": drawn,
        "n_drawn": n_drawn,
        "n_items": len(counts),
        "neighbours": neighbours(found.codes[0].table, found.names, counts),
        "of": found.codes[0].title,
        "has_titles": found.has_titles,
    }  # fmt: skip


def level_chart(health: dict[str, dict[str, float]], n_levels: int, what: str) -> Chart:
    """A bar a level and table."""
    levels = [f"level {level + 1}" for level in range(n_levels)]
    series = {title: [figures[f"{what}_level_{i}"] for i in range(n_levels)] for title, figures in health.items()}
    figure = bars(levels, series, f"{what}, share of the most possible")
    figure.update_yaxes(range=[0, 1.02])
    said = "; ".join(f"{title} {', '.join(f'{value:.2f}' for value in values)}" for title, values in series.items())
    title = "Codes in use" if what == "usage" else "How evenly codes are used (entropy)"
    return chart(f"code-{what}", title, f"From the first level on: {said}.", figure, 300)


def likeness_chart(tables: Sequence[Codes]) -> Chart:
    """Cosine of pairs by how many codes they share."""
    series = {
        codes.title: ([float(each["codes"]) for each in codes.likeness], [each["cosine"] for each in codes.likeness])
        for codes in tables
    }
    figure = lines(series, "first codes that two items share", "mean cosine of their embeddings")
    figure.update_xaxes(dtick=1)
    said = "; ".join(f"{title} {', '.join(f'{value:.2f}' for value in y)}" for title, (_, y) in series.items())
    return chart(
        "likeness", "Are items alike that share a prefix?", f"With 0, 1, 2, ... shared codes: {said}.", figure, 300
    )


def lost_chart(tables: Sequence[Codes]) -> list[Chart]:
    """What is lost when fewer levels are decoded; none where no tokenizer is at hand."""
    series = {
        codes.title: ([float(i + 1) for i in range(len(codes.lost))], codes.lost) for codes in tables if codes.lost
    }
    if not series:
        return []
    figure = lines(series, "levels decoded", "variance lost")
    figure.update_xaxes(dtick=1).update_yaxes(rangemode="tozero")
    said = "; ".join(f"{title} {', '.join(f'{value:.2f}' for value in y)}" for title, (_, y) in series.items())
    return [chart("lost", "What decoding the first levels loses of the embeddings", f"{said}.", figure, 300)]


def tree_chart(found: Findings, counts: NDArray[np.int64]) -> tuple[Chart, int]:
    """The prefix tree of the most taken items: a block a prefix, as wide as its items' interactions."""
    table = found.codes[0].table
    order = np.argsort(-counts, kind="stable")[:ITEMS_DRAWN]
    places: dict[tuple[int, ...], int] = {(): 0}
    labels, parents, values = ["all items"], [-1], [0]
    for item in order.tolist():  # the most taken first: it names the prefixes that it opens
        row, weight = [int(code) for code in table[item]], int(counts[item])
        node = 0
        values[0] += weight
        for depth in range(1, len(row)):
            prefix = tuple(row[:depth])
            if prefix not in places:
                places[prefix] = len(labels)
                labels.append(f"{dotted(prefix)}  {short(found.names[item + 1])}, \u2026")
                parents.append(node)
                values.append(0)
            node = places[prefix]
            values[node] += weight
        labels.append(short(found.names[item + 1]))
        parents.append(node)
        values.append(weight)
    figure = icicle(labels, parents, values, depth=3)
    n_first = len({key for key in places if len(key) == 1})
    summary = f"{len(order):,} items below {n_first} first codes and {len(places) - 1:,} prefixes."
    margin = {"l": 0, "r": 0, "t": 0, "b": 0}
    drawn = chart(
        "tree", "Codes, and below them items", summary, figure, 680, True, margin=margin, extendiciclecolors=False
    )
    return drawn, len(order)


def neighbours(table: NDArray[np.int32], names: Sequence[str], counts: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The prefixes of all levels but the last that most items share, each with its most taken items.

    Args:
        table: (n_items, code_length).
        names: (n_items + 1,), of each item_id.
        counts: (n_items,) interactions.
    """
    depth = max(table.shape[1] - 2, 1)
    prefixes, inverse, sizes = np.unique(table[:, :depth], axis=0, return_inverse=True, return_counts=True)
    found = []
    for group in np.argsort(-sizes, kind="stable")[:GROUPS].tolist():
        inside = np.flatnonzero(inverse.ravel() == group)
        first = inside[np.argsort(-counts[inside], kind="stable")][:NAMES]
        if len(inside) > 1:
            shown = [short(names[item + 1]) for item in first.tolist()]
            found.append({"codes": dotted(prefixes[group].tolist()), "n": len(inside), "names": shown})
    return found


def dotted(codes: Sequence[int]) -> str:
    """Codes as people read them, such as 5\u00b728."""
    return "\u00b7".join(map(str, codes))


def short(name: str) -> str:
    """A name as far as a label shows it.

    Example:
        >>> short("abc" * 20)
        'abcabcabcabcabcabcabcabcabcabcabcabcabcabca\u2026'
    """
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\u2026"
