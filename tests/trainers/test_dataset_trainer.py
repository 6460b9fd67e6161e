"""A trainer with a data set: its split, its loaders, what it keeps, and that an interrupted run goes on."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from genrec.trainers import dataset_trainer
from genrec.trainers.dataset_trainer import DatasetTrainer, EpochSampler, split_sizes, workers_that_pay
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger


class Numbers(Dataset):
    """The numbers 0..n-1."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        return torch.tensor(float(row))


class Running(pl.LightningModule):
    """Its weight is a running code of the batches that it has seen, in their order."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.tolist())
        return self.weight * batch.double().dot(torch.arange(1, len(batch) + 1).double())

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", float(-self.current_epoch))

    def test_step(self, batch, batch_idx):
        self.log("test_n", float(len(batch)), reduce_fx="sum")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0, momentum=0.5)


class Recorded(CurveLogger):
    """Keeps all that is logged."""

    def __init__(self):
        super().__init__()
        self.logged = {}

    def log_metrics(self, metrics, step=None):
        self.logged.update(metrics)


def trainer(folder, dataset, logger=None, kind=DatasetTrainer, **options):
    settings = {
        "max_epochs": 3, "batch_size": 4, "gpus": 0, "early_stopping_patience": 0, "progress_bar": False,
        "gradient_clip_val": 0.0, "checkpoint_dir": str(folder),
    }  # fmt: skip
    return kind(Running(), TrainingConfig(**(settings | options)), dataset, logger or CurveLogger())


@pytest.mark.parametrize("n_samples", range(3, 60))
def test_every_part_of_a_split_has_a_sample(n_samples):
    # int(0.1 * 9) is no validation set at all, int(0.8 * 1) no training set
    sizes = split_sizes(n_samples)
    assert min(sizes) >= 1
    assert sum(sizes) == n_samples
    if n_samples >= 10:
        assert sizes[:2] == (int(0.8 * n_samples), int(0.1 * n_samples))


def test_too_few_samples_to_split_are_refused():
    with pytest.raises(ValueError, match="must have at least 3 samples, got 2; give `train` loaders"):
        split_sizes(2)


def test_the_parts_share_no_sample_and_miss_none(tmp_path):
    parts = [sorted(part.indices) for part in trainer(tmp_path, Numbers(50)).split()]
    assert [len(part) for part in parts] == [40, 5, 5]
    assert sorted(sum(parts, [])) == list(range(50))


def test_the_split_follows_from_the_seed(tmp_path):
    first, second, other = (
        [list(part.indices) for part in trainer(tmp_path, Numbers(50), random_seed=seed).split()] for seed in (1, 1, 2)
    )
    assert first == second != other


def test_only_training_is_shuffled_and_each_epoch_otherwise(tmp_path):
    train, validation, test = trainer(tmp_path, Numbers(50), batch_size=8).create_dataloaders()
    assert [batch.tolist() for batch in validation] == [batch.tolist() for batch in validation]
    assert torch.cat(list(test)).tolist() == [float(row) for row in test.dataset.indices]
    orders = []
    for epoch in (0, 1, 0):
        train.sampler.set_epoch(epoch)
        orders.append(torch.cat(list(train)).tolist())
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(float(row) for row in train.dataset.indices)
    assert [len(batch) for batch in train] == [8] * 5


def test_orders_differ_by_seed_as_well_as_by_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(30, seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


def test_a_small_data_set_is_read_without_worker_processes(tmp_path):
    # four of them take seconds to start and read 50 numbers in none
    assert [loader.num_workers for loader in trainer(tmp_path, Numbers(50)).create_dataloaders()] == [0, 0, 0]


@pytest.mark.parametrize(
    ("n_samples", "at_most", "n_cores", "expected"),
    [(49_999, 4, 8, 0), (120_000, 4, 8, 2), (10**7, 4, 8, 4), (10**7, 4, 2, 2), (10**7, 0, 8, 0)],
)
def test_a_large_data_set_has_as_many_workers_as_pay(n_samples, at_most, n_cores, expected):
    assert workers_that_pay(n_samples, at_most, n_cores) == expected


def test_memory_is_pinned_for_a_gpu_only(tmp_path):
    assert not trainer(tmp_path, Numbers(50)).loader(Numbers(50)).pin_memory
    assert trainer(tmp_path, Numbers(50), gpus=1).loader(Numbers(50)).pin_memory


def test_batches_are_made_by_the_collate_function(tmp_path):
    made = trainer(tmp_path, Numbers(50))
    made.collate_fn = lambda samples: len(samples)
    assert list(made.create_dataloaders()[1]) == [4, 1]


class Measuring(DatasetTrainer):
    """Measures the number of test batches."""

    def figures(self, test_loader):
        return {"n_batches": len(test_loader)}


@pytest.mark.slow
def test_what_was_measured_is_logged_and_kept(tmp_path):
    logger = Recorded()
    made = trainer(tmp_path, Numbers(50), logger, Measuring)
    assert made.train_model() is made.model
    assert made.results == {"test_n": 5, "n_batches": 2}
    assert {name: logger.logged[name] for name in ("test_n", "test_n_batches")} == {"test_n": 5, "test_n_batches": 2}


@pytest.mark.slow
def test_run_test_is_honoured(tmp_path):
    made = trainer(tmp_path, Numbers(50), run_test=False)
    made.train_model()
    assert made.results == {}


@pytest.mark.slow
def test_the_model_is_saved_with_its_best_weights(tmp_path):
    class Worse(Running):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", float(self.current_epoch))

    made = trainer(tmp_path, Numbers(50))
    made.model = Worse()
    best = made.train_model().weight.item()
    assert torch.load(made.file, weights_only=True)["state_dict"]["weight"].item() == best
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["weight"].item()
    assert best != last


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_interrupted_training_goes_on_with_its_own_order(tmp_path, monkeypatch, num_workers):
    # a worker reads ahead: without being told of the epoch it would repeat the first one's order
    monkeypatch.setattr(dataset_trainer, "WORTH_A_WORKER", 1)
    options = {"max_epochs": 4, "num_workers": num_workers}
    whole = trainer(tmp_path / "whole", Numbers(50), **options)
    whole.train_model()
    parts = trainer(tmp_path / "parts", Numbers(50), **(options | {"max_epochs": 2}))
    parts.train_model()
    resumed = trainer(tmp_path / "parts", Numbers(50), **options, resume=True)
    resumed.train_model()
    assert parts.model.seen + resumed.model.seen == whole.model.seen
    assert resumed.model.weight == whole.model.weight


@pytest.mark.slow
def test_a_finished_run_that_is_resumed_saves_the_same_model_and_measures_it_again(tmp_path):
    first = trainer(tmp_path, Numbers(50))
    first.train_model()
    saved = first.file.read_bytes()
    resumed = trainer(tmp_path, Numbers(50), resume=True)
    resumed.train_model()
    assert resumed.model.seen == []
    assert resumed.model.weight == first.model.weight != 0
    assert resumed.file.read_bytes() == saved
    assert resumed.results == first.results
