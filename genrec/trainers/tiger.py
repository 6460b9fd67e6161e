"""Train TIGER on a data set of token sequences: `python -m genrec.trainers.tiger --help`.

The pipeline trains in stages/train_tiger.py, by the same loop (docs/decisions/10).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from genrec.data.base_dataset import SequenceDataset
from genrec.data.dataset_factory import DatasetFactory
from genrec.models.tiger import Tiger
from genrec.modules.recommendation_metrics import RecommendationMetrics
from genrec.trainers.dataset_trainer import DatasetTrainer
from genrec.trainers.script import shared_fields, train_and_report, training_parser
from genrec.training.config import TrainingConfig
from genrec.training.lightning import Logger, seed_everything

SPLITS = ("train", "val", "test")


@dataclass
class TIGERTrainingConfig(TrainingConfig):
    """Page 000's defaults.

    Attributes:
        vocab_size: tokens with padding; a data set says how many it has, `SequenceDataset.vocab_size`.
        max_seq_length: tokens of a history.
        max_generation_length: tokens to generate at most; an item has code_length.
        generation_temperature, generation_top_k, generation_top_p: of the distribution in which evaluations search.
        pretrained_rqvae_path: the tokenizer's checkpoint.
        eval_generation: measure ranked items at each of `eval_k_values` at the end of `train_model`.
    """

    vocab_size: int = 1024
    embedding_dim: int = 512
    num_heads: int = 8
    num_layers: int = 6
    attn_dim: int = 2048
    dropout: float = 0.1
    max_seq_length: int = 100
    learning_rate: float = 1e-4
    batch_size: int = 16
    max_epochs: int = 50
    max_generation_length: int = 50
    generation_temperature: float = 1.0
    generation_top_k: int | None = 50
    generation_top_p: float | None = 0.9
    dataset_name: str = "p5_amazon"
    dataset_split: str = "beauty"
    pretrained_rqvae_path: str = "checkpoints/rqvae.ckpt"
    eval_generation: bool = True
    eval_k_values: list[int] = field(default_factory=lambda: [5, 10, 20])


class TIGERTrainer(DatasetTrainer):
    """Trains a `Tiger` on the token sequences of a data set, and gives it the data set's code table.

    Raises:
        ValueError: the model was not made for the data set's tokens.
    """

    model: Tiger
    config: TIGERTrainingConfig
    dataset: SequenceDataset
    file_name = "tiger.ckpt"

    def __init__(
        self, model: Tiger, config: TIGERTrainingConfig, dataset: SequenceDataset, logger: Logger | None = None
    ) -> None:
        super().__init__(model, config, dataset, logger)
        for name in ("vocab_size", "code_length", "n_items"):
            needed, given = getattr(dataset, name), model.hparams[name]
            if needed != given:
                raise ValueError(
                    f"the data set needs {name}={needed}, but the model has {given}; make it by"
                    " Tiger(dataset.vocab_size, code_length=dataset.code_length, n_items=dataset.n_items, ...)"
                )
        model.set_code_table(dataset.code_table)
        self.collate_fn = self._create_collate_fn()

    def _create_collate_fn(self) -> Callable[[list[dict[str, Tensor]]], dict[str, Tensor]]:
        """`collate` with the last tokens that the model reads."""
        # no function within a function: worker processes must be able to receive it
        return partial(collate, max_tokens=self.model.max_history * self.model.code_length)

    def split(self) -> Sequence[SequenceDataset]:
        """Each user's own sequence by leave-one-out; at random, prefixes of a user would tell of what is tested."""
        return [self.dataset.for_split(name) for name in SPLITS]

    def train_model(self) -> Tiger:
        """Train, save the best weights as `tiger.ckpt`, and measure what the config asks for."""
        super().train_model()
        return self.model

    def figures(self, test_loader: DataLoader[Any]) -> dict[str, float]:
        if not self.config.eval_generation:
            return {}
        return self.evaluate_generation(test_loader, self.config.eval_k_values)

    def evaluate_generation(
        self, test_dataloader: DataLoader[Any], k_values: Sequence[int] = (5, 10, 20)
    ) -> dict[str, float]:
        """Recall and NDCG of ranked items: a beam search in the distribution that the config shapes.

        Returns:
            `recall@k` and `ndcg@k` of each k.
        """
        self.model.eval()
        n_beams = max([self.model.n_beams, *k_values])
        predictions: list[list[int]] = []
        targets: list[list[int]] = []
        for batch in test_dataloader:
            found = self.model.generate(
                batch["input_ids"].to(self.model.device),
                max_length=self.config.max_generation_length,
                temperature=self.config.generation_temperature,
                top_k=self.config.generation_top_k,
                top_p=self.config.generation_top_p,
                n_beams=n_beams,
            )
            predictions += [[item for item in items if item] for items in found.items.tolist()]
            targets += self.model.items_of(batch["labels"].to(self.model.device)).tolist()
        metrics = {}
        for k in k_values:
            metrics[f"recall@{k}"] = self._compute_recall_at_k(predictions, targets, k)
            metrics[f"ndcg@{k}"] = self._compute_ndcg_at_k(predictions, targets, k)
        return metrics

    def _compute_recall_at_k(self, predictions: list[list[int]], targets: list[list[int]], k: int) -> float:
        return RecommendationMetrics.recall_at_k(predictions, targets, k)

    def _compute_ndcg_at_k(self, predictions: list[list[int]], targets: list[list[int]], k: int) -> float:
        return RecommendationMetrics.ndcg_at_k(predictions, targets, k)


def collate(samples: list[dict[str, Tensor]], max_tokens: int) -> dict[str, Tensor]:
    """Samples of tokens as one batch, padded on the right.

    Args:
        samples: `input_ids` (length,) and `labels` (code_length,), int64 tokens.
        max_tokens: how many of a history's last tokens are kept.

    Returns:
        `input_ids` (batch, longest), padding 0; `labels` (batch, code_length), padding -100; `attention_mask` (batch,
        longest) float32, 0 at padding.

    Raises:
        ValueError: a token is 0, which is padding.

    Example:
        >>> import torch
        >>> batch = collate([{"input_ids": torch.arange(1, n), "labels": torch.tensor([9])} for n in (3, 4)], 5)
        >>> batch["input_ids"].tolist(), batch["attention_mask"].tolist()
        ([[1, 2, 0], [1, 2, 3]], [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    """
    histories = [sample["input_ids"][-max_tokens:] for sample in samples]
    labels = [sample["labels"] for sample in samples]
    if any(bool((tokens == 0).any()) for tokens in histories + labels):
        raise ValueError("token 0 is padding and stands for no code; make tokens by genrec.codes.code_table.to_tokens")
    input_ids = pad_sequence(histories, batch_first=True, padding_value=0)
    return {
        "input_ids": input_ids,
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "attention_mask": (input_ids != 0).float(),
    }


def main() -> None:
    """Train on a data set of `DatasetFactory` and save the model."""
    parser = training_parser("Train TIGER on the semantic IDs of a data set's items.", TIGERTrainingConfig())
    parser.add_argument("--rqvae_path", required=True, help="the RQ-VAE that gives the semantic IDs: its checkpoint")
    arguments = parser.parse_args()
    try:
        dataset = DatasetFactory.create_sequence_dataset(
            arguments.dataset,
            root=arguments.root,
            split=arguments.split,
            train_test_split="train",
            pretrained_rqvae_path=arguments.rqvae_path,
        )
    except ValueError as mistake:
        parser.error(str(mistake))
    config = TIGERTrainingConfig(
        vocab_size=dataset.vocab_size,
        pretrained_rqvae_path=arguments.rqvae_path,
        **shared_fields(arguments),
    )
    seed_everything(config.random_seed, verbose=False)
    model = Tiger(
        vocab_size=config.vocab_size,
        embedding_dim=config.embedding_dim,
        num_heads=config.num_heads,
        num_layers=config.num_layers,
        attn_dim=config.attn_dim,
        dropout=config.dropout,
        max_seq_length=config.max_seq_length,
        learning_rate=config.learning_rate,
        code_length=dataset.code_length,
        n_items=dataset.n_items,
    )
    train_and_report(TIGERTrainer(model, config, dataset))


if __name__ == "__main__":
    main()
