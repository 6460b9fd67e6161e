"""The losses against arithmetic (float64), and against the seed page's text where that is right or breaks."""

import math

import pytest
import torch
import torch.nn.functional as F

from genrec.modules.losses import (
    ContrastiveLoss,
    SequenceLoss,
    VQVAELoss,
    code_log_probabilities,
    cosines,
    first_occurrences,
    full_softmax_loss,
    preference_semantic_alignment,
    sampled_softmax_loss,
    sequence_item_alignment,
)


def drawn(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_the_first_row_of_each_distinct_target_is_kept_in_order_of_ids():
    targets = torch.tensor([9, 4, 9, 9, 1, 4])
    assert first_occurrences(targets).tolist() == [4, 1, 0]


def test_first_occurrences_equal_those_of_numpys_unique():
    targets = torch.randint(1, 30, (200,), generator=torch.Generator().manual_seed(0))
    rows = targets.tolist()
    assert first_occurrences(targets).tolist() == [rows.index(item) for item in sorted(set(rows))]


def test_the_nearest_code_is_the_likeliest():
    distances = torch.tensor([0.0, math.log(2), math.log(4)], dtype=torch.float64)
    # exp(-d) = 1, 1/2, 1/4, which sum to 7/4
    assert code_log_probabilities(distances, "paper").exp().tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_the_authors_code_makes_the_farthest_code_the_likeliest():
    distances = torch.tensor([0.0, math.log(2), math.log(4)], dtype=torch.float64)
    assert code_log_probabilities(distances, "authors").exp().tolist() == pytest.approx([1 / 7, 2 / 7, 4 / 7])


def test_an_unknown_sign_is_refused():
    with pytest.raises(ValueError, match="author"):
        code_log_probabilities(torch.zeros(2), "author")


# One target, two levels, three codes: distances whose exp(-d) are the odds below.
SEQUENCE = -torch.tensor([[[1.0, 2, 5], [1, 1, 1]]], dtype=torch.float64).log()
ITEM = -torch.tensor([[[1.0, 1, 1], [6, 1, 1]]], dtype=torch.float64).log()
EVEN = [1 / 3, 1 / 3, 1 / 3]


def test_sia_is_the_mean_over_items_and_levels_of_both_divergences():
    odds = [1 / 8, 2 / 8, 5 / 8]
    first_level = kl(odds, EVEN) + kl(EVEN, odds)
    odds = [6 / 8, 1 / 8, 1 / 8]
    second_level = kl(odds, EVEN) + kl(EVEN, odds)
    assert sequence_item_alignment(SEQUENCE, ITEM).item() == pytest.approx((first_level + second_level) / 2)


def test_sia_with_the_authors_sign_takes_the_inverse_odds():
    odds = [10 / 17, 5 / 17, 2 / 17]  # 1, 1/2, 1/5
    first_level = kl(odds, EVEN) + kl(EVEN, odds)
    odds = [1 / 13, 6 / 13, 6 / 13]  # 1/6, 1, 1
    second_level = kl(odds, EVEN) + kl(EVEN, odds)
    assert sequence_item_alignment(SEQUENCE, ITEM, "authors").item() == pytest.approx((first_level + second_level) / 2)


def test_sia_averages_over_targets_so_that_repeating_them_changes_nothing():
    sequence, item = drawn(4, 3, 5), drawn(4, 3, 5, seed=1)
    once = sequence_item_alignment(sequence, item)
    torch.testing.assert_close(sequence_item_alignment(sequence.repeat(3, 1, 1), item.repeat(3, 1, 1)), once)


def test_sia_is_symmetric():
    sequence, item = drawn(4, 3, 5), drawn(4, 3, 5, seed=1)
    torch.testing.assert_close(sequence_item_alignment(sequence, item), sequence_item_alignment(item, sequence))


def test_sia_of_equal_distributions_is_zero():
    distances = drawn(4, 3, 5)
    assert sequence_item_alignment(distances, distances + 7).item() == pytest.approx(0, abs=1e-12)


def test_psa_sums_both_directions_at_temperature_seven_hundredths():
    # unit vectors whose cosines are 1 and 0.6 on the diagonal, 0 and 0.8 off it
    reconstructions = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    preferences = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    s = [[1 / 0.07, 0.8 / 0.07], [0 / 0.07, 0.6 / 0.07]]
    rows = [math.log(sum(math.exp(x) for x in s[i])) - s[i][i] for i in range(2)]
    columns = [math.log(math.exp(s[0][i]) + math.exp(s[1][i])) - s[i][i] for i in range(2)]
    expected = sum(rows) / 2 + sum(columns) / 2
    assert preference_semantic_alignment(reconstructions, preferences).item() == pytest.approx(expected)


def test_psa_looks_at_directions_only():
    first, second = drawn(6, 3) - 0.5, drawn(6, 3, seed=1) - 0.5
    scaled = preference_semantic_alignment(first * 9, second * (1 + drawn(6, 1, seed=2)))
    torch.testing.assert_close(scaled, preference_semantic_alignment(first, second))


def test_psa_does_not_depend_on_the_order_of_the_targets():
    first, second, order = drawn(6, 3), drawn(6, 3, seed=1), torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = preference_semantic_alignment(first[order], second[order])
    torch.testing.assert_close(shuffled, preference_semantic_alignment(first, second))


def test_psa_of_a_single_target_is_zero():
    assert preference_semantic_alignment(drawn(1, 3), drawn(1, 3, seed=1)).item() == 0


def test_psa_of_matching_pairs_is_smaller_than_of_swapped_ones():
    vectors = torch.eye(4, dtype=torch.float64)
    matching, swapped = (
        preference_semantic_alignment(vectors, vectors[order]) for order in ([0, 1, 2, 3], [1, 0, 3, 2])
    )
    assert matching < 1e-4 < swapped


def test_the_full_softmax_is_over_all_items_but_padding():
    states = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    items = torch.tensor([[50.0, 50], [1, 0], [0, 1], [1, 1]], dtype=torch.float64)
    # scores 1, 2, 3
    expected = math.log(math.exp(1) + math.exp(2) + math.exp(3)) - 2
    assert full_softmax_loss(states, torch.tensor([2]), items).item() == pytest.approx(expected)


def test_the_sampled_softmax_over_all_items_is_the_full_one():
    states, items, targets = drawn(20, 4), drawn(31, 4, seed=1), torch.randint(1, 31, (20,))
    sampled = sampled_softmax_loss(states, targets, items, torch.arange(1, 31))
    torch.testing.assert_close(sampled, full_softmax_loss(states, targets, items))


def test_a_negative_that_is_the_target_is_left_out():
    states, items, targets = drawn(2, 4), drawn(9, 4, seed=1), torch.tensor([3, 5])
    with_target = sampled_softmax_loss(states[:1], targets[:1], items, torch.tensor([3, 7, 8]))
    without = sampled_softmax_loss(states[:1], targets[:1], items, torch.tensor([7, 8]))
    torch.testing.assert_close(with_target, without)


def test_negatives_that_are_all_the_target_cost_nothing():
    loss = sampled_softmax_loss(drawn(1, 4), torch.tensor([3]), drawn(9, 4, seed=1), torch.tensor([3, 3]))
    assert loss.item() == 0


class TestVQVAELoss:
    def test_the_total_weighs_commitment_and_embedding_and_the_terms_come_back_raw(self):
        x, x_recon = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [3.0, 3.0]])
        losses = VQVAELoss(commitment_cost=0.5, beta=3.0)(x, x_recon, torch.tensor(2.0), torch.tensor(7.0))
        reconstruction = (4 + 1) / 4
        assert {name: value.item() for name, value in losses.items()} == {
            "total_loss": reconstruction + 0.5 * 2 + 3 * 7,
            "reconstruction_loss": reconstruction,
            "commitment_loss": 2,
            "embedding_loss": 7,
        }

    def test_the_gradient_reaches_the_reconstruction_and_both_terms(self):
        x_recon, commitment, embedding = (torch.tensor(v, requires_grad=True) for v in ([1.0, 2.0], 1.0, 1.0))
        VQVAELoss(0.25, 2.0)(torch.zeros(2), x_recon, commitment, embedding)["total_loss"].backward()
        assert (x_recon.grad.tolist(), commitment.grad.item(), embedding.grad.item()) == ([1.0, 2.0], 0.25, 2.0)


def page_sequence_loss(logits, labels, vocab_size, label_smoothing=0.0):
    """`SequenceLoss.forward` as page 003 prints it; it does not look at its attention_mask."""
    flat_logits = logits.view(-1, vocab_size)
    flat_labels = labels.view(-1)
    loss = F.cross_entropy(flat_logits, flat_labels, ignore_index=-100, label_smoothing=label_smoothing)
    predictions = torch.argmax(flat_logits, dim=-1)
    mask = flat_labels != -100
    correct = (predictions == flat_labels) & mask
    return {"loss": loss, "accuracy": correct.sum().float() / mask.sum().float()}


class TestSequenceLoss:
    labels = torch.tensor([[1, 4, -100], [0, -100, 2]])

    @pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
    def test_it_equals_the_page_where_some_positions_count(self, label_smoothing):
        logits = drawn(2, 3, 5)
        expected = page_sequence_loss(logits, self.labels, 5, label_smoothing)
        losses = SequenceLoss(5, label_smoothing=label_smoothing)(logits, self.labels)
        torch.testing.assert_close(losses["loss"], expected["loss"])
        assert losses["accuracy"] == expected["accuracy"]

    def test_the_loss_is_the_mean_log_odds_of_the_labels(self):
        logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]], dtype=torch.float64)
        losses = SequenceLoss(2)(logits, torch.tensor([[1, 0]]))
        assert losses["loss"].item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
        assert losses["accuracy"] == 1  # of equals the first is the prediction

    def test_a_batch_that_counts_nowhere_is_zero_with_a_zero_gradient_while_the_pages_is_nan(self):
        logits, labels = drawn(2, 3, 5).requires_grad_(), torch.full((2, 3), -100)
        assert page_sequence_loss(logits, labels, 5)["loss"].isnan()
        assert page_sequence_loss(logits, labels, 5)["accuracy"].isnan()
        losses = SequenceLoss(5)(logits, labels)
        losses["loss"].backward()
        assert (losses["loss"].item(), losses["accuracy"].item()) == (0, 0)
        assert (logits.grad == 0).all()

    def test_logits_may_be_transposed_where_the_page_raises(self):
        logits = drawn(3, 2, 5).transpose(0, 1)
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            page_sequence_loss(logits, self.labels, 5)
        expected = page_sequence_loss(logits.contiguous(), self.labels, 5)["loss"]
        torch.testing.assert_close(SequenceLoss(5)(logits, self.labels)["loss"], expected)

    def test_a_masked_position_counts_as_little_as_an_ignored_one(self):
        logits = drawn(2, 3, 5)
        mask = torch.tensor([[1, 0, 1], [1, 1, 1]])
        losses = SequenceLoss(5)(logits, self.labels, mask)
        expected = page_sequence_loss(logits, torch.tensor([[1, -100, -100], [0, -100, 2]]), 5)
        torch.testing.assert_close(losses["loss"], expected["loss"])
        assert losses["accuracy"] == expected["accuracy"]
        assert losses["loss"] != page_sequence_loss(logits, self.labels, 5)["loss"]

    def test_the_ignored_label_may_be_one_of_the_vocabulary(self):
        logits, labels = drawn(2, 3, 5), torch.tensor([[1, 4, 0], [3, 0, 2]])
        losses = SequenceLoss(5, ignore_index=0)(logits, labels)
        expected = page_sequence_loss(logits, labels.masked_fill(labels == 0, -100), 5)
        torch.testing.assert_close(losses["loss"], expected["loss"])
        assert losses["accuracy"] == expected["accuracy"]

    def test_labels_are_not_shifted(self):
        labels = torch.tensor([[2, 0, 1]])
        assert SequenceLoss(3)(F.one_hot(labels, 3).double(), labels)["accuracy"] == 1

    def test_half_precision_does_not_overflow_over_many_positions(self):
        logits = torch.zeros(1, 30_000, 32).half()
        loss = SequenceLoss(32)(logits, torch.zeros(1, 30_000, dtype=torch.long))["loss"]
        assert loss.item() == pytest.approx(math.log(32), rel=1e-2)  # the sum would be above 65,504

    def test_logits_of_another_vocabulary_are_refused_with_both_shapes(self):
        with pytest.raises(ValueError, match=r"vocab_size=4, got \(2, 3, 5\) and labels \(2, 3\)"):
            SequenceLoss(4)(drawn(2, 3, 5), self.labels)

    def test_a_mask_of_another_shape_is_refused(self):
        with pytest.raises(ValueError, match=r"shape of labels, got \(2, 1\) and \(2, 3\)"):
            SequenceLoss(5)(drawn(2, 3, 5), self.labels, torch.ones(2, 1))


def page_contrastive_loss(anchor, positive, negative, temperature=0.1, margin=0.2):
    """`ContrastiveLoss.forward` as page 003 prints it; it does not use its margin."""
    anchor = F.normalize(anchor, dim=-1)
    positive = F.normalize(positive, dim=-1)
    negative = F.normalize(negative, dim=-1)
    pos_sim = torch.sum(anchor * positive, dim=-1) / temperature
    neg_sim = torch.bmm(negative, anchor.unsqueeze(-1)).squeeze(-1) / temperature
    logits = torch.cat([pos_sim.unsqueeze(1), neg_sim], dim=1)
    return F.cross_entropy(logits, torch.zeros(logits.size(0), dtype=torch.long))


class TestContrastiveLoss:
    anchor, positive, negative = drawn(4, 3) - 0.5, drawn(4, 3, seed=1) - 0.5, drawn(4, 6, 3, seed=2) - 0.5

    @pytest.mark.parametrize("temperature", [0.1, 1.0])
    def test_without_a_margin_it_equals_the_page(self, temperature):
        loss = ContrastiveLoss(temperature, margin=0.0)(self.anchor, self.positive, self.negative)
        expected = page_contrastive_loss(self.anchor, self.positive, self.negative, temperature)
        torch.testing.assert_close(loss, expected)

    def test_the_margin_is_taken_from_the_positives_cosine_while_the_page_ignores_it(self):
        pages = [page_contrastive_loss(self.anchor, self.positive, self.negative, margin=m) for m in (0.0, 0.5)]
        assert pages[0] == pages[1]
        anchor, positive, negative = torch.eye(3)[:1], torch.eye(3)[:1], torch.eye(3)[None, 1:]
        # the positive's cosine is 1, both negatives' are 0
        expected = math.log(1 + 2 * math.exp(-(1 - 0.5) / 0.25))
        assert ContrastiveLoss(0.25, margin=0.5)(anchor, positive, negative).item() == pytest.approx(expected)

    def test_without_negatives_nothing_is_to_be_told_apart(self):
        assert ContrastiveLoss()(self.anchor, self.positive, self.negative[:, :0]).item() == 0

    def test_the_other_positives_of_a_batch_as_negatives_make_one_direction_of_psa(self):
        others = torch.stack([self.positive[[j for j in range(4) if j != i]] for i in range(4)])
        backwards = torch.stack([self.anchor[[j for j in range(4) if j != i]] for i in range(4)])
        loss = ContrastiveLoss(temperature=0.07, margin=0.0)
        both = loss(self.anchor, self.positive, others) + loss(self.positive, self.anchor, backwards)
        torch.testing.assert_close(preference_semantic_alignment(self.anchor, self.positive), both)


def test_cosines_are_of_all_pairs_and_of_lengths_one():
    first, second = drawn(2, 4, 3), drawn(2, 5, 3, seed=1)
    expected = F.cosine_similarity(first[:, :, None], second[:, None], dim=-1)
    torch.testing.assert_close(cosines(first * 7, second), expected)
