"""What the stage reads: its dependencies, not whatever an earlier run has left behind."""

import json

from stages import report


def test_figures_are_those_of_its_dependencies_whatever_else_lies_there(tmp_path, monkeypatch):
    """The page showed the package's figures from the second run on, so that the same params gave other bytes."""
    monkeypatch.chdir(tmp_path)
    for name in ("prepare_data", "train_tiger", "package"):
        (tmp_path / "reports" / name).mkdir(parents=True)
        (tmp_path / "reports" / name / "metrics.json").write_text(json.dumps({"of": name}))
    deps = ["reports/prepare_data", "reports/train_tiger", "data/ranks"]
    pipeline = {"prepare_data": {}, "train_tiger": {}, "report": {"deps": deps}, "package": {}}
    assert report.figures_of_stages(pipeline) == {
        "prepare_data": {"of": "prepare_data"},
        "train_tiger": {"of": "train_tiger"},
    }
