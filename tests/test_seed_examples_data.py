"""The documents' examples that concern data sets, as printed; docs/seed-differences.md lists what had to change.

They run in a folder that holds dataset/amazon/, with an encoder that stands in for the language model.
"""

import argparse

import pytest
import torch
from torch.utils.data import DataLoader

from genrec.data.dataset_factory import DatasetFactory
from genrec.data.p5_amazon import P5AmazonItemDataset
from genrec.models.rqvae import RqVae
from genrec.storage.checkpoint import save_model


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_data(p5_root, fake_encoder, monkeypatch):
    monkeypatch.chdir(p5_root.parents[1])


def arguments(**values):
    """What the scripts' parsers give."""
    return argparse.Namespace(**{"dataset": "p5_amazon", "split": "beauty", "root": "dataset/amazon", **values})


class TestTrainers:
    """API reference of the trainers."""

    def test_the_script_that_trains_an_rqvae_makes_its_data_set(self):
        args = arguments()
        dataset = DatasetFactory.create_item_dataset(
            args.dataset, root=args.root, split=args.split, train_test_split="all"
        )
        assert len(dataset) == 8
        assert dataset[7]["features"].shape == (768,)

    def test_the_script_that_trains_tiger_makes_its_data_set(self, tmp_path):
        args = arguments(rqvae_path=str(tmp_path / "rqvae.ckpt"))
        save_model(RqVae(num_embeddings=16), tmp_path / "rqvae.ckpt")
        dataset = DatasetFactory.create_sequence_dataset(
            args.dataset,
            root=args.root,
            split=args.split,
            train_test_split="train",
            pretrained_rqvae_path=args.rqvae_path,
        )
        assert len(dataset) == 8 * 3
        assert {name: value.shape for name, value in dataset[2].items()} == {
            "input_ids": (6,),
            "labels": (2,),
            "attention_mask": (6,),
        }

    def test_basic_training_makes_its_data_set(self):
        dataset = DatasetFactory.create_item_dataset("p5_amazon", root="dataset/amazon", split="beauty")
        assert dataset.item_ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]

    def test_random_split_and_the_default_collation_work_as_the_trainer_uses_them(self):
        dataset = DatasetFactory.create_item_dataset("p5_amazon", root="dataset/amazon")
        parts = torch.utils.data.random_split(dataset, [6, 1, 1], generator=torch.Generator().manual_seed(42))
        batch = next(iter(DataLoader(parts[0], batch_size=64, shuffle=True)))
        assert batch["features"].shape == (6, 768)

    def test_samples_are_collated_as_the_tiger_trainer_collates_them(self):
        dataset = DatasetFactory.create_sequence_dataset("p5_amazon", root="dataset/amazon", train_test_split="train")
        batch = [dataset[index] for index in range(3)]
        input_ids = torch.nn.utils.rnn.pad_sequence(
            [item["input_ids"] for item in batch], batch_first=True, padding_value=0
        )
        labels = torch.nn.utils.rnn.pad_sequence(
            [item["labels"] for item in batch], batch_first=True, padding_value=-100
        )
        assert input_ids.tolist() == [[1, 0, 0], [1, 2, 0], [1, 2, 3]]
        assert labels.tolist() == [[2], [3], [4]]
        masks = [item["attention_mask"] for item in batch]
        assert (input_ids != 0).float().tolist() == torch.nn.utils.rnn.pad_sequence(masks, batch_first=True).tolist()


class TestRqVae:
    """API reference of RqVae."""

    def test_basic_training_has_batches_with_features(self):
        dataset = P5AmazonItemDataset(root="dataset/amazon", split="beauty", train_test_split="train")
        dataloader = DataLoader(dataset, batch_size=32, shuffle=True)
        (batch,) = dataloader
        assert batch["features"].shape == (6, 768)
        assert RqVae().generate_semantic_ids(batch["features"]).shape == (6,)
