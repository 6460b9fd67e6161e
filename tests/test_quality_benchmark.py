"""The commands of docs/quality.md, on a tiny data set."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import quality, quality_codes, quality_repeats, quality_table
from genrec.sequences.histories import Histories, TimeCuts

WORDS = ("red", "blue", "lacquer", "balm", "brush", "soap")


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> quality.Experiment:
    monkeypatch.setattr(quality, "WORD_DIM", 4)
    monkeypatch.setattr(quality, "CODES", 8)
    monkeypatch.setitem(quality.SASREC, "embedding_dim", 8)
    monkeypatch.setitem(quality.PARALLEL, "embedding_dim", 8)
    variant = quality.Variant(quality.Parallel, "parallel", (2, 2))
    variants = {
        **{name: quality.VARIANTS[name] for name in ("sasrec", "two towers", "tiger", "etegrec")},
        "parallel": variant,
    }
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
    for name in ("two towers", "tiger", "etegrec"):
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
        "popularity", "co-occurrence", "transitions", "sasrec", "sasrec + memory", "two towers",
        "two towers + memory", "tiger", "tiger + memory", "etegrec", "etegrec + memory", "parallel",
        "parallel + memory",
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
        "baselines", "sasrec", "two towers", "parallel of sasrec", "tiger", "tiger, code loss", "etegrec",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "has_it"), [("beauty", True), ("scientific", False)])
def test_no_model_is_trained_by_two_names(name: str, has_it: bool) -> None:
    """On Scientific the parallel model has 256 dimensions already."""
    assert ("parallel, 256-d" in quality.models_of(quality.SETS[name])) == has_it


def test_the_users_that_decide_keep_their_own_histories(
    experiment: quality.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "DECIDING_USERS", 3)
    deciding = experiment.deciding()
    of_all = {tuple(history) for history in experiment.histories.items.reshape(-1, 8)}
    assert deciding.offsets.tolist() == [0, 8, 16, 24]
    assert {tuple(history) for history in deciding.items.reshape(-1, 8)} < of_all


def in_time(experiment: quality.Experiment, all_targets: bool) -> quality.Experiment:
    """50 users of 8 interactions; five train on nothing, five are not tested, and item 30 is only in the test."""
    items = experiment.histories.items.reshape(50, 8).copy()
    items[items == 30] = 29
    items[:-5, 7] = 30
    starts = np.arange(0, 400, 8)
    n_learned = np.full(50, 4)
    n_learned[:5], n_learned[-5:] = 0, 8
    n_before_test = np.maximum(n_learned, 6)
    n_before_test[:3] = 0  # these are new to validation, too
    cuts = TimeCuts(starts + n_learned, starts + n_before_test, all_targets)
    histories = Histories(items.ravel(), np.arange(0, 401, 8), n_items=30, cuts=cuts)
    return replace(experiment, histories=histories)


@pytest.mark.parametrize("all_targets", [False, True])
def test_after_a_split_in_time_the_users_that_decide_are_those_with_targets_between_the_moments(
    experiment: quality.Experiment, all_targets: bool
) -> None:
    split = in_time(experiment, all_targets)
    deciding, histories = split.deciding(), split.histories
    assert deciding.n_users == 42
    asked, of_all = deciding.examples("validation"), histories.examples("validation")
    assert len(asked) == (2 * 40 + 5 * 2 if all_targets else 42)
    assert deciding.targets(asked).tolist() == histories.targets(of_all).tolist()
    assert deciding.padded(asked).tolist() == histories.padded(of_all).tolist()


def test_after_a_split_in_time_targets_are_known_by_their_item_their_user_and_their_history(
    experiment: quality.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = in_time(experiment, all_targets=False)
    split.baselines()
    targets = dict(np.load(split.out / "targets.npz"))
    assert targets["user"].tolist() == list(range(1, 46))
    assert targets["new_user"].tolist() == [True] * 5 + [False] * 40
    assert targets["history"].tolist() == [1] * 3 + [6] * 42
    groups = quality_table.kinds_of_users(targets)
    assert groups["1 to 2 before"].tolist() == [True] * 3 + [False] * 42

    every = in_time(experiment, all_targets=True)
    every.baselines()
    targets = dict(np.load(every.out / "targets.npz"))
    assert targets["user"].tolist() == [1] * 7 + [2] * 7 + [3] * 7 + [user for user in range(4, 46) for _ in range(2)]
    last = np.append(np.diff(targets["user"]) > 0, True)
    assert not targets["known_transition"][last].any()
    assert (targets["times_learned"] == 0).tolist() == last.tolist()
    assert quality_table.kinds_of_users(targets)["new item"].tolist() == last.tolist()


@pytest.mark.slow
def test_a_split_in_time_has_the_rows_of_leave_one_out_and_one_rank_a_target(
    experiment: quality.Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quality, "DECIDING_USERS", 20)
    split = in_time(experiment, all_targets=True)
    split.baselines()
    n_targets = {"validation": 2 * 40 + 5 * 2, "test": 3 * 7 + 42 * 2}
    for name in ("parallel", "tiger"):
        ranks = dict(np.load(split.run(name, seed=0) / "ranks.npz"))
        assert {key: len(of_targets) for key, of_targets in ranks.items()} == {
            f"{of_split}/{protocol}": n
            for of_split, n in n_targets.items()
            for protocol in ("kept", "excluded", "kept+memory", "excluded+memory")
        }
    capsys.readouterr()

    quality_table.main(split.out)

    figures, _, by_item, by_user, _ = capsys.readouterr().out.split("\n\n")
    assert [line.split("|")[1].split("(")[0].strip() for line in figures.splitlines()[5:]] == [
        "sasrec", "sasrec + memory", "tiger", "tiger + memory", "parallel", "parallel + memory",
    ]  # fmt: skip
    assert by_item.startswith("| NDCG@10 on the test, excl. | known transition | unknown transition |")
    assert by_user.splitlines()[2].startswith("| share of the targets | 43% | 57% | 24% | 76% | 6% | 6% | 89% |")


def test_people_who_come_back_take_what_they_had_and_all_else_in_its_order(experiment: quality.Experiment) -> None:
    histories = experiment.histories
    came_back = quality_repeats.with_repeats(histories, 0.4, seed=0)
    n_added = len(came_back.items) - len(histories.items)
    assert n_added / len(came_back.items) == pytest.approx(0.4, abs=0.05)
    for user in range(histories.n_users):
        (ours, theirs) = (
            each.items[each.offsets[user] : each.offsets[user + 1]].tolist() for each in (came_back, histories)
        )
        left = iter(theirs)
        awaited = next(left)
        for place, item in enumerate(ours):
            if item == awaited:
                awaited = next(left, None)
            else:
                assert item in ours[:place]
        assert awaited is None


def test_without_a_share_of_repeats_histories_stay_as_they_are(experiment: quality.Experiment) -> None:
    same = quality_repeats.with_repeats(experiment.histories, 0.0, seed=0)
    assert same.items.tolist() == experiment.histories.items.tolist()
    assert same.offsets.tolist() == experiment.histories.offsets.tolist()


@pytest.mark.slow
def test_what_learning_of_repeats_adds_is_a_line_of_its_own(
    experiment: quality.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_repeats, "MODELS", ("sasrec",))
    for how, overrides in quality_repeats.LEARNED.items():
        of_kind = replace(experiment, out=quality_repeats.folder_of(experiment.out, how), overrides=dict(overrides))
        of_kind.run("sasrec", 0)
    lines = list(quality_repeats.table(experiment.out))
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| sasrec")] == [
        "sasrec, repeats learned", "sasrec, not learned", "sasrec, repeats learned − sasrec, not learned",
    ]  # fmt: skip
    by_setting = [
        json.loads((quality_repeats.folder_of(experiment.out, how) / "sasrec-seed0/run.json").read_text())["options"]
        for how in quality_repeats.LEARNED
    ]
    assert [options["learns_repeats"] for options in by_setting] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--set", "scientific", "--share", "1"], "--share is 1; it must be at least 0 and below 1"),
        (["--set", "instruments"], "instruments has no words of items, which parallel needs"),
        (["--set", "scientific"], "is split in time"),
    ],
)
def test_what_repeats_cannot_be_measured_on_is_said_before_any_training(
    experiment: quality.Experiment, arguments: list[str], rule: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(quality.Experiment, "of", lambda *given, **how: in_time(experiment, all_targets=False))
    monkeypatch.setattr("sys.argv", ["quality_repeats", "data", "--out", str(experiment.out / "made"), *arguments])
    with pytest.raises(SystemExit):
        quality_repeats.main()
    assert rule in capsys.readouterr().err
    assert not (experiment.out / "made").exists()
