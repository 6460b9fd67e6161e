"""Charts as plotly draws them, in colours that can be read on a light and on a dark page.

The page's own colours (text, lines, ground) are the page's: its script puts them in when it draws, and anew when the
reader's system turns dark.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

# each at least 3 : 1 against the page's light and its dark ground (WCAG 2.2, 1.4.11)
COLOURS = ("#7b8494", "#b8741a", "#3d7fd0", "#2f9468", "#c4508c", "#8a66d6", "#1d93a6", "#a5713f", "#cf5148", "#7c8c1f")
MARKS = ("circle", "diamond-open", "diamond", "square-open", "square", "x")
DIVERGING = [[0, "rgba(196, 98, 40, 0.75)"], [0.5, "rgba(128, 128, 128, 0.06)"], [1, "rgba(61, 127, 208, 0.75)"]]
RISING = [[0, "rgba(61, 127, 208, 0.04)"], [1, "rgba(61, 127, 208, 0.75)"]]


@dataclass(frozen=True)
class Chart:
    """A figure of the page.

    Attributes:
        name: its id, each has its own.
        title: what it shows.
        summary: what a reader learns who does not see it.
        drawing: plotly's figure as JSON that may stand in a script element.
        height: in pixels.
        wide: whether it has a least width, so that a phone scrolls it.
    """

    name: str
    title: str
    summary: str
    drawing: str
    height: int
    wide: bool = False


@dataclass(frozen=True)
class Look:
    """How a model is drawn everywhere."""

    title: str
    colour: str
    mark: str
    is_derived: bool


def looks(titles: Mapping[str, str]) -> dict[str, Look]:
    """A colour for each model that ranks by itself; what is derived from one shares it, with another mark."""
    found: dict[str, Look] = {}
    kinds: dict[str, int] = {}
    for name, title in titles.items():
        origin = next((other for other in kinds if name.startswith(f"{other}_")), name)
        kinds[origin] = kinds.get(origin, -1) + 1
        place = list(kinds).index(origin)
        mark = MARKS[kinds[origin] % len(MARKS)]
        found[name] = Look(title, COLOURS[place % len(COLOURS)], mark, origin != name)
    return found


def chart(
    name: str, title: str, summary: str, figure: go.Figure, height: int = 380, wide: bool = False, **layout: Any
) -> Chart:
    """A figure in the page's manner."""
    figure.update_layout(
        template="none",
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        hoverlabel={"font": {"family": "system-ui, sans-serif"}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        margin={"l": 56, "r": 12, "t": 24, "b": 48},
    )
    figure.update_xaxes(automargin=True, zeroline=False, title_standoff=8)
    figure.update_yaxes(automargin=True, zeroline=False, title_standoff=8)
    figure.update_layout(**layout)
    # "</script>" within a title would end the element that holds the figure
    drawing = str(figure.to_json(engine="json")).replace("<", "\\u003c")
    return Chart(name, title, summary, drawing, height, wide)


def forest(rows: Sequence[tuple[Look, float, float, float]], x_title: str) -> go.Figure:
    """Each model's value with its interval, from above."""
    figure = go.Figure()
    for look, value, low, high in rows:
        figure.add_scatter(
            x=[value], y=[look.title], mode="markers", name=look.title, showlegend=False,
            marker={"color": look.colour, "size": 10, "symbol": look.mark, "line": {"width": 2, "color": look.colour}},
            error_x={"type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low],
                     "color": look.colour, "thickness": 2, "width": 5},
            hovertemplate=f"%{{x:.4f}} [{low:.4f}, {high:.4f}]<extra>{look.title}</extra>",
        )  # fmt: skip
    figure.update_yaxes(autorange="reversed", ticksuffix="  ", showgrid=False)
    figure.update_xaxes(title_text=x_title)
    return figure


def by_group(series: Mapping[str, list[dict[str, Any]]], look: Mapping[str, Look], x_title: str, k: int) -> go.Figure:
    """Recall of groups of users, a line a model."""
    figure = go.Figure()
    for model, groups in series.items():
        own = look[model]
        recall = [group["recall"] for group in groups]
        figure.add_scatter(
            x=[group["group"] for group in groups], y=recall, name=own.title, mode="lines+markers",
            offsetgroup=model, line={"color": own.colour, "width": 1.5},
            marker={"symbol": own.mark, "size": 8, "color": own.colour},
            error_y={"type": "data", "symmetric": False, "thickness": 1, "width": 3,
                     "array": [group["high"] - group["recall"] for group in groups],
                     "arrayminus": [group["recall"] - group["low"] for group in groups]},
            customdata=[[group["users"], group["low"], group["high"]] for group in groups],
            hovertemplate="%{y:.3f} [%{customdata[1]:.3f}, %{customdata[2]:.3f}], %{customdata[0]} users"
            f"<extra>{own.title}</extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text=x_title, type="category")
    figure.update_yaxes(title_text=f"recall@{k}", rangemode="tozero")
    figure.update_layout(showlegend=False, scattermode="group", scattergap=0.6, hovermode="x unified")
    return figure


def points(rows: Sequence[tuple[Look, float, float]], x_title: str, y_title: str) -> go.Figure:
    """A mark a model."""
    figure = go.Figure()
    for look, x, y in rows:
        marker = {"color": look.colour, "size": 12, "symbol": look.mark, "line": {"width": 2, "color": look.colour}}
        figure.add_scatter(
            x=[x], y=[y], mode="markers", name=look.title, marker=marker,
            hovertemplate=f"{x_title} %{{x:.3f}}<br>{y_title} %{{y:.3f}}<extra>{look.title}</extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title)
    figure.update_layout(showlegend=False)
    return figure


def bars(
    labels: Sequence[str], series: Mapping[str, Sequence[float]], y_title: str, colours: Sequence[str] = COLOURS[2:]
) -> go.Figure:
    """Bars side by side, a colour a series."""
    figure = go.Figure()
    for (name, values), colour in zip(series.items(), colours, strict=False):
        figure.add_bar(x=list(labels), y=list(values), name=name, marker={"color": colour})
    figure.update_layout(barmode="group", bargap=0.3, showlegend=len(series) > 1)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(title_text=y_title, rangemode="tozero")
    return figure


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_title: str,
    y_title: str,
    colours: Sequence[str] = COLOURS[2:],
) -> go.Figure:
    """A line a series of (x, y)."""
    figure = go.Figure()
    for i, (name, (x, y)) in enumerate(series.items()):
        look = {"color": colours[i % len(colours)], "width": 2}
        figure.add_scatter(x=list(x), y=list(y), name=name, mode="lines+markers", line=look, marker={"size": 5})
    figure.update_layout(showlegend=len(series) > 1)
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title)
    return figure


def matrix(
    labels: Sequence[str], values: Sequence[Sequence[float | None]], texts: Sequence[Sequence[str]], centred: bool
) -> go.Figure:
    """A square of numbers, rows against columns; `centred` colours by sign."""
    largest = max((abs(value) for row in values for value in row if value is not None), default=1.0) or 1.0
    figure = go.Figure(
        go.Heatmap(
            x=list(labels), y=list(labels), z=[list(row) for row in values], text=[list(row) for row in texts],
            texttemplate="%{text}", colorscale=DIVERGING if centred else RISING, zmin=-largest if centred else 0,
            zmax=largest, showscale=False, xgap=2, ygap=2, hoverongaps=False,
            hovertemplate="%{y} against %{x}: %{z:.4f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix=" ")
    figure.update_xaxes(side="top", showgrid=False, tickangle=-40)
    return figure


def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], y_title: str) -> go.Figure:
    """A line a series over epochs, with its names below."""
    figure = lines(series, "epoch", y_title)
    figure.update_traces(marker={"size": 4}, hovertemplate="epoch %{x}: %{y:.4g}")
    last = max(float(epoch) for x, _ in series.values() for epoch in x)
    figure.update_xaxes(tick0=0, dtick=max(math.ceil(last / 8), 1))
    figure.update_layout(showlegend=True, hovermode="x")
    return figure


def stacked(labels: Sequence[str], series: Mapping[str, Sequence[int]], x_title: str) -> go.Figure:
    """A bar a label from left to right, cut into the series."""
    figure = go.Figure()
    for (name, values), colour in zip(series.items(), (COLOURS[3], COLOURS[1], COLOURS[0], COLOURS[2]), strict=False):
        figure.add_bar(y=list(labels), x=list(values), name=name, orientation="h", marker={"color": colour})
    figure.update_layout(barmode="stack", bargap=0.45)
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    return figure


def icicle(labels: Sequence[str], parents: Sequence[int], values: Sequence[int], depth: int) -> go.Figure:
    """A tree by its nodes: each one's name, its parent's place (-1: none), and what it weighs with all below it."""
    return go.Figure(
        go.Icicle(
            ids=[str(i) for i in range(len(labels))], labels=list(labels),
            parents=["" if parent < 0 else str(parent) for parent in parents], values=list(values),
            branchvalues="total", maxdepth=depth, tiling={"orientation": "h"}, sort=True,
            root={"color": "rgba(0,0,0,0)"}, marker={"line": {"width": 1}}, textposition="middle left",
            hovertemplate="%{label}<br>%{value:,} interactions<extra></extra>",
        )
    )  # fmt: skip


def thinned(n: int, most: int) -> list[int]:
    """At most so many of n places, denser at the start, where a curve of popularity bends.

    Example:
        >>> thinned(5, 10), thinned(1000, 4)
        ([0, 1, 2, 3, 4], [0, 9, 99, 999])
    """
    if n <= most:
        return list(range(n))
    return sorted({round(place) - 1 for place in np.geomspace(1, n, most).tolist()})
