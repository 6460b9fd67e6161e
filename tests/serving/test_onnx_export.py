"""The exported graphs give what torch gives."""

from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch

from genrec.choices import RankerNetwork
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.ranking.ranker import Ranker
from genrec.serving.onnx_export import export_onnx

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


def test_an_example_of_one_row_is_refused(tmp_path):
    with pytest.raises(ValueError, match="two rows or more"):
        export_onnx(HistoryTowers(9), {"target": numbers(10, 1)}, tmp_path / "a.onnx", tower="item")
