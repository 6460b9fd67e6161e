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
        self.weight = nn.Parameter(torch.zeros(code_length, max_history))

    def forward(self, logits: Tensor, tokens: Tensor, target_tokens: Tensor) -> Tensor:
        """Logits (b, n, l, c) with the bias, each level knowing the target's codes above it.

        Args:
            tokens: (b, t, l) int64 history, padded with 0 on the right.
            target_tokens: (b, n, l) int64; n = 1 is the item after the history, n = t the item after each of its items.
        """
        recency = _recency(tokens, target_tokens.shape[1])
        reached, biases = recency >= 0, []
        for level in range(logits.shape[2]):
            of_level = tokens[..., level]
            biases.append(self.at_level(level, of_level, recency, reached))
            reached = reached & (of_level[:, None] == target_tokens[..., None, level])
        return logits + torch.stack(biases, 2)

    def at_level(self, level: int, tokens: Tensor, recency: Tensor, reached: Tensor) -> Tensor:
        """The bias of one level's codes, (b, n, c).

        Args:
            tokens: (b, t) int64, of this level.
            recency: (b, n or 1, t), how many items ago each was taken.
            reached: (b, n, t) bool, whether the codes above are those of this item.
        """
        bias = SPEED * self.weight[level, recency.clamp(0, self.weight.shape[1] - 1)] * reached
        codes = (tokens - 1 - level * self.code_num).clamp_min(0)  # padding is never reached
        return bias.new_zeros(*reached.shape[:2], self.code_num).scatter_add(2, codes[:, None].expand_as(reached), bias)


def _recency(tokens: Tensor, n_targets: int) -> Tensor:
    """How many items ago each was taken as seen from each target, (b, n, t); negative for later ones and padding."""
    real = tokens[..., 0] != 0
    place = torch.arange(tokens.shape[1], device=tokens.device)
    last_known = place[None, :, None] if n_targets == len(place) else (real.sum(1) - 1)[:, None, None]
    return torch.where(real[:, None], last_known - place, -1)


class RepeatingDecoder:
    """A `Decoder` of a beam search whose distributions the bias changes.

    Args:
        tokens: (b, t, l) int64 history.
    """

    def __init__(self, decoder: Decoder, repeats: CodeRepeats, tokens: Tensor) -> None:
        self.decoder = decoder
        self.repeats = repeats
        self.tokens = tokens
        self.recency = _recency(tokens, 1)
        self.reached = self.recency >= 0
        self.level = 0

    def start(self) -> Tensor:
        return self._biased(self.decoder.start())

    def advance(self, parents: Tensor, codes: Tensor) -> Tensor:
        inherited = self.reached.gather(1, parents[..., None].expand(-1, -1, self.reached.shape[2]))
        chosen = codes + 1 + self.level * self.repeats.code_num
        self.reached = inherited & (self.tokens[:, None, :, self.level] == chosen[..., None])
        self.level += 1
        return self._biased(self.decoder.advance(parents, codes))

    def _biased(self, log_probs: Tensor) -> Tensor:
        bias = self.repeats.at_level(self.level, self.tokens[..., self.level], self.recency, self.reached)
        return (log_probs + bias).log_softmax(-1)
