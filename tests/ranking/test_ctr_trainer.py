"""CTRTrainer: what it learns, which weights it keeps, and what it takes."""

import math
import warnings
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from genrec.ranking.ctr import DIN, DeepFM, LogisticRegression
from genrec.ranking.ctr_trainer import CTRTrainer
from genrec.ranking.feature_batches import FeatureRows, feature_loader
from genrec.tasks.auc import roc_auc
from genrec.tasks.features import SequenceFeature, SparseFeature
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger

pytestmark = pytest.mark.slow

FEATURES = [SparseFeature("a", 10, 4), SparseFeature("b", 10, 4)]


def rows(n=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = {name: torch.randint(0, 10, (n,), generator=generator) for name in "ab"}
    return x, (torch.rand(n, generator=generator) < (x["a"] + 1) / 11).float()


def network(seed=0):
    torch.manual_seed(seed)
    return DeepFM(FEATURES, FEATURES, (8,), dropout=0.2)


def trainer(folder, model=None, **options):
    settings = {"n_epoch": 3, "model_path": str(folder), "model_logger": CurveLogger(), "progress_bar": False}
    return CTRTrainer(model or network(), **(settings | options))


def train_rows(seed=1):
    return feature_loader(*rows(), 16, seed)


def val_rows():
    return feature_loader(*rows(seed=5), 16)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# What it learns.


def crossed(n, seed):
    """Labels that follow from a pair of categories, and a little from a third."""
    generator = torch.Generator().manual_seed(seed)
    table = 4 * torch.randint(0, 2, (10, 10), generator=generator) - 2.0
    small = 0.5 * torch.randn(10, generator=generator)
    x = {name: torch.randint(0, 10, (n,), generator=generator) for name in "abc"}
    chance = (table[x["a"], x["b"]] + small[x["c"]]).sigmoid()
    return x, (torch.rand(n, generator=generator) < chance).float(), chance


def split(x, y, n):
    return ({name: value[:n] for name, value in x.items()}, y[:n]), ({k: v[n:] for k, v in x.items()}, y[n:])


@pytest.mark.parametrize("seed", [0, 1])
def test_deepfm_learns_a_cross_of_features_that_linear_weights_can_not(tmp_path, seed):
    x, y, chance = crossed(20_000, seed)
    train, test = split(x, y, 16_000)
    features = [SparseFeature(name, 10, 8) for name in "abc"]
    aucs = []
    for model in (DeepFM(features, features, (32,)), LogisticRegression(features)):
        fitted = trainer(tmp_path, model, n_epoch=6, optimizer_params={"lr": 0.01})
        fitted.fit(feature_loader(*train, 512, seed))
        aucs.append(fitted.evaluate(model, feature_loader(*test, 4096)))
    bayes = roc_auc(y[16_000:], chance[16_000:])
    assert aucs[0] >= bayes - 0.02
    assert aucs[0] >= aucs[1] + 0.10


def test_din_finds_the_target_in_the_history(tmp_path):
    generator = torch.Generator().manual_seed(0)
    n = 12_000
    history = torch.stack([torch.randperm(30, generator=generator)[:10] + 1 for _ in range(n)])
    lengths = torch.randint(3, 11, (n, 1), generator=generator)
    history = history.masked_fill(torch.arange(10) >= lengths, 0)
    inside = history.gather(1, (torch.rand(n, 1, generator=generator) * lengths).long()).squeeze(1)
    target = torch.where(
        torch.rand(n, generator=generator) < 0.5, inside, torch.randint(1, 31, (n,), generator=generator)
    )
    y = (history == target[:, None]).any(1).float()
    train, test = split({"history": history, "target": target}, y, 10_000)
    target_feature = SparseFeature("target", 31, 8)
    history_feature = SequenceFeature("history", 31, 8, shared_with="target")
    torch.manual_seed(0)
    model = DIN([], [history_feature], [target_feature], (32,), (16,))
    fitted = trainer(tmp_path, model, n_epoch=8, optimizer_params={"lr": 0.01})
    fitted.fit(feature_loader(*train, 256, 0))
    assert fitted.evaluate(model, feature_loader(*test, 2000)) >= 0.98

    without = test[0] | {"history": torch.zeros_like(test[0]["history"])}
    assert fitted.evaluate(model, feature_loader(without, test[1], 2000)) == pytest.approx(0.5, abs=0.03)
    reversed_ = test[0] | {"history": test[0]["history"].flip(1)}  # other order, padding in front
    difference = torch.tensor(fitted.predict(model, feature_loader(reversed_, None, 2000))) - torch.tensor(
        fitted.predict(model, feature_loader(test[0], None, 2000))
    )
    assert difference.abs().max() < 1e-4


# Which weights it keeps.


class Figures:
    """Answers the evaluations with given figures, and remembers the network's weights at each."""

    def __init__(self, model, values):
        self.model, self.values, self.states = model, list(values), []

    def __call__(self, labels, predictions):
        self.states.append(state(self.model))
        return self.values[len(self.states) - 1]


def test_the_best_epochs_weights_are_restored_and_saved_also_without_an_early_stop(tmp_path):
    # Torch-RecHub saves the last epoch's unless it stopped early.
    model = network()
    figures = Figures(model, [0.9, 0.5, 0.5])
    trainer(tmp_path, model, evaluate_fn=figures, earlystop_patience=10).fit(train_rows(), val_rows())
    saved = torch.load(tmp_path / "model.pth", weights_only=True)
    assert same(saved, figures.states[0])
    assert same(state(model), figures.states[0])
    assert not same(figures.states[0], figures.states[2])


def test_patience_counts_the_evaluations_after_the_best_and_anew_in_a_second_fit(tmp_path):
    model = network()
    for values in ([0.1, 0.9, 0.5, 0.5, 0.5], [0.4, 0.3, 0.3]):
        figures = Figures(model, values + [0.0] * 20)
        trainer(tmp_path, model, evaluate_fn=figures, earlystop_patience=len(values) - values.index(max(values)) - 1,
                n_epoch=20).fit(train_rows(), val_rows())  # fmt: skip
        assert len(figures.states) == len(values)
    fitted = trainer(tmp_path, model, evaluate_fn=Figures(model, [0.9, 0.5, 0.5, 0.4, 0.3, 0.3] + [0.0] * 20),
                     earlystop_patience=2, n_epoch=20)  # fmt: skip
    fitted.fit(train_rows(), val_rows())
    fitted.fit(train_rows(), val_rows())
    assert len(fitted.model.evaluate_fn.states) == 6


def test_a_validation_set_of_one_class_warns_and_keeps_the_last_weights(tmp_path, caplog):
    x, y = rows(seed=5)
    model, reference = network(), network()
    trainer(tmp_path / "a", model, earlystop_patience=0).fit(train_rows(), feature_loader(x, torch.ones_like(y), 16))
    trainer(tmp_path / "b", reference).fit(train_rows())
    assert "was never finite" in caplog.text
    assert same(state(model), state(reference))


# Schedulers and epochs.


def rates(folder, scheduler_fn, params, n_epoch=4, val=None, **options):
    logger = CurveLogger()
    trainer(folder, optimizer_params={"lr": 0.1}, scheduler_fn=scheduler_fn, scheduler_params=params,
            n_epoch=n_epoch, model_logger=logger, **options).fit(train_rows(), val)  # fmt: skip
    return [row["learning_rate"] for row in logger.rows.values()]


@pytest.mark.parametrize(
    ("scheduler_fn", "params", "expected"),
    [
        (lr_scheduler.StepLR, {"step_size": 2, "gamma": 0.1}, [0.1, 0.1, 0.01, 0.01]),
        (lr_scheduler.ExponentialLR, {"gamma": 0.5}, [0.1, 0.05, 0.025, 0.0125]),
        (lr_scheduler.MultiStepLR, {"milestones": [1, 3]}, [0.1, 0.01, 0.01, 0.001]),
        (lr_scheduler.LambdaLR, {"lr_lambda": lambda epoch: 1 / (1 + epoch)}, [0.1, 0.05, 0.1 / 3, 0.025]),
        (lr_scheduler.CosineAnnealingLR, {"T_max": 4},
         [0.05 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]),
    ],
)  # fmt: skip
def test_a_scheduler_steps_each_epoch(tmp_path, scheduler_fn, params, expected):
    assert rates(tmp_path, scheduler_fn, params) == pytest.approx(expected)


def test_a_plateau_is_one_of_the_validations_figure_or_of_the_loss(tmp_path):
    params = {"patience": 0, "factor": 0.1}
    falling = Figures(network(), [0.9, 0.5, 0.4, 0.3])
    reduced = rates(tmp_path, lr_scheduler.ReduceLROnPlateau, params, val=val_rows(), evaluate_fn=falling)
    assert reduced == pytest.approx([0.1, 0.1, 0.01, 0.001])
    rising = Figures(network(), [0.1, 0.2, 0.3, 0.4])
    kept = rates(tmp_path, lr_scheduler.ReduceLROnPlateau, params, val=val_rows(), evaluate_fn=rising)
    assert kept == pytest.approx([0.1] * 4)
    assert len(rates(tmp_path, lr_scheduler.ReduceLROnPlateau, params)) == 4


def test_one_cycle_steps_each_batch_over_the_whole_run(tmp_path):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=16)
    expected = []
    for step in range(16):
        if step % 4 == 0:
            expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(tmp_path, lr_scheduler.OneCycleLR, {"max_lr": 0.1}) == pytest.approx(expected)


def halving(optimizer):
    return lr_scheduler.ExponentialLR(optimizer, 0.5)


def in_sequence(optimizer):
    return lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer, 0.5, 2), halving(optimizer)], milestones=[2]
    )


def one_cycle_in_sequence(optimizer):
    warm_up = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
    return lr_scheduler.SequentialLR(optimizer, [warm_up, lr_scheduler.OneCycleLR(optimizer, 0.1, 13)], milestones=[4])


def chained(optimizer):
    return lr_scheduler.ChainedScheduler([lr_scheduler.ConstantLR(optimizer, 0.5, 2), halving(optimizer)])


EVERY_SCHEDULER = {
    "LambdaLR": (lr_scheduler.LambdaLR, {"lr_lambda": lambda epoch: 0.9**epoch}),
    "MultiplicativeLR": (lr_scheduler.MultiplicativeLR, {"lr_lambda": lambda epoch: 0.9}),
    "StepLR": (lr_scheduler.StepLR, {"step_size": 2}),
    "MultiStepLR": (lr_scheduler.MultiStepLR, {"milestones": [1, 3]}),
    "ConstantLR": (lr_scheduler.ConstantLR, {"factor": 0.5, "total_iters": 2}),
    "LinearLR": (lr_scheduler.LinearLR, {"total_iters": 3}),
    "ExponentialLR": (lr_scheduler.ExponentialLR, {"gamma": 0.5}),
    "SequentialLR": (in_sequence, {}),
    "CosineAnnealingLR": (lr_scheduler.CosineAnnealingLR, {"T_max": 4}),
    "ChainedScheduler": (chained, {}),
    "one cycle in sequence": (one_cycle_in_sequence, {}),
    "CyclicLR": (lr_scheduler.CyclicLR, {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3}),
    "CosineAnnealingWarmRestarts": (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 2}),
    "OneCycleLR": (lr_scheduler.OneCycleLR, {"max_lr": 0.1, "total_steps": 16}),
    "PolynomialLR": (lr_scheduler.PolynomialLR, {"total_iters": 4}),
}


def test_none_of_torchs_schedulers_is_forgotten():
    # a plateau needs a figure: its test stands above
    assert set(EVERY_SCHEDULER) - {"one cycle in sequence"} == set(lr_scheduler.__all__) - {
        "LRScheduler",
        "ReduceLROnPlateau",
    }


def subclass(made, params):
    return (type("Own", (made,), {}) if isinstance(made, type) else made), params


# a class with arguments, and the ways in which people really give one
WAYS = {
    "class": lambda made, params: (made, params),
    "subclass": subclass,
    "partial": lambda made, params: (partial(made, **params), {}),
    "partial of partial": lambda made, params: (partial(partial(made), **params), None),
    "function": lambda made, params: (lambda optimizer: made(optimizer, **params), None),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EVERY_SCHEDULER)
def test_every_scheduler_of_torch_gives_the_rates_of_a_plain_loop(tmp_path, name, way):
    # all but the class itself were stepped by the epoch, OneCycleLR too
    scheduler_fn, params = EVERY_SCHEDULER[name]
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = scheduler_fn(optimizer, **params)
    expected = []
    for step in range(16):  # four epochs of four batches
        if step % 4 == 0:
            expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if name in ("OneCycleLR", "CyclicLR", "one cycle in sequence") or step % 4 == 3:
            scheduler.step()
    assert rates(tmp_path, *WAYS[way](scheduler_fn, params)) == pytest.approx(expected)


@pytest.mark.parametrize("way", WAYS)
def test_a_plateau_is_looked_for_in_the_figures_own_direction(tmp_path, way):
    # a subclass or a partial kept torch's `min`, so that a rising AUC lowered the rate
    params = {"patience": 0, "factor": 0.1} | ({"mode": "max"} if way == "function" else {})
    given = WAYS[way](lr_scheduler.ReduceLROnPlateau, params)
    falling = Figures(network(), [0.9, 0.5, 0.4, 0.3])
    reduced = rates(tmp_path, *given, val=val_rows(), evaluate_fn=falling)
    assert reduced == pytest.approx([0.1, 0.1, 0.01, 0.001])
    rising = Figures(network(), [0.1, 0.2, 0.3, 0.4])
    assert rates(tmp_path, *given, val=val_rows(), evaluate_fn=rising) == pytest.approx([0.1] * 4)


def test_a_plateau_in_the_other_direction_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the plateau is one of val/auc, so its mode must be 'max', got 'min'"):
        rates(tmp_path, lr_scheduler.ReduceLROnPlateau, {"mode": "min"}, val=val_rows())


@pytest.mark.parametrize("way", ["class", "subclass", "partial", "partial of partial"])
def test_one_cycle_learns_its_length_in_every_way(tmp_path, way):
    params = {"max_lr": 0.1}
    whole = rates(tmp_path, lr_scheduler.OneCycleLR, {"max_lr": 0.1, "total_steps": 16})
    assert rates(tmp_path, *WAYS[way](lr_scheduler.OneCycleLR, params)) == whole


class Halved(torch.optim.SGD):
    def __init__(self, params, lr=0.5):
        super().__init__(params, lr=lr / 2)


OPTIMIZERS = {
    "class": (torch.optim.Adam, {"lr": 0.1}, 0.1, 0),
    "class with page 001's arguments": (torch.optim.Adam, None, 1e-3, 1e-5),
    "class that does not decay": (torch.optim.Rprop, None, 1e-3, None),
    "its own defaults": (torch.optim.AdamW, {}, 1e-3, 1e-2),
    "subclass": (Halved, None, 5e-4, 0),
    "partial": (partial(torch.optim.SGD, lr=0.3, weight_decay=0.2), None, 0.3, 0.2),
    "partial that leaves the decay open": (partial(torch.optim.SGD, lr=0.3), None, 0.3, 1e-5),
    "partial and arguments": (partial(torch.optim.SGD, lr=0.3), {"momentum": 0.5}, 0.3, 0),
    "function": (lambda params: torch.optim.SGD(params, lr=0.4), None, 0.4, 0),
    "function of a rate": (lambda params, lr: torch.optim.SGD(params, lr=lr), {"lr": 0.2}, 0.2, 0),
}


@pytest.mark.parametrize(("optimizer_fn", "params", "rate", "decay"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_keeps_the_arguments_that_it_was_given(tmp_path, optimizer_fn, params, rate, decay):
    # a partial's rate was overwritten by page 001's, and `{}` was taken for no answer
    fitted = trainer(tmp_path, optimizer_fn=optimizer_fn, optimizer_params=params, n_epoch=1)
    fitted.fit(train_rows())
    (group,) = fitted.model.optimizers_in_use["optimizer"].param_groups
    assert group["lr"] == pytest.approx(rate)
    assert group.get("weight_decay") == decay
    assert fitted.logger.rows[0]["learning_rate"] == pytest.approx(rate)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer_fn": "adam"}, "optimizer_fn must be a class or a function, .* got 'adam'"),
        ({"optimizer_fn": torch.optim.SGD([torch.zeros(1)], lr=1.0)}, "optimizer_fn must be a class or a function"),
        ({"scheduler_fn": {"name": "step"}}, "scheduler_fn must be .* its arguments stand in scheduler_params; got"),
    ],
)
def test_what_makes_no_optimizer_is_refused_at_once(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer_fn": lambda params: None}, "optimizer_fn must make a torch optimizer, got NoneType"),
        ({"scheduler_fn": lambda optimizer: None}, "scheduler_fn must make a torch scheduler, got NoneType"),
    ],
)
def test_a_function_that_makes_something_else_is_told_so(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path, **options).fit(train_rows())


@pytest.mark.parametrize("scheduler_fn", [None, lr_scheduler.OneCycleLR])
@pytest.mark.parametrize("loader", ["plain", "whole"])
def test_three_single_epochs_equal_a_fit_of_three_bit_for_bit(tmp_path, scheduler_fn, loader):
    def batches():
        if loader == "whole":
            return train_rows()
        return DataLoader(FeatureRows(*rows()), batch_size=16, shuffle=True)

    options = {"scheduler_fn": scheduler_fn, "scheduler_params": {"max_lr": 0.05} if scheduler_fn else None}
    whole, parts = trainer(tmp_path / "a", **options), trainer(tmp_path / "b", **options)
    whole.fit(batches())
    losses = [parts.train_one_epoch(batches()) for _ in range(3)]
    assert same(state(whole.model.network), state(parts.model.network))
    assert losses == pytest.approx([row["train/loss"] for row in whole.logger.rows.values()])


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path):
    first, second, other = (trainer(tmp_path / str(i), seed=seed) for i, seed in enumerate([3, 3, 4]))
    for each in (first, second, other):
        each.fit(DataLoader(FeatureRows(*rows()), batch_size=16, shuffle=True), val_rows())
    assert first.logger.rows == second.logger.rows
    assert same(state(first.model.network), state(second.model.network))
    assert not same(state(first.model.network), state(other.model.network))


class StopError(Exception):
    pass


def test_an_interrupted_run_goes_on_as_if_it_never_was(tmp_path):
    def dies(labels, predictions, seen=[]):  # noqa: B006
        seen.append(1)
        if len(seen) == 3:
            raise StopError
        return roc_auc(labels, predictions)

    whole = trainer(tmp_path / "a", n_epoch=4)
    whole.fit(train_rows(), val_rows())
    with pytest.raises(StopError):
        trainer(tmp_path / "b", n_epoch=4, evaluate_fn=dies).fit(train_rows(), val_rows())
    resumed = trainer(tmp_path / "b", network(seed=9), n_epoch=4, resume=True)
    resumed.fit(train_rows(), val_rows())
    assert same(state(whole.model.network), state(resumed.model.network))
    assert whole.logger.rows == resumed.logger.rows


# What it takes.


class Constant(nn.Module):
    """A probability of one half and an extra loss of one."""

    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.logit.sigmoid().expand(len(x["a"])), torch.ones(())


def test_an_extra_loss_is_added_as_it_is(tmp_path):
    fitted = trainer(tmp_path, Constant(), loss_mode=False, optimizer_params={"lr": 0.0})
    assert fitted.train_one_epoch(train_rows()) == pytest.approx(math.log(2) + 1)
    assert fitted.predict(fitted.model, val_rows()) == [0.5] * 64


@pytest.mark.parametrize(
    "change", [torch.Tensor.bool, torch.Tensor.int, torch.Tensor.double, lambda y: y[:, None]],
    ids=["bool", "int", "double", "column"],
)  # fmt: skip
def test_labels_of_any_kind_train_and_evaluate_alike(tmp_path, change):
    x, y = rows()
    fitted, reference = trainer(tmp_path / "a"), trainer(tmp_path / "b")
    fitted.fit(feature_loader(x, change(y), 16, 1), feature_loader(x, change(y), 16))
    reference.fit(feature_loader(x, y, 16, 1), feature_loader(x, y, 16))
    assert fitted.logger.rows == reference.logger.rows


def test_predictions_come_in_the_loaders_order_with_labels_and_without(tmp_path):
    x, y = rows()
    fitted = trainer(tmp_path)
    fitted.train_one_epoch(train_rows())
    with_labels = fitted.predict(fitted.model, feature_loader(x, y, 10))
    without = fitted.predict(fitted.model.network, feature_loader(x, None, 7))
    in_tuples = fitted.predict(fitted.model.network, [(x,)])
    fitted.model.network.eval()
    assert with_labels == pytest.approx(fitted.model.network(x).tolist())
    assert without == pytest.approx(with_labels)
    assert in_tuples == pytest.approx(with_labels)


def test_evaluation_measures_the_given_network_and_leaves_its_own(tmp_path):
    fitted, other = trainer(tmp_path), network(seed=7).eval()
    own = fitted.model.network
    x, y = rows()
    assert fitted.evaluate(other, feature_loader(x, y, 10)) == roc_auc(y, other(x))
    assert fitted.model.network is own
    assert own.training


def test_penalties_are_part_of_the_gradient_but_not_of_the_logged_loss(tmp_path):
    plain, pulled = (
        trainer(tmp_path / name, n_epoch=1, regularization_params=params, optimizer_params={"lr": 0.01})
        for name, params in (("a", None), ("b", {"embedding_l2": 10.0}))
    )
    for each in (plain, pulled):
        each.fit(feature_loader(*rows(), 64, 1))
    assert plain.logger.rows[0]["train/loss"] == pulled.logger.rows[0]["train/loss"]
    norms = [float(each.model.network.embedding.tables["a"].weight.detach().norm()) for each in (plain, pulled)]
    assert norms[1] < norms[0]


def test_the_saved_weights_fit_a_fresh_network(tmp_path):
    fitted = trainer(tmp_path)
    fitted.fit(train_rows(), val_rows())
    fresh = network(seed=8)
    fresh.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True), strict=True)
    assert fitted.predict(fresh, val_rows()) == fitted.predict(fitted.model, val_rows())


def test_it_is_a_base_trainer_with_a_config_and_tensorboards_logger(tmp_path):
    bare = CTRTrainer(network(), model_path=str(tmp_path))
    assert isinstance(bare, BaseTrainer)
    assert isinstance(bare.model, pl.LightningModule)
    assert isinstance(bare.config, TrainingConfig)
    assert (bare.config.max_epochs, bare.config.early_stopping_patience, bare.config.gpus) == (10, 10, [])
    assert isinstance(bare.logger, TensorBoardLogger)
    assert bare.logger.save_dir == str(tmp_path / "logs")


def test_page_001s_positional_order_is_kept(tmp_path):
    by_place = CTRTrainer(
        network(), torch.optim.SGD, {"lr": 0.5}, lr_scheduler.StepLR, {"step_size": 1}, 7, 3, "cpu", [], True,
        str(tmp_path),
    )  # fmt: skip
    assert (by_place.config.max_epochs, by_place.config.early_stopping_patience) == (7, 3)
    assert by_place.model.optimization.optimizer_fn is torch.optim.SGD
    assert by_place.model_path == tmp_path


def test_every_logger_gets_the_same_names(tmp_path):
    logger = CSVLogger(tmp_path, name="csv")
    fitted = trainer(tmp_path, model_logger=logger)
    fitted.fit(train_rows(), val_rows())
    header = (tmp_path / "csv/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/auc", "learning_rate"} <= set(header)


def test_fitting_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer(tmp_path / "a").fit(train_rows(), val_rows())
        trainer(tmp_path / "b").fit(train_rows())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "mps"}, "device must be 'cpu' or 'cuda:<number>', got 'mps'"),
        ({"precision": "16-mixed"}, "precision must be 32-true or bf16-mixed"),
        ({"model_logger": object()}, "model_logger must be one of Lightning's loggers, got object"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **options)


def test_training_without_labels_and_other_batches_are_refused(tmp_path):
    with pytest.raises(ValueError, match="training needs batches of"):
        trainer(tmp_path).fit(feature_loader(rows()[0], None, 16, 1))
    with pytest.raises(ValueError, match="a batch must be"):
        trainer(tmp_path).predict(network(), [torch.zeros(3)])
