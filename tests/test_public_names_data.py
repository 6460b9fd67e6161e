"""The public names of genrec.data that the documents use: where they are, how they are called, what importing costs."""

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import genrec.data

OWNERS = ("base_dataset", "configs", "dataset_factory", "p5_amazon")
CALLS = [
    ("p5_amazon", "P5AmazonItemDataset", "root, split='beauty', train_test_split='all', return_text=False, **settings"),
    (
        "p5_amazon",
        "P5AmazonSequenceDataset",
        "root, split='beauty', train_test_split='train', pretrained_rqvae_path=None, **settings",
    ),
    ("base_dataset", "ItemDataset", "base_dataset, split='all', return_text=False"),
    ("base_dataset", "SequenceDataset", "base_dataset, split='train', semantic_encoder=None"),
    ("dataset_factory", "DatasetFactory.register_dataset", "name, base_class, item_class, sequence_class"),
    ("dataset_factory", "DatasetFactory.list_datasets", ""),
    ("dataset_factory", "DatasetFactory.get_dataset_info", "name"),
    ("dataset_factory", "DatasetFactory.create_base_dataset", "name, *, root, **settings"),
    ("dataset_factory", "DatasetFactory.create_item_dataset", "name, **settings"),
    ("dataset_factory", "DatasetFactory.create_sequence_dataset", "name, **settings"),
    ("configs", "TextEncodingConfig.get_cache_key", "self, split, model_name=None"),
    ("configs", "TextEncodingConfig.format_text", "self, item_data"),
    ("configs", "DataProcessingConfig.get_split_indices", "self, total_size"),
]
RATIOS = {"train_ratio": 0.7, "val_ratio": 0.15, "test_ratio": 0.15}


@pytest.mark.parametrize(("owner", "name", "parameters"), CALLS, ids=[name for _, name, _ in CALLS])
def test_a_name_of_the_documents_is_called_as_they_call_it(owner, name, parameters):
    called = import_module(f"genrec.data.{owner}")
    for part in name.split("."):
        called = getattr(called, part)
    signature = inspect.signature(called)
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    expected = f"({parameters})"
    assert str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)) == expected


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


@pytest.mark.parametrize("name", genrec.data.__all__)
def test_a_public_name_is_the_class_of_the_module_that_owns_it(name):
    value = getattr(genrec.data, name)
    assert getattr(import_module(value.__module__), name) is value
    assert name in dir(genrec.data)


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(AttributeError, match="has no attribute 'P5Amazon'; it has BaseRecommenderDataset, Data"):
        genrec.data.P5Amazon  # noqa: B018


def test_importing_the_package_loads_nothing_else():
    script = "import sys; before = set(sys.modules); import genrec.data; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(name for name in loaded if name.startswith(("genrec", "torch", "pandas", "numpy"))) == [
        "genrec",
        "genrec.data",
    ]


def test_item_ids_without_an_rqvae_need_no_lightning():
    script = "import sys; from genrec.data import DatasetFactory; print('pytorch_lightning' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
