"""What people really pass to CTRTrainer, MatchTrainer and MTLTrainer: labels, batches, loaders and networks."""

import math
import shutil

import numpy as np
import pytest
import torch
from other_device import DEVICE, other_device
from sklearn.metrics import mean_squared_error, roc_auc_score
from tasks.test_task_trainer import TYPES, A, B, assert_equal, loader, rows, trainer, val_loader
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from genrec.errors import UserError
from genrec.networks.generating.two_tower import DSSM
from genrec.ranking.ctr import LogisticRegression, WideDeep
from genrec.ranking.ctr_trainer import CTRTrainer
from genrec.ranking.feature_batches import feature_loader
from genrec.ranking.mtl_trainer import MTLTrainer
from genrec.tasks import features as feature_tables
from genrec.tasks.features import SparseFeature
from genrec.towers.match_trainer import MatchTrainer
from genrec.training.curves import CurveLogger

pytestmark = pytest.mark.slow

KINDS = ("ctr", "match", "mtl")


def lists(kind, n=64, change=lambda value: value, seed=0):
    """The batches of `loader` as a list, each part of them changed."""
    found = rows(kind, seed, n)
    cut = [slice(start, start + 16) for start in range(0, n, 16)]
    return [
        ({name: change(value[part]) for name, value in found.features.items()}, change(found.labels[part]))
        for part in cut
    ]


# Scores that are no numbers.


def diverge(network, value=math.nan):
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)


@pytest.mark.parametrize("kind", [*KINDS, "match in batch"])
def test_the_figures_of_a_network_that_gives_nan_are_refused(tmp_path, kind):
    # the AUC of scores that are NaN was 1, so that the epoch in which a network diverged became the best
    made = trainer(kind, tmp_path)
    diverge(made.model.network)
    with pytest.raises(
        UserError, match="(predictions must be finite|scores must be numbers), but .* the model diverged"
    ):
        made.evaluate(made.model, loader("match" if "match" in kind else kind))


def test_a_figure_of_the_users_own_never_sees_predictions_that_are_nan(tmp_path):
    made = trainer("ctr", tmp_path, evaluate_fn=lambda labels, predictions: 1.0)
    diverge(made.model.network)
    with pytest.raises(UserError, match="predictions must be finite, but 64 of 64 are NaN or infinite"):
        made.evaluate(made.model, val_loader("ctr"))


class DivergesInValidation(nn.Module):
    """Its training is sound."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        value = self.weight if self.training else self.weight * math.nan
        return (value + x["a"] * 0.0).sigmoid()


def test_a_validation_of_nan_ends_the_training_with_its_place(tmp_path):
    made = CTRTrainer(
        DivergesInValidation(), model_path=str(tmp_path), model_logger=CurveLogger(), progress_bar=False, n_epoch=2
    )
    with pytest.raises(UserError, match="ctr: in epoch 1, .*: predictions must be finite"):
        made.fit(loader("ctr"), val_loader("ctr"))


# Labels that are not known, or no labels.


def unknown(kind, n=64):
    found = rows(kind, seed=3, n=n)
    labels = found.labels.clone()
    labels[::5] = torch.nan
    return found.features, labels


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_unknown_labels_do_not_count_in_figures(tmp_path, kind):
    # they counted as negatives
    made = trainer(kind, tmp_path, **({"catalogue": {"b": torch.arange(10)}} if kind == "match" else {}))
    x, labels = unknown(kind)
    known = ~labels.view(64, -1)[:, 0].isnan()
    found = made.evaluate(made.model, feature_loader(x, labels, 16))
    clean = {name: value[known] for name, value in x.items()}
    assert found == made.evaluate(made.model, feature_loader(clean, labels[known], 16))
    scores = np.array(made.predict(made.model, feature_loader(clean, None, 64)))
    clicks = labels[known].numpy()
    if kind == "ctr":
        assert found == pytest.approx(roc_auc_score(clicks, scores))
    elif kind == "match":
        assert found["auc"] == pytest.approx(roc_auc_score(clicks, scores))
    else:
        assert found[0] == pytest.approx(roc_auc_score(clicks[:, 0], scores[:, 0]))
        assert found[1] == pytest.approx(mean_squared_error(clicks[:, 1], scores[:, 1]))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_unknown_labels_train_nothing(tmp_path, kind):
    x, labels = unknown(kind)
    known = ~labels.view(64, -1)[:, 0].isnan()
    first = trainer(kind, tmp_path / "a", n_epoch=1, **options_without_noise(kind))
    second = trainer(kind, tmp_path / "b", n_epoch=1, **options_without_noise(kind))
    for made, features, given in (
        (first, x, labels),
        (second, {name: value[known] for name, value in x.items()}, labels[known]),
    ):
        for module in made.model.network.modules():
            if isinstance(module, nn.Dropout | nn.BatchNorm1d):
                module.forward = lambda x: x  # rows must not touch each other
        made.fit([(features, given)])
    assert first.logger.rows[0]["train/loss"] == pytest.approx(second.logger.rows[0]["train/loss"])
    for value, other in zip(first.model.network.parameters(), second.model.network.parameters(), strict=True):
        torch.testing.assert_close(value, other)


def options_without_noise(kind):
    return {"adaptive_params": None} if kind == "mtl" else {}


def test_a_tasks_mean_loss_is_that_of_its_known_labels(tmp_path):
    # each batch's mean was weighted by all of the batch's rows
    x = {name: torch.zeros(4, dtype=torch.long) for name in "ab"}
    labels = torch.tensor([[1.0, 3.0], [1, math.nan], [1, 1.0], [1, 1.0]])
    made = trainer("mtl", tmp_path, adaptive_params=None, optimizer_params={"lr": 0.0})
    for parameter in made.model.network.parameters():
        nn.init.zeros_(parameter)
    made.fit([({name: value[part] for name, value in x.items()}, labels[part]) for part in (slice(2), slice(2, 4))])
    assert made.logger.rows[0]["train/task_1_loss"] == pytest.approx((9 + 1 + 1) / 3)
    assert made.logger.rows[0]["train/task_0_loss"] == pytest.approx(math.log(2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("label", [5.0, -1.0])
def test_labels_of_classifications_outside_of_0_to_1_are_refused(tmp_path, kind, label):
    # torch's loss takes them on the CPU, and ends in a device's assertion elsewhere
    batches = lists(kind)
    batches[2][1].view(16, -1)[3, 0] = label
    with pytest.raises(ValueError, match=f"labels must be 0 or 1, or a probability between, got {label}"):
        trainer(kind, tmp_path).fit(batches)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_gives_no_probabilities_is_told_so(tmp_path, kind):
    class Doubled(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.item_names = ["b"]
            self.last_shared_layer = getattr(inner, "last_shared_layer", None)

        def forward(self, x):
            return 2 + self.inner(x)

    made = trainer(kind, tmp_path)
    made.model.network = Doubled(made.model.network)
    with pytest.raises(
        ValueError, match="network must give probabilities of classifications, got 2.*; end it in a sig"
    ):
        made.fit(loader(kind))


def test_a_network_of_two_columns_is_told_what_its_labels_are(tmp_path):
    made = trainer("ctr", tmp_path)
    inner = made.model.network
    made.model.network = nn.Module()
    made.model.network.inner = inner
    made.model.network.forward = lambda x: torch.stack([inner(x)] * 2, dim=1)
    with pytest.raises(ValueError, match=r"one probability for each label, got shape \(16, 2\) for labels of \(16,\)"):
        made.fit(loader("ctr"))


# Batches of other kinds.

CHANGES = {
    "numpy": lambda value: value.numpy(),
    "list": lambda value: value.tolist(),
    "float64": lambda value: value.numpy().astype("float64") if value.is_floating_point() else value,
    "float16": lambda value: value.half().float().half() if value.is_floating_point() else value.int(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", CHANGES)
def test_batches_of_arrays_and_lists_train_like_tensors(tmp_path, kind, change):
    def rounded(value):
        return value.half().float() if value.is_floating_point() else value

    catalogue = torch.arange(10)
    plain_, changed = (
        trainer(kind, tmp_path / name, n_epoch=2, **({"catalogue": {"b": items}} if kind == "match" else {}))
        for name, items in (("a", catalogue), ("b", CHANGES[change](catalogue)))
    )
    exact = rounded if change == "float16" else (lambda value: value)
    plain_.fit(lists(kind, change=exact), lists(kind, change=exact, seed=5))
    changed.fit(lists(kind, change=CHANGES[change]), lists(kind, change=CHANGES[change], seed=5))
    assert_equal(plain_, changed)
    assert plain_.logger.rows == changed.logger.rows


NUMBERS = (torch.int32, torch.int64, torch.float16, torch.float64)


# a rating is no truth value
@pytest.mark.parametrize(
    ("kind", "labels"),
    [(kind, labels) for kind in KINDS for labels in (*NUMBERS, torch.bool) if (kind, labels) != ("mtl", torch.bool)],
)
def test_labels_of_every_type_give_the_same_figures(tmp_path, kind, labels):
    def batches(dtype):
        return [(x, y.round().to(dtype)) for x, y in lists(kind)]

    made = trainer(kind, tmp_path)
    assert made.evaluate(made.model, batches(labels)) == made.evaluate(made.model, batches(torch.float32))


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (({"a": ["x"] * 16, "b": torch.zeros(16)}, torch.zeros(16)), "a must be numbers, got list"),
        (({"a": torch.zeros(16), "b": torch.zeros(15)}, torch.zeros(16)), "equally many, got .*'b': 15"),
        (({"a": torch.zeros(16), "b": torch.zeros(16)}, torch.zeros(3)), "equally many, got .*'labels': 3"),
        (({"a": torch.zeros(0), "b": torch.zeros(0)}, torch.zeros(0)), "a batch must have rows"),
        (({"a": 3, "b": torch.zeros(16)}, torch.zeros(16)), "a must have a row for each example, got .* 3"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_other_things_is_named(tmp_path, kind, batch, said):
    with pytest.raises(ValueError, match=said):
        trainer(kind, tmp_path).fit([batch])
    with pytest.raises(ValueError, match=said):
        trainer(kind, tmp_path).evaluate(trainer(kind, tmp_path).model, [batch])


# Loaders.


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_of_batches_trains_as_its_loader_does(tmp_path, kind):
    # Lightning takes a list for several loaders
    first, second = (trainer(kind, tmp_path / name, n_epoch=2) for name in "ab")
    first.fit(lists(kind), lists(kind, seed=5))
    found = rows(kind)
    second.fit(feature_loader(found.features, found.labels, 16), val_loader(kind))
    assert_equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_is_refused_for_training(tmp_path, kind):
    # it trained one epoch, and was empty from the second on
    made = trainer(kind, tmp_path)
    for arguments, name in (
        ((iter(lists(kind)),), "train_dataloader"),
        ((lists(kind), (batch for batch in lists(kind))), "val_dataloader"),
    ):
        with pytest.raises(ValueError, match=f"{name} is read anew each epoch, but a .* can be read only once"):
            made.fit(*arguments)
    with pytest.raises(ValueError, match="data_loader is read anew each epoch"):
        made.train_one_epoch(iter(lists(kind)))
    made.predict(made.model, iter(lists(kind)))  # once is enough here


class NoBatch(IterableDataset):
    def __iter__(self):
        return iter(())


EMPTY = {
    "list": list,
    "rows": lambda: feature_loader({"a": torch.zeros(0)}, torch.zeros(0), 16),
    "drop_last": lambda: DataLoader(rows("ctr", n=5), batch_size=16, drop_last=True),
    "unknown length": lambda: DataLoader(NoBatch(), batch_size=None),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_loader_is_refused_and_no_model_is_written(tmp_path, kind, empty):
    # it returned as if it had trained, and wrote the start as the best model
    with pytest.raises(ValueError, match="train_dataloader must hold batches"):
        trainer(kind, tmp_path).fit(EMPTY[empty]())
    if empty != "unknown length":
        with pytest.raises(ValueError, match="data_loader must hold batches"):
            trainer(kind, tmp_path).train_one_epoch(EMPTY[empty]())
        with pytest.raises(ValueError, match="val_dataloader must hold batches"):
            trainer(kind, tmp_path).fit(loader(kind), EMPTY[empty]())
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_without_rows_is_refused_and_a_prediction_is_empty(tmp_path, kind):
    made = trainer(kind, tmp_path)
    with pytest.raises(ValueError, match="holds no batch"):
        made.evaluate(made.model, [])
    assert made.predict(made.model, []) == []


# A last batch of one row.


@pytest.mark.parametrize("kind", KINDS)
def test_a_last_batch_of_one_row_is_left_out_where_it_can_not_be_normalised(tmp_path, kind, caplog):
    # torch: "Expected more than 1 value per channel when training"
    found = rows(kind, n=33)
    whole, part = trainer(kind, tmp_path / "a"), trainer(kind, tmp_path / "b")
    has_batch_norm = any(isinstance(each, nn.BatchNorm1d) for each in whole.model.network.modules())
    if not has_batch_norm:
        whole.model.network.norm = part.model.network.norm = nn.BatchNorm1d(1)
    whole.fit(feature_loader(found.features, found.labels, 16))
    part.fit(feature_loader({name: value[:32] for name, value in found.features.items()}, found.labels[:32], 16))
    assert_equal(whole, part)
    assert caplog.text.count("a batch of a single row is left out") == 1
    assert len(whole.predict(whole.model, feature_loader(found.features, None, 16))) == 33


def test_a_network_without_batch_normalisation_learns_from_a_single_row(tmp_path):
    made = CTRTrainer(
        LogisticRegression([A, B]), n_epoch=1, model_path=str(tmp_path), model_logger=CurveLogger(), progress_bar=False
    )
    before = {name: value.clone() for name, value in made.model.network.state_dict().items()}
    one = rows("ctr", n=1)
    made.fit(feature_loader(one.features, one.labels, 16))
    assert any(not torch.equal(value, before[name]) for name, value in made.model.network.state_dict().items())


def test_batches_of_one_row_alone_are_refused(tmp_path):
    made = CTRTrainer(
        WideDeep([A], [B], (8,)), model_path=str(tmp_path), model_logger=CurveLogger(), progress_bar=False
    )
    with pytest.raises(ValueError, match="needs batches of two rows or more, all have one; raise batch_size"):
        made.fit(feature_loader(rows("ctr").features, rows("ctr").labels, 1))


# Networks that are wrapped.

WRAPPERS = {
    "TaskModule": None,
    "DataParallel": nn.DataParallel,
    "compile": lambda network: torch.compile(network, backend="eager"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_network_trains_like_the_bare_one_and_writes_the_same_names(tmp_path, kind, wrapper):
    def made(folder, model):
        settings = {"model_path": str(folder), "model_logger": CurveLogger(), "progress_bar": False, "n_epoch": 2}
        if kind == "mtl":
            return MTLTrainer(model, TYPES, adaptive_params={"method": "gradnorm"}, **settings)
        if kind == "match":
            return MatchTrainer(model, 0, **settings)
        return CTRTrainer(model, **settings)

    bare = made(tmp_path / "a", trainer(kind, tmp_path).model.network)
    inner = trainer(kind, tmp_path / "c").model
    wrapped = made(tmp_path / "b", inner if wrapper == "TaskModule" else WRAPPERS[wrapper](inner.network))
    for each in (bare, wrapped):
        each.fit(loader(kind), val_loader(kind))
    (first,), (second,) = ((tmp_path / name).glob("model*.pth") for name in "ab")
    saved, again = (torch.load(file, weights_only=True) for file in (first, second))
    assert list(saved) == list(again)
    assert all(torch.equal(value, again[name]) for name, value in saved.items())
    assert bare.evaluate(bare.model, val_loader(kind)) == wrapped.evaluate(wrapped.model.network, val_loader(kind))
    if kind == "match":
        shutil.copy(second, tmp_path / "model.pth")
        bare.inference_embedding(wrapped.model.network, "item", [{"b": torch.arange(10)}], tmp_path)


# Two towers without positives, without negatives, without an item's feature.


def test_a_validation_without_any_positive_chooses_no_epoch_and_the_model_is_written(tmp_path, caplog):
    # "list index out of range", and the finished epoch's model was not written
    found = rows("match")
    made, reference = (trainer("match", tmp_path / name, catalogue={"b": torch.arange(10)}) for name in "ab")
    made.fit(loader("match"), feature_loader(found.features, torch.zeros(64), 16))
    reference.fit(loader("match"))
    assert "was never finite" in caplog.text
    assert_equal(made, reference)
    assert (tmp_path / "a" / "model.pth").exists()
    figures = made.evaluate(made.model, feature_loader(found.features, torch.zeros(64), 16))
    assert sorted(figures) == sorted(
        ["auc", *(f"{name}_at_{k}" for name in ("recall", "ndcg", "mrr") for k in (5, 10, 20))]
    )
    assert all(math.isnan(value) for value in figures.values())


def test_a_validation_of_one_class_in_several_tasks_chooses_no_epoch_and_the_model_is_written(tmp_path, caplog):
    found = rows("mtl")
    labels = torch.stack([torch.ones(64), torch.full((64,), torch.nan)], dim=1)
    made, reference = (trainer("mtl", tmp_path / name) for name in "ab")
    made.fit(loader("mtl"), feature_loader(found.features, labels, 16))
    reference.fit(loader("mtl"))
    assert "was never finite" in caplog.text
    assert_equal(made, reference)
    assert list((tmp_path / "a").glob("model*.pth"))
    assert all(math.isnan(score) for score in made.evaluate(made.model, feature_loader(found.features, labels, 16)))


def towers(folder, mode, item_features=(B,), **options):
    torch.manual_seed(0)
    model = DSSM([A], list(item_features), (8,), 4, 0.1)
    return MatchTrainer(
        model, mode, model_path=str(folder), model_logger=CurveLogger(), progress_bar=False, n_epoch=1, **options
    )


@pytest.mark.parametrize("mode", [1, 2])
def test_the_modes_that_compare_say_which_negatives_they_need(tmp_path, mode):
    with pytest.raises(ValueError, match=rf"mode {mode} needs negative items, .* for a, b; add neg_b to the batches"):
        towers(tmp_path, mode).fit(loader("match"))


def test_the_mode_of_labels_says_that_it_takes_no_negatives(tmp_path):
    x = rows("match").features | {"neg_items": torch.zeros(64, 3, dtype=torch.long)}
    with pytest.raises(
        ValueError, match=r"mode 0 learns from labels, but the batch holds negatives \(a, b, neg_items\)"
    ):
        towers(tmp_path, 0).fit(feature_loader(x, rows("match").labels, 16))


def test_a_catalogue_that_lacks_a_feature_is_named_before_training(tmp_path):
    with pytest.raises(ValueError, match="must have the features b, brand, but brand is missing; got b"):
        towers(tmp_path, 2, (B, SparseFeature("brand", 5, 4)), catalogue={"b": torch.arange(10)})


# Categories that no table has.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [10, -1])
def test_a_category_out_of_range_is_named_with_its_limit(tmp_path, kind, value):
    # "index out of range in self"
    batches = lists(kind)
    batches[3][0]["b"][5] = value
    with pytest.raises(ValueError, match=f"feature 'b' must be 0 to 9, below its vocab_size, got {value}; encode it"):
        trainer(kind, tmp_path).fit(batches)
    made = trainer(kind, tmp_path)
    with pytest.raises(ValueError, match=f"feature 'b' must be 0 to 9, .* got {value}"):
        made.predict(made.model, batches)


def test_an_item_of_a_catalogue_or_of_negatives_out_of_range_is_named(tmp_path):
    with pytest.raises(ValueError, match="feature 'b' must be 0 to 9, below its vocab_size, got 77"):
        towers(tmp_path, 0, catalogue={"b": torch.tensor([3, 77])}).fit(loader("match"), val_loader("match"))
    x = rows("match").features | {"neg_b": torch.full((64, 2), 12)}
    with pytest.raises(ValueError, match="feature 'b' must be 0 to 9, below its vocab_size, got 12"):
        towers(tmp_path, 2).fit(feature_loader(x, None, 16))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["fit", "evaluate", "predict"])
def test_a_category_out_of_range_is_named_before_a_device_gets_it(tmp_path, kind, way, monkeypatch):
    # a GPU aborts the process; only trainings looked before
    monkeypatch.setattr(feature_tables, "look_up", lambda table, categories, name: table(categories.long().clamp(0, 9)))
    batches = lists(kind)
    batches[3][0]["b"][5] = 10
    made = trainer(kind, tmp_path)
    made.device = DEVICE
    arguments = [batches] if way == "fit" else [made.model.network, batches]
    with other_device(), pytest.raises(ValueError, match="feature 'b' must be 0 to 9, below its vocab_size, got 10"):
        getattr(made, way)(*arguments)


def test_an_item_of_a_catalogue_out_of_range_is_named_before_a_device_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_tables, "look_up", lambda table, categories, name: table(categories.long().clamp(0, 9)))
    made = towers(tmp_path, 0, catalogue={"b": torch.tensor([3, 77])})
    made.device = DEVICE
    with other_device(), pytest.raises(ValueError, match="feature 'b' must be 0 to 9, below its vocab_size, got 77"):
        made.evaluate(made.model.network, val_loader("match"))


# Places and devices.


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_may_begin_at_the_home_folder(tmp_path, kind, monkeypatch):
    # a folder named ~ was made
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    made = trainer(kind, "~/models", n_epoch=1)
    made.fit(loader(kind))
    assert list((tmp_path / "home" / "models").glob("model*.pth"))
    assert list((tmp_path / "home" / "models" / "checkpoints").glob("last.ckpt"))
    assert not (tmp_path / "~").exists()
    if kind == "match":
        made.inference_embedding(made.model, "item", [{"b": torch.arange(10)}], "~/models")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpus": [0, 1]}, r"^gpus is \[0, 1\], but a training runs on one GPU"),
        ({"gpus": [99]}, r"^gpus is \[99\], but torch finds \d+ GPUs on this machine"),
        ({"device": "cuda:99"}, r"^device is 'cuda:99', but torch finds \d+ GPUs on this machine"),
    ],
)
def test_gpus_that_can_not_be_used_are_named_by_the_argument_that_chose_them(tmp_path, kind, options, said):
    # "trainer.gpus is [0, 1]" was said to somebody who has no params.yaml
    with pytest.raises(UserError, match=said):
        trainer(kind, tmp_path, **options)
