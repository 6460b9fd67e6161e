"""Section 1: what was run, on what data, by which stages."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from genrec.report.charts import COLOURS, Chart, chart, lines, thinned
from genrec.report.findings import Findings, Tree
from genrec.report.results_page import split_in_words

CURVE_POINTS = 150
KINDS = {"train": COLOURS[2], "evaluate": COLOURS[3]}
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip


def run_section(found: Findings) -> dict[str, Any]:
    """The facts, the settings, the charts of the data and the drawing of the pipeline."""
    return {
        "facts": facts(found),
        "split": split_in_words(found.statistics),
        "settings": [(section, flat(values)) for section, values in found.settings.items()],
        "versions": list(found.versions.items()),
        "charts": [popularity_curve(found), history_lengths(found)],
        "pipeline": pipeline_drawing(found.stages),
        "stages": [
            {
                "name": name,
                "after": nearest_sources(found.stages, name),
                "does": stage.get("desc", ""),
                "made": made_by(stage),
                "reached": reached(found.figures.get(name)),
            }
            for name, stage in found.stages.items()
        ],
    }


def facts(found: Findings) -> list[tuple[str, str]]:
    """The data set's card."""
    statistics, lengths = found.statistics, found.histories.lengths
    low, high = np.percentile(lengths, [5, 95]).astype(int)
    return [
        ("data set", str(found.settings["fetch_data"]["name"])),
        ("users", f"{statistics['n_users']:,}"),
        ("items", f"{statistics['n_items']:,}"),
        ("interactions", f"{statistics['n_interactions']:,}"),
        ("density", f"{statistics['density']:.3%}"),
        ("history, median", f"{statistics['median_history']:g}"),
        ("history, 5th to 95th percentile", f"{low:,} to {high:,}"),
        ("interactions at one time with the one before", f"{statistics['tied_pairs_share']:.1%}"),
        ("time span", time_span(found.times)),
        ("seed", str(found.settings["seed"])),
    ]


def time_span(times: Any) -> str:
    """The months of the first and the last interaction.

    Example:
        >>> time_span(np.array([0, 86400 * 40])), time_span(None)
        ('January 1970 to February 1970', 'not known: the data have an order, but no times')
    """
    if times is None:
        return "not known: the data have an order, but no times"
    try:
        ends = [np.datetime64(int(end), "s").astype("datetime64[M]").item() for end in (times.min(), times.max())]
        return " to ".join(f"{MONTHS[end.month - 1]} {end.year}" for end in ends)
    except (AttributeError, OverflowError, ValueError):  # numbers that are no seconds since 1970
        return f"{times.min():,} to {times.max():,}, in the data's own unit"


def flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of dotted keys.

    Example:
        >>> flat({"a": 1, "b": {"c": [2, 3], "d": ""}})
        [('a', '1'), ('b.c', '2, 3'), ('b.d', 'none')]
    """
    if isinstance(values, dict):
        return [row for key, value in values.items() for row in flat(value, f"{prefix}.{key}" if prefix else str(key))]
    text = ", ".join(map(str, values)) if isinstance(values, list) else str(values)
    return [(prefix, text or "none")]


def popularity_curve(found: Findings) -> Chart:
    """Interactions of the most taken item, the second, ..., both axes logarithmic."""
    counts = np.sort(np.bincount(found.histories.items, minlength=found.histories.n_items + 1)[1:])[::-1]
    places = thinned(len(counts), CURVE_POINTS)
    figure = lines({"items": ([place + 1 for place in places], counts[places].tolist())}, "item, the most taken first",
                   "interactions")  # fmt: skip
    figure.update_traces(mode="lines")
    figure.update_xaxes(type="log", dtick=1).update_yaxes(type="log", dtick=1)
    top = counts[: max(len(counts) // 100, 1)].sum() / counts.sum()
    return chart(
        "popularity", "How popular items are",
        f"The most taken item has {counts[0]:,} interactions, the middle one {counts[len(counts) // 2]:,}; the first "
        f"hundredth of the items has {top:.0%} of all interactions.",
        figure, 320,
    )  # fmt: skip


def history_lengths(found: Findings) -> Chart:
    """A histogram with bins that grow by the same factor."""
    lengths = found.histories.lengths
    edges = np.unique(np.geomspace(max(lengths.min(), 1), lengths.max() + 1, 21).astype(int))
    counts = np.histogram(lengths, edges)[0] if len(edges) > 1 else np.array([len(lengths)])
    last = [int(end) - 1 for end in edges[1:]] or [int(edges[0])]
    first = [int(edge) for edge in edges[: len(last)]]
    labels = [str(low) if low >= high else f"{low} to {high}" for low, high in zip(first, last, strict=True)]
    figure = go.Figure(go.Bar(x=labels, y=counts.tolist(), marker={"color": COLOURS[2]}))
    figure.update_xaxes(title_text="interactions of a user", type="category", showgrid=False).update_yaxes(
        title_text="users"
    )
    figure.update_layout(bargap=0.08)
    return chart(
        "lengths", "How long histories are",
        f"Histories have {lengths.min():,} to {lengths.max():,} interactions, half of them at most "
        f"{int(np.median(lengths)):,}.",
        figure, 320,
    )  # fmt: skip


def made_by(stage: Tree) -> list[str]:
    """The paths of a stage's outputs."""
    outputs = [each for key in ("outs", "metrics", "plots") for each in stage.get(key, [])]
    return [each if isinstance(each, str) else str(next(iter(each))) for each in outputs]


def reached(figures: Tree | None) -> str:
    """Up to three figures of a stage, those that say most first."""
    if figures is None:
        return ""
    names = [name for name, value in figures.items() if isinstance(value, int | float)]
    order = (
        "best_val",
        "n_users",
        "n_items",
        "n_interactions",
        "collision_rate",
        "min_usage",
        "best_epoch",
        "n_epochs",
    )
    chosen = [name for wanted in order for name in names if name.startswith(wanted)][:3]
    return ", ".join(f"{name.replace('_', ' ')} {figures[name]:,.4g}" for name in chosen)


def pipeline_drawing(stages: Tree) -> Chart:
    """Each stage below those whose outputs it reads."""
    before = {name: nearest_sources(stages, name) for name in stages}
    depth: dict[str, int] = {}
    for name in stages:  # dvc.yaml has them in the order in which data flow
        depth[name] = 1 + max((depth[source] for source in before[name] if source in depth), default=-1)
    rows: dict[int, list[str]] = {}
    for name, level in depth.items():
        rows.setdefault(level, []).append(name)
    place = {
        name: ((i + 0.5) / len(row) + (0.04 if level % 2 and len(row) == 1 else 0), -level)
        for level, row in rows.items()
        for i, name in enumerate(row)
    }
    figure = go.Figure()
    ends = [(place[source], place[name]) for name in stages for source in before[name]]
    figure.add_scatter(
        x=[x for (a, _), (b, _) in ends for x in (a, b, None)], y=[y for (_, a), (_, b) in ends for y in (a, b, None)],
        mode="lines", hoverinfo="skip", line={"color": "rgba(128, 136, 150, 0.4)", "width": 1.2, "shape": "spline"},
    )  # fmt: skip
    figure.add_scatter(
        x=[place[name][0] for name in stages], y=[place[name][1] for name in stages], mode="markers+text",
        text=[name.replace("_", " ") for name in stages], textposition="bottom center",
        marker={"size": 14, "color": [KINDS.get(name.partition("_")[0], COLOURS[0]) for name in stages]},
        hovertext=[f"{stage.get('desc', name)}<br>{'<br>'.join(made_by(stage))}" for name, stage in stages.items()],
        hoverinfo="text",
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[0, 1.04]).update_yaxes(visible=False, range=[-max(rows) - 0.8, 0.5])
    said = (
        f"{len(stages)} stages, each below those whose outputs it reads; a line is left out where a longer way leads "
        "there. The table below says the same in words."
    )
    return chart("pipeline", "Stages", said, figure, 60 + 58 * len(rows), True, showlegend=False,
                 margin={"l": 0, "r": 0, "t": 0, "b": 0})  # fmt: skip


def nearest_sources(stages: Tree, name: str) -> list[str]:
    """The sources of a stage that are not sources of another of its sources, directly or not."""
    direct = sources(stages, name)
    behind: set[str] = set()
    waiting = list(direct)
    while waiting:
        for source in sources(stages, waiting.pop()) - behind:
            behind.add(source)
            waiting.append(source)
    return sorted(direct - behind)


def sources(stages: Tree, name: str) -> set[str]:
    """The stages whose outputs, or parts of them, a stage reads."""
    read = stages[name].get("deps", [])
    return {
        other
        for other, stage in stages.items()
        for output in made_by(stage)
        for dep in read
        if other != name and (f"{dep}/".startswith(f"{output}/") or f"{output}/".startswith(f"{dep}/"))
    }
