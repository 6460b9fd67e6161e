"""Items that a model does not know are named by every model."""

import pytest
import torch

from genrec.models.parallel import Parallel
from genrec.models.tiger import Tiger
from genrec.networks.digit_decoding import DigitSearch, best_items
from layers.test_history_cut import TABLE, etegrec, sasrec, sasrec_towers, towers


def parallel():
    model = Parallel(8, 2, 3, 8, 1, 2, max_history=4).eval()
    model.set_digits(TABLE)
    return model


def tiger(history):
    model = Tiger(7, 8, 2, 1, 8, code_length=2, n_items=8, max_seq_length=8).eval()
    model.set_code_table(TABLE)
    return model.generator.generate(history, n_beams=3)


MODELS = {
    "sasrec": sasrec,
    "sasrec towers": sasrec_towers,
    "two towers": towers,
    "tiger": tiger,
    "etegrec": etegrec,
    "parallel": lambda history: parallel().scores(history),
    "parallel, the best items": lambda history: best_items(parallel(), history, 3),
    "parallel, by its digits": lambda history: DigitSearch(parallel()).generate(history, 3),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("item", [9, -1])
@torch.no_grad()
def test_an_item_that_a_model_does_not_know_is_named_with_the_limit(model, item):
    # "index out of range in self"; and TIGER took -1 for the last item of its table
    MODELS[model](torch.tensor([[1, 8]]))
    with pytest.raises(ValueError, match=rf"must (hold item_ids of 1 to|be 0 to) 8.*, got {item}; "):
        MODELS[model](torch.tensor([[1, item]]))
