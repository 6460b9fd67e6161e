"""The documents' script that trains TIGER, as printed; docs/seed-differences.md lists what had to change.

It runs in a folder that holds dataset/amazon/ and an RQ-VAE, with an encoder that stands in for the language model.
"""

import runpy
import sys
from functools import partialmethod

import pytest
import torch
from fake_pipeline import PROJECT

from genrec.models.rqvae import RqVae
from genrec.models.tiger import Tiger
from genrec.storage.checkpoint import save_model
from genrec.trainers.tiger import TIGERTrainingConfig, main

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_data(p5_root, fake_encoder, monkeypatch, tmp_path):
    monkeypatch.chdir(p5_root.parents[1])
    torch.manual_seed(0)
    save_model(RqVae(input_dim=768, hidden_dim=512, num_embeddings=1024), tmp_path / "rqvae.ckpt")


@pytest.fixture
def _small_models(monkeypatch):
    """The printed defaults are 46 million parameters."""
    small = {"embedding_dim": 16, "num_heads": 2, "num_layers": 1, "attn_dim": 32, "dropout": 0.2}
    monkeypatch.setattr(TIGERTrainingConfig, "__init__", partialmethod(TIGERTrainingConfig.__init__, **small))


@pytest.mark.usefixtures("_small_models")
def test_the_script_s_own_steps():
    from genrec.data.dataset_factory import DatasetFactory
    from genrec.models.tiger import Tiger
    from genrec.trainers import TIGERTrainer, TIGERTrainingConfig

    config = TIGERTrainingConfig(
        batch_size=16,
        max_epochs=2,
        learning_rate=1e-4,
        checkpoint_dir="checkpoints",
        dataset_name="p5_amazon",
        dataset_split="beauty",
        pretrained_rqvae_path="rqvae.ckpt",
    )
    dataset = DatasetFactory.create_sequence_dataset(
        "p5_amazon", root="dataset/amazon", split="beauty", train_test_split="train", pretrained_rqvae_path="rqvae.ckpt"
    )
    config.vocab_size = dataset.vocab_size  # 1,024 tokens cannot hold two times 1,024 codes
    model = Tiger(
        vocab_size=config.vocab_size,
        embedding_dim=config.embedding_dim,
        num_heads=config.num_heads,
        num_layers=config.num_layers,
        learning_rate=config.learning_rate,
        code_length=dataset.code_length,
        n_items=dataset.n_items,
    )
    trainer = TIGERTrainer(model, config, dataset)
    trained_model = trainer.train_model()

    assert trained_model is model
    assert sorted(name for name in trainer.results if "@" in name) == sorted(
        f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (5, 10, 20)
    )
    loaded = Tiger.load_from_checkpoint("checkpoints/tiger.ckpt").eval()
    batch = next(iter(trainer.create_dataloaders()[2]))
    generated = loaded.generate(batch["input_ids"], max_length=50, temperature=1.0, top_k=50)
    # eight items, none twice; what twenty beams have left is no item
    assert (generated.items.sort(descending=True).values[:, :8] == torch.arange(8, 0, -1)).all()


@pytest.mark.usefixtures("_small_models")
def test_the_script(monkeypatch, capsys):
    command = "tiger --dataset p5_amazon --split beauty --root dataset/amazon --rqvae_path rqvae.ckpt --batch_size 4"
    more = "--max_epochs 2 --learning_rate 1e-4 --checkpoint_dir models"
    monkeypatch.setattr(sys, "argv", [*command.split(), *more.split()])
    main()
    assert capsys.readouterr().out.splitlines()[-1] == "model saved to models/tiger.ckpt"
    # the printed script leaves the last three to the model's defaults
    sizes = ("embedding_dim", "num_heads", "num_layers", "attn_dim", "dropout", "max_seq_length")
    config, made = TIGERTrainingConfig(), Tiger.load_from_checkpoint("models/tiger.ckpt").hparams
    assert {name: made[name] for name in sizes} == {name: getattr(config, name) for name in sizes}


@pytest.mark.parametrize("name", ["rqvae", "tiger"])
def test_a_script_shows_its_flags(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(PROJECT / "genrec" / "trainers" / f"{name}.py"), run_name="__main__")
    assert end.value.code == 0
    flags = ["dataset", "split", "root", "batch_size", "max_epochs", "learning_rate", "checkpoint_dir"]
    shown = capsys.readouterr().out
    assert [flag for flag in flags + ["rqvae_path"] * (name == "tiger") if f"--{flag} " not in shown] == []
