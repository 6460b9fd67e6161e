"""A picture of what attends to what, drawn without a screen."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from torch import Tensor

CELL = 0.5  # inches, where it holds its number
LABEL = 0.22  # inches that a label needs
SMALLEST, LARGEST = 4.0, 12.0  # inches
LONGEST_LABEL = 24  # characters


class AttentionVisualization:
    """Heat maps of attention weights.

    Example:
        >>> import torch
        >>> weights = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
        >>> figure = AttentionVisualization.plot_attention_heatmap(weights, ["a", "b"], ["x", "y"])
        >>> figure.axes[0].get_title()
        'Attention Weights'
    """

    @staticmethod
    def plot_attention_heatmap(
        attention_weights: Tensor,
        input_tokens: Sequence[str],
        output_tokens: Sequence[str],
        save_path: str | Path | None = None,
    ) -> Figure:
        """Draw how much each output token (row) attends to each input token (column).

        Small maps have their weights written into the cells. On large ones only some tokens are named, and the
        strongest hundredth of the weights has one colour, so that the others can be told apart. No window opens and
        nothing needs to be closed.

        Args:
            attention_weights: (len(output_tokens), len(input_tokens)), of one head.
            save_path: a file to write, `~` for a home, its kind by the suffix.
        """
        if attention_weights.shape != (len(output_tokens), len(input_tokens)):
            raise ValueError(
                f"attention_weights must have shape (output tokens, input tokens) = ({len(output_tokens)}, "
                f"{len(input_tokens)}), got {tuple(attention_weights.shape)}; take one head of one example, as in "
                "weights[0, 0]"
            )
        figure = _drawn(attention_weights.detach().float().cpu().numpy(), input_tokens, output_tokens)
        if save_path is not None:
            figure.savefig(Path(save_path).expanduser(), dpi=300, bbox_inches="tight")
        return figure


def _drawn(weights: NDArray[np.float32], input_tokens: Sequence[str], output_tokens: Sequence[str]) -> Figure:
    width, height = (min(max(CELL * cells, SMALLEST), LARGEST) for cells in weights.shape[::-1])
    is_small = CELL * max(weights.shape) <= LARGEST
    figure = Figure(figsize=(width + 2, height + 1), layout="constrained")  # room for labels and the scale
    axes = figure.subplots()
    positive = weights[weights > 0]
    darkest = float(np.quantile(positive, 1.0 if is_small else 0.99)) if len(positive) else 1.0
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=darkest, aspect="auto")
    figure.colorbar(image, aspect=40, extend="neither" if is_small else "max")
    axes.set(title="Attention Weights", xlabel="Input Tokens", ylabel="Output Tokens")
    family = _families("".join([*input_tokens, *output_tokens]))
    for axis, tokens, inches in ((axes.xaxis, input_tokens, width), (axes.yaxis, output_tokens, height)):
        shown = range(0, len(tokens), ceil(len(tokens) * LABEL / inches))
        axis.set_ticks(shown, [_shortened(tokens[i]) for i in shown], family=family, parse_math=False)
    for label in axes.get_xticklabels():
        label.set(rotation=45, ha="right", rotation_mode="anchor")
    if is_small:
        for (row, column), weight in np.ndenumerate(weights):
            colour = "white" if weight > darkest / 2 else "black"
            axes.text(column, row, f"{weight:.2f}", ha="center", va="center", color=colour, fontsize=8)
    return figure


def _shortened(token: str) -> str:
    """Both ends of a long text: titles often differ in their last word."""
    half = LONGEST_LABEL // 2
    return token if len(token) <= LONGEST_LABEL else f"{token[:half]}…{token[-half:]}"


def _families(text: str) -> list[str]:
    """The default font, and behind it the installed fonts that show what it lacks, such as Chinese characters."""
    families = list(rcParams["font.family"])
    missing = {ord(character) for character in text if character.isprintable()}
    missing -= _characters(findfont(FontProperties()))
    # the last resort has a box for everything
    fonts = [font for font in fontManager.ttflist if not font.name.startswith("Last Resort")] if missing else []
    while fonts:
        best = max(fonts, key=lambda font: (len(missing & _characters(font.fname)), font.name))
        found = missing & _characters(best.fname)
        if not found:
            break  # no font shows what is left: matplotlib warns as it draws
        families.append(best.name)
        missing -= found
    return families


def _characters(file: str) -> set[int]:
    return set(FT2Font(file).get_charmap())
