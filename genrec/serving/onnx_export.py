"""Networks as ONNX files (`pip install genrec[onnx]`).

Towers and rankers: features by name in, vectors or scores out. Parallel semantic IDs: histories in, scores of all items
out. TIGER: an encoder, and a decoder that a beam search asks for the next code.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.generation.item_generator import ItemGenerator
from genrec.generation.itemwise import ItemwiseGenerator
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.networks.generating.tiger import TigerNetwork
from genrec.tasks.features import Batch


class _ByPlace(nn.Module):
    """A function of features by name as one of tensors in order, which is what an ONNX graph is."""

    def __init__(self, network: nn.Module, compute: Callable[[Batch], Tensor], names: Sequence[str]) -> None:
        super().__init__()
        self.network = network  # so that its weights are found
        self.compute = compute
        self.names = list(names)

    def forward(self, *values: Tensor) -> Tensor:
        return self.compute(dict(zip(self.names, values, strict=True)))


def export_onnx(network: nn.Module, example: Batch, file: Path, *, tower: str | None = None) -> None:
    """Write a network in eval mode; its inputs are named after the features, its output is `output`.

    Any number of rows is taken; the other sizes are those of the example.

    Args:
        example: two rows or more of every feature that is needed.
        tower: `user` or `item` writes that tower of a two-tower network, None what `forward` gives.

    Raises:
        ValueError: the example has fewer rows, or onnx and onnxscript are not installed.
    """
    if min(len(value) for value in example.values()) < 2:
        raise ValueError("the example must have two rows or more: a single one would be taken for the only size")
    compute = network.forward if tower is None else getattr(network, f"{tower}_tower")
    was_training = network.training
    try:
        _write(_ByPlace(network.eval(), compute, list(example)), example, file)
    finally:
        network.train(was_training)


def export_parallel(network: ParallelNetwork, file: Path) -> None:
    """Write a file that takes `history` (rows, max_history) int64, padded with 0 on the right, and gives the scores.

    Its `output` is (rows, n_items + 1), column = item_id; that of padding is minus infinity.

    Raises:
        ValueError: onnx and onnxscript are not installed.
    """
    _write(_ParallelScores(network).eval(), {"history": _example_histories(network)}, file)


def export_tiger(network: TigerNetwork, encoder: Path, decoder: Path) -> None:
    """Write the two files that a beam search needs.

    Encoder: `history` (rows, max_history) int64 item_ids, padded with 0 on the right, to `output`, the states
    (rows, positions, dim). Decoder: `history`, `memory` (those states) and `target_tokens` (rows, 1, code_length) int64
    to `output`, the logits (rows, code_length, code_num). Those of a level know the tokens of the levels above: a step
    of a search fills in what it has chosen and reads the next level; what stands behind is not looked at.

    Raises:
        ValueError: the encoder is bidirectional, or onnx and onnxscript are not installed.
    """
    generator = network.generator.eval()
    if not generator.network.causal:
        raise ValueError(
            "TIGER with a bidirectional encoder decides by its input whether to mask padding, which no graph can; "
            "export one with causal=True or itemwise=True"
        )
    history = _example_histories(network)
    encoding = _Encoder(generator).eval()
    _write(encoding, {"history": history}, encoder)
    with torch.no_grad():
        memory = encoding(history)
    target = generator.tokens[history[:, :1]]
    _write(_DecoderStep(generator).eval(), {"history": history, "memory": memory, "target_tokens": target}, decoder)


class _ParallelScores(nn.Module):
    """`ParallelNetwork.scores` by a table of item vectors, which are made of digits once."""

    table: Tensor

    def __init__(self, network: ParallelNetwork) -> None:
        super().__init__()
        self.network = network.eval()
        with torch.no_grad():
            self.register_buffer("table", network.item_vectors(torch.arange(network.n_items + 1)))

    def forward(self, history: Tensor) -> Tensor:
        # padding stands on the right, so nothing is to be sorted, which ONNX could not do stably
        transformer = self.network.transformer
        states = transformer.input_norm(F.embedding(history, self.table) + transformer.position_embedding.weight)
        for block in transformer.blocks:
            states = block(states)
        states = transformer.norm(states) * self.network.log_scale.exp()
        scores = _last_state(states, history)[:, 0] @ self.table.T
        if self.network.repeats is not None:
            scores = self.network.repeats.add_to(scores, history)
        return torch.cat([torch.full_like(scores[:, :1], -torch.inf), scores[:, 1:]], dim=1)


class _Encoder(nn.Module):
    """Item_ids of histories to the states that the decoder reads."""

    tokens: Tensor

    def __init__(self, generator: ItemGenerator) -> None:
        super().__init__()
        self.generator = generator
        self.register_buffer("tokens", generator.tokens)

    def forward(self, history: Tensor) -> Tensor:
        return self.generator.network.encode(self.history_tokens(history))

    def history_tokens(self, history: Tensor) -> Tensor:
        tokens = F.embedding(history, self.tokens)
        return torch.cat([tokens, history[..., None]], dim=2) if self.generator.network.reads_items else tokens


class _DecoderStep(_Encoder):
    """States and the codes chosen so far to the logits of all levels."""

    def forward(self, history: Tensor, memory: Tensor, target_tokens: Tensor) -> Tensor:  # type: ignore[override]
        network, tokens = self.generator.network, self.history_tokens(history)
        if isinstance(network, ItemwiseGenerator):
            states = network.decode(_last_state(memory, history), target_tokens)
        else:
            states = network.decode(memory, network.bias_of_memory(tokens, target_tokens), target_tokens)
        logits = network.logits(states)
        if self.generator.repeats is not None:
            logits = self.generator.repeats(logits, F.embedding(history, self.tokens), target_tokens)
        return logits[:, 0]


def _last_state(states: Tensor, history: Tensor) -> Tensor:
    """The state after the last item, (rows, 1, dim); by a gather: the length of a tensor would become a constant."""
    last = (history != 0).sum(1)[:, None, None] - 1
    return states.gather(1, last.expand(-1, 1, states.shape[2]))


def _example_histories(network: ParallelNetwork | TigerNetwork) -> Tensor:
    """(7, max_history): full, of one item, and half of it; a size of 1 would be taken for the only one."""
    history = torch.ones(7, network.max_history, dtype=torch.long)
    history[1, 1:] = 0
    history[2, (network.max_history + 1) // 2 :] = 0
    return history


def _write(module: nn.Module, example: Batch, file: Path) -> None:
    """Trace a module in eval mode that takes the example's values in their order."""
    names = list(example)
    try:
        rows = torch.export.Dim("rows", min=1)
        shapes: Any = tuple({0: rows} for _ in names)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                module, tuple(example.values()), str(file), input_names=names, output_names=["output"], dynamo=True,
                dynamic_shapes=(shapes,) if isinstance(module, _ByPlace) else shapes, external_data=False,
                verbose=False,
            )  # fmt: skip
    except ImportError as missing:
        raise ValueError(f"ONNX export needs the package {missing.name}; install genrec[onnx]") from missing
