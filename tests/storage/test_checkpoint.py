"""A model's file: the round trip, its bytes, and files that are something else."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.errors import UserError
from genrec.models.rqvae import RqVae
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.networks.generating.tiger import TigerNetwork
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.storage.checkpoint import (
    load_arguments,
    load_folder,
    load_model,
    read_own_checkpoint,
    save_folder,
    save_model,
    write_checkpoint,
)


def sasrec(seed=0, **options):
    torch.manual_seed(seed)
    return SASRec(**({"n_items": 7, "embedding_dim": 8, "num_layers": 1, "num_heads": 2, "max_history": 5} | options))


def models():
    torch.manual_seed(0)
    tiger = Tiger(1 + 3 * 4, embedding_dim=8, num_heads=2, num_layers=1, attn_dim=8, code_length=3, n_items=2)
    tiger.set_code_table(torch.tensor([[-1, -1, -1], [0, 3, 1], [2, 0, 0]]))
    rqvae = RqVae(input_dim=6, hidden_dim=(16, 8), latent_dim=4, num_embeddings=8, num_levels=3)
    return [sasrec(), tiger, rqvae]


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
def test_a_model_comes_back_bit_by_bit(model, tmp_path):
    save_model(model, tmp_path / "new folder" / "model.ckpt")
    loaded = load_model(type(model), tmp_path / "new folder" / "model.ckpt")
    assert dict(loaded.hparams) == dict(model.hparams)
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_a_model_comes_back_in_eval_mode(tmp_path):
    save_model(sasrec(), tmp_path / "model.ckpt")
    assert not any(module.training for module in load_model(SASRec, tmp_path / "model.ckpt").modules())


def test_lightning_reads_the_file_too(tmp_path):
    save_model(sasrec(), tmp_path / "model.ckpt")
    loaded = SASRec.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert torch.equal(loaded.item_embedding.weight, sasrec().item_embedding.weight)


def bytes_of(model, folder):
    save_model(model, folder / "model.ckpt")
    return (folder / "model.ckpt").read_bytes()


def test_equal_models_give_equal_bytes(tmp_path):
    assert bytes_of(sasrec(), tmp_path / "a") == bytes_of(sasrec(), tmp_path / "b")


def test_models_of_other_weights_give_other_bytes(tmp_path):
    assert bytes_of(sasrec(0), tmp_path / "a") != bytes_of(sasrec(1), tmp_path / "b")


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
def test_a_loaded_model_gives_the_bytes_that_it_was_loaded_from(model, tmp_path):
    saved = bytes_of(model, tmp_path)
    assert bytes_of(load_model(type(model), tmp_path / "model.ckpt"), tmp_path / "again") == saved


def test_the_bytes_do_not_depend_on_the_files_name(tmp_path):
    save_model(sasrec(), tmp_path / "a.ckpt")
    save_model(sasrec(), tmp_path / "another.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "another.ckpt").read_bytes()


def assert_is_refused(kind, file):
    with pytest.raises(UserError, match=f"{file.name} is not a checkpoint of {kind.__name__}") as refusal:
        load_model(kind, file)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99], ids=str)
def test_a_truncated_file_is_refused(tmp_path, kept):
    content = bytes_of(sasrec(), tmp_path)
    file = tmp_path / "model.ckpt"
    file.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert_is_refused(SASRec, file)


def test_another_models_file_is_refused(tmp_path):
    save_model(sasrec(), tmp_path / "sasrec.ckpt")
    assert_is_refused(RqVae, tmp_path / "sasrec.ckpt")


def test_weights_of_another_size_are_refused(tmp_path):
    model = sasrec()
    model.hparams["embedding_dim"] = 16
    save_model(model, tmp_path / "model.ckpt")
    assert_is_refused(SASRec, tmp_path / "model.ckpt")


def test_a_value_that_the_model_itself_refuses_is_refused(tmp_path):
    model = sasrec()
    model.hparams["num_heads"] = 3
    save_model(model, tmp_path / "model.ckpt")
    assert_is_refused(SASRec, tmp_path / "model.ckpt")


@pytest.mark.parametrize("missing", ["state_dict", "hyper_parameters"])
def test_a_file_without_one_of_its_parts_is_refused(tmp_path, missing):
    save_model(sasrec(), tmp_path / "model.ckpt")
    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    del content[missing]
    torch.save(content, tmp_path / "model.ckpt")
    assert_is_refused(SASRec, tmp_path / "model.ckpt")


def test_a_wrapped_state_dict_is_refused_and_not_half_loaded(tmp_path):
    # ETEGRec's published code loads the outer dict of such a file with strict=False: nothing, without a word.
    content = {"hyper_parameters": dict(sasrec().hparams), "state_dict": {"state_dict": sasrec().state_dict()}}
    torch.save(content, tmp_path / "model.ckpt")
    assert_is_refused(SASRec, tmp_path / "model.ckpt")


class Surprise:
    """Unpickles to a call."""

    def __reduce__(self):
        return print, ("this must not be printed",)


@pytest.mark.parametrize("write", [torch.save, lambda content, file: file.write_bytes(pickle.dumps(content))])
def test_a_pickled_object_is_refused_and_not_run(tmp_path, capsys, write):
    write({"state_dict": Surprise(), "hyper_parameters": {}}, tmp_path / "model.ckpt")
    assert_is_refused(SASRec, tmp_path / "model.ckpt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], "text"], ids=["a tensor", "a list", "a text"])
def test_a_file_that_holds_no_model_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.ckpt")
    assert_is_refused(SASRec, tmp_path / "model.ckpt")


def test_a_file_of_another_program_is_refused(tmp_path):
    (tmp_path / "model.ckpt").write_text("embedding,1,2,3\n")
    assert_is_refused(SASRec, tmp_path / "model.ckpt")


# A folder of config.json and model.safetensors.


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
def test_a_model_comes_back_from_a_folder_bit_by_bit(model, tmp_path):
    save_folder(model, tmp_path / "new" / "folder")
    loaded = load_folder(type(model), tmp_path / "new" / "folder")
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert not loaded.training


def test_a_folder_can_be_read_without_this_project(tmp_path):
    save_folder(models()[2], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["input_dim"], config["hidden_dim"], config["num_levels"]) == (6, [16, 8], 3)
    assert load_file(tmp_path / "model.safetensors")["quantizer.levels.2.codebook"].shape == (8, 4)


def test_equal_models_give_equal_folders(tmp_path):
    for name in ("a", "b"):
        save_folder(sasrec(), tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files_is_refused(tmp_path, missing):
    save_folder(sasrec(), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=f"must hold config.json and model.safetensors, and has no {missing}"):
        load_folder(SASRec, tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 100])
def test_truncated_weights_are_refused(tmp_path, kept):
    save_folder(sasrec(), tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match="holds no SASRec"):
        load_folder(SASRec, tmp_path)


def test_a_folder_of_another_model_is_refused(tmp_path):
    save_folder(sasrec(), tmp_path)
    with pytest.raises(UserError, match="holds no RqVae .*; save the model again"):
        load_folder(RqVae, tmp_path)


def test_a_folder_whose_weights_are_not_all_there_is_refused(tmp_path):
    save_folder(sasrec(), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["transformer.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="holds no SASRec"):
        load_folder(SASRec, tmp_path)


@pytest.mark.parametrize("left", [0, 100, -20])
def test_a_damaged_checkpoint_of_a_scratch_folder_is_said_and_goes_away(tmp_path, capsys, left):
    file = tmp_path / "last.ckpt"
    write_checkpoint({"epoch": 3}, file)
    assert read_own_checkpoint(file) == {"epoch": 3}
    file.write_bytes(file.read_bytes()[:left])
    assert read_own_checkpoint(file) is None
    assert "last.ckpt is damaged (" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize(
    ("model", "network"),
    list(zip(models(), [SASRecNetwork, TigerNetwork, RqVaeNetwork], strict=True)),
    ids=["sasrec", "tiger", "rqvae"],
)
def test_the_network_alone_comes_from_the_file_of_what_was_trained(model, network, tmp_path):
    save_model(model, tmp_path / "model.ckpt")
    loaded = load_model(network, tmp_path / "model.ckpt")
    assert type(loaded) is network
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert load_arguments(tmp_path / "model.ckpt") == dict(model.hparams)


def test_equal_arguments_give_equal_bytes_wherever_their_names_come_from(tmp_path):
    # ETEGRec's arguments hold those of its tokenizer; read from a file, their names were other objects than those of
    # the constructor, and pickle wrote equal names twice
    made, read = sasrec(), sasrec()
    made.hparams["tokenizer"] = {"dropout": 0.1}
    read.hparams["tokenizer"] = {"".join(["drop", "out"]): 0.1}
    for model, file in ((made, "a.ckpt"), (read, "b.ckpt")):
        save_model(model, tmp_path / file)
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "b.ckpt").read_bytes()
