"""Exact scoring beside a search, on a generator too small to err."""

import numpy as np
import pytest
import torch

from genrec.evaluation.audit import Audit, audit, code_log_probs, sample_of_users
from genrec.generation.generator import SemanticIdGenerator
from genrec.generation.item_generator import ItemGenerator
from genrec.sequences.histories import Histories

CPU = torch.device("cpu")


@pytest.fixture
def generator():
    torch.manual_seed(0)
    sizes = {"embedding_dim": 8, "num_heads": 2, "head_dim": 4, "attn_dim": 8, "num_layers": 1, "dropout": 0.0}
    found = ItemGenerator(SemanticIdGenerator(code_num=4, code_length=2, causal=True, **sizes), n_items=8)
    codes = torch.tensor([[i // 4, i % 4] for i in range(8)])
    found.set_code_table(torch.cat([torch.full((1, 2), -1), codes]))
    torch.nn.init.normal_(found.network.embedding.weight)
    return found.eval()


@pytest.fixture
def histories():
    random = np.random.default_rng(0)
    return Histories(random.integers(1, 9, 60).astype(np.int32), np.arange(0, 61, 6), n_items=8)


def test_codes_after_one_another_make_the_item(generator):
    history = torch.tensor([[1, 2, 0], [3, 4, 5], [7, 0, 0]])
    target = torch.tensor([6, 1, 8])
    whole = generator.score_items(history).gather(1, target[:, None])[:, 0]
    assert torch.allclose(code_log_probs(generator, history, target).sum(1), whole, atol=1e-5)


def test_a_search_that_holds_the_catalogue_ranks_as_exact_scoring(generator, histories):
    found = audit(generator, histories, torch.arange(1, 11), max_history=4, n_beams=8, device=CPU)
    listed = found.searched_ranks <= 8
    assert torch.equal(found.searched_ranks[listed], found.exact_ranks[listed])
    # the others were taken before: nobody is recommended them
    targets = histories.targets(histories.examples("test"))
    before = [targets[user] in histories.items[6 * user : 6 * user + 5] for user in range(10)]
    assert (~listed).tolist() == before


def test_it_is_read_as_it_was_written(generator, histories, tmp_path):
    found = audit(generator, histories, sample_of_users(10, 3), max_history=4, n_beams=2, device=CPU)
    found.save(tmp_path / "audit.npz")
    again = Audit.load(tmp_path / "audit.npz")
    assert all(torch.equal(value, vars(again)[name]) for name, value in vars(found).items())
    assert again.users.tolist() == [1, 4, 7]
