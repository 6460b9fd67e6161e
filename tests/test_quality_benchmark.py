"""The commands of docs/quality.md, on a tiny data set."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import quality, quality_codes, quality_table
from genrec.sequences.histories import Histories

WORDS = ("red", "blue", "lacquer", "balm", "brush", "soap")


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> quality.Experiment:
    monkeypatch.setattr(quality, "WORD_DIM", 4)
    monkeypatch.setattr(quality, "CODES", 8)
    monkeypatch.setitem(quality.SASREC, "embedding_dim", 8)
    monkeypatch.setitem(quality.PARALLEL, "embedding_dim", 8)
    variant = quality.Variant(quality.Parallel, "parallel", (2, 2))
    variants = {**{name: quality.VARIANTS[name] for name in ("sasrec", "tiger", "etegrec")}, "parallel": variant}
    monkeypatch.setattr(quality, "VARIANTS", variants)
    small = {"embedding_dim": 8, "num_heads": 2, "num_layers": 1, "attn_dim": 8, "head_dim": 4, "n_beams": 12}
    of_etegrec = {"cycle": 2, "warmup_epochs": 1, "epochs": 2, "final_epochs": 1}
    for name, changes in {"tiger": {"validate_every": 1}, "etegrec": of_etegrec}.items():
        monkeypatch.setitem(quality.SETTINGS, name, {**quality.SETTINGS[name], **small, **changes})
    monkeypatch.setattr(quality_codes, "CODE_NUM", 8)
    monkeypatch.setattr(quality_codes, "RQVAE_EPOCHS", 10)
    monkeypatch.setattr(quality_table, "VARIANTS", quality.VARIANTS)
    random = np.random.default_rng(0)
    histories = Histories(random.integers(1, 31, 400, dtype=np.int32), np.arange(0, 401, 8), n_items=30)
    items = pd.DataFrame({"title": [" ".join(random.choice(WORDS, 3)) for _ in range(30)]})
    return quality.Experiment(histories, items, quality.DataSet(("title",), epochs=1), tmp_path, {})


@pytest.mark.slow
def test_each_model_gets_a_row_and_one_with_the_memory_and_is_not_trained_again(
    experiment: quality.Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.baselines()
    folder = experiment.run("parallel", seed=0)
    for name in ("tiger", "etegrec"):
        experiment.run(name, seed=0)
    changed = (folder / "model.ckpt").stat().st_mtime_ns
    assert experiment.run("parallel", seed=0) == folder
    assert (folder / "model.ckpt").stat().st_mtime_ns == changed
    assert json.loads((folder / "run.json").read_text())["cpu_minutes_of_sasrec"] > 0
    capsys.readouterr()

    quality_table.main(experiment.out)

    table = capsys.readouterr().out.split("\n\n")[0].splitlines()
    names = [line.split("|")[1].split("(")[0].strip() for line in table[2:]]
    assert names == [
        "popularity", "co-occurrence", "transitions", "sasrec", "sasrec + memory", "tiger", "tiger + memory", "etegrec",
        "etegrec + memory", "parallel", "parallel + memory",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_training_out_of_time_ends_with_its_first_validation_and_leaves_its_sasrec_alone(
    experiment: quality.Experiment,
) -> None:
    hurried = replace(experiment, settings=quality.DataSet(("title",), epochs=3, tiger={"epochs": 3}), minutes=0.0)
    epochs = {}
    for name, folder in {"tiger": hurried.run("tiger", 0), "sasrec": hurried.out / "sasrec-seed0"}.items():
        epochs[name] = json.loads((folder / "run.json").read_text())["n_epochs"]
    assert epochs == {"tiger": 1, "sasrec": 3}


def test_a_set_without_words_has_the_models_that_need_none() -> None:
    assert quality.models_of(quality.SETS["instruments"]) == [
        "baselines", "sasrec", "parallel of sasrec", "tiger", "tiger, code loss", "etegrec",
    ]  # fmt: skip


def test_the_users_that_decide_keep_their_own_histories(
    experiment: quality.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "DECIDING_USERS", 3)
    deciding = experiment.deciding()
    of_all = {tuple(history) for history in experiment.histories.items.reshape(-1, 8)}
    assert deciding.offsets.tolist() == [0, 8, 16, 24]
    assert {tuple(history) for history in deciding.items.reshape(-1, 8)} < of_all
