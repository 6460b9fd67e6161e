"""Section 4: where models win and where they lose."""

from collections.abc import Mapping
from typing import Any

from genrec.report.charts import Chart, Look, by_group, chart, matrix, points
from genrec.report.findings import Findings, Tree

SIGNS = {"circle": "\u25cf", "diamond-open": "\u25c7", "diamond": "\u25c6", "square-open": "\u25a1", "square": "\u25a0",
         "x": "\u2715"}  # fmt: skip
PARTITIONS = {
    "by_item_frequency": ("By how often the target was taken in training", "training interactions of the target"),
    "by_history_length": ("By the length of the history", "interactions before the target"),
    "by_transition": ("By whether somebody went from the last item to the target", "transition from the last item"),
    "by_new_user": ("By whether the user was learned from", "user"),
    "by_new_item": ("By whether the target was taken in training", "target"),
    "by_item_age": ("By the target's place in the catalogue's age", "fifth of the catalogue, by first interaction"),
}


def slices_section(found: Findings, look: Mapping[str, Look]) -> dict[str, Any]:
    """Charts of groups, of the catalogue and of shared hits."""
    results, k = found.results, found.k
    models = {model: look[model] for model in look if model in results}
    own = {model: each for model, each in models.items() if not each.is_derived}
    return {
        "groups": [group_chart(results, own, name, k) for name in PARTITIONS if name in first_slices(results)],
        "legend": [(each.title, each.colour) for each in own.values()],
        "marks": marks(models),
        "tables": [group_table(results, models, name) for name in PARTITIONS if name in first_slices(results)],
        "has_ages": "by_item_age" in first_slices(results),
        "catalogue": [
            catalogue_chart(results, models, k, "coverage", "coverage of the catalogue"),
            catalogue_chart(results, models, k, "popularity_bias", "popularity bias (1: as popular as what is taken)"),
        ],
        "overlap": overlap_chart(results, own, k),
    }


def first_slices(results: Tree) -> Tree:
    """The partitions that were made."""
    slices: Tree = next(iter(results.values()))["slices"]
    return slices


def group_chart(results: Tree, models: Mapping[str, Look], name: str, k: int) -> Chart:
    """Recall of each group, and in words which model leads in each."""
    title, x_title = PARTITIONS[name]
    series = {model: results[model]["slices"][name] for model in models}
    own = list(models)
    said = []
    for i, group in enumerate(series[own[0]]):
        best = max(own, key=lambda model: series[model][i]["recall"])
        said.append(f"{group['group']} ({size_in_words(group)}): {models[best].title} {series[best][i]['recall']:.3f}")
    return chart(name.replace("_", "-"), title, f"The best of each group: {'; '.join(said)}.",
                 by_group(series, models, x_title, k), 400)  # fmt: skip


def size_in_words(group: Tree) -> str:
    """How many users a group has, and how many targets of theirs where those are more.

    Example:
        >>> size_in_words({"users": 1200}), size_in_words({"users": 3, "targets": 40})
        ('1,200 users', '40 targets of 3 users')
    """
    users = f"{group['users']:,} users"
    return f"{group['targets']:,} targets of {users}" if "targets" in group else users


def marks(models: Mapping[str, Look]) -> list[tuple[str, str]]:
    """What the marks of derived models mean, such as a diamond: ranked."""
    found: dict[str, str] = {}
    for name, each in models.items():
        if each.is_derived:
            origin = max((other for other in models if name.startswith(f"{other}_")), key=len)
            found.setdefault(SIGNS[each.mark], each.title.removeprefix(models[origin].title).lstrip(", +"))
    return list(found.items())


def group_table(results: Tree, models: Mapping[str, Look], name: str) -> dict[str, Any]:
    """Recall of every model and group."""
    groups = [(group["group"], size_in_words(group)) for group in first_slices(results)[name]]
    rows = [
        (each.title, [group["recall"] for group in results[model]["slices"][name]]) for model, each in models.items()
    ]
    return {"title": PARTITIONS[name][0], "groups": groups, "rows": rows}


def catalogue_chart(results: Tree, models: Mapping[str, Look], k: int, metric: str, x_title: str) -> Chart:
    """A figure of the lists against recall."""
    of_models = {model: results[model]["values"]["test"]["excluded"] for model in models}
    rows = [(models[m], values[f"{metric}_at_{k}"], values[f"recall_at_{k}"]) for m, values in of_models.items()]
    most, least = (choose(rows, key=lambda row: row[1]) for choose in (max, min))
    return chart(
        metric.replace("_", "-"), f"{metric.replace('_', ' ').capitalize()} against accuracy",
        f"From {least[0].title} with {least[1]:.2f} to {most[0].title} with {most[1]:.2f}.",
        points(rows, x_title, f"recall@{k}"), 440,
    )  # fmt: skip


def overlap_chart(results: Tree, models: Mapping[str, Look], k: int) -> Chart:
    """The share of a row's hits that the column hits too."""
    values = [[results[a]["overlap"][b] if a != b else None for b in models] for a in models]
    texts = [["" if value is None else f"{value:.0%}" for value in row] for row in values]
    flat = [
        (value, a, b)
        for row, a in zip(values, models, strict=True)
        for value, b in zip(row, models, strict=True)
        if value is not None
    ]
    said = ""
    if flat:
        low = min(flat, key=lambda each: each[0])
        said = f"The least is shared by {models[low[1]].title} with {models[low[2]].title}: {low[0]:.0%} of its hits."
    figure = matrix([look.title for look in models.values()], values, texts, centred=False)
    return chart(
        "overlap", "Of the row's hits, the share that the column hits too", said, figure, 170 + 38 * len(models)
    )
