"""What CTRTrainer, MatchTrainer and MTLTrainer share: any network, a loss, page 001's arguments."""

import inspect
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from genrec.layers.processes import WHOLE_BATCH, mean_of_all, n_processes, process_rank, rows_of_all
from genrec.tasks.features import Batch, FeatureEmbedding
from genrec.tasks.regularization import Regularization
from genrec.training.base import BaseTrainer, check_gpus, check_loader
from genrec.training.config import TrainingConfig
from genrec.training.failures import FiniteTraining
from genrec.training.lightning import Callback, EarlyStopping, Logger, pl
from genrec.training.modes import evaluating

log = logging.getLogger(__name__)

# these change the rate after each batch, all others after each epoch
BATCH_SCHEDULERS = (OneCycleLR, CyclicLR)
DEFAULT_OPTIMIZER = {"lr": 1e-3, "weight_decay": 1e-5}

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Optimization:
    """Page 001's optimizer and scheduler: two torch classes, or functions that make them, and their arguments.

    Attributes:
        optimizer_params: None is `DEFAULT_OPTIMIZER`, as far as the optimizer takes it and was not given its own.
    """

    optimizer_fn: Any
    optimizer_params: Options | None
    scheduler_fn: Any
    scheduler_params: Options
    n_epoch: int
    monitor: str
    monitor_mode: str

    def __post_init__(self) -> None:
        for name, made in (("optimizer_fn", self.optimizer_fn), ("scheduler_fn", self.scheduler_fn)):
            if not callable(made) and not (made is None and name == "scheduler_fn"):
                raise ValueError(
                    f"{name} must be a class or a function, such as torch.optim.Adam, and its arguments stand in "
                    f"{name.removesuffix('fn')}params; got {made!r}"
                )

    def optimizer(self, network: nn.Module, weighting: nn.Module | None) -> Any:
        """The network's weights, and those of a loss weighting, which never decay."""
        groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
        own = [] if weighting is None else list(weighting.parameters())
        if own:
            groups.append({"params": own, "weight_decay": 0.0})
        params = self.optimizer_params
        if params is None:
            is_given = _own_arguments(self.optimizer_fn)
            params = {name: value for name, value in DEFAULT_OPTIMIZER.items() if not is_given.get(name, True)}
        optimizer = self.optimizer_fn(groups, **params)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(f"optimizer_fn must make a torch optimizer, got {type(optimizer).__name__}")
        return optimizer

    def scheduler(self, optimizer: Any, steps_per_epoch: int, validates: bool) -> dict[str, Any]:
        """What Lightning needs to step a scheduler of any class.

        Raises:
            ValueError: a plateau is looked for in the wrong direction, or it is no scheduler.
        """
        made, given = _unwrapped_partial(self.scheduler_fn)
        params, given = dict(self.scheduler_params), {**given, **self.scheduler_params}
        monitor, mode = (self.monitor, self.monitor_mode) if validates else ("train/loss", "min")
        if _is_subclass(made, ReduceLROnPlateau) and "mode" not in given:
            params["mode"] = mode
        if _is_subclass(made, OneCycleLR) and not {"total_steps", "epochs"} & set(given):
            params["total_steps"] = self.n_epoch * steps_per_epoch
        scheduler = self.scheduler_fn(optimizer, **params)
        if not isinstance(scheduler, LRScheduler):
            raise ValueError(f"scheduler_fn must make a torch scheduler, got {type(scheduler).__name__}")
        if isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode != mode:
            raise ValueError(f"the plateau is one of {monitor}, so its mode must be {mode!r}, got {scheduler.mode!r}")
        return {"scheduler": scheduler, "interval": _interval(scheduler), "monitor": monitor}


def _unwrapped_partial(made: Any) -> tuple[Any, dict[str, Any]]:
    """The class or function within functools.partial, and the arguments that it was given there."""
    given: dict[str, Any] = {}
    while isinstance(made, partial):
        given = {**made.keywords, **given}
        made = made.func
    return made, given


def _own_arguments(made: Any) -> dict[str, bool]:
    """The arguments that a class or function takes by name, and whether functools.partial gave them already."""
    _, given = _unwrapped_partial(made)
    return {name: name in given for name in inspect.signature(made).parameters}


def _is_subclass(made: Any, kind: type) -> bool:
    return isinstance(made, type) and issubclass(made, kind)


def _interval(scheduler: Any) -> str:
    """`step` for one that is made for batches, or for a combination that holds one."""
    parts = getattr(scheduler, "_schedulers", [])
    return (
        "step"
        if any(_interval(part) == "step" for part in parts) or isinstance(scheduler, BATCH_SCHEDULERS)
        else "epoch"
    )


class TaskModule(pl.LightningModule):
    """A network with its loss; a checkpoint of it holds all that a resumed run needs.

    Attributes:
        optimizers_in_use: kept from one call of `train_one_epoch` to the next.
    """

    def __init__(self, network: nn.Module, optimization: Optimization, regularization: Regularization) -> None:
        super().__init__()
        self.network = unwrapped(network)
        self.optimization = optimization
        self.regularization = regularization
        self.weighting: nn.Module | None = None
        self.optimizers_in_use: Any = None
        self.losses_seen: list[tuple[Tensor, int]] = []
        self.has_left_out = False
        self.mean_loss = math.nan

    def forward(self, x: Batch) -> Any:
        return self.network(x)

    def loss(self, x: Batch, labels: Tensor | None) -> Tensor | None:
        """The loss of a batch, (); None where it has nothing to learn from.

        Of several processes each has its share of the batch, and what the mean of the processes makes the batch's loss.
        """
        raise NotImplementedError

    def scores(self) -> dict[str, float]:
        """The figures of the batches that `collect` took since the last call, under the names that are logged."""
        raise NotImplementedError

    def collect(self, x: Batch, labels: Tensor | None) -> None:
        """Take a batch that is evaluated."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        x, labels = split_batch(batch, self.device)
        loss = None if self.leaves_out(x) else self.loss(x, labels)
        if loss is None:
            return None
        self.losses_seen.append((loss.detach(), rows_of_all(batch_size(x))))
        return loss if self.regularization.is_off else loss + self.regularization.penalty(self.network)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.collect(*split_batch(batch, self.device))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lightning's hook: a GPU aborts on a category that is no row of its table, and to look there is to wait."""
        if self.device.type != "cpu":
            check_features(self.network, split_batch(batch, torch.device("cpu"))[0])
        return batch

    def leaves_out(self, x: Batch) -> bool:
        """Whether a batch is a single row, such as an epoch's last one, that batch normalisation cannot train on."""
        if batch_size(x) > 1 or n_processes() > 1:  # of which each has a row
            return False
        if not any(isinstance(each, _BatchNorm) for each in self.network.modules()):
            return False
        if not self.has_left_out:
            log.warning("a batch of a single row is left out: batch normalisation needs two rows to train on")
        self.has_left_out = True
        return True

    def on_train_epoch_start(self) -> None:
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        self.log("learning_rate", float(optimizer.param_groups[0]["lr"]))

    def on_train_epoch_end(self) -> None:
        if self.has_left_out and not self.losses_seen:
            raise ValueError("batch normalisation needs batches of two rows or more, all have one; raise batch_size")
        self.mean_loss = weighted_mean(self.losses_seen)
        self.losses_seen = []
        self.log("train/loss", self.mean_loss)

    def on_validation_epoch_end(self) -> None:
        for name, value in self.scores().items():
            self.log(f"val/{name}", value)

    def configure_optimizers(self) -> Any:
        if self.optimizers_in_use is None:
            optimizer = self.optimization.optimizer(self.network, self.weighting)
            self.optimizers_in_use = {"optimizer": optimizer}
            if self.optimization.scheduler_fn is not None:
                steps = steps_per_epoch(self.trainer)
                validates = bool(self.trainer.num_val_batches) or self.trainer.enable_validation
                self.optimizers_in_use["lr_scheduler"] = self.optimization.scheduler(optimizer, steps, validates)
        return self.optimizers_in_use


def check_features(network: nn.Module, x: Batch) -> None:
    """Refuse categories that no table of a network has; for features that are still on the CPU.

    Raises:
        ValueError: names the feature, the value and the limit.
    """
    for module in network.modules():
        if isinstance(module, FeatureEmbedding):
            module.check(x)


def steps_per_epoch(trainer: pl.Trainer) -> int:
    """How often an epoch steps; 0 where the loader knows no length."""
    total = trainer.estimated_stepping_batches
    return 0 if math.isinf(total) else int(total) // (trainer.max_epochs or 1)


class FiniteSteps(FiniteTraining):
    """Losses and gradients must be finite; a score need not be: the AUC of one class is undefined."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pass


class LoaderSeed(Callback):
    """An epoch's order of rows follows from (seed, epoch): a shuffling loader draws it when its iterator is made."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.is_resuming = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.is_resuming = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)
        if self.is_resuming:
            # a resumed run's iterator is there already: its making draws this number in every other epoch
            torch.empty((), dtype=torch.int64).random_()
            self.is_resuming = False


class TaskTrainer(BaseTrainer):
    """Trains a network as page 001 says; afterwards network and `model_path` have the weights of the best epoch.

    Args:
        network: any module from a batch of features, by name, to what the task predicts.
        config: what `training_config` made of page 001's arguments.
    """

    model: TaskModule

    def __init__(self, model: TaskModule, config: TrainingConfig, device: str, model_path: str, logger: Any) -> None:
        super().__init__(model, config, logger)
        self.device = torch.device(device)
        self.model_path = Path(model_path).expanduser()
        self.is_between_epochs = False

    def train_one_epoch(self, data_loader: DataLoader[Any], log_interval: int = 10) -> Any:
        """Go on for one epoch, with the optimizer and the scheduler of the epoch before.

        Args:
            log_interval: kept for code that names it; metrics are logged by epoch.

        Returns:
            The mean loss.
        """
        if self.is_between_epochs and self.trainer is not None:
            self.trainer.fit_loop.max_epochs = self.trainer.current_epoch + 1
        else:
            self._forget_optimizers()
            self.setup_trainer()
            assert self.trainer is not None
            self.trainer.fit_loop.max_epochs = 1
            self.is_between_epochs = True
        data_loader = as_loader(data_loader, "data_loader")
        check_loader(data_loader, "data_loader")
        self.model.train()
        with self._quiet():
            self.trainer.fit(self.model, data_loader, weights_only=True)
        return self.model.mean_loss

    def evaluate(self, model: nn.Module, data_loader: Iterable[Any]) -> Any:
        """The task's figures of a model, wrapped or bare, on labelled batches."""
        raise NotImplementedError

    @torch.no_grad()
    def predict(self, model: nn.Module, data_loader: Iterable[Any]) -> list[Any]:
        """What a model, wrapped or bare, says of each row, in the loader's order; labels are not needed."""
        network = self._network_of(model)
        with evaluating(network):
            outputs = [self._output(network, x) for x, _ in self._batches(data_loader, network)]
        return torch.cat(outputs).tolist() if outputs else []

    def _output(self, network: nn.Module, x: Batch) -> Tensor:
        output: Tensor = network(x)
        return output.cpu()

    def _run(self, train: DataLoader[Any], val: DataLoader[Any] | None, file: str) -> None:
        """A run of its own: new optimizers and patience, the weights as they are; write the best ones."""
        self.is_between_epochs = False
        self._forget_optimizers()
        self.train(as_loader(train, "train_dataloader"), None if val is None else as_loader(val, "val_dataloader"))
        if process_rank() > 0:
            return
        self.model_path.mkdir(parents=True, exist_ok=True)
        torch.save(plain(self.model.network).state_dict(), self.model_path / file)

    def _figures(self, model: nn.Module, data_loader: Iterable[Any]) -> dict[str, float]:
        """What validation would measure of another network."""
        own, self.model.network = self.model.network, self._network_of(model)
        try:
            with evaluating(self.model.network), torch.no_grad():
                n_batches = 0
                for x, labels in self._batches(data_loader, self.model.network):
                    WHOLE_BATCH.begin(batch_size(x), 0, self.device)
                    self.model.collect(x, labels)
                    n_batches += 1
                if n_batches == 0:
                    raise ValueError("an evaluation needs rows, but data_loader holds no batch")
                return self.model.scores()
        finally:
            self.model.network = own

    def _network_of(self, model: nn.Module) -> nn.Module:
        return unwrapped(model).to(self.device)

    def _batches(self, data_loader: Iterable[Any], network: nn.Module) -> Iterator[tuple[Batch, Tensor | None]]:
        """Batches on the device, looked at before, as Lightning's are in a training."""
        for batch in data_loader:
            if self.device.type != "cpu":
                check_features(network, split_batch(batch, torch.device("cpu"))[0])
            yield split_batch(batch, self.device)

    def _forget_optimizers(self) -> None:
        self.model.optimizers_in_use = None
        self.model.losses_seen = []

    def _restore_best(self) -> None:
        """Unlike the base's: where no epoch could be measured the last weights stay, with a warning."""
        score = self._best_score()
        if score is not None and not math.isfinite(score):
            log.warning(
                "%s was never finite, so no epoch is the best: the last weights stay (a validation set of one class?)",
                self.config.monitor,
            )
            return
        super()._restore_best()

    def _selection(self) -> list[Callback]:
        callbacks = super()._selection()
        for callback in callbacks:
            if isinstance(callback, EarlyStopping):
                callback.check_finite = False  # an epoch that cannot be measured is one without gain
        return callbacks

    def _callbacks(self) -> list[Callback]:
        others = [each for each in super()._callbacks() if not isinstance(each, FiniteTraining)]
        return [LoaderSeed(self.config.random_seed), FiniteSteps(), *others]


def training_config(
    *,
    name: str,
    n_epoch: int,
    earlystop_patience: int,
    device: str,
    gpus: list[int] | None,
    model_path: str,
    monitor: str,
    monitor_mode: str,
    seed: int,
    gradient_clip_val: float,
    precision: str,
    resume: bool,
    progress_bar: bool,
    devices: int,
    num_nodes: int,
) -> TrainingConfig:
    """Page 001's arguments as BaseTrainer's config; checkpoints and logs lie beside the saved model."""
    if precision.startswith("16"):
        raise ValueError(f"precision must be 32-true or bf16-mixed: a scaled loss has other gradients, got {precision}")
    name_of_gpus = "gpus" if gpus else "device"
    chosen = gpus or device_ids(device)
    check_gpus(chosen, name_of_gpus, gpus or device, devices)
    return TrainingConfig(
        max_epochs=n_epoch,
        gpus=chosen,
        precision=precision,
        gradient_clip_val=gradient_clip_val,
        checkpoint_dir=str(Path(model_path) / "checkpoints"),
        log_dir=str(Path(model_path) / "logs"),
        experiment_name=name,
        save_top_k=1,
        early_stopping_patience=earlystop_patience,
        random_seed=seed,
        progress_bar=progress_bar,
        monitor=monitor,
        monitor_mode=monitor_mode,
        resume=resume,
        devices=devices,
        num_nodes=num_nodes,
    )


def device_ids(device: str) -> list[int]:
    """The GPUs that a device's name stands for.

    Example:
        >>> device_ids("cpu"), device_ids("cuda:1"), device_ids("cuda")
        ([], [1], [0])
    """
    found = torch.device(device)
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda:<number>', got {device!r}")
    return [] if found.type == "cpu" else [found.index or 0]


def split_batch(batch: Any, device: torch.device) -> tuple[Batch, Tensor | None]:
    """Features and labels of a batch, which is (features, labels), (features,) or features alone, on a device.

    Raises:
        ValueError: it is something else, or holds what is no array of numbers, or features and labels of no row or of
            differently many.
    """
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if not 1 <= len(parts) <= 2 or not isinstance(parts[0], Mapping):
        raise ValueError(f"a batch must be (features by name, labels) or features by name, got {type(batch).__name__}")
    x = {name: as_tensor(value, name, device) for name, value in parts[0].items()}
    labels = as_tensor(parts[1], "labels", device) if len(parts) == 2 and parts[1] is not None else None
    n_rows = {name: len(value) for name, value in x.items()} | ({} if labels is None else {"labels": len(labels)})
    if len(set(n_rows.values())) != 1 or batch_size(x) == 0:
        raise ValueError(f"a batch must have rows, of each feature and of the labels equally many, got {n_rows}")
    return x, labels


def as_tensor(value: Any, name: str, device: torch.device) -> Tensor:
    """A feature or labels, given as a tensor, a numpy array or a list of numbers, a row an example."""
    try:
        tensor = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError) as mistake:
        raise ValueError(f"{name} must be numbers, got {type(value).__name__} ({mistake}); encode them first") from None
    if tensor.dim() == 0:
        raise ValueError(f"{name} must have a row for each example, got the single number {tensor.item()}")
    return tensor


def as_loader(loader: Any, name: str) -> Any:
    """A loader that can be read once an epoch; a list of batches becomes one.

    Raises:
        ValueError: it can be read only once, or holds no batch.
    """
    if isinstance(loader, Iterator):
        raise ValueError(
            f"{name} is read anew each epoch, but a {type(loader).__name__} can be read only once; give a DataLoader, "
            "or a list of batches"
        )
    if isinstance(loader, list | tuple):
        # Lightning would take each of its batches for a loader
        loader = DataLoader(loader, batch_size=None)  # type: ignore[arg-type]
    return loader


def batch_size(x: Batch) -> int:
    return len(next(iter(x.values())))


def weighted_mean(values: list[tuple[Tensor, int]]) -> float:
    """The mean over all rows of batches' means; NaN without any.

    Args:
        values: of each batch this process's part of the mean, and the rows of all processes.

    Example:
        >>> weighted_mean([(torch.tensor(1.0), 3), (torch.tensor(5.0), 1)])
        2.0
    """
    if not values:
        return math.nan
    (means,) = mean_of_all([torch.stack([mean for mean, _ in values]).double()])
    sizes = torch.tensor([size for _, size in values], device=means.device)
    return float((means * sizes).sum() / sizes.sum())


def unwrapped(model: nn.Module) -> nn.Module:
    """The network within a trainer's module, or within DataParallel, whose replicas Lightning makes in its place."""
    while isinstance(model, TaskModule | nn.DataParallel):
        model = model.network if isinstance(model, TaskModule) else model.module
    return model


def plain(network: nn.Module) -> nn.Module:
    """The network that `torch.compile` compiled: its weights have the names that any other program knows."""
    return getattr(network, "_orig_mod", network)


def as_logger(model_logger: Any) -> Logger | None:
    """Page 001 has no logger and Torch-RecHub takes one of its own; here it is one of Lightning's."""
    if model_logger is None or isinstance(model_logger, Logger):
        return model_logger
    raise ValueError(f"model_logger must be one of Lightning's loggers, got {type(model_logger).__name__}")
