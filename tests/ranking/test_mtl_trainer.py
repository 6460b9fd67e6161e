"""MTLTrainer: several labels, weighted losses, missing labels, and which epoch is kept."""

import math

import pytest
import torch
from torch import nn

from genrec.ranking.ctr_trainer import CTRTrainer
from genrec.ranking.feature_batches import feature_loader
from genrec.ranking.mtl_trainer import MTLTrainer
from genrec.ranking.multi_task import ESMM, MMOE, PLE, SharedBottom
from genrec.tasks.auc import roc_auc
from genrec.tasks.features import SparseFeature
from genrec.training.curves import CurveLogger

pytestmark = pytest.mark.slow

TYPES = ["classification", "regression"]
FEATURES = [SparseFeature("a", 10, 4), SparseFeature("b", 10, 4)]
METHODS = [None, {"method": "uwl"}, {"method": "metabalance"}, {"method": "gradnorm", "alpha": 0.16}]


def rows(n=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = {name: torch.randint(0, 10, (n,), generator=generator) for name in "ab"}
    click = (torch.rand(n, generator=generator) < (x["a"] + 1) / 11).float()
    return x, torch.stack([click, x["b"] / 3 + torch.randn(n, generator=generator)], dim=1)


def loader(seed=0, order=1):
    return feature_loader(*rows(seed=seed), 16, order)


def mmoe(seed=0):
    torch.manual_seed(seed)
    return MMOE(FEATURES, TYPES, 3, (8,), (4,))


def trainer(folder, model=None, task_types=TYPES, **options):
    settings = {"n_epoch": 3, "model_path": str(folder), "model_logger": CurveLogger(), "progress_bar": False}
    return MTLTrainer(model or mmoe(), task_types, **(settings | options))


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# Tasks in conflict.


class SharedTanh(nn.Module):
    """Twenty numbers, sixteen shared units, a task each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Linear(20, 16)
        self.heads = nn.ModuleList([nn.Linear(16, 1), nn.Linear(16, 1)])

    def forward(self, x):
        hidden = self.shared(x["x"]).tanh()
        return torch.cat([self.heads[0](hidden).sigmoid(), self.heads[1](hidden)], dim=1)


def conflict(n=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 20, generator=generator)
    chance = (x @ torch.randn(20, generator=generator)).sigmoid()
    click = (torch.rand(n, generator=generator) < chance).float()
    noisy = 30 * (x @ torch.randn(20, generator=generator) / 20**0.5 + torch.randn(n, generator=generator))
    return {"x": x}, torch.stack([click, noisy], dim=1), chance


def main_auc(folder, adaptive_params):
    x, y, chance = conflict()
    train, test = ({"x": x["x"][:3000]}, y[:3000]), ({"x": x["x"][3000:]}, y[3000:])
    fitted = trainer(
        folder, SharedTanh(), n_epoch=15, adaptive_params=adaptive_params, optimizer_fn=torch.optim.SGD,
        optimizer_params={"lr": 1e-2}, gradient_clip_val=5.0,
    )  # fmt: skip
    fitted.fit(feature_loader(*train, 64, 0))
    weighting = fitted.model.weighting
    return (
        fitted.evaluate(fitted.model, feature_loader(*test, 1000))[0],
        roc_auc(test[1][:, 0], chance[3000:]),
        weighting,
        fitted.evaluate(fitted.model, feature_loader(*train, 1000))[1],
    )


def test_weighting_saves_the_main_task_from_a_loud_one(tmp_path):
    equal, bayes, *_ = main_auc(tmp_path / "a", None)
    balanced, *_ = main_auc(tmp_path / "b", {"method": "metabalance", "relax_factor": 1.0})
    uncertain, _, weighting, error = main_auc(tmp_path / "c", {"method": "uwl"})
    assert balanced >= equal + 0.12
    assert uncertain >= bayes - 0.03
    # ln of twice the mean squared error of the loud task, 0 for the other, whose loss is below one half
    assert weighting.log_variances.tolist() == [0, pytest.approx(math.log(2 * error), abs=0.1)]


@pytest.mark.parametrize("kind", [MMOE, PLE, SharedBottom])
def test_networks_learn_both_tasks(tmp_path, kind):
    torch.manual_seed(0)
    x, y = rows(4000)
    fitted = trainer(tmp_path, kind(FEATURES, TYPES), n_epoch=6, optimizer_params={"lr": 0.01})
    fitted.fit(feature_loader(x, y, 128, 0))
    auc, error = fitted.evaluate(fitted.model, feature_loader(*rows(2000, seed=1), 500))
    assert auc > 0.78
    assert error == pytest.approx(1, abs=0.15)  # the noise's variance


# What is kept, and what comes back.


class Scripted(nn.Module):
    """Predicts the number of steps it was trained for."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return (self.weight + 0 * x["a"]).float()[:, None].expand(-1, 2).clone()


def test_early_stopping_on_a_regression_keeps_the_epoch_of_the_lowest_error(tmp_path):
    # Torch-RecHub maximises the squared error.
    network = Scripted()
    train = feature_loader({"a": torch.zeros(1)}, torch.full((1, 2), 1e9), 1, 0)
    val = feature_loader({"a": torch.zeros(1)}, torch.full((1, 2), 2.0), 1)
    fitted = trainer(tmp_path, network, ["regression"] * 2, n_epoch=6, earlystop_taskid=1, earlystop_patience=2,
                     optimizer_fn=torch.optim.Adam, optimizer_params={"lr": 1.0})  # fmt: skip
    log = fitted.fit(train, val)
    assert network.weight.item() == pytest.approx(2.0, abs=1e-3)
    assert [row[3] for row in log] == pytest.approx([1, 0, 1, 4], abs=1e-2)


def test_the_direction_may_be_given(tmp_path):
    assert trainer(tmp_path).config.monitor_mode == "max"
    assert trainer(tmp_path, earlystop_taskid=1).config.monitor_mode == "min"
    assert trainer(tmp_path, earlystop_mode="min").config.monitor_mode == "min"


def test_fit_names_the_file_seeds_the_run_and_returns_a_list_an_epoch(tmp_path):
    first, second, other = (trainer(tmp_path / name) for name in "abc")
    plain = lambda: torch.utils.data.DataLoader(  # noqa: E731
        list(zip([{"a": a, "b": b} for a, b in zip(*rows()[0].values(), strict=True)], rows()[1], strict=True)),
        batch_size=16, shuffle=True,
    )  # fmt: skip
    log = first.fit(plain(), loader(5, None), mode="uwl", seed=3)
    assert second.fit(plain(), loader(5, None), seed=3) == log
    assert other.fit(plain(), loader(5, None), seed=4) != log
    assert (tmp_path / "a/model_uwl_3.pth").exists()
    assert (tmp_path / "b/model_base_3.pth").exists()
    assert [len(row) for row in log] == [4] * 3
    assert first.evaluate(first.model, loader(5, None)) == pytest.approx(max(log, key=lambda row: row[2])[2:])


def test_a_single_epoch_returns_each_tasks_loss(tmp_path):
    parts, whole = trainer(tmp_path / "a", seed=0), trainer(tmp_path / "b")
    losses = [parts.train_one_epoch(loader()) for _ in range(3)]
    assert losses == [pytest.approx(row) for row in whole.fit(loader())]
    assert same(parts.model.network, whole.model.network)


def test_evaluation_measures_the_given_network(tmp_path):
    # Torch-RecHub's ignores its argument.
    fitted, other = trainer(tmp_path), mmoe(seed=5).eval()
    x, y = rows()
    # in batches of another size, nearly equal predictions may change places
    expected = pytest.approx(roc_auc(y[:, 0], other(x)[:, 0]), abs=0.005)
    assert fitted.evaluate(other, feature_loader(x, y, 20))[0] == expected
    assert fitted.predict(other, [x]) == other(x).tolist()
    assert fitted.predict(other, [(x, y)]) == other(x).tolist()


@pytest.mark.parametrize("method", METHODS[1:])
def test_adaptive_weights_are_no_part_of_the_saved_network(tmp_path, method):
    # In Torch-RecHub they are, and the file fits no fresh network.
    fitted = trainer(tmp_path, adaptive_params=method)
    fitted.fit(loader(), loader(5, None))
    mmoe(1).load_state_dict(torch.load(tmp_path / "model_base_0.pth", weights_only=True), strict=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_goes_on_with_its_norms_weights_and_first_losses(tmp_path, method, fit_killed_in_epoch_2):
    options = {"adaptive_params": method, "n_epoch": 4, "optimizer_params": {"lr": 0.01}}
    whole = trainer(tmp_path / "a", **options)
    log = whole.fit(loader(), loader(5, None))
    killed = trainer(tmp_path / "b", **options)
    fit_killed_in_epoch_2(killed, loader(), loader(5, None))
    resumed = trainer(tmp_path / "b", mmoe(9), resume=True, **options)
    assert resumed.fit(loader(), loader(5, None)) == log
    assert same(resumed.model.network, whole.model.network)
    assert same(resumed.model.weighting, whole.model.weighting)


def test_adaptive_weights_neither_decay_nor_count_as_weights_of_the_network(tmp_path):
    fitted = trainer(tmp_path, adaptive_params={"method": "uwl"}, regularization_params={"dense_l2": 1.0},
                     optimizer_params={"lr": 0.01, "weight_decay": 0.5})  # fmt: skip
    fitted.fit(loader())
    groups = fitted.model.optimizers_in_use["optimizer"].param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert groups[1]["params"][0] is fitted.model.weighting.log_variances
    network = fitted.model.network
    dense = [p for name, p in network.named_parameters() if "tables" not in name and ".layers.1." not in name]
    expected = sum(p.square().sum() for p in dense).item()
    assert fitted.model.regularization.penalty(network).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_penalties_reach_the_gradient_under_every_method(tmp_path, method):
    plain, pulled = (
        trainer(tmp_path / name, n_epoch=1, adaptive_params=method, regularization_params=params,
                optimizer_fn=torch.optim.SGD, optimizer_params={"lr": 0.01})
        for name, params in (("a", None), ("b", {"embedding_l2": 20.0}))
    )  # fmt: skip
    for each in (plain, pulled):
        each.fit(loader())
    norms = [each.model.network.embedding.tables["a"].weight.detach().norm() for each in (plain, pulled)]
    assert norms[1] < norms[0]


# Labels.


def test_unknown_labels_count_as_if_their_rows_were_not_there(tmp_path):
    x, y = rows(32)
    torch.manual_seed(0)
    y[::2, 1] = torch.nan
    network = SharedBottom(FEATURES, TYPES, (8,), ()).eval()
    known = {name: value[1::2] for name, value in x.items()}
    module = trainer(tmp_path, network).model
    parameters = list(network.parameters())
    gradients = [torch.autograd.grad(losses[1], parameters, allow_unused=True)
                 for losses in (module.losses(x, y), module.losses(known, y[1::2]))]  # fmt: skip
    for one, other in zip(*gradients, strict=True):
        assert (one is None and other is None) or torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_without_any_label_of_a_task_trains_the_other(tmp_path, method):
    x, y = rows(16)
    y[:, 1] = torch.nan
    fitted = trainer(tmp_path, adaptive_params=method, n_epoch=2)
    log = fitted.fit(feature_loader(x, y, 16, 0))
    assert log[1][0] < log[0][0]
    assert all(parameter.isfinite().all() for parameter in fitted.model.parameters())


def test_esmm_learns_from_clicks_and_from_both_never_from_conversions_alone(tmp_path):
    torch.manual_seed(0)
    network = ESMM(FEATURES, (8,)).eval()
    module = trainer(tmp_path, network, ["classification"] * 3).model
    x = rows(32)[0]
    click = (torch.arange(32) % 2).float()
    both = click * (torch.arange(32) % 3 == 0)
    outcomes = []
    for conversion in (torch.zeros(32), torch.ones(32)):
        losses = module.losses(x, torch.stack([conversion, click, both], dim=1))
        assert len(losses) == 2
        outcomes.append(torch.autograd.grad(sum(losses), network.embedding.tables["a"].weight)[0])
    assert torch.equal(*outcomes)


class Conversions(nn.Module):
    """ESMM's conversion tower alone, which only clicked rows can train."""

    def __init__(self):
        super().__init__()
        self.network = ESMM(IDS, (16,))

    def forward(self, x):
        return self.network(x)[:, 0]


IDS = [SparseFeature("id", 1000, 8)]


def mean_conversion(folder, network, x, y, kept):
    """What a network trained on the kept rows thinks of all rows."""
    options = {"n_epoch": 4, "optimizer_params": {"lr": 0.01}}
    labels, train = y[kept], {"id": x["id"][kept]}
    if isinstance(network, ESMM):
        fitted = trainer(folder, network, ["classification"] * 3, **options)
        fitted.fit(feature_loader(train, labels, 512, 0))
        return torch.tensor(fitted.predict(network, feature_loader(x, None, 4096)))[:, 0].mean()
    fitted = CTRTrainer(network, model_path=str(folder), model_logger=CurveLogger(), progress_bar=False, **options)
    fitted.fit(feature_loader(train, labels[:, 0], 512, 0))
    return torch.tensor(fitted.predict(network, feature_loader(x, None, 4096))).mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_esmm_judges_those_who_do_not_click_better_than_what_learns_from_clicks_alone(tmp_path, seed):
    # Who converts clicks more, and who does not click is never seen among clicks.
    generator = torch.Generator().manual_seed(seed)
    eagerness = torch.rand(1000, generator=generator)
    x = {"id": torch.randint(0, 1000, (40_000,), generator=generator)}
    p_click, p_convert = 0.01 + 0.3 * eagerness[x["id"]] ** 3, 0.1 + 0.8 * eagerness[x["id"]]
    click = (torch.rand(40_000, generator=generator) < p_click).float()
    convert = (torch.rand(40_000, generator=generator) < p_convert).float()
    y = torch.stack([convert, click, click * convert], dim=1)
    torch.manual_seed(seed)
    everywhere = mean_conversion(tmp_path / "a", ESMM(IDS, (16,)), x, y, torch.arange(40_000))
    clicked_only = mean_conversion(tmp_path / "b", Conversions(), x, y, click.nonzero().squeeze(1))
    truth = p_convert.mean()
    # other initial weights, ATEN_CPU_CAPABILITY=default, avx2, avx512: .086 to .14 here, at most .028 everywhere
    assert clicked_only - truth > 0.05
    assert abs(everywhere - truth) < 0.5 * abs(clicked_only - truth)


# What is refused, and what is logged.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_types": ["classification", "clustering"]}, "task_types must be a list of classification and"),
        ({"task_types": []}, "task_types must be a list of"),
        ({"adaptive_params": {"method": "gradnrom"}}, r"adaptive_params\['method'\] must be one of uwl"),
        ({"earlystop_taskid": 2}, "earlystop_taskid must be 0 to 1, got 2"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **options)


def test_labels_and_outputs_must_be_one_column_a_task(tmp_path):
    x, y = rows()
    with pytest.raises(ValueError, match=r"labels must have shape \(batch, 2\), one column a task, got \(16, 1\)"):
        trainer(tmp_path).fit(feature_loader(x, y[:, :1], 16, 0))
    with pytest.raises(ValueError, match="the network must give one column for each of task_types"):
        trainer(tmp_path, mmoe(), TYPES + TYPES[:1]).fit(feature_loader(x, torch.cat([y, y[:, :1]], 1), 16, 0))
    with pytest.raises(ValueError, match="task_types must name each output of ESMM"):
        trainer(tmp_path, ESMM(FEATURES), TYPES)


def test_losses_weights_and_scores_are_logged(tmp_path):
    fitted = trainer(tmp_path, adaptive_params={"method": "gradnorm"})
    fitted.fit(loader(), loader(5, None))
    assert set(fitted.logger.rows[0]) == {
        "train/loss", "train/task_0_loss", "train/task_1_loss", "loss_weight/task_0", "loss_weight/task_1",
        "val/task_0_score", "val/task_1_score", "learning_rate",
    }  # fmt: skip
