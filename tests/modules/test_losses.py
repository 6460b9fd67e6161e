"""The losses against arithmetic (float64), and against the seed page's text where that is right or breaks."""

import math

import pytest
import torch
import torch.nn.functional as F

from genrec.models.etegrec.alignment import preference_semantic_alignment
from genrec.modules.losses import ContrastiveLoss, SequenceLoss


def drawn(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


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
