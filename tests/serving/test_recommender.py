"""What is recommended is what the evaluation lists, and constraints, samples and the unknown are answered as told."""

import numpy as np
import pytest
import torch
from packages import N_BEAMS, N_ITEMS, N_USERS, RANKED, SHARE, World, make_world

from genrec.errors import UserError
from genrec.evaluation.reranking import measure_reordered
from genrec.ranking.rows import RowBuilder
from genrec.retrieval.memory import BeamsWithMemory, WithMemory
from genrec.retrieval.proposals import reorder, retrieve, search_by_generation, search_by_scores
from genrec.retrieval.ranking import RankedItems, rank_by_scores, rank_found, search_users
from genrec.retrieval.transitions import Transitions
from genrec.serving.recommender import Recommender, Request

ALONE = ["sasrec", "tiger", "parallel"]
SCORING = ("sasrec", "parallel")
MODELS = [f"{name}{kind}" for name in ALONE for kind in ("", "_with_memory", "_ranked")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("world"))
    world.repackage(*MODELS)
    return world


@pytest.fixture(scope="module")
def recommender(world: World) -> Recommender:
    return Recommender.load(world.package)


@torch.inference_mode()
def offline(world: World, name: str, k: int = 10) -> dict[str, torch.Tensor]:
    """The evaluation's lists of the test, by the protocol."""
    base = name.partition("_")[0]
    network = world.networks[base]
    if name.endswith("_with_memory"):
        return with_memory(world, base, k).lists
    if name.endswith("_ranked"):
        return reranked(world, base, k)
    if name in SCORING:
        ranked = rank_by_scores(network.scores, world.histories, "test", network.max_history, k, 16, False)
    else:
        found = search_users(
            lambda history: network.generator.generate(history, N_BEAMS), world.histories, "test",
            network.max_history, 16, False,
        )  # fmt: skip
        ranked = rank_found(found.items, world.histories, "test", k, 16)
    return ranked.lists


def with_memory(world: World, name: str, k: int) -> RankedItems:
    network, memory = world.networks[name], Transitions.load(world.folder / "transitions.npz", N_ITEMS)
    if name in SCORING:
        both = WithMemory(network.scores, memory, SHARE, network.repeats)
        return rank_by_scores(both.scores, world.histories, "test", network.max_history, k, 16, False)
    found = search_users(
        lambda history: network.generator.generate(history, N_BEAMS), world.histories, "test",
        network.max_history, 16, False,
    )  # fmt: skip
    lists = BeamsWithMemory({"test": found}, memory, world.histories).lists("test", SHARE)
    return rank_found(lists, world.histories, "test", k, 16)


def reranked(world: World, name: str, k: int) -> dict[str, torch.Tensor]:
    network, histories = world.networks[name], world.histories
    search = (
        search_by_scores(network.scores, RANKED.n_candidates)
        if name in SCORING
        else search_by_generation(network.generator, RANKED.n_candidates)
    )
    candidates = retrieve(search, histories, "test", network.max_history, 16)
    memory = Transitions.load(world.folder / "transitions.npz", N_ITEMS)
    builder = RowBuilder.fit(
        histories, world.networks["sasrec"].scores, memory, RANKED.max_history, torch.device("cpu")
    )
    rows = builder.rows(candidates, "test")
    scores = world.networks[f"{name}_ranked"].scores(rows.features, RANKED.rating_weight)
    return measure_reordered(reorder(candidates, rows.users, rows.places, scores), histories, "test", (k,), 1, 0).lists


def keys_of(answer) -> list[str]:
    return [each.item for each in answer.recommendations]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("protocol", ["kept", "excluded"])
def test_every_user_gets_the_list_of_the_evaluation(world, recommender, name, protocol):
    requests = [
        Request(user=f"u{user}", model=name, exclude_history=protocol == "excluded", without_last=1)
        for user in range(1, N_USERS + 1)
    ]
    lists = [[f"i{item}" for item in row if item] for row in offline(world, name)[protocol].tolist()]
    answers = [keys_of(answer) for answer in recommender.recommend(requests)]
    # the evaluation's search may find fewer than k items that are no history: an answer goes on where it ends
    assert [answer[: len(row)] for answer, row in zip(answers, lists, strict=True)] == lists
    assert {len(answer) for answer in answers} == {10}
    assert all(len(row) for row in lists)


@pytest.mark.parametrize("name", MODELS)
def test_each_answer_is_the_one_that_the_request_gets_alone(recommender, name):
    requests = [
        Request(user=f"u{user}", model=name, k=1 + user % 20, temperature=user % 3, seed=user) for user in range(1, 13)
    ]
    together = [keys_of(answer) for answer in recommender.recommend(requests)]
    assert together == [keys_of(recommender.recommend([request])[0]) for request in requests]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_all_that_is_allowed_comes_back_where_k_is_large(recommender, name, temperature):
    allow = [f"i{item}" for item in range(3, 33)]
    (answer,) = recommender.recommend(
        [Request(user="u1", model=name, k=100, allow=allow, exclude=["i4", "i5"], temperature=temperature)]
    )
    history = {f"i{item}" for item in recommender.catalogue.history_of(0)}
    assert sorted(keys_of(answer)) == sorted({*allow} - history - {"i4", "i5"})
    assert "items are allowed, 100 were asked for" in answer.note
    assert [each.score for each in answer.recommendations].count(float("-inf")) == 0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("k", [1, 5, 13, 29])
def test_k_items_come_back_although_half_the_catalogue_is_history(recommender, name, k):
    (answer,) = recommender.recommend([Request(user="u1", model=name, k=k)])
    assert len({*keys_of(answer)}) == k
    assert not {*keys_of(answer)} & {f"i{item}" for item in recommender.catalogue.history_of(0)}


def test_an_allowed_list_is_ranked_by_the_search_as_by_scoring_every_item(world, recommender):
    chosen = [2, 9, 11, 30, 44, 51]
    (answer,) = recommender.recommend(
        [Request(items=["i1", "i3"], model="tiger", k=6, allow=[f"i{item}" for item in chosen])]
    )
    scores = world.networks["tiger"].generator.score_items(torch.tensor([[1, 3]]))[0]
    given = {each.item: each.score for each in answer.recommendations}
    assert given == pytest.approx({f"i{item}": float(scores[item]) for item in chosen}, abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_is_of_other_items_with_each_seed_and_of_the_same_with_one(recommender, name):
    def drawn(seed: int, temperature: float = 2.0) -> list[str]:
        request = Request(user="u2", model=name, k=8, temperature=temperature, seed=seed)
        return keys_of(recommender.recommend([request])[0])

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(6)}) > 3
    assert len({*drawn(1)}) == 8


def test_a_temperature_near_zero_gives_the_best_items(recommender):
    best, near = (
        keys_of(recommender.recommend([Request(user="u2", model="sasrec", k=8, temperature=each)])[0])
        for each in (0.0, 1e-6)
    )
    assert best == near


def test_unknown_users_and_empty_histories_get_what_is_popular_and_are_told(recommender):
    unknown, empty, strange = recommender.recommend(
        [Request(user="nobody", k=4), Request(items=[], k=4), Request(items=["x", "y"], k=4)]
    )
    counts = recommender.catalogue.popularity
    popular = sorted(range(1, N_ITEMS + 1), key=lambda item: (-counts[item], item))[:4]
    for answer in (unknown, empty, strange):
        assert answer.source == "popularity"
        assert keys_of(answer) == [f"i{item}" for item in popular]
        assert answer.recommendations[0].nearest is None
    assert unknown.note == "user 'nobody' is unknown: the most popular items"
    assert empty.note == "the history is empty: the most popular items"
    assert strange.unknown_items == 2


def test_unknown_items_are_left_out_and_counted(recommender):
    known, mixed = recommender.recommend([Request(items=["i1", "i2"]), Request(items=["i1", "x", "i2"])])
    assert mixed.recommendations == known.recommendations
    assert (mixed.unknown_items, mixed.note) == (1, "1 of 3 items are unknown and left out: x")


def test_an_answer_says_why(recommender):
    (answer,) = recommender.recommend([Request(items=["i7", "i8"], exclude_history=False, allow=["i7", "i8"])])
    by_key = {each.item: each for each in answer.recommendations}
    assert by_key["i7"].title == "The Film Amélie"
    assert by_key["i7"].nearest == "i7"
    assert by_key["i7"].shared_levels == len(by_key["i7"].semantic_id) == 4
    assert by_key["i7"].semantic_id == recommender.catalogue.codes[7].tolist()


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        ({}, "either `user` or `items`"),
        ({"user": "u1", "items": []}, "either `user` or `items`"),
        ({"user": "u1", "k": 0}, "k must be at least 1, got 0"),
        ({"user": "u1", "temperature": -1.0}, "temperature must be 0 or above"),
        ({"user": "u1", "temperature": float("nan")}, "temperature must be 0 or above"),
        ({"user": "u1", "seed": -1}, "seed must be"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(request_, rule):
    with pytest.raises(UserError, match=rule):
        Request(**request_)


def test_a_model_that_is_not_packaged_is_refused(recommender):
    with pytest.raises(UserError, match="no model named 'gru' in .*; it has sasrec, sasrec_with_memory"):
        recommender.recommend([Request(user="u1", model="gru")])


def test_a_list_of_many_histories_equals_the_answers_one_by_one(recommender):
    histories = [recommender.catalogue.history_of(row) for row in range(N_USERS)]
    ranked = recommender.rank(histories, 5, "tiger")
    answers = recommender.recommend([Request(user=f"u{row + 1}", model="tiger", k=5) for row in range(N_USERS)])
    assert [[f"i{item}" for item in row] for row in ranked.items.tolist()] == [keys_of(each) for each in answers]
    scores = np.array([[each.score for each in answer.recommendations] for answer in answers])
    assert np.allclose(ranked.log_probs.numpy(), scores, atol=1e-5)
