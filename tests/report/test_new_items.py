"""Figures of new items are shown where they are of the present data and settings, and nowhere else."""

import json

import pytest
from made_up_findings import findings, new_items

from genrec.params.reading import PARAMS_FILE, read_settings
from genrec.report.new_items import SECTIONS, new_items_text, of_state, state_of
from genrec.report.page import report_page


@pytest.fixture
def files(tmp_path):
    for name in ("histories.npz", "items.parquet"):
        (tmp_path / name).write_text(f"content of {name}")
    return [tmp_path / "histories.npz", tmp_path / "items.parquet"]


@pytest.fixture
def settings():
    return read_settings(PARAMS_FILE)


def test_figures_are_of_the_state_that_they_were_made_of(files, settings):
    figures = {**new_items(), "state": state_of(files, settings)}
    assert of_state(figures, state_of(files, json.loads(json.dumps(settings)))) is figures
    assert of_state(None, state_of(files, settings)) is None


@pytest.mark.parametrize("changed", [0, 1])
def test_figures_of_other_data_are_not_shown(files, settings, changed):
    figures = {**new_items(), "state": state_of(files, settings)}
    files[changed].write_text("other")
    assert of_state(figures, state_of(files, settings)) is None


@pytest.mark.parametrize("section", SECTIONS)
def test_figures_of_other_settings_are_not_shown(files, settings, section):
    figures = {**new_items(), "state": state_of(files, settings)}
    other = {**settings["trainer"], "num_threads": 99} if section == "trainer" else "other"
    assert of_state(figures, state_of(files, {**settings, section: other})) is None


def test_figures_of_another_number_of_processes_are_shown_where_it_changes_no_byte(files, settings):
    figures = {**new_items(), "state": state_of(files, settings)}
    several = {**settings, "trainer": {**settings["trainer"], "devices": 2}}
    assert of_state(figures, state_of(files, several)) is figures
    several["trainer"]["portable"] = False
    assert of_state(figures, state_of(files, several)) is None


def test_settings_that_the_figures_do_not_follow_from_leave_them_shown(files, settings):
    figures = {**new_items(), "state": state_of(files, settings)}
    assert of_state(figures, state_of(files, {**settings, "package": {}, "train_etegrec": {}})) is figures


def test_the_page_has_a_row_a_model_and_boost():
    page = report_page(findings())
    section = page[page.index('<section id="new_items"') : page.index('<section id="card"')]
    assert section.count('<th scope="row">') == 2
    assert "likeness of words to the last item, no training" in section
    assert "0.2500 <small>[0.100, 0.400]</small>" in section
    assert "5 of 90 items were drawn" in section


def test_the_text_has_the_same_rows_and_an_empty_cell_where_there_was_no_target():
    assert new_items_text(new_items()).splitlines()[-2:] == [
        "| likeness of words to the last item, no training | 0 | 0.2500 [0.1000, 0.4000] | 0.5000 [0.4500, 0.5500] |",
        "| TIGER | 2.5 | 0.2500 [0.1000, 0.4000] |  |",
    ]


def test_what_was_not_measured_names_the_command_and_no_figure():
    text = new_items_text(None)
    assert "python -m genrec.add_items.evaluate" in text
    assert "|" not in text
