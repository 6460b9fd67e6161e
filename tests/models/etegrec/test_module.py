"""ETEGRec's losses and who learns from them; the alternation over epochs is tested with its trainer."""

import math

import pytest
import torch

from genrec.generation.item_generator import GeneratedItems
from genrec.models.etegrec.alignment import preference_semantic_alignment, sequence_item_alignment
from genrec.models.etegrec.module import ETEGRec
from genrec.models.rqvae import RqVae

ITEMS, LEVELS, CODES, SEMANTIC, LATENT = 10, 2, 4, 6, 5
TOKENIZER = {
    "input_dim": SEMANTIC, "hidden_dim": (8,), "latent_dim": LATENT, "num_embeddings": CODES, "num_levels": LEVELS,
}  # fmt: skip


class Clock:
    """As much of Lightning's trainer as tells the epoch."""

    def __init__(self, epoch):
        self.current_epoch = epoch


@pytest.fixture
def clocks():
    """Holds the clocks, to which models keep weak references."""
    return []


@pytest.fixture
def built(clocks):
    """A small model at an epoch, in float64; with cycle 2 even epochs train the tokenizer."""

    def build(epoch=0, causal=False, **options):
        torch.manual_seed(0)
        settings = {
            "embedding_dim": 8, "num_heads": 2, "head_dim": 4, "attn_dim": 16, "num_layers": 1, "dropout": 0.0,
            "warmup_epochs": 0, "sia_weight": 0.5, "psa_weight": 0.25, "causal": causal,
        }  # fmt: skip
        model = ETEGRec(ITEMS, TOKENIZER, **(settings | options)).double()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
        tokenizer = RqVae(**TOKENIZER).double()
        embeddings = torch.randn(ITEMS + 1, SEMANTIC, dtype=torch.float64)
        tokenizer.initialize_codebooks(embeddings[1:], 10, seed=0)
        model.start_from(tokenizer, embeddings)
        clocks.append(Clock(epoch))
        model.trainer = clocks[-1]
        model.on_train_epoch_start()
        return model

    return build


def batch():
    """Windows of equal length; item 7 is a target twice."""
    return {"history": torch.tensor([[1, 2, 3], [4, 5, 6], [2, 8, 9]]), "target": torch.tensor([7, 3, 7])}


def learning(model, loss):
    """The names of the parameters that get a gradient other than 0."""
    model.zero_grad()
    loss.backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and (p.grad != 0).any()}


def names(model, *prefixes):
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


CODEBOOKS = {f"tokenizer.quantizer.levels.{level}.codebook" for level in range(LEVELS)}
ENCODER, DECODER = "tokenizer.encoder.", "tokenizer.decoder."
READERS = ("generator.network.embedding", "generator.network.encoder")


def test_a_tokenizer_epoch_teaches_the_whole_tokenizer_and_nothing_else(built):
    model = built(epoch=0)
    assert learning(model, model.losses(batch())["loss"]) == names(model, "tokenizer.")


def test_in_a_tokenizer_epoch_no_parameter_of_the_recommender_is_trainable(built):
    model = built(epoch=0)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == names(model, "tokenizer.")


def test_a_recommender_epoch_teaches_the_whole_recommender_and_nothing_else(built):
    model = built(epoch=1)
    expected = names(model, "generator.", "sequence_adapter.", "preference_adapter.")
    assert learning(model, model.losses(batch())["loss"]) == expected


def test_in_a_recommender_epoch_no_parameter_of_the_tokenizer_is_trainable(built):
    model = built(epoch=1)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == names(model, "generator.", "sequence_adapter.", "preference_adapter.")


def test_sia_of_a_tokenizer_epoch_teaches_encoder_and_codebooks(built):
    model = built(epoch=0)
    assert learning(model, model.losses(batch())["sia_loss"]) == names(model, ENCODER) | CODEBOOKS


def test_psa_of_a_tokenizer_epoch_teaches_decoder_and_straight_through_the_encoder(built):
    model = built(epoch=0)
    assert learning(model, model.losses(batch())["psa_loss"]) == names(model, ENCODER, DECODER)


def test_sia_of_a_recommender_epoch_teaches_its_adapter_and_the_readers_of_the_history(built):
    model = built(epoch=1)
    learned = learning(model, model.losses(batch())["sia_loss"])
    assert learned == names(model, "sequence_adapter.", *READERS)


def test_psa_of_a_recommender_epoch_teaches_its_adapter_and_the_encoder_decoder(built):
    model = built(epoch=1)
    learned = learning(model, model.losses(batch())["psa_loss"])
    # the first decoder state sees itself alone: distances between the decoder's positions do not matter
    assert learned == names(model, "preference_adapter.", "generator.") - names(model, "generator.network.decoder_bias")


def test_the_code_loss_teaches_no_adapter(built):
    model = built(epoch=1)
    assert learning(model, model.losses(batch())["code_loss"]) == names(model, "generator.")


def test_sia_reaches_the_sequence_through_the_first_level_only(built):
    model = built(epoch=1)
    model.losses(batch())["sia_loss"].backward()
    got = model.sequence_adapter.weight.grad.clone()
    _, sequence, _ = model(batch()["history"], batch()["target"][:, None])
    # of the distinct targets 3 and 7 the first rows are 1 and 0
    sequence, items = sequence[[1, 0], 0], model.item_embeddings[[3, 7]]
    quantizer = model.tokenizer.quantizer
    with torch.no_grad():
        item_distances = quantizer.distances(model.tokenizer.encode(items))
    first = (sequence[:, None] - quantizer.codebooks[0]).square().sum(2)
    term = sequence_item_alignment(first[:, None], item_distances[:, :1])
    (expected,) = torch.autograd.grad(term / LEVELS, model.sequence_adapter.weight)
    torch.testing.assert_close(got, expected)


def test_sia_reaches_the_encoder_through_the_first_level_only(built):
    model = built(epoch=0)
    model.losses(batch())["sia_loss"].backward()
    got = model.tokenizer.encoder[0].weight.grad.clone()
    with torch.no_grad():
        _, sequence, _ = model(batch()["history"], batch()["target"][:, None])
        sequence_distances = model.tokenizer.quantizer.distances(sequence[[1, 0], 0])
    latents = model.tokenizer.encode(model.item_embeddings[[3, 7]])
    first = (latents[:, None] - model.tokenizer.quantizer.codebooks[0]).square().sum(2)
    term = sequence_item_alignment(sequence_distances[:, :1], first[:, None])
    (expected,) = torch.autograd.grad(term / LEVELS, model.tokenizer.encoder[0].weight)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("epoch", [0, 1])
def test_both_alignments_see_each_distinct_target_once_by_its_first_row(built, epoch):
    model = built(epoch)
    losses = model.losses(batch())
    with torch.no_grad():
        _, sequence, preference = model(batch()["history"], batch()["target"][:, None])
        embeddings = model.item_embeddings[[3, 7]]
        distances = model.tokenizer.quantizer.distances
        sia = sequence_item_alignment(distances(sequence[[1, 0], 0]), distances(model.tokenizer.encode(embeddings)))
        psa = preference_semantic_alignment(model.tokenizer(embeddings)[0], preference[[1, 0], 0])
    torch.testing.assert_close(losses["sia_loss"].detach(), sia)
    torch.testing.assert_close(losses["psa_loss"].detach(), psa)


def test_the_tokenizers_loss_is_of_the_distinct_targets_and_weighted_as_said(built):
    model = built(epoch=0, alpha=3.0)
    losses = model.losses(batch())
    embeddings = model.item_embeddings[[3, 7]]
    reconstructed, commitment, embedding, _ = model.tokenizer(embeddings)
    vq = (reconstructed - embeddings).square().mean() + 3.0 * (commitment + embedding)
    torch.testing.assert_close(losses["vq_loss"], vq)
    torch.testing.assert_close(losses["loss"], vq + 0.5 * losses["sia_loss"] + 0.25 * losses["psa_loss"])


def test_the_recommenders_loss_is_of_all_rows_and_weighted_as_said(built):
    model = built(epoch=1)
    losses = model.losses(batch())
    target = batch()["target"][:, None]
    code = model.generator.code_loss(model(batch()["history"], target)[0], target)
    torch.testing.assert_close(losses["code_loss"], code)
    torch.testing.assert_close(losses["loss"], code + 0.5 * losses["sia_loss"] + 0.25 * losses["psa_loss"])


def test_the_authors_sign_changes_the_alignment_and_nothing_else(built):
    paper, authors = (built(1, sia_sign=sign).losses(batch()) for sign in ("paper", "authors"))
    assert (paper["sia_loss"] - authors["sia_loss"]).abs() > 1e-6
    assert torch.equal(paper["psa_loss"], authors["psa_loss"])
    assert torch.equal(paper["code_loss"], authors["code_loss"])


@pytest.mark.parametrize("epoch", range(4))
def test_alignment_begins_after_the_warm_up_epochs(built, epoch):
    model = built(epoch, warmup_epochs=2)
    losses = model.losses(batch())
    assert ("sia_loss" in losses) == (epoch >= 2)
    if epoch < 2:
        assert torch.equal(losses["loss"], losses["vq_loss" if epoch == 0 else "code_loss"])


def test_the_final_stage_does_not_align_and_does_not_run_the_tokenizer(built, monkeypatch):
    # The authors compute both alignments, and the tokenizer for them, and weight them by 0.
    model = built(epoch=5)
    model.is_final = True
    monkeypatch.setattr(model.tokenizer, "encode", None)
    monkeypatch.setattr(model.tokenizer.quantizer, "distances", None)
    assert set(model.losses(batch())) == {"loss", "code_loss"}


@pytest.mark.parametrize("cycle", [2, 3, 4])
def test_the_first_epoch_of_a_cycle_trains_the_tokenizer(built, clocks, cycle):
    model = built(cycle=cycle)
    phases = []
    for epoch in range(2 * cycle):
        clocks[-1].current_epoch = epoch
        phases.append(model.phase)
    assert phases == 2 * (["tokenizer"] + (cycle - 1) * ["recommender"])


def test_the_module_that_does_not_train_runs_without_dropout(built):
    model = built(epoch=0)
    assert model.tokenizer.training
    assert not any(module.training for module in model.generator.modules())
    model = built(epoch=1)
    assert model.generator.network.training
    assert not model.tokenizer.training


def shrunken(model, optimizer):
    """Steps with gradients of 0; the share of it that each parameter lost."""
    lost = {}
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        (left,) = parameter.unique().tolist()
        lost[name] = round(1 - left, 12)
    return lost


def test_weight_decay_is_adamws_and_of_every_weight_of_the_module(built, clocks):
    # decoupled: a weight without a gradient loses rate x decay, where Adam's own would take a whole rate
    rates = {"learning_rate": 0.1, "tokenizer_learning_rate": 0.2, "final_learning_rate": 0.4, "weight_decay": 0.25}
    model = built(warmup_steps=0, **rates)
    clocks[-1].estimated_stepping_batches = 10
    joint, _ = model.configure_optimizers()
    model.is_final = True
    final = model.configure_optimizers()["optimizer"]
    of_tokenizer = names(model, "tokenizer.")
    of_recommender = {name for name, _ in model.named_parameters()} - of_tokenizer
    learning = [(joint[0], of_tokenizer, 0.2), (joint[1], of_recommender, 0.1), (final, of_recommender, 0.4)]
    for optimizer, names_of_weights, rate in learning:
        lost = shrunken(model, optimizer)
        assert {name: share for name, share in lost.items() if share} == dict.fromkeys(names_of_weights, rate * 0.25)


def test_validation_ranks_by_a_constrained_search_of_the_given_width(built, monkeypatch):
    model, logged = built(n_beams=11), {}

    def generate(history, n_beams, constrained=True):
        assert (n_beams, constrained) == (11, True)
        # the targets 7, 3 and 7 stand first, second and beyond the tenth place
        items = [[7, *[1] * 10], [1, 3, *[1] * 9], [*[1] * 10, 7]]
        return GeneratedItems(torch.tensor(items), torch.zeros(3, n_beams))

    monkeypatch.setattr(model, "generate", generate)
    monkeypatch.setattr(model, "log", lambda name, value, **how: logged.update({name: value.item()}))
    model.validation_step(batch(), 0)
    kept = {"val_ndcg_at_10": (1 + 1 / math.log2(3) + 0) / 3, "val_recall_at_10": 2 / 3}
    assert logged == pytest.approx({**kept, **{f"{name}_excluded": value for name, value in kept.items()}})


def test_what_a_narrow_search_misses_is_no_hit(built, monkeypatch):
    model, logged = built(n_beams=3), {}
    found = GeneratedItems(torch.tensor([[1, 7, 2], [1, 2, 4], [1, 2, 3]]), torch.zeros(3, 3))
    monkeypatch.setattr(model, "generate", lambda history, n_beams: found)
    monkeypatch.setattr(model, "log", lambda name, value, **how: logged.update({name: value.item()}))
    model.validation_step(batch(), 0)
    kept = {"val_ndcg_at_10": 1 / math.log2(3) / 3, "val_recall_at_10": 1 / 3}
    excluded = {"val_ndcg_at_10_excluded": 1 / 3, "val_recall_at_10_excluded": 1 / 3}  # 1 is of the history
    assert logged == pytest.approx({**kept, **excluded})


def test_every_matrix_of_the_recommender_is_drawn_as_the_authors_draw_it():
    torch.manual_seed(0)
    model = ETEGRec(ITEMS, TOKENIZER, embedding_dim=128, num_heads=4, num_layers=1)
    for name, parameter in model.named_parameters():
        if name.startswith("tokenizer."):
            continue
        if parameter.ndim > 1 or name == "generator.network.start_vector":
            drawn = parameter[1:] if name == "generator.network.embedding.weight" else parameter  # row 0 is padding
            assert drawn.std().item() == pytest.approx(0.02, rel=0.2), name
        else:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name


def test_the_item_embeddings_are_no_parameter_but_are_saved(built):
    model = built()
    assert "item_embeddings" not in dict(model.named_parameters())
    assert "item_embeddings" in model.state_dict()


def test_the_code_table_is_that_of_the_tokenizer(built):
    model = built()
    codes = model.tokenizer.semantic_codes(model.item_embeddings[1:])
    assert torch.equal(model.generator.code_table[1:, :-1].long(), codes)
    assert model.generator.code_table[0].tolist() == [-1] * (LEVELS + 1)


def test_a_tokenizer_of_another_shape_is_refused(built):
    with pytest.raises(RuntimeError, match="size mismatch"):
        built().start_from(RqVae(**(TOKENIZER | {"num_embeddings": CODES + 1})), torch.zeros(ITEMS + 1, SEMANTIC))


def test_embeddings_of_another_catalogue_are_refused(built):
    model = built()
    one_more = torch.cat([model.item_embeddings, model.item_embeddings[:1]])
    with pytest.raises(ValueError, match=rf"shape \({ITEMS + 1}, .* got \({ITEMS + 2}, "):
        model.start_from(model.tokenizer, one_more)


def test_the_answers_have_the_shapes_of_the_paper(built):
    logits, sequence, preference = built()(batch()["history"], batch()["target"][:, None])
    assert logits.shape == (3, 1, LEVELS + 1, CODES)
    assert sequence.shape == (3, 1, LATENT)
    assert preference.shape == (3, 1, SEMANTIC)


@pytest.mark.parametrize("causal", [True, False])
def test_the_projections_alone_are_those_of_the_whole_pass(built, causal):
    model, history, target = built(causal=causal), batch()["history"], batch()["target"][:, None]
    _, *expected = model(history, target)
    torch.testing.assert_close(list(model.projections(history, target)), expected)


def test_the_pooled_sequence_is_the_mean_of_the_encoders_states(built):
    model, history = built(), batch()["history"]
    memory = model.generator.network.encode(model.generator.tokens[history])
    _, sequence, _ = model(history, batch()["target"][:, None])
    torch.testing.assert_close(sequence[:, 0], model.sequence_adapter(memory.mean(1)))


def test_a_causal_sequence_is_pooled_up_to_each_item(built):
    model, history = built(causal=True), batch()["history"]
    targets = torch.tensor([[2, 3, 7], [5, 6, 3], [8, 9, 7]])
    _, whole, _ = model(history, targets)
    each = [model(history[:, : i + 1], targets[:, i : i + 1])[1] for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(each, 1))


@pytest.mark.parametrize("causal", [True, False])
def test_nothing_depends_on_how_far_the_batch_is_padded(built, causal):
    # and the float32 mask of the generator's test of the same name
    model, history, target = built(causal=causal), batch()["history"], batch()["target"][:, None]
    padded = torch.nn.functional.pad(history, (0, 4))
    for long, short in zip(model(padded, target), model(history, target), strict=True):
        torch.testing.assert_close(long, short)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_batch_of_one_row_and_one_item_has_a_finite_loss_without_psa(built, epoch):
    model = built(epoch)
    one = {"history": torch.tensor([[4]]), "target": torch.tensor([2])}
    losses = model.losses(one)
    assert losses["loss"].isfinite()
    assert losses["psa_loss"] == 0


def test_a_batch_of_equal_targets_counts_as_one_for_the_tokenizer(built):
    model = built(epoch=0)
    equal = {"history": batch()["history"], "target": torch.tensor([7, 7, 7])}
    first = {"history": batch()["history"][:1], "target": torch.tensor([7])}
    torch.testing.assert_close(model.losses(equal)["loss"], model.losses(first)["loss"])


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_causal_batch_aligns_the_targets_of_all_positions(built, epoch):
    model = built(epoch, causal=True)
    whole = {"history": torch.tensor([[1, 2, 0], [4, 5, 6]]), "target": torch.tensor([[2, 7, 0], [5, 6, 2]])}
    losses = model.losses(whole)
    with torch.no_grad():
        _, sequence, preference = model(whole["history"], whole["target"])
        # distinct targets 2, 5, 6, 7 stand first at these places
        at = (torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 1]))
        embeddings = model.item_embeddings[[2, 5, 6, 7]]
        distances = model.tokenizer.quantizer.distances
        sia = sequence_item_alignment(distances(sequence[at]), distances(model.tokenizer.encode(embeddings)))
        psa = preference_semantic_alignment(model.tokenizer(embeddings)[0], preference[at])
    torch.testing.assert_close(losses["sia_loss"].detach(), sia)
    torch.testing.assert_close(losses["psa_loss"].detach(), psa)


def test_the_code_of_a_generated_item_follows_the_table(built):
    model = built().eval()
    history = batch()["history"]
    found = model.generate(history, n_beams=ITEMS)
    for item in (1, ITEMS):
        target = torch.full((3, 1), item)
        log_probs = model(history, target)[0].log_softmax(-1)[:, 0]
        codes = model.generator.code_table[item].long()
        expected = log_probs[:, torch.arange(LEVELS + 1), codes].sum(1)
        torch.testing.assert_close(found.log_probs[found.items == item], expected.detach())
