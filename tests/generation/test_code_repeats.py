"""A bias for what leads back to the history: by hand, and that it learns whether people repeat."""

import pytest
import torch

from genrec.codes.code_table import build_code_table
from genrec.generation.code_repeats import SPEED, CodeRepeats
from genrec.models.tiger import Tiger

CODES = 4


def tokens(*items):
    """(1, n, 2) tokens of semantic IDs of two codes; None is padding."""
    return torch.tensor([[[0, 0] if item is None else [1 + item[0], 1 + CODES + item[1]] for item in items]])


def repeats():
    """0.1, 0.2, 0.3 of the first level for the last item, the one before, all earlier ones; 1, 2, 3 of the second."""
    bias = CodeRepeats(CODES, 2, max_history=3)
    bias.weight.data = torch.tensor([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]) / SPEED
    return bias


def test_each_item_of_the_history_adds_to_the_code_that_leads_to_it():
    history, target = tokens((0, 1), (2, 3), (0, 2), None), tokens((0, 2))
    added = repeats()(torch.zeros(1, 1, 2, CODES), history, target)
    # (0, 2) was taken last, (2, 3) before it, (0, 1) first; behind code 0 only the first and the last are left
    torch.testing.assert_close(added[0, 0], torch.tensor([[0.4, 0, 0.2, 0], [0, 3.0, 1.0, 0]]))


def test_an_item_beyond_the_recencies_counts_as_the_farthest():
    history = tokens((1, 0), (3, 0), (3, 0), (3, 0), (3, 0))
    added = repeats()(torch.zeros(1, 1, 2, CODES), history, tokens((1, 0)))
    torch.testing.assert_close(added[0, 0], torch.tensor([[0, 0.3, 0, 0.9], [3.0, 0, 0, 0]]))


def test_a_position_sees_the_items_up_to_itself():
    history, targets = tokens((0, 1), (2, 3), (0, 2)), tokens((2, 3), (0, 1), (2, 3))
    logits = torch.randn(1, 3, 2, CODES, generator=torch.Generator().manual_seed(0))
    each = [repeats()(logits[:, i : i + 1], history[:, : i + 1], targets[:, i : i + 1]) for i in range(3)]
    torch.testing.assert_close(repeats()(logits, history, targets), torch.cat(each, 1))


@pytest.mark.parametrize("people_repeat", [True, False])
def test_a_model_learns_whether_people_take_an_item_again(people_repeat):
    torch.manual_seed(0)
    n_items, random = 20, torch.Generator().manual_seed(1)
    model = Tiger(
        1 + 3 * 6, 8, 2, 1, 16, 0.0, 18, 0.02, code_length=3, n_items=n_items, itemwise=True, learns_repeats=True
    )  # fmt: skip
    model.set_code_table(build_code_table(torch.randint(0, 6, (n_items, 2), generator=random), 6))
    model.log = lambda *arguments, **options: None
    walks = torch.stack([torch.randperm(n_items, generator=random)[:7] + 1 for _ in range(128)])
    if people_repeat:
        walks[:, 3:] = walks[:, :3].repeat(1, 2)[:, :4]  # each item again, three items later
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        model.training_step({"history": walks[:, :6], "target": walks[:, 1:]}, 0).backward()
        optimizer.step()
    best = model.eval().generator.generate(walks[:, :5], 5).items[:, :1]
    share_of_repeats = (best == walks[:, :5]).any(1).float().mean()
    assert share_of_repeats > 0.8 if people_repeat else share_of_repeats < 0.05
