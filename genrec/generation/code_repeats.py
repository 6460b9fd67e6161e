"""Whether people take an item again, learned code by code: a bias for what leads back to an item of the history.

A generator whose input is a history's codes puts them first again. Where nobody repeats that costs the first places of
every list, and it cannot learn otherwise from codes alone, since an item shares most of them with its neighbours. At
each level each item of the history that the codes chosen so far lead to adds a learned number to the logit of its next
code: at the upper levels for the neighbourhood, at the last ones for the item itself. The distribution over items stays
a product of softmaxes, so that the search, samples and scores hold as they are.

Letters: b batch, t history items, n targets of a user, l levels of a semantic ID, c codes a level.
"""

import torch
from torch import Tensor, nn

from genrec.generation.beam_search import Decoder

SPEED = 10.0  # Adam moves a number by the learning rate a step, and a bias has farther to go than a weight


class CodeRepeats(nn.Module):
    """A number for each level and for how long ago an item was taken, to add to its code's logit.

    Args:
        max_history: recencies that have a number of their own; farther ones share the last.
    """

    def __init__(self, code_num: int, code_length: int, max_history: int) -> None:
        super().__init__()
        self.code_num = code_num
        self.code_length = code_length
        self.weight = nn.Parameter(torch.zeros(code_length, max_history))

    def forward(self, logits: Tensor, tokens: Tensor, target_tokens: Tensor) -> Tensor:
        """Logits (b, n, l, c) with the bias, each level knowing the target's codes above it.

        Args:
            tokens: (b, t, l) int64 history, padded with 0 on the right.
            target_tokens: (b, n, l) int64; n = 1 is the item after the history, n = t the item after each of its items.
        """
        follows = tokens[:, None] == target_tokens[:, :, None]  # (b, n, t, l): of each item, which codes are the target's
        recency = _recency(tokens, target_tokens.shape[1])[:, :, None]
        reached = torch.cat([(recency >= 0).movedim(2, 3), follows[..., :-1]], dim=3).cumprod(3).bool().movedim(3, 2)
        return logits + self._added(reached, recency, self.codes(tokens)[:, None])

    def codes(self, tokens: Tensor) -> Tensor:
        """The codes of a history, level by level, those of padding 0: (b, t, l) to (b, l, t)."""
        first = torch.arange(self.code_length, device=tokens.device) * self.code_num + 1
        return (tokens - first).clamp_min(0).transpose(1, 2)

    def at_level(self, level: int, reached: Tensor, recency: Tensor, codes: Tensor) -> Tensor:
        """The bias of one level's codes: reached (b, beams, t), recency (b, 1, t), codes (b, t) to (b, beams, c)."""
        return self._added(reached[:, :, None], recency[:, :, None], codes[:, None, None], slice(level, level + 1))[:, :, 0]

    def _added(self, reached: Tensor, recency: Tensor, codes: Tensor, levels: slice = slice(None)) -> Tensor:
        """The bias of each code, (b, n, l, c).

        Args:
            reached: (b, n, l, t) bool, whether the codes above a level are those of an item of the history.
            recency: (b or 1, n, 1, t), negative for an item that is not known yet.
            codes: (b, 1, l, t).
        """
        nearest = recency.clamp(0, self.weight.shape[1] - 1)[:, :, 0]
        bias = SPEED * self.weight[levels, nearest].movedim(0, 2) * reached  # (b, n, l, t)
        return bias.new_zeros(*reached.shape[:3], self.code_num).scatter_add(3, codes.expand_as(reached), bias)


def _recency(tokens: Tensor, n_targets: int) -> Tensor:
    """How many items ago each was taken, as seen from each target, (b, n, t); -1 for later ones and for padding."""
    real = tokens[..., 0] != 0
    place = torch.arange(tokens.shape[1], device=tokens.device)
    last_known = place[None, :, None] if n_targets == len(place) else (real.sum(1) - 1)[:, None, None]
    return (last_known - place).masked_fill(~real[:, None], -1).clamp_min(-1)


class RepeatingDecoder:
    """A `Decoder` of a beam search whose distributions the bias changes.

    Args:
        tokens: (b, t, l) int64 history.
    """

    def __init__(self, decoder: Decoder, repeats: CodeRepeats, tokens: Tensor) -> None:
        self.decoder = decoder
        self.repeats = repeats
        self.codes = repeats.codes(tokens)
        self.recency = _recency(tokens, 1)
        self.reached = self.recency >= 0
        self.level = 0

    def start(self) -> Tensor:
        return self._biased(self.decoder.start())

    def advance(self, parents: Tensor, codes: Tensor) -> Tensor:
        inherited = self.reached.gather(1, parents[..., None].expand(-1, -1, self.reached.shape[2]))
        self.reached = inherited & (self.codes[:, None, self.level] == codes[..., None])
        self.level += 1
        return self._biased(self.decoder.advance(parents, codes))

    def _biased(self, log_probs: Tensor) -> Tensor:
        bias = self.repeats.at_level(self.level, self.reached, self.recency, self.codes[:, self.level])
        return (log_probs + bias).log_softmax(-1)
