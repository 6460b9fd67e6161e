"""Train an RQ-VAE on a data set of item features: `python -m genrec.trainers.rqvae --help`.

The pipeline trains in stages/train_rqvae.py, by the same loop (docs/decisions/10).
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genrec.data.dataset_factory import DatasetFactory
from genrec.models.rqvae import RqVae, batch_inference, evaluate_quantization, evaluate_reconstruction
from genrec.trainers.dataset_trainer import DatasetTrainer
from genrec.trainers.script import shared_fields, train_and_report, training_parser
from genrec.training.config import TrainingConfig
from genrec.training.lightning import Logger, seed_everything


@dataclass
class RQVAETrainingConfig(TrainingConfig):
    """Page 000's defaults.

    Attributes:
        eval_reconstruction: measure the reconstruction of the test part at the end of `train_model`.
        eval_quantization: measure there how all items spread over the codes.
        num_levels: codes of a semantic ID.
    """

    input_dim: int = 768
    hidden_dim: int = 512
    latent_dim: int = 256
    num_embeddings: int = 1024
    commitment_cost: float = 0.25
    learning_rate: float = 1e-3
    batch_size: int = 64
    max_epochs: int = 100
    dataset_name: str = "p5_amazon"
    dataset_split: str = "beauty"
    eval_reconstruction: bool = True
    eval_quantization: bool = True
    num_levels: int = 1


class RQVAETrainer(DatasetTrainer):
    """Trains an `RqVae` on a data set whose items are feature tensors, or dicts that hold one as `features`."""

    model: RqVae
    config: RQVAETrainingConfig
    file_name = "rqvae.ckpt"

    def __init__(
        self, model: RqVae, config: RQVAETrainingConfig, dataset: Dataset[Any], logger: Logger | None = None
    ) -> None:
        super().__init__(model, config, dataset, logger)

    def train_model(self) -> RqVae:
        """Split, train, save the best weights as `rqvae.ckpt`, and measure what the config asks for."""
        super().train_model()
        return self.model

    def figures(self, test_loader: DataLoader[Any]) -> dict[str, float]:
        """The reconstruction of unseen items; the codes of all, since a codebook serves the whole catalogue."""
        figures: dict[str, float] = {}
        if self.config.eval_reconstruction:
            figures |= self.evaluate_reconstruction(test_loader)
        if self.config.eval_quantization:
            figures |= evaluate_quantization(self.model, self.loader(self.dataset), str(self.model.device))
        return figures

    def evaluate_reconstruction(self, test_dataloader: DataLoader[Any]) -> dict[str, float]:
        """`mse` and `rmse` per element, `sse_per_item`, `cosine_similarity`; see `evaluate_reconstruction`."""
        return evaluate_reconstruction(self.model, test_dataloader, str(self.model.device))

    def generate_semantic_ids(self, dataloader: DataLoader[Any]) -> Tensor:
        """(n_items,) int64 on the CPU, or (n_items, num_levels) with more than one level, in the loader's order."""
        return batch_inference(self.model, dataloader, str(self.model.device))


def main() -> None:
    """Train on a data set of `DatasetFactory` and save the model."""
    defaults = RQVAETrainingConfig()
    parser = training_parser("Train an RQ-VAE on the item features of a data set.", defaults)
    parser.add_argument("--num_levels", type=int, default=defaults.num_levels, help="codes of a semantic ID")
    arguments = parser.parse_args()
    try:
        dataset = DatasetFactory.create_item_dataset(
            arguments.dataset, root=arguments.root, split=arguments.split, train_test_split="all"
        )
    except ValueError as mistake:
        parser.error(str(mistake))
    config = RQVAETrainingConfig(
        input_dim=len(dataset[0]["features"]),
        num_levels=arguments.num_levels,
        **shared_fields(arguments),
    )
    seed_everything(config.random_seed, verbose=False)
    model = RqVae(
        input_dim=config.input_dim,
        hidden_dim=config.hidden_dim,
        latent_dim=config.latent_dim,
        num_embeddings=config.num_embeddings,
        commitment_cost=config.commitment_cost,
        learning_rate=config.learning_rate,
        num_levels=config.num_levels,
    )
    train_and_report(RQVAETrainer(model, config, dataset))


if __name__ == "__main__":
    main()
