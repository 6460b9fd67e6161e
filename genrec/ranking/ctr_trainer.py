"""CTRTrainer: one label, such as a click."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from genrec.layers.finite import check_finite
from genrec.layers.processes import gathered, rows_of_all, total_of, weight_of
from genrec.tasks.auc import roc_auc
from genrec.tasks.features import Batch
from genrec.tasks.probability_losses import binary_cross_entropy, known_labels
from genrec.tasks.regularization import Regularization
from genrec.tasks.task_trainer import (
    Optimization,
    Options,
    TaskModule,
    TaskTrainer,
    as_logger,
    training_config,
)

Measure = Callable[[Tensor, Tensor], float]


class CTRModule(TaskModule):
    """Binary cross-entropy, chosen by AUC.

    Args:
        returns_loss: the network gives (probabilities, a loss of its own that is added).
        evaluate_fn: (labels, predictions) to a figure.
    """

    def __init__(
        self,
        network: nn.Module,
        optimization: Optimization,
        regularization: Regularization,
        returns_loss: bool,
        evaluate_fn: Measure,
    ) -> None:
        super().__init__(network, optimization, regularization)
        self.returns_loss = returns_loss
        self.evaluate_fn = evaluate_fn
        self.collected: list[tuple[Tensor, Tensor]] = []

    def predictions(self, x: Batch) -> Tensor:
        """(batch,)."""
        output = self.network(x)
        return (output[0] if self.returns_loss else output).flatten()

    def loss(self, x: Batch, labels: Tensor | None) -> Tensor | None:
        if labels is None:
            raise ValueError("training needs batches of (features, labels), got features alone")
        output = self.network(x)
        predictions, extra = output if self.returns_loss else (output, None)
        predicted, actual = known_labels(predictions, labels)
        total = total_of(len(actual), actual.device)
        if total == 0:
            return extra
        loss = binary_cross_entropy(predicted, actual) if len(actual) else predictions.sum() * 0
        loss = loss * weight_of(len(actual), total)
        return loss if extra is None else loss + extra

    def collect(self, x: Batch, labels: Tensor | None) -> None:
        if labels is None:
            raise ValueError("evaluation needs batches of (features, labels), got features alone")
        total = rows_of_all(len(labels))
        predictions, labels = known_labels(gathered(self.predictions(x), total), gathered(labels, total))
        self.collected.append((labels, predictions))

    def scores(self) -> dict[str, float]:
        labels, predictions = (torch.cat(parts).cpu() for parts in zip(*self.collected, strict=True))
        self.collected = []
        check_finite(predictions, "predictions")
        return {"auc": self.evaluate_fn(labels, predictions)}


class CTRTrainer(TaskTrainer):
    """Trains any network that gives probabilities; see page 001. Rows of label NaN, not known, do not count.

    Args:
        optimizer_fn, optimizer_params: a torch optimizer, or a function that makes one, and its arguments, by default
            Adam with lr 1e-3 and weight_decay 1e-5.
        scheduler_fn, scheduler_params: any torch scheduler, or a function that makes one, and its arguments; stepped
            each epoch, those made for it (OneCycleLR, CyclicLR) and what combines them each batch.
        earlystop_patience: epochs without gain in AUC; 0 never stops early.
        gpus: the id of one GPU, in a list; `device` counts where there is none.
        loss_mode: False for a network that returns (probabilities, a loss that is added).
        model_path: the folder of model.pth, the best epoch's weights, and of checkpoints.
        regularization_params: `embedding_l1`, `embedding_l2`, `dense_l1`, `dense_l2`.
        model_logger: one of Lightning's loggers; by default TensorBoard's.
        evaluate_fn: (labels, predictions) to a figure to be maximised, in place of the AUC.
        seed: of the rows' order and dropout; each epoch's follow from it and the epoch.
        resume: go on from the last whole epoch of an interrupted run.
        experiment_name: stands before what is said of the training.
        devices, num_nodes: how many processes of a machine, and machines, train together.
    """

    model: CTRModule

    def __init__(
        self,
        model: nn.Module,
        optimizer_fn: Any = torch.optim.Adam,
        optimizer_params: Options | None = None,
        scheduler_fn: Any = None,
        scheduler_params: Options | None = None,
        n_epoch: int = 10,
        earlystop_patience: int = 10,
        device: str = "cpu",
        gpus: list[int] | None = None,
        loss_mode: bool = True,
        model_path: str = "./",
        *,
        regularization_params: Options | None = None,
        model_logger: Any = None,
        evaluate_fn: Measure = roc_auc,
        seed: int = 42,
        gradient_clip_val: float = 0.0,
        precision: str = "32-true",
        resume: bool = False,
        progress_bar: bool = True,
        experiment_name: str = "ctr",
        devices: int = 1,
        num_nodes: int = 1,
    ) -> None:
        if devices * num_nodes > 1 and not loss_mode:
            raise ValueError("several processes need a loss that they can share, so loss_mode must be True")
        config = training_config(
            name=experiment_name, n_epoch=n_epoch, earlystop_patience=earlystop_patience, device=device, gpus=gpus,
            model_path=model_path, monitor="val/auc", monitor_mode="max", seed=seed,
            gradient_clip_val=gradient_clip_val, precision=precision, resume=resume, progress_bar=progress_bar,
            devices=devices, num_nodes=num_nodes,
        )  # fmt: skip
        optimization = Optimization(
            optimizer_fn, optimizer_params, scheduler_fn, scheduler_params or {}, n_epoch,
            config.monitor, config.monitor_mode,
        )  # fmt: skip
        regularization = Regularization(**(regularization_params or {}))
        module = CTRModule(model, optimization, regularization, not loss_mode, evaluate_fn)
        super().__init__(module, config, device, model_path, as_logger(model_logger))

    def fit(self, train_dataloader: DataLoader[Any], val_dataloader: DataLoader[Any] | None = None) -> None:
        """Train `n_epoch` epochs or until the AUC stops rising; keep and write the best weights."""
        self._run(train_dataloader, val_dataloader, "model.pth")

    def evaluate(self, model: nn.Module, data_loader: Iterable[Any]) -> float:
        """The AUC."""
        return self._figures(model, data_loader)["auc"]

    def _output(self, network: nn.Module, x: Batch) -> Tensor:
        output = network(x)
        return (output[0] if self.model.returns_loss else output).flatten().cpu()
