"""MatchTrainer: two towers for retrieval, from single, paired or listed items, or from each other's items."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from genrec.layers.finite import check_ordered
from genrec.layers.processes import gathered, n_processes, process_rank, rows_of_all, weight_of
from genrec.retrieval.ranks import discounted_gain, users_at_once
from genrec.tasks.auc import roc_auc
from genrec.tasks.features import Batch
from genrec.tasks.probability_losses import (
    bayesian_personalized_ranking,
    binary_cross_entropy,
    known_labels,
    softmax_cross_entropy,
)
from genrec.tasks.regularization import Regularization
from genrec.tasks.task_trainer import (
    Optimization,
    Options,
    TaskModule,
    TaskTrainer,
    as_loader,
    as_logger,
    as_tensor,
    check_features,
    plain,
    training_config,
    unwrapped,
)
from genrec.towers.in_batch import all_in_batch, in_batch_logits, in_batch_negatives, log_sampling_probability
from genrec.training.base import check_loader
from genrec.training.modes import evaluating

POINT_WISE, PAIR_WISE, LIST_WISE = MODES = (0, 1, 2)
CUTOFFS = (5, 10, 20)


@dataclass(frozen=True)
class InBatch:
    """How a batch's rows serve each other as negatives.

    Attributes:
        n_negatives: None takes all other rows.
        hard: the best scored instead of random ones.
        seed: of the draws; None draws from the epoch's own randomness.
        log_q: (n_items + 1,) of `log_sampling_probability`, None without correction.
    """

    n_negatives: int | None
    hard: bool
    seed: int | None
    log_q: Tensor | None


class MatchModule(TaskModule):
    """A two-tower network; validated by ranking the whole catalogue.

    Args:
        mode: 0 point-wise, 1 pair-wise, 2 list-wise.
        in_batch: None learns from the negatives that the batches hold.
        item_name: the feature that is the item's id.
    """

    def __init__(
        self,
        network: nn.Module,
        optimization: Optimization,
        regularization: Regularization,
        mode: int,
        in_batch: InBatch | None,
        item_name: str,
    ) -> None:
        super().__init__(network, optimization, regularization)
        self.mode = mode
        self.in_batch = in_batch
        self.item_name = item_name
        self.catalogue: dict[str, Tensor] = {}
        self.generator: torch.Generator | None = None
        self.users: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.clicks: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.in_batch is not None and self.in_batch.seed is not None:
            # by epoch, so that a resumed run draws the same
            self.generator = torch.Generator().manual_seed(self.in_batch.seed * 1_000_003 + self.current_epoch)

    def loss(self, x: Batch, labels: Tensor | None) -> Tensor | None:
        if self.in_batch is not None:
            return self._in_batch_loss(x, self.in_batch)
        output = self.network(x)
        if self.mode == POINT_WISE:
            if labels is None:
                raise ValueError("mode 0 needs batches of (features, labels), got features alone")
            if output.shape[1:].numel() != 1:
                raise ValueError(
                    f"mode 0 learns from labels, but the batch holds negatives ({', '.join(sorted(x))}); leave them "
                    "out, or choose mode 1 or 2"
                )
            predicted, actual = known_labels(output, labels)
            return binary_cross_entropy(predicted, actual) if len(actual) else None
        if not isinstance(output, tuple) and (output.dim() != 2 or output.shape[1] < 2):
            negatives = " and ".join(f"neg_{name}" for name in item_names(self.network))
            raise ValueError(
                f"mode {self.mode} needs negative items, but the network gave shape {tuple(output.shape)} for "
                f"{', '.join(sorted(x))}; add {negatives} to the batches, (batch, n) each, or set in_batch_neg=True"
            )
        if self.mode == PAIR_WISE:
            positive, negative = output if isinstance(output, tuple) else (output[:, 0], output[:, 1:])
            return bayesian_personalized_ranking(positive, negative)
        return softmax_cross_entropy(output, output.new_zeros(len(output), dtype=torch.long))

    def _in_batch_loss(self, x: Batch, in_batch: InBatch) -> Tensor | None:
        """Of this process's rows, among the items of all processes' rows."""
        total = rows_of_all(len(x[self.item_name]))
        users, items = self._vectors("user", x), gathered(self._vectors("item", x), total)
        item_ids = gathered(x[self.item_name], total)
        if bool((item_ids == item_ids[0]).all()):
            return None  # no row has another item to learn from
        scores = users @ items.T / float(getattr(self.network, "temperature", 1.0))
        if in_batch.log_q is not None:
            scores = scores - in_batch.log_q.to(scores)[item_ids]
        rows = torch.arange(process_rank(), len(item_ids), n_processes(), device=scores.device)
        if in_batch.n_negatives is None:
            logits, positives = all_in_batch(scores, item_ids, rows), rows
        else:
            chosen = in_batch_negatives(
                scores, in_batch.n_negatives, hard=in_batch.hard, item_ids=item_ids, generator=self.generator
            )
            logits, positives = in_batch_logits(scores, chosen), torch.zeros_like(rows)
        if self.mode == PAIR_WISE:
            others = logits.scatter(1, positives[:, None], -torch.inf)
            return bayesian_personalized_ranking(scores.diagonal(), others)
        return softmax_cross_entropy(logits, positives) * weight_of(len(rows), len(item_ids))

    def _vectors(self, tower: str, x: Batch) -> Tensor:
        return tower_vectors(self.network, tower, x)

    def collect(self, x: Batch, labels: Tensor | None) -> None:
        """Of labelled rows those of label 1 have an item to be found."""
        # negatives are not ranked: the whole catalogue is
        features = {name: value for name, value in x.items() if not name.startswith("neg_")}
        is_labelled = self.mode == POINT_WISE and self.in_batch is None and labels is not None
        if is_labelled and labels is not None:
            predictions, known = known_labels(self.network(features), labels)
            self.clicks.append((known, predictions))
            features = {name: value[labels.flatten() > 0.5] for name, value in features.items()}
        if len(features[self.item_name]):
            self.users.append(self._vectors("user", features))
            self.targets.append(features[self.item_name].long())

    def scores(self) -> dict[str, float]:
        """NaN where no row has an item to be found, so that no epoch is taken for the best."""
        ranks = self._ranks() if self.targets else torch.zeros(0)
        figures = ranking_figures(ranks)
        if self.clicks:
            labels, predictions = (torch.cat(parts).cpu() for parts in zip(*self.clicks, strict=True))
            figures["auc"] = roc_auc(labels, predictions)
        self.users, self.targets, self.clicks = [], [], []
        return figures

    def _ranks(self) -> Tensor:
        """The rank of each target of all processes, (n_targets,)."""
        items = {name: value.to(self.targets[0].device) for name, value in self.catalogue.items()}
        vectors, item_ids = self._vectors("item", items).float(), items[self.item_name]

        def ranks_of(users: Tensor, targets: Tensor) -> Tensor:
            n_users = users_at_once(len(item_ids), len(users))
            parts = zip(users.split(n_users), targets.split(n_users), strict=True)
            return torch.cat([ranks_of_targets(some.float() @ vectors.T, item_ids, those) for some, those in parts])

        return torch.cat([gathered(ranks_of(*batch)) for batch in zip(self.users, self.targets, strict=True)])


class MatchTrainer(TaskTrainer):
    """Trains any network with a user and an item tower; see page 001. Further arguments as for `CTRTrainer`.

    Validation ranks, for each row, its item among the whole catalogue: recall, NDCG and MRR at 5, 10 and 20, and in
    mode 0 the AUC too. The best epoch is that of the highest recall at 10.

    Args:
        mode: 0: the network gives probabilities, batches labels; 1: it gives (positive, negative) scores or logits
            with the positive first; 2: logits with the positive first.
        in_batch_neg: the items of the other rows are the negatives; rows of the same item are not, and labels and
            negatives of the batches do not count. The loss is BPR in mode 1, else a softmax.
        in_batch_neg_ratio: how many of them; by default all.
        hard_negative: the best scored ones.
        sampler_seed: of the random ones.
        item_counts: (n_items + 1,) how often each item is a training row's; corrects the in-batch softmax for it. Each
            batch must be drawn from all rows alike: rows sorted by anything give its negatives another popularity.
        item_name: the feature that is the item's id, by default the network's first item feature.
        catalogue: the features of all items, one row each; by default all items that the loaders hold.
    """

    model: MatchModule

    def __init__(
        self,
        model: nn.Module,
        mode: int = POINT_WISE,
        optimizer_fn: Any = torch.optim.Adam,
        optimizer_params: Options | None = None,
        scheduler_fn: Any = None,
        scheduler_params: Options | None = None,
        n_epoch: int = 10,
        earlystop_patience: int = 10,
        device: str = "cpu",
        gpus: list[int] | None = None,
        model_path: str = "./",
        *,
        in_batch_neg: bool = False,
        in_batch_neg_ratio: int | None = None,
        hard_negative: bool = False,
        sampler_seed: int | None = None,
        item_counts: Tensor | None = None,
        item_name: str | None = None,
        catalogue: Batch | None = None,
        regularization_params: Options | None = None,
        model_logger: Any = None,
        seed: int = 42,
        gradient_clip_val: float = 0.0,
        precision: str = "32-true",
        resume: bool = False,
        progress_bar: bool = True,
        experiment_name: str = "match",
        devices: int = 1,
        num_nodes: int = 1,
    ) -> None:
        model = unwrapped(model)
        if mode not in MODES:
            raise ValueError(f"mode must be 0 (point-wise), 1 (pair-wise) or 2 (list-wise), got {mode!r}")
        if devices * num_nodes > 1 and not (in_batch_neg and mode == LIST_WISE and in_batch_neg_ratio is None):
            raise ValueError(
                "several processes share the softmax over all items of a batch alone: set in_batch_neg=True, mode=2 "
                "and no in_batch_neg_ratio"
            )
        config = training_config(
            name=experiment_name, n_epoch=n_epoch, earlystop_patience=earlystop_patience, device=device, gpus=gpus,
            model_path=model_path, monitor="val/recall_at_10", monitor_mode="max", seed=seed,
            gradient_clip_val=gradient_clip_val, precision=precision, resume=resume, progress_bar=progress_bar,
            devices=devices, num_nodes=num_nodes,
        )  # fmt: skip
        optimization = Optimization(
            optimizer_fn, optimizer_params, scheduler_fn, scheduler_params or {}, n_epoch,
            config.monitor, config.monitor_mode,
        )  # fmt: skip
        log_q = None if item_counts is None else log_sampling_probability(item_counts)
        in_batch = InBatch(in_batch_neg_ratio, hard_negative, sampler_seed, log_q) if in_batch_neg else None
        module = MatchModule(
            model, optimization, Regularization(**(regularization_params or {})), mode, in_batch,
            item_name or item_names(model)[0],
        )  # fmt: skip
        self.catalogue = None if catalogue is None else catalogue_of(catalogue, item_names(model))
        super().__init__(module, config, device, model_path, as_logger(model_logger))

    def fit(self, train_dataloader: DataLoader[Any], val_dataloader: DataLoader[Any] | None = None) -> None:
        """Train `n_epoch` epochs or until recall stops rising; keep and write the best weights."""
        if val_dataloader is not None:
            loaders = as_loader(train_dataloader, "train_dataloader"), as_loader(val_dataloader, "val_dataloader")
            for loader, name in zip(loaders, ("train_dataloader", "val_dataloader"), strict=True):
                check_loader(loader, name)
            self._know_catalogue(loaders)
        self._run(train_dataloader, val_dataloader, "model.pth")

    def evaluate(self, model: nn.Module, data_loader: Iterable[Any]) -> dict[str, float]:
        """Recall, NDCG and MRR by full ranking, and in mode 0 the AUC."""
        if not self.model.catalogue:
            self._know_catalogue([as_loader(data_loader, "data_loader")])
        return self._figures(model, data_loader)

    def inference_embedding(
        self, model: nn.Module, mode: str, data_loader: Iterable[Any], model_path: str | Path
    ) -> Tensor:
        """The vectors of a tower under the weights of `model_path`/model.pth, which the model has afterwards.

        Args:
            mode: `user` or `item`.
            data_loader: batches, with or without labels.

        Returns:
            (n_rows, dim), on the CPU, in the loader's order.
        """
        network = self._network_of(model)
        weights = torch.load(Path(model_path).expanduser() / "model.pth", map_location=self.device, weights_only=True)
        plain(network).load_state_dict(weights)
        with evaluating(network), torch.no_grad():
            return torch.cat([tower_vectors(network, mode, x).cpu() for x, _ in self._batches(data_loader, network)])

    def _output(self, network: nn.Module, x: Batch) -> Tensor:
        output = network(x)
        return (output[0] if isinstance(output, tuple) else output).cpu()

    def _know_catalogue(self, loaders: Sequence[Any]) -> None:
        """Validation ranks the given catalogue, else every item that the loaders hold."""
        network = self.model.network
        names = item_names(network)
        rows = self.catalogue
        if rows is None:
            batches = [catalogue_of(x, names) for loader in loaders for x, _ in self._batches(loader, network)]
            if not batches:
                raise ValueError("an evaluation needs rows, but data_loader holds no batch")
            rows = {name: torch.cat([x[name] for x in batches]) for name in names}
        item_ids = rows[self.model.item_name].long()
        distinct, place = item_ids.unique(return_inverse=True)
        first = torch.full_like(distinct, len(item_ids)).scatter_reduce(
            0, place, torch.arange(len(item_ids)), "amin", include_self=True
        )
        self.model.catalogue = {name: rows[name][first] for name in names}
        if self.device.type != "cpu":
            check_features(network, self.model.catalogue)


def ranking_figures(ranks: Tensor) -> dict[str, float]:
    """Recall, NDCG and MRR at each cutoff, means over the rows of one positive item each.

    Not by what evaluations measure with: a change there is no reason to train again.

    Args:
        ranks: (n_rows,) int64, 1 = first.
    """
    figures = {}
    for k in CUTOFFS:
        figures[f"recall_at_{k}"] = float((ranks <= k).float().mean())
        figures[f"ndcg_at_{k}"] = float(discounted_gain(ranks, k).mean())
        figures[f"mrr_at_{k}"] = float(torch.where(ranks <= k, 1 / ranks.float(), 0.0).mean())
    return figures


def catalogue_of(features: Batch, names: Sequence[str]) -> dict[str, Tensor]:
    """The features of items, (n_items, ...) each, on the CPU.

    Raises:
        ValueError: one that the item tower reads is missing.
    """
    missing = [name for name in names if name not in features]
    if missing:
        raise ValueError(
            f"ranked items must have the features {', '.join(names)}, but {', '.join(missing)} is missing; got "
            f"{', '.join(features)}"
        )
    return {name: as_tensor(features[name], name, torch.device("cpu")) for name in names}


def item_names(network: nn.Module) -> list[str]:
    """The features that the item tower needs.

    Raises:
        ValueError: the network does not say.
    """
    if hasattr(network, "item_names"):
        return list(network.item_names)  # type: ignore[arg-type]
    if hasattr(network, "item_features"):
        return [feature.name for feature in network.item_features]  # type: ignore[union-attr]
    raise ValueError(f"{type(network).__name__} needs item_names, the features of an item with its id first")


def tower_vectors(network: nn.Module, tower: str, x: Batch) -> Tensor:
    """The vectors of one tower, (batch, dim); the network's own mode is as before afterwards.

    Raises:
        ValueError: no such tower.
    """
    if tower not in ("user", "item"):
        raise ValueError(f"mode must be 'user' or 'item', got {tower!r}")
    before = getattr(network, "mode", None)
    network.mode = tower  # type: ignore[assignment]
    try:
        vectors: Tensor = getattr(network, f"{tower}_tower")(x)
    finally:
        network.mode = before  # type: ignore[assignment]
    return vectors.flatten(1)


def ranks_of_targets(scores: Tensor, item_ids: Tensor, targets: Tensor) -> Tensor:
    """The rank of each row's item; of equal scores the one that stands first in the catalogue ranks first.

    Args:
        scores: (batch, n_items).
        item_ids: (n_items,) ascending, the columns' items.
        targets: (batch,) item ids; one that is not in the catalogue ranks last.

    Returns:
        (batch,) int64, 1 = first.

    Raises:
        UserError: a score is NaN.
    """
    check_ordered(scores)
    places = torch.searchsorted(item_ids, targets).clamp_max(len(item_ids) - 1)
    own = scores.gather(1, places[:, None])
    above = scores > own
    tied_before = (scores == own) & (torch.arange(scores.shape[1], device=scores.device) < places[:, None])
    ranks = 1 + (above | tied_before).sum(1)
    return torch.where(item_ids[places] == targets, ranks, len(item_ids) + 1)
