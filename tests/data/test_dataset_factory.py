"""Data sets by name: those that come with genrec, and one that a user registers."""

import pandas as pd
import pytest
import torch

from genrec.data.base_dataset import BaseRecommenderDataset, ItemDataset, SequenceDataset
from genrec.data.configs import DataProcessingConfig, DatasetConfig, TextEncodingConfig
from genrec.data.dataset_factory import DatasetFactory
from genrec.data.p5_amazon import P5AmazonDataset, P5AmazonItemDataset, P5AmazonSequenceDataset


class Films(BaseRecommenderDataset):
    def read_interactions(self):
        rows = [(user, film) for user in "uvwxy" for film in "abcde"]
        return pd.DataFrame(rows, columns=["user_key", "item_key"], dtype="str")

    def read_items(self, item_keys):
        return pd.DataFrame({"item_key": item_keys, "title": [f"Film {key}" for key in item_keys]})


class FilmItems(ItemDataset):
    def __init__(self, root, **settings):
        text = TextEncodingConfig("a-model", "{title}")
        super().__init__(Films(DatasetConfig(root, text_config=text)), **settings)


class FilmSequences(SequenceDataset):
    def __init__(self, root, train_test_split="train"):
        super().__init__(Films(DatasetConfig(root)), train_test_split)


@pytest.fixture(autouse=True)
def _registrations_end_with_the_test(monkeypatch):
    monkeypatch.setattr(DatasetFactory, "_registered", dict(DatasetFactory._registered))


def register_films():
    DatasetFactory.register_dataset("films", base_class=Films, item_class=FilmItems, sequence_class=FilmSequences)


def test_p5_amazon_comes_with_genrec():
    assert DatasetFactory.list_datasets() == ["p5_amazon"]
    assert DatasetFactory.get_dataset_info("p5_amazon") == {
        "base": P5AmazonDataset,
        "item": P5AmazonItemDataset,
        "sequence": P5AmazonSequenceDataset,
    }


def test_a_registered_data_set_is_listed_in_order_and_made_by_name(tmp_path, fake_encoder):
    register_films()
    root = str(tmp_path)
    assert DatasetFactory.list_datasets() == ["films", "p5_amazon"]
    assert DatasetFactory.create_base_dataset("films", root=root).n_items == 5
    assert DatasetFactory.create_item_dataset("films", root=root, return_text=True)[4]["text"] == "Film e"
    sequences = DatasetFactory.create_sequence_dataset("films", root=root, train_test_split="test")
    assert sequences[0]["labels"].tolist() == [5]


def test_a_base_dataset_takes_the_config_s_fields(p5_root):
    processing = DataProcessingConfig(random_seed=7)
    base = DatasetFactory.create_base_dataset("p5_amazon", root=str(p5_root), processing_config=processing)
    assert isinstance(base, P5AmazonDataset)
    assert (base.config.split, base.config.processing_config.random_seed) == ("beauty", 7)


def test_the_factory_s_data_sets_are_the_classes_own(p5_root, fake_encoder):
    made = DatasetFactory.create_item_dataset("p5_amazon", root=str(p5_root), train_test_split="train")
    own = P5AmazonItemDataset(str(p5_root), train_test_split="train")
    assert torch.equal(made.features, own.features)


def test_an_unknown_name_lists_those_that_are_known():
    with pytest.raises(ValueError, match="no data set named 'p5'; known: p5_amazon"):
        DatasetFactory.create_item_dataset("p5", root=".")


def test_a_taken_name_is_refused_and_the_same_registration_twice_is_none():
    register_films()
    register_films()
    with pytest.raises(ValueError, match="named 'p5_amazon' is registered already; choose another name"):
        DatasetFactory.register_dataset("p5_amazon", Films, FilmItems, FilmSequences)
    assert DatasetFactory.get_dataset_info("p5_amazon")["base"] is P5AmazonDataset


def test_what_get_dataset_info_gives_can_not_change_the_factory():
    DatasetFactory.get_dataset_info("p5_amazon")["item"] = FilmItems
    assert DatasetFactory.get_dataset_info("p5_amazon")["item"] is P5AmazonItemDataset
