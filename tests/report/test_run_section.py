"""The drawing of the pipeline, and the settings as rows."""

from genrec.report.run_section import flat, nearest_sources, reached, sources

STAGES = {
    "prepare": {"outs": ["data/prepared"]},
    "train": {
        "deps": ["data/prepared/histories.npz"],
        "outs": ["data/model.ckpt", {"reports/train": {"cache": False}}],
    },
    "report": {"deps": ["data/prepared", "data/model.ckpt"], "outs": ["reports/report.html"]},
}


def test_a_stage_reads_what_lies_in_anothers_folder():
    assert sources(STAGES, "train") == {"prepare"}
    assert sources(STAGES, "report") == {"prepare", "train"}


def test_a_way_over_another_stage_hides_the_direct_one():
    assert nearest_sources(STAGES, "report") == ["train"]


def test_a_name_that_begins_like_a_folders_is_another():
    assert sources({"a": {"outs": ["data/rank"]}, "b": {"deps": ["data/ranks"]}}, "b") == set()


def test_empty_settings_are_called_none():
    assert flat({"path": "", "gates": {"least": 0.5}}) == [("path", "none"), ("gates.least", "0.5")]


def test_the_figures_that_say_most_come_first():
    figures = {"n_epochs": 4, "best_epoch": 2, "best_val_ndcg_at_10": 0.25, "nested": {"a": 1}}
    assert reached(figures) == "best val ndcg at 10 0.25, best epoch 2, n epochs 4"
    assert reached(None) == ""
