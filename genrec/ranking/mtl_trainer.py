"""MTLTrainer: several labels at once, their losses weighted by a strategy."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from genrec.layers.finite import check_finite
from genrec.layers.processes import gathered, rows_of_all, summed
from genrec.ranking.loss_weighting import EqualWeights, build_weighting
from genrec.ranking.multi_task import check_task_types
from genrec.tasks.auc import roc_auc
from genrec.tasks.features import Batch
from genrec.tasks.probability_losses import masked_task_losses
from genrec.tasks.regularization import Regularization
from genrec.tasks.task_trainer import (
    Optimization,
    Options,
    TaskModule,
    TaskTrainer,
    as_logger,
    batch_size,
    split_batch,
    training_config,
    unwrapped,
    weighted_mean,
)


class MTLModule(TaskModule):
    """A loss a task, weighted; chosen by one task's AUC or mean squared error.

    Attributes:
        trained_tasks: the tasks that have a loss; a network such as ESMM names its own.
        rows: a list an epoch: each trained task's mean loss, then each task's validation score.
    """

    weighting: EqualWeights

    def __init__(
        self,
        network: nn.Module,
        optimization: Optimization,
        regularization: Regularization,
        task_types: list[str],
        adaptive_params: Options | None,
    ) -> None:
        super().__init__(network, optimization, regularization)
        self.task_types = task_types
        self.trained_tasks: Sequence[int] = getattr(network, "trained_tasks", range(len(task_types)))
        self.weighting = build_weighting(adaptive_params, len(self.trained_tasks), network)
        self.task_losses: list[Tensor] = []
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.mean_task_losses: list[float] = []
        self.collected: list[tuple[Tensor, Tensor]] = []
        self.rows: list[list[float]] = []

    def losses(self, x: Batch, labels: Tensor | None) -> list[Tensor]:
        """The loss of each trained task, ().

        Raises:
            ValueError: labels or predictions are not one column a task.
        """
        labels = self._labels(labels)
        predictions = self.network(x)
        if predictions.shape != labels.shape:
            raise ValueError(
                f"the network must give one column for each of task_types={self.task_types}, got shape "
                f"{tuple(predictions.shape)} for labels of {tuple(labels.shape)}"
            )
        trained = list(self.trained_tasks)
        return masked_task_losses(predictions[:, trained], labels[:, trained], [self.task_types[i] for i in trained])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        x, labels = split_batch(batch, self.device)
        if self.leaves_out(x):
            return None
        self.task_losses = self.losses(x, labels)
        if not any(loss.requires_grad for loss in self.task_losses):
            return None
        loss = self.weighting.combine(self.task_losses)
        self.losses_seen.append((loss.detach(), rows_of_all(batch_size(x))))
        assert labels is not None
        n_known = summed((~labels[:, list(self.trained_tasks)].isnan()).sum(0))
        self.seen.append((torch.stack(self.task_losses).detach(), n_known))
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Lightning's hook: the strategy writes the gradients."""
        share = 1 / self.trainer.accumulate_grad_batches
        losses = [each * share if each.requires_grad else each for each in self.task_losses]
        self.weighting.backward(losses, self.regularization.penalty(self.network) * share, self.network)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.weighting.after_step()

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        of_tasks = [
            [(losses[i], int(n_known[i])) for losses, n_known in self.seen if n_known[i]]
            for i in range(len(self.trained_tasks))
        ]
        self.mean_task_losses = [weighted_mean(losses) if losses else 0.0 for losses in of_tasks]
        self.seen = []
        for task, loss in zip(self.trained_tasks, self.mean_task_losses, strict=True):
            self.log(f"train/task_{task}_loss", loss)
        weights = self.weighting.weights()
        if weights is not None:
            for task, weight in zip(self.trained_tasks, weights.tolist(), strict=True):
                self.log(f"loss_weight/task_{task}", weight)
        self.rows.append([*self.mean_task_losses, *self._validation_scores()])

    def _validation_scores(self) -> list[float]:
        """Those of this epoch, [] where nothing validates."""
        measured = self.trainer.callback_metrics
        names = [f"val/task_{task}_score" for task in range(len(self.task_types))]
        return [float(measured[name]) for name in names if name in measured]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["task_rows"] = self.rows

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.rows = checkpoint["task_rows"]

    def collect(self, x: Batch, labels: Tensor | None) -> None:
        total = rows_of_all(batch_size(x))
        self.collected.append((gathered(self._labels(labels), total), gathered(self.network(x), total)))

    def scores(self) -> dict[str, float]:
        labels, predictions = (torch.cat(parts).cpu() for parts in zip(*self.collected, strict=True))
        self.collected = []
        return {
            f"task_{task}_score": task_score(labels[:, task], predictions[:, task], kind)
            for task, kind in enumerate(self.task_types)
        }

    def _labels(self, labels: Tensor | None) -> Tensor:
        if labels is None or labels.dim() != 2 or labels.shape[1] != len(self.task_types):
            got = None if labels is None else tuple(labels.shape)
            raise ValueError(f"labels must have shape (batch, {len(self.task_types)}), one column a task, got {got}")
        return labels.float()


def task_score(labels: Tensor, predictions: Tensor, task_type: str) -> float:
    """The AUC of a classification, the mean squared error of a regression; rows of label NaN do not count."""
    known = ~labels.isnan()
    check_finite(predictions, "predictions")
    if task_type == "classification":
        return roc_auc(labels[known], predictions[known])
    return float((labels[known] - predictions[known]).square().mean())


class MTLTrainer(TaskTrainer):
    """Trains any network of (batch, n_tasks) outputs; see page 001. Further arguments as for `CTRTrainer`.

    Args:
        task_types: `classification` (probabilities; AUC) or `regression` (mean squared error) for each task. ESMM has
            three: conversion, click, and both.
        adaptive_params: `{"method": "uwl"}`, `{"method": "metabalance", "relax_factor": 0.7, "beta": 0.9}`,
            `{"method": "gradnorm", "alpha": 0.16}` or `{"method": "jd", "aggregator": "AlignedMTL"}`; by default the
            mean of the losses. MetaBalance's main task is the first.
        earlystop_taskid: the task whose score chooses the best epoch.
        earlystop_mode: `max` or `min`; by default what suits the task's score.
    """

    model: MTLModule

    def __init__(
        self,
        model: nn.Module,
        task_types: Sequence[str],
        optimizer_fn: Any = torch.optim.Adam,
        optimizer_params: Options | None = None,
        scheduler_fn: Any = None,
        scheduler_params: Options | None = None,
        adaptive_params: Options | None = None,
        n_epoch: int = 10,
        earlystop_taskid: int = 0,
        earlystop_patience: int = 10,
        device: str = "cpu",
        gpus: list[int] | None = None,
        model_path: str = "./",
        *,
        earlystop_mode: str | None = None,
        regularization_params: Options | None = None,
        model_logger: Any = None,
        seed: int = 42,
        gradient_clip_val: float = 0.0,
        precision: str = "32-true",
        resume: bool = False,
        progress_bar: bool = True,
        experiment_name: str = "mtl",
        devices: int = 1,
        num_nodes: int = 1,
    ) -> None:
        model = unwrapped(model)
        types = check_task_types(task_types)
        if earlystop_taskid not in range(len(types)):
            raise ValueError(f"earlystop_taskid must be 0 to {len(types) - 1}, got {earlystop_taskid}")
        if max(getattr(model, "trained_tasks", (0,))) >= len(types):
            raise ValueError(f"task_types must name each output of {type(model).__name__}, got {types}")
        config = training_config(
            name=experiment_name, n_epoch=n_epoch, earlystop_patience=earlystop_patience, device=device, gpus=gpus,
            model_path=model_path, monitor=f"val/task_{earlystop_taskid}_score",
            monitor_mode=earlystop_mode or ("max" if types[earlystop_taskid] == "classification" else "min"),
            seed=seed, gradient_clip_val=gradient_clip_val, precision=precision, resume=resume,
            progress_bar=progress_bar, devices=devices, num_nodes=num_nodes,
        )  # fmt: skip
        optimization = Optimization(
            optimizer_fn, optimizer_params, scheduler_fn, scheduler_params or {}, n_epoch,
            config.monitor, config.monitor_mode,
        )  # fmt: skip
        regularization = Regularization(**(regularization_params or {}))
        module = MTLModule(model, optimization, regularization, types, adaptive_params)
        super().__init__(module, config, device, model_path, as_logger(model_logger))

    def fit(
        self,
        train_dataloader: DataLoader[Any],
        val_dataloader: DataLoader[Any] | None = None,
        mode: str = "base",
        seed: int = 0,
    ) -> list[list[float]]:
        """Train; keep the best weights and write them to `model_{mode}_{seed}.pth`.

        Args:
            seed: of this run's order of rows and dropout.

        Returns:
            A list an epoch: each trained task's loss, then each task's validation score.
        """
        self.config.random_seed = seed
        self.model.rows = []
        self._run(train_dataloader, val_dataloader, f"model_{mode}_{seed}.pth")
        return self.model.rows

    def train_one_epoch(self, data_loader: DataLoader[Any], log_interval: int = 10) -> list[float]:
        """Go on for one epoch; each trained task's mean loss."""
        super().train_one_epoch(data_loader, log_interval)
        return self.model.mean_task_losses

    def evaluate(self, model: nn.Module, data_loader: Iterable[Any]) -> list[float]:
        """Each task's AUC or mean squared error."""
        return list(self._figures(model, data_loader).values())
