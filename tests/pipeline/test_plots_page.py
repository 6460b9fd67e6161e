"""What `dvc plots show` writes draws its charts where there is no network."""

import csv
import json
from pathlib import Path

import pytest
from browser import Browser
from dvc_render import VegaRenderer, render_html
from fake_pipeline import PROJECT

from genrec.params.reading import read_yaml
from genrec.pipeline.plots_page import TEMPLATE, chart_library, plots_page

TEMPLATES = PROJECT / ".dvc" / "plots"
TABLES = {
    "intervals": ("model,ndcg,low,high\nSASRec,0.1,0.05,0.2\n", "ndcg", "model"),
    "classes": ("model,interactions,recall,users\nSASRec,0-4,0.0,1\nSASRec,5-19,0.5,2\n", "interactions", "recall"),
    "levels": ("level,measure,share\n0,entropy,0.9\n1,entropy,0.4\n", "level", "share"),
    # epoch 1 was not validated: drawn as 0 it would tear the curve
    "curves": ("epoch,val_ndcg\n0,0.7\n1,\n2,0.9\n", "epoch", "val_ndcg"),
}


def renderer(template: str, revision: str = "workspace") -> VegaRenderer:
    text, x, y = TABLES[template]
    rows = [{**row, "rev": revision} for row in csv.DictReader(text.splitlines())]
    return VegaRenderer(rows, template, template=template, template_dir=str(TEMPLATES), x=x, y=y, title=template)


def test_the_page_keeps_the_places_that_dvc_fills_and_loads_nothing() -> None:
    page = plots_page("const library = 1;")
    assert "<script>const library = 1;</script>" in page
    assert "{plot_divs}" in page
    assert "{scripts}" not in page
    assert "src=" not in page


@pytest.mark.parametrize("scripts", ["'</script>'", "'{plot_divs}'"])
def test_scripts_that_would_break_the_page_are_refused(scripts: str) -> None:
    with pytest.raises(ValueError, match="must hold neither"):
        plots_page(scripts)


def test_every_chart_is_drawn_without_a_network(tmp_path: Path, browser: Browser) -> None:
    page, template = tmp_path / "plots.html", tmp_path / "template.html"
    template.write_text(plots_page(chart_library()), encoding="utf-8")
    render_html([renderer(name) for name in TABLES], page, template)
    browser.open(page)
    browser.wait_for("SASRec", "5-19", "entropy, workspace")
    assert browser.errors() == []
    drawn = "return document.querySelectorAll(`#${arguments[0]} svg ${arguments[1]}`).length"
    shapes = {"intervals": ".mark-symbol path", "classes": ".mark-line path", "levels": ".mark-rect path"}
    assert {name: browser.driver.execute_script(drawn, name, shape) for name, shape in shapes.items()} == {
        "intervals": 2,  # the point, and its sign in the legend
        "classes": 1,
        "levels": 2,
    }
    # two of three epochs were validated
    assert browser.driver.execute_script(drawn, "curves", ".layer_1_marks path, .mark-symbol.marks path") == 2


def test_an_epoch_without_a_value_is_no_zero() -> None:
    spec = json.dumps(renderer("curves").get_filled_template())
    assert "datum['val_ndcg'] !== ''" in spec


def test_every_plot_has_a_template_of_its_own_and_names_a_file_that_a_stage_writes() -> None:
    written = (PROJECT / "dvc.yaml").read_text(encoding="utf-8")
    for plot in read_yaml(PROJECT / "plots/dvc.yaml")["plots"]:
        for title, settings in plot.items():
            assert (TEMPLATES / f"{settings['template']}.json").is_file(), title
            for file in settings["y"]:
                inside = str(Path(file).relative_to(".."))
                assert inside in written or str(Path(inside).parent) in written, f"{title}: {file}"


def test_dvc_is_told_where_the_page_is() -> None:
    assert f"html_template = ../{TEMPLATE}" in (PROJECT / ".dvc/config").read_text(encoding="utf-8")
