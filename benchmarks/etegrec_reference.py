"""ETEGRec written down plainly, as its paper and the authors' code describe it: nothing shared, nothing kept.

Hugging Face's T5 with relative position bias, one table of codes a level, batches padded to their longest history. The
search runs encoder and decoder anew for each beam at each level, without a cache.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import T5Config, T5Model

TEMPERATURE, COMMITMENT, SIA_WEIGHT, PSA_WEIGHT = 0.07, 0.25, 1e-4, 3e-4


class Tokenizer(nn.Module):
    """RQ-VAE 256 -> 512 -> 256 -> 128, three levels of 256 codes."""

    def __init__(self, sizes: tuple[int, ...] = (256, 512, 256, 128), levels: int = 3, codes: int = 256) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(sizes), mlp(sizes[::-1])
        self.codebooks = nn.ParameterList(torch.randn(codes, sizes[-1]) * 0.1 for _ in range(levels))

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vectors, loss, distances = self.quantize(self.encoder(embeddings))
        return self.decoder(vectors), loss, distances

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        residual, total, losses, distances = latents, torch.zeros_like(latents), [], []
        for codebook in self.codebooks:
            squares = residual.square().sum(1, keepdim=True) + codebook.square().sum(1)
            distance = squares - 2 * residual @ codebook.T
            chosen = F.embedding(distance.argmin(1), codebook)
            losses.append(F.mse_loss(chosen, residual.detach()) + COMMITMENT * F.mse_loss(chosen.detach(), residual))
            straight_through = residual + (chosen - residual).detach()
            residual, total = residual - straight_through, total + straight_through
            distances.append(distance)
        return total, torch.stack(losses).mean(), torch.stack(distances, 1)


def mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    layers = [layer for a, b in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class Recommender(nn.Module):
    """T5, 6 + 6 layers, 128-d, 4 heads of 64, ff 512."""

    def __init__(self, codes: int = 256, length: int = 4, dim: int = 128, semantic_dim: int = 256) -> None:
        super().__init__()
        self.t5 = T5Model(
            T5Config(vocab_size=1, d_model=dim, d_ff=512, d_kv=64, num_heads=4, num_layers=6, dropout_rate=0.1)
        )
        self.tables = nn.ModuleList(nn.Embedding(codes, dim) for _ in range(length))
        self.sequence_adapter, self.preference_adapter = nn.Linear(dim, dim), nn.Linear(dim, semantic_dim)

    def forward(self, codes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """codes (batch, items, length), -1 = padding; labels (batch, up to length) to logits of each level, latents."""
        mask = (codes != -1).flatten(1)
        embedded = torch.stack([table(codes[:, :, i].clamp_min(0)) for i, table in enumerate(self.tables)], 2)
        start = self.t5.shared.weight.expand(len(codes), 1, -1)
        known = [table(labels[:, i])[:, None] for i, table in enumerate(self.tables[: labels.shape[1] - 1])]
        out = self.t5(
            inputs_embeds=embedded.flatten(1, 2), attention_mask=mask.long(),
            decoder_inputs_embeds=torch.cat([start, *known], 1), use_cache=False,
        )  # fmt: skip
        states, memory = out.last_hidden_state, out.encoder_last_hidden_state
        logits = torch.stack([states[:, i] @ self.tables[i].weight.T for i in range(states.shape[1])], 1)
        pooled = (memory * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return logits, self.sequence_adapter(pooled), self.preference_adapter(states[:, 0])

    @torch.no_grad()
    def search(self, codes: Tensor, n_beams: int) -> Tensor:
        """The codes of the best beams, (batch, n_beams, length), whether or not they are an item."""
        batch, length = len(codes), len(self.tables)
        beams = codes.new_zeros(batch, 1, 0)
        scores = torch.zeros(batch, 1)
        for level in range(length):
            n = beams.shape[1]
            repeated = codes.repeat_interleave(n, 0)
            labels = F.pad(beams.flatten(0, 1), (0, 1))
            log_probs = self(repeated, labels)[0][:, level].log_softmax(-1).view(batch, n, -1)
            candidates = scores[..., None] + log_probs
            scores, chosen = candidates.flatten(1).topk(n_beams)
            parents = beams.gather(1, (chosen // candidates.shape[2])[..., None].expand(-1, -1, level))
            beams = torch.cat([parents, chosen[..., None] % candidates.shape[2]], 2)
        return beams


def losses(
    recommender: Recommender, tokenizer: Tokenizer, codes: Tensor, labels: Tensor, targets: Tensor, embeddings: Tensor
) -> dict[str, Tensor]:
    """All terms of both phases; targets (batch,) item_ids, embeddings (batch, 256) of the targets."""
    logits, sequence, preference = recommender(codes, labels)
    first = {int(item): row for row, item in reversed(list(enumerate(targets)))}
    rows = torch.tensor([first[item] for item in sorted(first)])
    reconstructed, quantization, item_distances = tokenizer(embeddings[rows])
    _, _, sequence_distances = tokenizer.quantize(sequence)
    of_sequence = F.log_softmax(-sequence_distances[rows].flatten(0, 1), -1)
    of_item = F.log_softmax(-item_distances.flatten(0, 1), -1)
    similarity = F.normalize(reconstructed, dim=-1) @ F.normalize(preference[rows], dim=-1).T / TEMPERATURE
    own = torch.arange(len(rows))
    return {
        "code": F.cross_entropy(logits.flatten(0, 1), labels.flatten()),
        "vq": F.mse_loss(reconstructed, embeddings[rows]) + quantization,
        "sia": F.kl_div(of_sequence, of_item, reduction="batchmean", log_target=True)
        + F.kl_div(of_item, of_sequence, reduction="batchmean", log_target=True),
        "psa": F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own),
    }
