"""ETEGRec as it is trained (arXiv 2409.05546): tokenizer and recommender in turns, aligned both ways.

    z (item embedding) -> RQ-VAE ---- codes ---> code table ---> tokens -> encoder-decoder -> codes of the next item
                             |                                                 |        |
                             |  SIA: code distributions of target and of   pooled states |
                             |  the projected sequence agree (KL) <------- projection    |
                             |  PSA: reconstruction of the target agrees with the        |
                             |  projected first decoder state (InfoNCE) <--------- projection

Of `cycle` epochs the first trains the tokenizer, the recommender frozen; afterwards all items are coded anew. The
others train the recommender, the tokenizer frozen. The final stage trains the recommender alone. docs/etegrec.md draws
this and says where paper, published code and this one differ.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from genrec.codes.tokenizer.code_health import code_health
from genrec.layers.processes import gathered, rows_of_all, targets_of_all, weight_of
from genrec.models.etegrec.alignment import (
    first_occurrences,
    preference_semantic_alignment,
    sequence_item_alignment,
)
from genrec.networks.generating.etegrec import ETEGRecNetwork
from genrec.retrieval.ranks import found_figures
from genrec.training.lightning import pl
from genrec.training.schedules import learning_rate_factor

Phase = Literal["tokenizer", "recommender", "together", "final"]
GRADIENT_NORM = 1.0


class ETEGRec(ETEGRecNetwork, pl.LightningModule):
    """Both modules, the item embeddings that the tokenizer reads, and the code table that follows from them.

    Args:
        tokenizer: the constructor's arguments of the `RqVae`, which is pre-trained (`start_from`).
        max_history: how many items a history may have; who builds batches cuts them.
        sia_weight, psa_weight: mu and lambda of the paper; both are 0 in the first `warmup_epochs` epochs.
        sia_sign: `paper`, or `authors`; see `code_log_probabilities`.
        alpha: the weight of the quantizer's losses within the tokenizer's.
        cycle: of so many epochs the first trains the tokenizer.
        alternates: no: every step trains both modules by all losses at once (an ablation of the paper's table 4).
        final_learning_rate: of the final stage, a cosine from there to 0.
    """

    def __init__(
        self,
        n_items: int,
        tokenizer: dict[str, Any],
        embedding_dim: int = 128,
        num_heads: int = 4,
        head_dim: int = 64,
        attn_dim: int = 512,
        num_layers: int = 6,
        dropout: float = 0.1,
        max_history: int = 50,
        causal: bool = False,
        learning_rate: float = 5e-3,
        tokenizer_learning_rate: float = 1e-4,
        weight_decay: float = 0.05,
        warmup_steps: int = 8000,
        sia_weight: float = 1e-4,
        psa_weight: float = 3e-4,
        sia_sign: str = "paper",
        alpha: float = 1.0,
        cycle: int = 2,
        alternates: bool = True,
        warmup_epochs: int = 10,
        final_learning_rate: float = 5e-4,
        n_beams: int = 20,
        *,
        itemwise: bool = False,
        decoder_dropout: float = 0.1,
        learns_repeats: bool = False,
    ) -> None:
        super().__init__(
            n_items, tokenizer, embedding_dim, num_heads, head_dim, attn_dim, num_layers, dropout, max_history, causal,
            alpha, itemwise=itemwise, decoder_dropout=decoder_dropout, learns_repeats=learns_repeats,
        )  # fmt: skip
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.sia_weight, self.psa_weight, self.sia_sign = sia_weight, psa_weight, sia_sign
        self.cycle, self.warmup_epochs, self.n_beams = cycle, warmup_epochs, n_beams
        self.alternates = alternates
        self.is_final = False

    def forget_recommender(self, seed: int) -> None:
        """Draw the recommender's weights anew, for a recommender trained on the final codes alone (table 4)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = ETEGRec(**self.hparams)
        for module, drawn in zip(self.recommender_modules(), fresh.recommender_modules(), strict=True):
            for parameter, value in zip(module.parameters(), drawn.parameters(), strict=True):
                parameter.data.copy_(value)

    @property
    def phase(self) -> Phase:
        if self.is_final:
            return "final"
        if not self.alternates:
            return "together"
        return "tokenizer" if self.current_epoch % self.cycle == 0 else "recommender"

    @property
    def trains_tokenizer(self) -> bool:
        return self.phase in ("tokenizer", "together")

    @property
    def trains_recommender(self) -> bool:
        return self.phase != "tokenizer"

    @property
    def alignment_weights(self) -> dict[str, float]:
        """The weights of the alignments that this epoch trains; none in the warm-up and in the final stage."""
        if self.is_final or self.current_epoch < self.warmup_epochs:
            return {}
        weights = {"sia_loss": self.sia_weight, "psa_loss": self.psa_weight}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def on_train_epoch_start(self) -> None:
        """Freeze the module that does not learn; it also runs without dropout."""
        self.tokenizer.requires_grad_(self.trains_tokenizer).train(self.trains_tokenizer)
        for module in self.recommender_modules():
            module.requires_grad_(self.trains_recommender).train(self.trains_recommender)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        losses = self.losses(batch)
        figures = {f"train_{self.phase}_{name}": value.detach() for name, value in losses.items()}
        for name, weight in self.alignment_weights.items():
            figures[f"train_{self.phase}_weighted_{name}"] = weight * losses[name].detach()
        # logged before the step: a term that is not finite is then refused before it reaches the weights
        self._log_means(figures, batch)
        self._log_means(self._step(losses["loss"]), batch)

    def _log_means(self, figures: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
        size = rows_of_all(len(batch["target"]))
        self.log_dict(figures, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`loss` and its unweighted terms, by the epoch's phase.

        A tokenizer epoch minimises vq + mu SIA + lambda PSA (equation 17), a recommender epoch code + mu SIA +
        lambda PSA (equation 18), the final stage code alone; together they are the ablation without alternation.
        Of several processes each has the code loss of its share, and all of them the other terms of the whole batch.

        Args:
            batch: `history` (batch, length) and `target`, (batch,) or (batch, n), int64 item_ids; target 0 = none.
        """
        target = batch["target"].view(len(batch["history"]), -1)
        weights = self.alignment_weights
        terms: dict[str, Tensor] = {}
        projections: Sequence[Tensor] = ()
        if self.trains_recommender:
            logits, *projections = self(batch["history"], target)
            n_known = (target != 0).sum()
            terms["code_loss"] = self.generator.code_loss(logits, target) * weight_of(n_known, targets_of_all(n_known))
        elif weights:
            with torch.no_grad():
                projections = self.projections(batch["history"], target)
        if self.trains_tokenizer or weights:
            size = rows_of_all(len(target))
            target, *projections = (gathered(each, size) for each in (target, *(projections if weights else ())))
            known = target != 0
            rows = first_occurrences(target[known])
            embeddings = self.item_embeddings[target[known][rows]]
            projections = [each[known][rows] for each in projections]
            with torch.set_grad_enabled(self.trains_tokenizer):
                latents = self.tokenizer.encode(embeddings)
                quantized = self.tokenizer.quantizer(latents)
                reconstructed = self.tokenizer.decoder(quantized.vectors)
        if self.trains_tokenizer:
            vq_losses = self.vqvae_loss(embeddings, reconstructed, quantized.commitment_loss, quantized.embedding_loss)
            terms["vq_loss"] = vq_losses["total_loss"]
        if "sia_loss" in weights:
            distances = self.tokenizer.quantizer.distances
            terms["sia_loss"] = sequence_item_alignment(distances(projections[0]), distances(latents), self.sia_sign)
        if "psa_loss" in weights:
            terms["psa_loss"] = preference_semantic_alignment(reconstructed, projections[1])
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        return {"loss": total, **terms}

    def _step(self, loss: Tensor) -> dict[str, Tensor]:
        """One step of each learning module's optimizer and schedule; returns the gradient norms before clipping."""
        every: Any = self.optimizers(use_pl_optimizer=True)
        schedulers: Any = self.lr_schedulers()
        learning = {"recommender": (every, schedulers)}
        if not self.is_final:
            learning = dict(zip(("tokenizer", "recommender"), zip(every, schedulers, strict=True), strict=True))
            learning = {name: pair for name, pair in learning.items() if getattr(self, f"trains_{name}")}
        for optimizer, _ in learning.values():
            optimizer.zero_grad()
        self.manual_backward(loss)
        norms = {}
        for name, (optimizer, scheduler) in learning.items():
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norms[f"grad_norm_{name}"] = nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            optimizer.step()
            scheduler.step()
        return norms

    def on_train_epoch_end(self) -> None:
        """Once the tokenizer has moved all items are coded anew; how many changed and how they spread is logged."""
        if not self.trains_tokenizer:
            return
        before = self.generator.code_table.clone()
        self.tokenizer.eval()
        self.rebuild_code_table()
        changed = (self.generator.code_table != before).any(1)[1:].float().mean()
        health = code_health(self.generator.code_table[1:, :-1].long(), self.generator.network.code_num)
        shown = {name: value for name, value in health.items() if name.startswith(("usage_", "entropy_", "collision"))}
        self.log_dict({"code_churn": changed, **shown})

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Full ranking of the target by a constrained search."""
        n_users = len(batch["target"])
        size, found = rows_of_all(n_users), self.generate(batch["history"], self.n_beams).items
        for name, value in found_figures(found, batch["history"], batch["target"]).items():
            self.log(f"val_{name}", value * weight_of(n_users, size), batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Joint stage: one AdamW and one cosine a module, the tokenizer's first; final stage: the recommender's."""
        total = int(self.trainer.estimated_stepping_batches)
        recommender = [p for module in self.recommender_modules() for p in module.parameters()]
        settings = self.hparams
        if self.is_final:
            return self._optimizer(recommender, settings["final_learning_rate"], 0, total)
        warmup, cycle = settings["warmup_steps"], self.cycle if self.alternates else 1
        optimizers = [
            self._optimizer(
                self.tokenizer.parameters(), settings["tokenizer_learning_rate"], warmup // cycle, total // cycle
            ),
            self._optimizer(recommender, settings["learning_rate"], warmup, total),
        ]
        return [o["optimizer"] for o in optimizers], [o["lr_scheduler"] for o in optimizers]

    def _optimizer(self, parameters: Any, learning_rate: float, warmup_steps: int, total_steps: int) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(
            parameters, lr=learning_rate, weight_decay=self.hparams["weight_decay"], fused=True
        )
        factor = learning_rate_factor("cosine", warmup_steps, total_steps)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor)}
