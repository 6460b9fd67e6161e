"""What the command lines of the trainers share: their flags, and what they say at the end."""

import argparse
import sys
from typing import Any, Protocol

from genrec.trainers.dataset_trainer import DatasetTrainer


class Defaults(Protocol):
    """The config fields that every such command line has a flag for."""

    dataset_name: str
    dataset_split: str
    batch_size: int
    max_epochs: int
    learning_rate: float
    checkpoint_dir: str


def training_parser(description: str, defaults: Defaults) -> argparse.ArgumentParser:
    """A parser with page 000's flags; a config's fields are their defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--dataset", default=defaults.dataset_name, help="the data set's name in DatasetFactory")
    parser.add_argument("--split", default=defaults.dataset_split, help="its part, such as a category")
    parser.add_argument("--root", default="dataset", help="the folder of its files")
    parser.add_argument("--batch_size", type=int, default=defaults.batch_size, help="samples a step")
    parser.add_argument("--max_epochs", type=int, default=defaults.max_epochs, help="epochs at most")
    parser.add_argument("--learning_rate", type=float, default=defaults.learning_rate, help="Adam's step size")
    parser.add_argument("--checkpoint_dir", default=defaults.checkpoint_dir, help="the folder to write models to")
    return parser


def shared_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """The config fields that these flags set."""
    return {
        "dataset_name": arguments.dataset,
        "dataset_split": arguments.split,
        "batch_size": arguments.batch_size,
        "max_epochs": arguments.max_epochs,
        "learning_rate": arguments.learning_rate,
        "checkpoint_dir": arguments.checkpoint_dir,
    }


def train_and_report(trainer: DatasetTrainer) -> None:
    """Train; print what was measured and where the model lies."""
    trainer.train_model()
    figures = "  ".join(f"{name} {value:.4g}" for name, value in sorted(trainer.results.items()))
    sys.stdout.write(f"{figures}\nmodel saved to {trainer.file}\n")
