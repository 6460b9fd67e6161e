"""Nothing that learns or ranks sees what comes later: each interaction has an item of its own, which names it.

Of both splits, and of all that reads histories: batches, counts, memory, candidates, rows of rankers, lists, audits.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from genrec.data.preparation import TimeSplit, prepare
from genrec.evaluation.audit import audit
from genrec.evaluation.reranking import measure_reordered
from genrec.generation.generated_items import GeneratedItems
from genrec.ranking.rows import RowBuilder
from genrec.retrieval.memory import WithMemory, choose_share, choose_transitions
from genrec.retrieval.proposals import retrieve, search_by_scores
from genrec.retrieval.ranking import rank_by_scores, search_users, share_of_invalid_beams
from genrec.sequences.batches import mixed_window_loader, training_loader, window_loader
from genrec.sequences.histories import EVALUATED_SPLITS

CPU = torch.device("cpu")
SPLITS = {
    "leave-one-out": None,
    "in time, first targets": TimeSplit(0.5, 0.75, False),
    "in time, all targets": TimeSplit(0.5, 0.75, True),
}


class World:
    """Users who come and go at different times, and what each split lets be known."""

    def __init__(self, split, n_users=40):
        random = np.random.default_rng(0)
        lengths = random.integers(3, 20, n_users)
        starts = random.integers(0, 1000, n_users)
        rows = [
            (str(user), str(item), int(time))
            for user, (start, length) in enumerate(zip(starts, lengths, strict=True))
            for item, time in zip(
                random.permutation(1000)[:length] + 1000 * user, start + 10 * np.arange(length), strict=True
            )
        ]
        frame = pd.DataFrame(rows, columns=["user_key", "item_key", "time"]).astype(
            {"user_key": "str", "item_key": "str"}
        )
        rules = {"min_user_interactions": 3, "min_item_interactions": 1, "repeats": "keep", "ties": "file"}
        prepared = prepare(frame, **rules, split=split)
        self.histories, self.statistics = prepared.histories, prepared.statistics
        self.times = prepared.interactions["time"].to_numpy()
        self.place = np.empty(self.histories.n_items + 1, int)
        self.place[self.histories.items] = np.arange(len(self.histories.items))
        self.split = split
        self.shown: list[list[int]] = []

    def may_be_learned(self):
        """The items that training may see, by the clock or by the two that are held out."""
        if self.split is not None:
            return set(self.histories.items[self.times < self.statistics["train_until"]].tolist())
        pieces = np.split(self.histories.items, self.histories.offsets[1:-1])
        return {int(item) for piece in pieces for item in piece[:-2]}

    def scores(self, history):
        """A model that notes what it is shown; it likes all items alike."""
        self.shown += [row[row > 0].tolist() for row in history]
        scores = torch.zeros(len(history), self.histories.n_items + 1)
        scores[:, 0] = -torch.inf
        return scores

    def generate(self, history, n_beams=5, constrained=True):
        items = self.scores(history).topk(n_beams).indices
        return GeneratedItems(items, torch.zeros(items.shape))

    def check_shown(self, split):
        """Each history that was shown is what a user took before a target of the split, and nothing else."""
        assert self.shown
        targets = set(self.histories.examples(split).ends.tolist())
        for history in self.shown:
            places = self.place[history]
            assert places.tolist() == list(range(places[0], places[-1] + 1))
            target = int(places[-1]) + 1
            assert target in targets
            assert not set(range(places[0] + 1, target + 1)) & set(self.histories.offsets.tolist())  # of one user
            self.check_clock(places, target, split)
        self.shown = []

    def check_clock(self, places, target, split):
        """Of a split in time, on the right side of the moments too."""
        assert self.times[places].max() < self.times[target]
        if self.split is not None:
            until = self.statistics["validate_until"]
            assert (self.times[target] < until) if split == "validation" else (self.times[target] >= until)
            assert self.times[target] >= self.statistics["train_until"]


@pytest.fixture(params=list(SPLITS))
def world(request):
    return World(SPLITS[request.param])


@pytest.mark.parametrize("encoder", ["bidirectional", "causal", "items"])
@pytest.mark.parametrize("max_history", [3, 50])
def test_no_batch_to_learn_from_holds_what_comes_later(world, encoder, max_history):
    loaders = [
        training_loader(world.histories, encoder, max_history, 16, seed=0, windows_per_epoch=0),
        mixed_window_loader(world.histories, max_history, 16, seed=0),
    ]
    for loader in loaders:
        seen = set()
        for epoch in range(3):
            loader.sampler.set_epoch(epoch)
            seen |= {int(item) for batch in loader for name in batch for item in batch[name].flatten()} - {0}
        assert seen <= world.may_be_learned()
        assert len(seen) > 100


def test_what_is_counted_is_what_may_be_learned(world):
    learned = world.histories.train_part()
    assert set(learned.items.tolist()) == world.may_be_learned()
    transitions, _ = choose_transitions(world.histories, n_users=10, seed=0)
    starts, columns = transitions.starts.numpy(), transitions.columns.numpy()
    rows = set(np.flatnonzero(np.diff(starts)).tolist())
    assert rows | set(columns.tolist()) <= world.may_be_learned()
    builder = RowBuilder.fit(world.histories, world.scores, transitions, 5, CPU)
    assert set(np.flatnonzero(builder.counts).tolist()) == world.may_be_learned()


def test_validation_batches_ask_for_what_validates(world):
    for batch in window_loader(world.histories, "validation", 50, 16, seed=0):
        world.shown += [row[row > 0].tolist() for row in batch["history"]]
        following = [int(world.place[row[-1]]) + 1 for row in world.shown[-len(batch["target"]) :]]
        assert world.histories.items[following].tolist() == batch["target"].tolist()
    world.check_shown("validation")


@pytest.mark.parametrize("split", EVALUATED_SPLITS)
@pytest.mark.parametrize("max_history", [3, 50])
def test_whatever_ranks_is_shown_what_was_before_the_target(world, split, max_history):
    histories = world.histories
    rank_by_scores(world.scores, histories, split, max_history, 5, 16, progress_bar=False)
    search_users(world.generate, histories, split, max_history, 16, progress_bar=False)
    share_of_invalid_beams(world.generate, histories, split, max_history, 16, progress_bar=False)
    assert len(world.shown) == 3 * len(histories.examples(split))
    world.check_shown(split)


@pytest.mark.parametrize("split", EVALUATED_SPLITS)
def test_candidates_and_a_rankers_rows_know_what_was_before_the_target(world, split):
    histories = world.histories
    candidates = retrieve(search_by_scores(world.scores, 4), histories, split, 6, 16)
    world.check_shown(split)
    transitions, _ = choose_transitions(histories, n_users=10, seed=0)
    rows = RowBuilder.fit(histories, world.scores, transitions, 6, CPU).rows(candidates, split)
    world.check_shown(split)
    world.shown = [row[row > 0].tolist() for row in rows.features["history"]]
    world.check_shown(split)
    # what is left out as taken before is what was taken before the target
    figures = measure_reordered(candidates.items, histories, split, (4,), 2, 0)
    examples = histories.examples(split)
    for start, end, kept, allowed in zip(
        examples.starts, examples.ends, figures.lists["kept"], figures.lists["excluded"], strict=True
    ):
        before = set(histories.items[start:end].tolist())
        assert set(allowed[allowed > 0].tolist()) == set(kept.tolist()) - before


def test_the_share_of_the_memory_is_chosen_on_validation(world):
    memory, _ = choose_transitions(world.histories, n_users=10, seed=0)
    mixture = WithMemory(world.scores, memory, 0.0, None)
    choose_share(mixture, (0.0, 0.5), world.histories, 6, n_users=10, seed=0)
    world.check_shown("validation")


class Generator:
    """A search and exact scoring that note what they are shown."""

    def __init__(self, world):
        self.generate = world.generate
        self.score_items = world.scores
        self.code_table = torch.zeros(world.histories.n_items + 1, 2, dtype=torch.long)
        self.world = world

    def __call__(self, history, items):
        self.world.scores(history)
        return torch.zeros(len(history), 1, 2, 3)


def test_an_audit_sees_what_was_before_the_target(world):
    n = len(world.histories.examples("test"))
    audit(Generator(world), world.histories, torch.arange(1, n + 1), max_history=6, n_beams=4, device=CPU)
    world.check_shown("test")
