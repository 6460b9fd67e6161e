"""The exported graphs give what torch gives."""

from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch

from genrec.choices import RankerNetwork
from genrec.codes.code_table import build_code_table
from genrec.generation.beam_search import beam_search
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.networks.generating.tiger import TigerNetwork
from genrec.ranking.ranker import Ranker
from genrec.serving.onnx_export import export_onnx, export_parallel, export_tiger

pytestmark = pytest.mark.slow

GENERATOR = torch.Generator().manual_seed(0)


def numbers(high, *shape):
    return torch.randint(0, high, shape, generator=GENERATOR)


def run(file, x):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["output"], {name: value.numpy() for name, value in x.items()})[0]


@pytest.mark.parametrize("network", get_args(RankerNetwork))
def test_rankers_score_alike_for_any_number_of_rows(tmp_path, network):
    torch.manual_seed(0)
    ranker = Ranker(network, 9, [10, 4], 7, 4, (8,)).eval()
    ranker.set_attributes(torch.stack([torch.arange(10), torch.arange(10) % 4], dim=1))

    def rows(n):
        return {"item_id": numbers(10, n), "history": numbers(10, n, 5), "signals": torch.randn(n, 7)}

    export_onnx(ranker, rows(3), tmp_path / "ranker.onnx")
    for n in (1, 8):
        x = rows(n)
        assert np.abs(run(tmp_path / "ranker.onnx", x) - ranker(x).detach().numpy()).max() < 1e-5


@pytest.mark.parametrize("network", ["dssm", "youtube_dnn"])
def test_towers_give_the_same_vectors(tmp_path, network):
    torch.manual_seed(0)
    model = HistoryTowers(9, network, 8, (8,))
    for tower, make in (
        ("user", lambda n: {"history": numbers(10, n, 5)}),
        ("item", lambda n: {"target": numbers(10, n)}),
    ):
        export_onnx(model, make(2), tmp_path / f"{tower}.onnx", tower=tower)
        x = make(6)
        expected = getattr(model.eval(), f"{tower}_tower")(x).detach().numpy()
        model.train()
        assert np.abs(run(tmp_path / f"{tower}.onnx", x) - expected).max() < 1e-5
    assert model.training


def histories(n_items, n, length):
    history = numbers(n_items, n, length) + 1
    lengths = torch.arange(n) % length + 1
    return history.masked_fill(torch.arange(length) >= lengths[:, None], 0)


def test_parallel_semantic_ids_score_alike_and_so_rank_alike(tmp_path):
    torch.manual_seed(0)
    network = ParallelNetwork(30, 4, 8, embedding_dim=16, num_layers=2, num_heads=2, max_history=6)
    network.set_digits(torch.cat([torch.full((1, 4), -1), numbers(8, 30, 4)]).int())
    torch.nn.init.normal_(network.repeats.weight)
    export_parallel(network, tmp_path / "parallel.onnx")
    for n in (1, 13):
        history = histories(30, n, 6)
        with torch.no_grad():
            expected = network.eval().scores(history).numpy()
        given = run(tmp_path / "parallel.onnx", {"history": history})
        assert np.abs(given[:, 1:] - expected[:, 1:]).max() < 1e-5
        assert np.isneginf(given[:, 0]).all()


class OnnxDecoder:
    """A beam search's decoder whose network runs outside of torch."""

    def __init__(self, folder, tokens, code_num, history):
        self.folder, self.tokens, self.code_num, self.history = folder, tokens, code_num, history
        self.memory = torch.from_numpy(run(folder / "encoder.onnx", {"history": history}))
        self.chosen = torch.zeros(len(history), 1, 0, dtype=torch.long)

    def start(self):
        return self._step()

    def advance(self, parents, codes):
        level = self.chosen.shape[2]
        kept = self.chosen.gather(1, parents[..., None].expand(-1, -1, level))
        self.chosen = torch.cat([kept, (codes + 1 + level * self.code_num)[..., None]], dim=2)
        return self._step()

    def _step(self):
        users, beams, level = self.chosen.shape
        filled = torch.nn.functional.pad(self.chosen, (0, self.tokens.shape[1] - level), value=1).flatten(0, 1)[:, None]
        rows = torch.arange(users).repeat_interleave(beams)
        x = {"history": self.history[rows], "memory": self.memory[rows], "target_tokens": filled}
        logits = torch.from_numpy(run(self.folder / "decoder.onnx", x))[:, level]
        return logits.log_softmax(-1).view(users, beams, -1)


@pytest.mark.parametrize(
    "kind", [{"causal": True}, {"causal": True, "learns_repeats": True}, {"itemwise": True, "item_vectors": True}]
)
def test_a_search_with_tigers_exported_halves_finds_what_torch_finds(tmp_path, kind):
    torch.manual_seed(0)
    network = TigerNetwork(
        1 + 3 * 8, 16, 2, 1, 32, max_seq_length=15, code_length=3, n_items=40, **kind
    )  # fmt: skip
    network.set_code_table(build_code_table(numbers(4, 40, 2), 8))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    export_tiger(network, tmp_path / "encoder.onnx", tmp_path / "decoder.onnx")
    history = histories(40, 7, 5)
    expected = network.eval().generator.generate(history, 10)
    tree = network.generator.prefix_tree
    beams = beam_search(OnnxDecoder(tmp_path, network.generator.tokens, 8, history), tree, 10)
    assert torch.equal(tree.items[beams.nodes], expected.items)
    assert torch.allclose(beams.log_probs, expected.log_probs, atol=1e-4)


def test_a_bidirectional_encoder_is_refused(tmp_path):
    network = TigerNetwork(1 + 3 * 8, 16, 2, 1, 32, max_seq_length=15, code_length=3, n_items=40)
    with pytest.raises(ValueError, match="causal=True or itemwise=True"):
        export_tiger(network, tmp_path / "encoder.onnx", tmp_path / "decoder.onnx")


def test_an_example_of_one_row_is_refused(tmp_path):
    with pytest.raises(ValueError, match="two rows or more"):
        export_onnx(HistoryTowers(9), {"target": numbers(10, 1)}, tmp_path / "a.onnx", tower="item")
