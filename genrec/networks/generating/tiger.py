"""TIGER (Rajput et al. 2023, arXiv 2305.05065): the next item's semantic ID, generated code by code.

It speaks two languages. The pipeline's batches hold item_ids, `history` and `target`. The documents' batches hold
tokens, `input_ids` and `labels`: of each item its code_length codes, token 0 is padding and stands on the right.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.generation.generated_items import GeneratedItems
from genrec.generation.item_generator import build_item_generator
from genrec.generation.sampling import shaped
from genrec.layers.history_cut import last_items


class TigerNetwork(nn.Module):
    """An encoder-decoder over the tokens of a code table.

    Args:
        vocab_size: 1 + code_length * code_num; token 0 is padding, code c of level l is token 1 + l * code_num + c.
        max_seq_length: how many tokens a history may have; who builds batches cuts them.
        code_length: codes of a semantic ID, the collision code included.
        n_items: the size of the catalogue, for the code table that `set_code_table` takes.
        head_dim: of the attention; by default embedding_dim / num_heads.
        causal: a causal encoder, which trains every position of a sequence in one pass.
        itemwise: a causal trunk over items and a decoder over the codes of one, see `ItemwiseGenerator`.
        decoder_dropout: only itemwise, of the decoder.
        item_vectors: only itemwise, whether items have vectors of their own beside their codes'.
        learns_repeats: whether what leads back to items of the history has a learned bias.
        n_beams: of a search that names no other width.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 512,
        num_heads: int = 8,
        num_layers: int = 6,
        attn_dim: int = 2048,
        dropout: float = 0.1,
        max_seq_length: int = 1024,
        *,
        code_length: int = 4,
        n_items: int = 0,
        head_dim: int | None = None,
        causal: bool = False,
        itemwise: bool = False,
        decoder_dropout: float = 0.1,
        item_vectors: bool = False,
        learns_repeats: bool = False,
        n_beams: int = 20,
    ) -> None:
        super().__init__()
        if (vocab_size - 1) % code_length:
            raise ValueError(
                f"vocab_size must be 1 + code_length * code_num, got vocab_size={vocab_size}, code_length={code_length}"
            )
        if max_seq_length < code_length:
            raise ValueError(
                f"max_seq_length must be at least one item's code_length, got {max_seq_length} and {code_length}"
            )
        self.vocab_size = vocab_size
        self.code_length = code_length
        self.max_history = max_seq_length // code_length
        self.n_beams = n_beams
        self.generator = build_item_generator(
            n_items,
            code_num=(vocab_size - 1) // code_length,
            code_length=code_length,
            embedding_dim=embedding_dim,
            num_heads=num_heads,
            head_dim=head_dim or embedding_dim // num_heads,
            attn_dim=attn_dim,
            num_layers=num_layers,
            dropout=dropout,
            max_history=self.max_history,
            causal=causal,
            itemwise=itemwise,
            decoder_dropout=decoder_dropout,
            item_vectors=item_vectors,
            learns_repeats=learns_repeats,
        )

    def set_code_table(self, table: Tensor) -> None:
        """The semantic IDs to generate: (n_items + 1, code_length) int, row 0 = -1; saved with the weights."""
        self.generator.set_code_table(table)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits of the token after each, given all tokens up to it.

        Training needs the last item's alone, or with a causal encoder no more than one pass, and goes its own way.

        Args:
            input_ids: (batch, length) int64 tokens, whole items, padded with 0 on the right.
            attention_mask: (batch, length), 0 where a token is to be taken for padding.

        Returns:
            (batch, length, vocab_size); -inf for tokens of another level than the next one's. Nothing precedes the
            first item, so that its later codes are all alike, and what follows padding means nothing.
        """
        tokens = input_ids if attention_mask is None else input_ids.masked_fill(attention_mask == 0, 0)
        items = self.items_of(tokens)
        of_next_item = self._logits_of_following(items)  # (batch, n, code_length, code_num)
        # the codes behind an item's first are those of the item that follows its predecessor
        of_item = F.pad(of_next_item[:, :-1, 1:], (0, 0, 0, 0, 1, 0))
        logits = torch.cat([of_item, of_next_item[:, :, :1]], dim=2)
        by_level = logits.new_full((*logits.shape[:2], self.code_length, self.vocab_size), -torch.inf)
        for place in range(self.code_length):
            first = 1 + (place + 1) % self.code_length * logits.shape[-1]
            by_level[:, :, place, first : first + logits.shape[-1]] = logits[:, :, place]
        return by_level.flatten(1, 2)

    def _logits_of_following(self, items: Tensor) -> Tensor:
        """Of the codes of the item that follows each, (batch, n, code_length, code_num), under teacher forcing."""
        following = F.pad(items[:, 1:], (0, 1))
        if self.generator.network.causal:
            return self.generator(items, following)
        batch, n = items.shape
        prefixes = items[:, None].expand(batch, n, n).tril()
        logits = self.generator(prefixes.flatten(0, 1), following.reshape(-1, 1))
        return logits.view(batch, n, *logits.shape[2:])

    def items_of(self, tokens: Tensor) -> Tensor:
        """The item_ids (batch, n) that tokens (batch, n * code_length) spell; 0 for padding.

        Raises:
            ValueError: what is spelled is no item of the code table, or padding stands before an item.
        """
        if tokens.shape[1] % self.code_length:
            raise ValueError(f"an item has {self.code_length} tokens, got a length of {tokens.shape[1]}")
        by_item = tokens.unflatten(1, (-1, self.code_length))
        first = torch.arange(self.code_length, device=tokens.device) * self.generator.network.code_num + 1
        items = self.generator.prefix_tree.find(by_item - first)
        unknown = (items == 0) & (by_item != 0).any(-1)
        if bool(unknown.any()):
            raise ValueError(
                f"tokens must spell items of the code table, got {by_item[unknown][0].tolist()}; make them by"
                " genrec.codes.code_table.to_tokens, in which 0 is padding alone"
            )
        if bool(((items[:, :-1] == 0) & (items[:, 1:] != 0)).any()):
            raise ValueError("padding must stand on the right of the tokens")
        return items

    def generate(
        self,
        input_ids: Tensor,
        max_length: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        n_beams: int | None = None,
        random: torch.Generator | None = None,
    ) -> GeneratedItems:
        """Ranked items with their log-probabilities, all of them of the catalogue and none twice.

        A beam search by default. With `random` the items are sampled without replacement, and stand in the order in
        which they were drawn. Temperature, top-k and top-p shape at each step the distribution over the codes that lead
        on to an item; both the search and the sample are then those of the shaped distribution, and so are the
        log-probabilities.

        Args:
            input_ids: (batch, length) int64 tokens, whole items, padded with 0 on the right; the last max_history items
                are read.
            max_length: how many tokens there may be; an item has code_length, no more and no less.
            temperature, top_k, top_p: as in `genrec.generation.sampling.shaped`.
            n_beams: how many items; by default as many as validate.
            random: a generator on the model's device; the same state gives the same items.

        Returns:
            items and log_probs (batch, n_beams); 0 and -inf where the catalogue, or what is left of it, is smaller.
        """
        if max_length < self.code_length:
            raise ValueError(f"max_length must be at least the {self.code_length} tokens of an item, got {max_length}")
        is_plain = (temperature, top_k, top_p, random) == (1, None, None, None)
        shape = None if is_plain else partial(shaped, temperature=temperature, top_k=top_k, top_p=top_p)
        history = last_items(self.items_of(input_ids), self.max_history)
        return self.generator.generate(history, n_beams or self.n_beams, shape=shape, random=random)
