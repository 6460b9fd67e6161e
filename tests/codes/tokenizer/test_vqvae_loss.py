"""The sum and its terms."""

import torch

from genrec.codes.tokenizer.vqvae_loss import VQVAELoss


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
