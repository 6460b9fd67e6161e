"""The public names of genrec.data beyond their signatures, which stand in test_public_names.py."""

import inspect
from importlib import import_module

import genrec.data

OWNERS = ("base_dataset", "configs", "dataset_factory", "p5_amazon")
RATIOS = {"train_ratio": 0.7, "val_ratio": 0.15, "test_ratio": 0.15}


def test_the_configs_have_the_documents_defaults():
    processing = genrec.data.DataProcessingConfig()
    assert {name: getattr(processing, name) for name in RATIOS} == RATIOS
    assert genrec.data.DatasetConfig("root").root_dir == "root"
    assert genrec.data.SequenceConfig().max_seq_length == 50
    assert genrec.data.TextEncodingConfig().batch_size == 32


def test_the_list_of_public_names_is_complete_and_sorted():
    defined = {
        name
        for owner in OWNERS
        for name, value in vars(import_module(f"genrec.data.{owner}")).items()
        if inspect.isclass(value) and value.__module__ == f"genrec.data.{owner}"
    }
    assert genrec.data.__all__ == sorted(defined)
