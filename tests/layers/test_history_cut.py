"""Histories that are longer than a model reads, in every model."""

import pytest
import torch

from genrec.layers.history_cut import last_items
from genrec.models.etegrec.module import ETEGRec
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.networks.generating.two_tower import SASRecTowers

LONG = torch.tensor([[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 0, 0], [0, 0, 0, 0, 0, 6, 7]])
CUT = torch.tensor([[4, 5, 6, 7], [2, 3, 4, 5], [6, 7, 0, 0]])
TABLE = torch.tensor([[-1, -1], *([i // 3, i % 3] for i in range(8))])


def test_the_last_items_are_kept_wherever_padding_stands():
    assert torch.equal(last_items(LONG, 4), CUT)
    assert last_items(CUT, 4) is CUT


def sasrec(history):
    torch.manual_seed(0)
    return SASRec(8, 8, 1, 2, max_history=4).eval().scores(history)


def sasrec_towers(history):
    torch.manual_seed(0)
    return SASRecTowers(SASRec(8, 8, 1, 2, max_history=4)).eval().user_tower({"history": history})


def towers(history):
    torch.manual_seed(0)
    return HistoryTowers(8, embedding_dim=4, hidden_dims=(4,), max_history=4).eval().scores(history)


def tiger(history):
    torch.manual_seed(0)
    model = Tiger(7, 8, 2, 1, 8, code_length=2, n_items=8, max_seq_length=8).eval()
    model.set_code_table(TABLE)
    return model.generate(model.generator.tokens[history].flatten(1), n_beams=8).log_probs


def etegrec(history):
    torch.manual_seed(0)
    tokenizer = {"input_dim": 4, "hidden_dim": 4, "latent_dim": 4, "num_embeddings": 3}
    model = ETEGRec(8, tokenizer, 8, 2, 4, 8, 1, max_history=4).eval()
    model.generator.set_code_table(TABLE)
    return model.generate(history, 8).log_probs


@pytest.mark.parametrize("model", [sasrec, sasrec_towers, towers, tiger, etegrec])
@torch.no_grad()
def test_every_model_reads_the_last_items_of_a_long_history(model):
    # SASRec: "The size of tensor a (7) must match the size of tensor b (4)"; the others read all of it
    long = LONG[:2] if model in (tiger, etegrec) else LONG  # generators take padding on the right alone
    torch.testing.assert_close(model(long), model(CUT[: len(long)]))


def test_a_training_on_longer_stretches_is_refused():
    with pytest.raises(ValueError, match="a history must have at most max_history=4 places, got 7; cut it by"):
        SASRec(8, 8, 1, 2, max_history=4)(LONG)
