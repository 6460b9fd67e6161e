"""The heat map: no screen, no seaborn, no tensor refused, and readable however long the sequences are."""

from itertools import pairwise

import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

from genrec.modules.attention_heatmap import AttentionVisualization

plot = AttentionVisualization.plot_attention_heatmap


def names(n):
    return [f"item {i}" for i in range(n)]


def drawn(figure):
    """The figure, its texts in their places."""
    FigureCanvasAgg(figure).draw()
    return figure.axes[0]


def test_rows_are_output_tokens_and_columns_are_input_tokens():
    weights = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.125, 0.375]])
    axes = drawn(plot(weights, ["a", "b", "c"], ["x", "y"]))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    assert axes.images[0].get_array().tolist() == weights.tolist()
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == (
        "Attention Weights",
        "Input Tokens",
        "Output Tokens",
    )


def test_a_small_map_has_its_weights_written_in():
    axes = drawn(plot(torch.tensor([[0.25, 0.754], [1.0, 0.0]]), ["a", "b"], ["x", "y"]))
    written = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert written == {((0, 0), "0.25"), ((1, 0), "0.75"), ((0, 1), "1.00"), ((1, 1), "0.00")}


def test_it_is_saved_without_a_screen_and_nothing_stays_open(tmp_path, monkeypatch):
    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("a window would block"))
    file = tmp_path / "map.png"
    plot(torch.eye(2), ["a", "b"], ["x", "y"], save_path=str(file))
    assert file.read_bytes().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == []


def test_its_file_may_begin_at_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    plot(torch.eye(2), ["a", "b"], ["x", "y"], save_path="~/map.png")
    assert (tmp_path / "map.png").exists()


def test_weights_that_carry_a_gradient_are_drawn_where_the_page_raises():
    weights = torch.rand(2, 2, requires_grad=True).softmax(-1)
    with pytest.raises(RuntimeError, match="requires grad"):
        weights.cpu().numpy()  # as page 003 has it
    drawn(plot(weights, ["a", "b"], ["x", "y"]))


def test_bfloat16_is_drawn():
    drawn(plot(torch.eye(2, dtype=torch.bfloat16), ["a", "b"], ["x", "y"]))


@pytest.mark.parametrize("shape", [(3, 2), (2, 2), (1, 2, 3)])
def test_weights_of_another_shape_are_refused_with_both(shape):
    with pytest.raises(ValueError, match=r"\(2, 3\), got .*; take one head"):
        plot(torch.zeros(shape), ["a", "b", "c"], ["x", "y"])


@pytest.mark.parametrize("n_tokens", [30, 300])
def test_the_labels_of_a_long_map_do_not_touch_and_cells_hold_no_numbers(n_tokens):
    axes = drawn(plot(torch.rand(n_tokens, n_tokens).softmax(-1), names(n_tokens), names(n_tokens)))
    assert list(axes.texts) == []
    heights = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(not upper.overlaps(lower) for upper, lower in pairwise(heights))
    # turned by 45 degrees, two lines of text are apart if their ends are by the height of a line times sqrt 2
    ends = [axes.transData.transform((tick, 0))[0] for tick in axes.get_xticks()]
    assert min(right - left for left, right in pairwise(ends)) > 2**0.5 * heights[0].height


def test_labels_stand_at_their_own_tokens_on_a_long_map():
    axes = drawn(plot(torch.rand(1, 300), names(300), ["next"]))
    assert 10 < len(axes.get_xticks()) < 100
    for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        assert label.get_text() == f"item {tick:.0f}"


def test_one_spike_does_not_hide_the_other_weights_of_a_long_map():
    weights = torch.full((100, 100), 0.01)
    weights[0, 0] = 1.0
    assert drawn(plot(weights, names(100), names(100))).images[0].get_clim() == pytest.approx((0, 0.01))
    assert drawn(plot(weights[:3, :3], names(3), names(3))).images[0].get_clim() == (0, 1)


@pytest.mark.parametrize("n_tokens", [2, 50])
def test_a_map_of_zeros_and_an_identity_have_a_scale(n_tokens):
    for weights in (torch.zeros(n_tokens, n_tokens), torch.eye(n_tokens)):
        assert drawn(plot(weights, names(n_tokens), names(n_tokens))).images[0].get_clim() == (0, 1)


def test_a_long_title_keeps_both_ends():
    axes = drawn(plot(torch.eye(2), ["The Lord of the Rings: The Two Towers", "b"], ["x", "y"]))
    assert axes.get_xticklabels()[0].get_text() == "The Lord of …e Two Towers"


def test_a_token_with_dollars_is_text_and_no_formula(tmp_path):
    plot(torch.eye(2), ["$9 and $", "$\\frac$"], ["x", "y"], save_path=tmp_path / "map.png")


def test_characters_that_the_default_font_lacks_come_from_one_that_has_them(tmp_path):
    def characters(family):
        return set(FT2Font(next(f.fname for f in fontManager.ttflist if f.name == family)).get_charmap())

    # warnings are errors here, and matplotlib warns of a character that it cannot draw
    lacking = chr(min(c for c in characters("STIXGeneral") - characters("DejaVu Sans") if chr(c).isprintable()))
    figure = plot(torch.eye(2), [lacking, "b"], ["x", "y"], save_path=tmp_path / "map.png")
    assert figure.axes[0].get_xticklabels()[0].get_fontfamily() == ["sans-serif", "STIXGeneral"]


def test_characters_that_no_font_has_give_a_warning_and_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(fontManager, "ttflist", [f for f in fontManager.ttflist if f.name == "DejaVu Sans"])
    with pytest.warns(UserWarning, match="missing from font"):
        plot(torch.eye(2), ["用户", "b"], ["x", "y"], save_path=tmp_path / "map.png")
    assert (tmp_path / "map.png").exists()
