"""What the pipeline computes, one primitive at a time, in the shapes of the default run: name to the bytes it gives.

`benchmarks.fingerprint` runs it in a process that computes as a stage does; by itself it prints JSON on stdout. Inputs
are whole numbers times a power of two, so that no processor rounds them.
"""

import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from genrec.training.products import multiply_portably

Made = Callable[[], Iterable[Any]]
PRIMITIVES: dict[str, Made] = {}

# (m, k, n) of products (m, k) @ (k, n), and of its gradients
PRODUCTS = {
    "SASRec, projection": (2560, 64, 64),
    "SASRec, feed-forward": (2560, 64, 256),
    "SASRec, all items": (2048, 64, 1350),
    "TIGER, feed-forward": (2560, 64, 256),
    "TIGER, back": (2560, 256, 64),
    "TIGER, codes": (2560, 64, 64),
    "TIGER, one beam step": (320, 64, 257),
    "ETEGRec, alignment": (317, 32, 64),
    "RQ-VAE, encoder": (512, 64, 128),
    "RQ-VAE, latent": (1349, 128, 32),
    "two towers, hidden": (512, 96, 128),
    "two towers, in-batch": (512, 32, 512),
    "two towers, all items": (256, 32, 1350),
    "ranker": (2048, 123, 32),
    "ranker, output": (2048, 32, 1),
    "a row": (1, 64, 1350),
    "odd": (7, 33, 5),
    "large": (513, 1031, 257),
}


def numbers(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    """float32 in [-scale, scale) on a grid of 2^21 steps."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**20), 2**20, shape, generator=generator).float() * (scale / 2**20)


def whole_numbers(high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def primitive(name: str) -> Callable[[Made], Made]:
    def register(made: Made) -> Made:
        PRIMITIVES[name] = made
        return made

    return register


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """A function's value and its gradients with respect to float inputs, for a gradient that is no constant."""
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    value = function(*leaves)
    value.backward(numbers(*value.shape, seed=99))
    return [value.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def define_products() -> None:
    for name, (m, k, n) in PRODUCTS.items():
        x, weight = numbers(m, k, seed=1), numbers(n, k, seed=2, scale=0.125)
        PRIMITIVES[f"product: {name}"] = lambda x=x, weight=weight: gradients(F.linear, x, weight)
    wide = numbers(513 * 64 + 1, seed=1)
    PRIMITIVES["product: memory off by 4 bytes"] = lambda: [wide[1:].view(513, 64) @ numbers(64, 257, seed=2)]
    PRIMITIVES["product: float64"] = lambda: [numbers(300, 65).double() @ numbers(65, 70).double()]
    PRIMITIVES["product: matrix and vector"] = lambda: [numbers(1350, 64) @ numbers(64), numbers(5000) @ numbers(5000)]
    PRIMITIVES["product: batches"] = lambda: gradients(torch.bmm, numbers(256, 20, 32), numbers(256, 32, 20))
    PRIMITIVES["product: batches added to a matrix"] = lambda: [
        torch.baddbmm(numbers(64, 20, 80), numbers(64, 20, 16), numbers(64, 16, 80), alpha=0.25)
    ]
    PRIMITIVES["product: addmm, distances"] = lambda: [
        torch.addmm(numbers(1349, 64), numbers(1349, 32), numbers(64, 32).T, alpha=-2)
    ]
    PRIMITIVES["product: einsum"] = lambda: [torch.einsum("bk,nk->bn", numbers(64, 100), numbers(70, 100))]


def define_functions() -> None:
    x = numbers(130, 1037, scale=8.0)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "exp": torch.exp, "expm1": torch.expm1, "log": lambda x: (x.abs() + 0.25).log(),
        "log1p": lambda x: x.abs().log1p(), "sigmoid": torch.sigmoid, "logsigmoid": F.logsigmoid, "tanh": torch.tanh,
        "gelu": F.gelu, "silu": F.silu, "softplus": F.softplus, "erf": torch.erf,
        "rsqrt": lambda x: x.abs().add(1).rsqrt(),
        "pow": lambda x: x.abs().add(0.25) ** 1.7, "cos": torch.cos, "softmax": lambda x: x.softmax(-1),
        "log softmax": lambda x: x.log_softmax(-1), "log sum exp": lambda x: x.logsumexp(-1),
        "softmax, other dimension": lambda x: x.softmax(0), "normalize": F.normalize,
        "sum": torch.sum, "sum of rows": lambda x: x.sum(1), "sum of columns": lambda x: x.sum(0), "mean": torch.mean,
        "variance": lambda x: x.var(1), "norm": torch.linalg.vector_norm, "cumulative sum": lambda x: x.cumsum(1),
        "cosine similarity": lambda x: F.cosine_similarity(x, x.flip(0)),
    }  # fmt: skip
    for name, function in functions.items():
        PRIMITIVES[name] = lambda function=function: gradients(function, x)
    PRIMITIVES["exp, log and sums in float64"] = lambda: [
        x.double().exp(), (x.double().abs() + 1).log(), x.double().sum(), x.double().cumsum(0)
    ]  # fmt: skip
    PRIMITIVES["sum of a million"] = lambda: [numbers(2**20).sum(), numbers(2**20).square().mean()]


@primitive("attention")
def attention() -> Iterable[Tensor]:
    query, key, value = (numbers(128, 2, 20, 32, seed=seed) for seed in range(3))
    return gradients(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), query, key, value)


@primitive("attention, masked")
def attention_masked() -> Iterable[Tensor]:
    query, key, value = (numbers(32, 4, 80, 16, seed=seed) for seed in range(3))
    mask = numbers(32, 4, 80, 80, seed=4).masked_fill(whole_numbers(4, 32, 1, 1, 80) == 0, -torch.inf)
    return gradients(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask), query, key, value)


@primitive("attention without gradients")
def attention_search() -> Iterable[Tensor]:
    with torch.inference_mode():
        return [
            F.scaled_dot_product_attention(numbers(256, 4, 1, 16), numbers(256, 4, 80, 16), numbers(256, 4, 80, 16))
        ]


@primitive("layer norm")
def layer_norm() -> Iterable[Tensor]:
    return gradients(lambda x, w, b: F.layer_norm(x, (64,), w, b), numbers(2560, 64), numbers(64), numbers(64, seed=1))


@primitive("batch norm")
def batch_norm() -> Iterable[Tensor]:
    mean, variance = torch.zeros(32), torch.ones(32)
    made = gradients(
        lambda x, w, b: F.batch_norm(x, mean, variance, w, b, training=True),
        numbers(2048, 32),
        numbers(32),
        numbers(32),
    )
    return [*made, mean, variance]


@primitive("cross entropy")
def cross_entropy() -> Iterable[Tensor]:
    targets = whole_numbers(1350, 2048)
    return gradients(lambda x: F.cross_entropy(x, targets, ignore_index=0), numbers(2048, 1350, scale=8.0))


@primitive("binary cross entropy")
def binary_cross_entropy() -> Iterable[Tensor]:
    labels = whole_numbers(2, 2048).float()
    return gradients(lambda x: F.binary_cross_entropy(x.sigmoid(), labels), numbers(2048, scale=8.0))


@primitive("squared error and KL divergence")
def other_losses() -> Iterable[Tensor]:
    other = numbers(512, 64, seed=5)
    return [
        *gradients(lambda x: F.mse_loss(x, other), numbers(512, 64)),
        *gradients(lambda x: F.kl_div(x.log_softmax(-1), other.softmax(-1), reduction="batchmean"), numbers(512, 64)),
    ]


@primitive("embedding")
def embedding() -> Iterable[Tensor]:
    items = whole_numbers(1350, 128, 20)
    return gradients(lambda weight: F.embedding(items, weight, padding_idx=0), numbers(1350, 64))


@primitive("embedding bag")
def embedding_bag() -> Iterable[Tensor]:
    items = whole_numbers(1350, 512, 20)
    with torch.inference_mode():
        searched = F.embedding_bag(items, numbers(1350, 32), mode="mean", padding_idx=0)
    made = [
        made
        for mode in ("mean", "sum")
        for made in gradients(
            lambda w, mode=mode: F.embedding_bag(items, w, mode=mode, padding_idx=0), numbers(1350, 32)
        )
    ]
    return [searched, *made]


@primitive("sums by index")
def sums_by_index() -> Iterable[Tensor]:
    items = whole_numbers(64, 5000)
    return [
        torch.zeros(64, 32).index_add_(0, items, numbers(5000, 32)),
        torch.zeros(64).scatter_add_(0, items, numbers(5000)),
        torch.bincount(items, weights=numbers(5000).double()),
    ]


@primitive("sort, top-k, unique")
def order() -> Iterable[Tensor]:
    x = whole_numbers(500, 256, 1350).float()  # with ties
    return [*x.sort(1), x.argsort(1), *x.sort(dim=1, stable=True), *x.topk(50), *x.topk(20, sorted=False), *x.min(1),
            x.argmax(1), *torch.unique(whole_numbers(500, 4000), return_inverse=True, return_counts=True)]  # fmt: skip


def optimizer_steps(kind: Any, clip: bool = False, **options: Any) -> Iterable[Tensor]:
    weights = [torch.nn.Parameter(numbers(1350, 64, seed=1)), torch.nn.Parameter(numbers(65, seed=2))]
    optimizer = kind(weights, lr=0.004, weight_decay=0.01, **options)
    for step in range(5):
        for place, weight in enumerate(weights):
            weight.grad = numbers(*weight.shape, seed=10 * step + place)
        if clip:
            yield torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    yield from (weight.detach() for weight in weights)


def define_optimizers() -> None:
    adam, adamw = torch.optim.Adam, torch.optim.AdamW
    PRIMITIVES["AdamW, fused"] = lambda: optimizer_steps(adamw, fused=True, betas=(0.9, 0.98))
    PRIMITIVES["AdamW, clipped"] = lambda: optimizer_steps(adamw, clip=True)
    PRIMITIVES["AdamW, over lists"] = lambda: optimizer_steps(adamw, foreach=True)
    PRIMITIVES["Adam, fused"] = lambda: optimizer_steps(adam, fused=True)
    PRIMITIVES["SGD"] = lambda: optimizer_steps(torch.optim.SGD, momentum=0.9)


@primitive("random numbers of torch")
def random_numbers() -> Iterable[Tensor]:
    generator = torch.Generator().manual_seed(7)
    draw = {"generator": generator}
    weights = numbers(1000).abs()
    return [
        torch.rand(5001, **draw), torch.randn(5001, **draw), torch.randn(7, **draw), torch.randperm(5001, **draw),
        torch.randint(1000, (5001,), **draw), torch.empty(5001).uniform_(-0.1, 0.1, **draw),
        torch.empty(5001).normal_(0, 0.02, **draw), torch.bernoulli(weights.clamp_max(1), **draw),
        torch.multinomial(weights, 100, replacement=True, **draw), torch.empty(5001).exponential_(**draw),
        torch.rand(5001, dtype=torch.float64, **draw), torch.nn.init.xavier_normal_(torch.empty(65, 33), **draw),
        torch.nn.init.trunc_normal_(torch.empty(65, 33), **draw),
    ]  # fmt: skip


@primitive("dropout")
def dropout() -> Iterable[Tensor]:
    torch.manual_seed(3)
    return [F.dropout(numbers(2560, 64), 0.3)]


@primitive("k-means")
def k_means() -> Iterable[Tensor]:
    from genrec.codes.tokenizer.kmeans import kmeans, nearest

    points, generator = numbers(1349, 32), torch.Generator().manual_seed(0)
    return [*kmeans(points, 64, 25, generator), *nearest(numbers(1349, 32, seed=1), points[:256])]


@primitive("decompositions of torch")
def decompositions() -> Iterable[Tensor]:
    square = numbers(32, 32).double()
    return [*torch.linalg.svd(square), *torch.linalg.eigh(square @ square.T), *torch.linalg.qr(numbers(200, 20))]


@primitive("gated recurrent unit")
def gru() -> Iterable[Tensor]:
    torch.manual_seed(1)
    return [torch.nn.GRU(32, 32, batch_first=True)(numbers(64, 20, 32))[0].detach()]


@primitive("bfloat16 products")
def bfloat16() -> Iterable[Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        return [x.float() for x in gradients(F.linear, numbers(320, 64), numbers(256, 64))]


@primitive("numpy: sums and moments")
def numpy_sums() -> Iterable[Any]:
    single = numbers(1349, 64).numpy()
    double = single.astype(np.float64)
    return [
        made
        for x in (single, double, np.asfortranarray(double))
        for made in (
            x.sum(),
            x.sum(0),
            x.sum(1),
            x.mean(0),
            x.std(0),
            x.cumsum(),
            np.square(x).sum(1),
            np.linalg.norm(x),
        )
    ]


@primitive("numpy: products")
def numpy_products() -> Iterable[Any]:
    single = numbers(1349, 64).numpy()
    double = single.astype(np.float64)
    off = np.frombuffer(b"0000" + single.tobytes(), np.float32, offset=4).reshape(single.shape)
    return [
        made
        for x in (single, double, off)
        for made in (x @ x[:64].T, x.T @ x, x @ x[0], x[:, 0] @ x[:, 1], np.dot(x.ravel(), x.ravel()),
                     np.einsum("ij,ij->i", x, x))
    ]  # fmt: skip


@primitive("numpy: exp, log and powers")
def numpy_functions() -> Iterable[Any]:
    x = numbers(5003, scale=8.0).numpy()
    return [
        f(y)
        for y in (x, x.astype(np.float64))
        for f in (np.exp, np.expm1, lambda y: np.log(np.abs(y) + 0.25), np.log1p, np.log2, np.sin, np.tanh,
                  lambda y: np.abs(y) ** 0.75, lambda y: np.sqrt(np.abs(y)))
        for y in ([np.abs(y)] if f in (np.log1p, np.log2) else [y])
    ]  # fmt: skip


@primitive("numpy: order")
def numpy_order() -> Iterable[Any]:
    x = whole_numbers(500, 5000).numpy()
    return [
        made
        for y in (x, x.astype(np.float32), x.astype(np.float64), x.astype(np.int32))
        for made in (np.sort(y), np.argsort(y), np.argsort(y, kind="stable"), np.argpartition(y, 50),
                     np.partition(y, 50)[:50],
                     *np.unique(y, return_index=True, return_inverse=True, return_counts=True),
                     np.lexsort((y, y[::-1])), np.quantile(y, [0.025, 0.975]), np.percentile(y, 2.5),
                     np.argmax(y), np.bincount(x, weights=y))
    ]  # fmt: skip


@primitive("numpy: random numbers")
def numpy_random() -> Iterable[Any]:
    rng = np.random.default_rng(5)
    return [rng.random(1001), rng.standard_normal(1001), rng.integers(1000, size=1001), rng.permutation(1001),
            rng.choice(1000, 50, replace=False), rng.choice(20, 500, p=np.arange(1, 21) / 210), rng.poisson(3.5, 1001),
            rng.gamma(2.0, size=1001), rng.dirichlet(np.ones(8), 20), rng.geometric(0.2, 1001),
            rng.exponential(size=1001), np.random.RandomState(5).normal(size=1001)]  # fmt: skip


@primitive("words: TF-IDF and truncated SVD")
def words() -> Iterable[Any]:
    from genrec.data.words import embed_words, join_embeddings

    picks = whole_numbers(150, 400, 6).numpy()
    table = pd.DataFrame({"title": [" ".join(f"word{pick}" for pick in row) for row in picks]})
    vectors = embed_words(table, ["title"], dim=32, seed=0).vectors
    return [vectors, join_embeddings([vectors, vectors[:, :8]])]


@primitive("scipy: Student's t, linear algebra")
def scipy_functions() -> Iterable[Any]:
    from scipy import linalg
    from scipy.stats import t

    x = numbers(200, 40).double().numpy()
    q, r = linalg.qr(x, mode="economic")
    return [t.ppf(0.975, np.arange(1, 30)), q, r, *linalg.svd(x.T @ x)]


@primitive("pandas: groups, ranks, joins")
def pandas_groups() -> Iterable[Any]:
    table = pd.DataFrame({"key": whole_numbers(50, 3000).numpy(), "value": numbers(3000).numpy().astype(np.float64)})
    groups = table.groupby("key")["value"]
    return [groups.sum().to_numpy(), groups.mean().to_numpy(), groups.std().to_numpy(), groups.rank().to_numpy(),
            table.sort_values("key").index.to_numpy(), table["value"].mean(),
            table.merge(table[:50], on="key").to_numpy(),
            table["value"].rolling(7).mean().fillna(0).to_numpy()]  # fmt: skip


@primitive("pyarrow: parquet")
def parquet() -> Iterable[Any]:
    file = io.BytesIO()
    values = whole_numbers(50, 3000).numpy()
    pd.DataFrame({"key": [f"item{value}" for value in values], "value": numbers(3000).numpy()}).to_parquet(file)
    return [file.getvalue()]


@primitive("zlib: compressed arrays")
def compressed() -> Iterable[Any]:
    import zlib

    return [zlib.compress(whole_numbers(50, 30000).numpy().tobytes())]


@primitive("SASRec: ten steps")
def sasrec_steps() -> Iterable[Tensor]:
    from genrec.networks.sequential.sasrec import SASRecNetwork

    torch.manual_seed(0)
    network = SASRecNetwork(1349, max_history=20)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True, betas=(0.9, 0.98))
    for step in range(10):
        states = network(whole_numbers(1349, 128, 20, seed=step) + 1)
        scores = states.flatten(0, 1) @ network.item_embedding.weight.T
        loss = F.cross_entropy(scores, whole_numbers(1349, 2560, seed=100 + step) + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.detach()
    yield from (weight.detach() for weight in network.parameters())


@primitive("bootstrap of the figures")
def bootstrap() -> Iterable[Any]:
    from genrec.evaluation.figures import bootstrap_intervals

    per_user = {"recall": (whole_numbers(3, 943) == 0).float(), "ndcg": numbers(943).abs()}
    return [np.array(list(bootstrap_intervals(per_user, 1000, 3).values()))]


def digest(made: Iterable[Any]) -> str:
    """Twelve characters of the sum of shapes and bytes."""
    total = hashlib.sha256()
    for value in made:
        if isinstance(value, bytes):
            total.update(value)
            continue
        array = np.ascontiguousarray(value.numpy() if isinstance(value, Tensor) else value)
        total.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return total.hexdigest()[:12]


def fingerprints(threads: int) -> dict[str, str]:
    """Name of each primitive to the digest of what it gives on this processor."""
    torch.set_num_threads(threads)
    multiply_portably()
    define_products()
    define_functions()
    define_optimizers()
    return {name: digest(made()) for name, made in PRIMITIVES.items()}


if __name__ == "__main__":
    print(json.dumps(fingerprints(int(sys.argv[1]))))
