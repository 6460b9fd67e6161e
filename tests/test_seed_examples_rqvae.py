"""The documents' examples of the RQ-VAE and its trainer, as printed; docs/seed-differences.md lists what had to change.

They run in a folder that holds dataset/amazon/, with an encoder that stands in for the language model.
"""

import sys

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from genrec.trainers.rqvae import main

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_data(p5_root, fake_encoder, monkeypatch):
    monkeypatch.chdir(p5_root.parents[1])


class TestTrainers:
    """API reference of the trainers."""

    def test_basic_training(self, tmp_path):
        from genrec.data.dataset_factory import DatasetFactory
        from genrec.models.rqvae import RqVae
        from genrec.trainers import RQVAETrainer, RQVAETrainingConfig

        config = RQVAETrainingConfig(batch_size=64, max_epochs=100, learning_rate=1e-3)
        config.max_epochs = 3  # a hundred take longer and show no more
        dataset = DatasetFactory.create_item_dataset("p5_amazon", root="dataset/amazon", split="beauty")
        model = RqVae(input_dim=768, hidden_dim=512, num_embeddings=1024)
        trainer = RQVAETrainer(model, config, dataset)
        trained_model = trainer.train_model()

        assert trained_model is model
        assert list(tmp_path.glob("logs/experiment/version_0/events*"))
        ids = trainer.generate_semantic_ids(DataLoader(dataset, batch_size=3))
        assert ids.shape == (8,)
        loaded = RqVae.load_from_checkpoint("checkpoints/rqvae.ckpt")
        assert torch.equal(loaded.generate_semantic_ids(dataset.features), ids)

    def test_the_script(self, monkeypatch, capsys):
        command = "rqvae --dataset p5_amazon --split beauty --root dataset/amazon --batch_size 4 --max_epochs 2"
        monkeypatch.setattr(sys, "argv", [*command.split(), "--learning_rate", "1e-3", "--checkpoint_dir", "models"])
        main()
        assert capsys.readouterr().out.splitlines()[-1] == "model saved to models/rqvae.ckpt"

    def test_the_script_s_own_flag_is_the_model_s_number_of_levels(self, monkeypatch):
        from genrec.models.rqvae import RqVae

        command = "rqvae --root dataset/amazon --max_epochs 1 --checkpoint_dir models --num_levels 3"
        monkeypatch.setattr(sys, "argv", command.split())
        main()
        made = RqVae.load_from_checkpoint("models/rqvae.ckpt")
        assert made.generate_semantic_ids(torch.zeros(2, 768)).shape == (2, 3)

    def test_the_script_says_what_is_not_there(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["rqvae", "--dataset", "p5"])
        with pytest.raises(SystemExit):
            main()
        assert "no data set named 'p5'; known: p5_amazon" in capsys.readouterr().err


class TestRqvae:
    """API reference of the RQ-VAE."""

    def test_basic_training_and_semantic_ids(self):
        from genrec.data.p5_amazon import P5AmazonItemDataset
        from genrec.models.rqvae import RqVae

        dataset = P5AmazonItemDataset(root="dataset/amazon", split="beauty", train_test_split="train")
        dataloader = DataLoader(dataset, batch_size=32, shuffle=True)
        model = RqVae(input_dim=768, hidden_dim=512, latent_dim=256, num_embeddings=1024, learning_rate=1e-3)
        # gpus=1 is accelerator and devices since Lightning 2; the rest only keeps this test quick and quiet
        trainer = pl.Trainer(
            max_epochs=3, accelerator="auto", devices=1, logger=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir="checkpoints", enable_checkpointing=False,
        )  # fmt: skip
        with pytest.warns(UserWarning, match="val_dataloader"):
            trainer.fit(model, dataloader)
        trainer.save_checkpoint("checkpoints/rqvae.ckpt")

        model = RqVae.load_from_checkpoint("checkpoints/rqvae.ckpt")
        model.eval()
        with torch.no_grad():
            features = torch.randn(10, 768)
            semantic_ids = model.generate_semantic_ids(features)
        assert semantic_ids.shape == (10,)

    def test_saving_and_loading(self):
        from genrec.models.rqvae import RqVae

        model = RqVae()
        model.save_pretrained("path/to/model")
        loaded = RqVae.from_pretrained("path/to/model")
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())

    def test_the_functions(self):
        from genrec.data.p5_amazon import P5AmazonItemDataset
        from genrec.models.rqvae import RqVae, batch_inference, evaluate_quantization, evaluate_reconstruction

        dataloader = DataLoader(P5AmazonItemDataset(root="dataset/amazon"), batch_size=3)
        model = RqVae()
        assert batch_inference(model, dataloader).shape == (8,)
        assert evaluate_reconstruction(model, dataloader)["rmse"] > 0
        assert evaluate_quantization(model, dataloader)["unique_codes"] <= 8
