"""Train DeepFM, DIN, DSSM and MMoE on the same synthetic rows with torch-rechub and with genrec: AUC and seconds.

    python benchmarks/rankers.py --peer .venv-peer/bin/python

Each network is trained in a process of its own, one thread, the same rows in train, validation and test, the same
epochs, batch size, learning rate and sizes of layers; seconds are those of `fit`. `--only genrec` leaves the peer out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N_ROWS, EPOCHS, BATCH, RATE = 30_000, 3, 256, 0.005
DIM, HIDDEN = 8, (32,)
CASES = ("DeepFM", "DIN", "DSSM", "MMOE")


def draw(case, seed):
    """Features by name and labels, rows in random order; the labels follow from crosses, histories or clusters."""
    rng = np.random.default_rng(seed)
    if case == "DIN":
        history = np.stack([rng.permutation(40)[:10] + 1 for _ in range(N_ROWS)])
        target = np.where(rng.random(N_ROWS) < 0.5, history[:, 3], rng.integers(1, 41, N_ROWS))
        inside = (history == target[:, None]).any(1)
        return {"history": history, "target": target}, np.where(rng.random(N_ROWS) < 0.9, inside, ~inside)
    x = {name: rng.integers(0, 40, N_ROWS) for name in ("a", "b", "c", "d")}
    if case == "DSSM":
        same = x["a"] % 8 == x["b"] % 8
        x["b"] = np.where(rng.random(N_ROWS) < 0.4, x["a"] % 8 + 8 * (x["b"] // 8), x["b"])
        same = x["a"] % 8 == x["b"] % 8
        return {name: x[name] for name in ("a", "b")}, np.where(rng.random(N_ROWS) < 0.9, same, ~same)
    table, small = rng.choice([-2.0, 2.0], (40, 40)), rng.normal(0, 0.7, 40)
    click = rng.random(N_ROWS) < 1 / (1 + np.exp(-table[x["a"], x["b"]] - small[x["c"]]))
    if case == "DeepFM":
        return x, click
    second = rng.random(N_ROWS) < 1 / (1 + np.exp(-table[x["a"], x["b"]] - small[x["d"]]))
    return x, np.stack([click, second], axis=1)


def parts(x, y):
    """Train, validation and test: four, one and one sixth."""
    ends = (0, N_ROWS * 4 // 6, N_ROWS * 5 // 6, N_ROWS)
    return [
        ({name: value[start:end] for name, value in x.items()}, y[start:end].astype(np.float32))
        for start, end in zip(ends, ends[1:], strict=False)
    ]


def train_genrec(case, seed, folder):
    import torch

    from genrec.data.feature_batches import feature_loader
    from genrec.models.ctr import DIN, DeepFM
    from genrec.models.multi_task import MMOE
    from genrec.models.two_tower import DSSM
    from genrec.modules.features import SequenceFeature, SparseFeature
    from genrec.trainers.ctr import CTRTrainer
    from genrec.trainers.curves import CurveLogger
    from genrec.trainers.match import MatchTrainer
    from genrec.trainers.mtl import MTLTrainer

    torch.manual_seed(seed)
    x, y = draw(case, seed)
    sparse = [SparseFeature(name, 41, DIM) for name in x if name != "history"]
    options = {"optimizer_params": {"lr": RATE}, "n_epoch": EPOCHS, "model_path": folder,
               "model_logger": CurveLogger(), "progress_bar": False}  # fmt: skip
    if case == "DeepFM":
        trainer = CTRTrainer(DeepFM(sparse, sparse, HIDDEN), **options)
    elif case == "DIN":
        history = SequenceFeature("history", 41, DIM, shared_with="target")
        trainer = CTRTrainer(DIN([], [history], sparse, HIDDEN, (16,)), **options)
    elif case == "DSSM":
        trainer = MatchTrainer(DSSM(sparse[:1], sparse[1:], HIDDEN, 16, 0.1), 0, **options)
    else:
        tasks = ["classification"] * 2
        trainer = MTLTrainer(MMOE(sparse, tasks, 4, HIDDEN, (16,)), tasks, **options)
    loaders = [
        feature_loader({n: torch.tensor(v) for n, v in x.items()}, torch.tensor(y), BATCH, order)
        for (x, y), order in zip(parts(x, y), (seed, None, None), strict=True)
    ]
    start = time.perf_counter()
    trainer.fit(*loaders[:2])
    seconds = time.perf_counter() - start
    found = trainer.evaluate(trainer.model, loaders[2])
    return (found["auc"] if case == "DSSM" else float(np.mean(found))), seconds


def train_rechub(case, seed, folder):
    import torch
    from torch.utils.data import DataLoader
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.matching import DSSM
    from torch_rechub.models.multi_task import MMOE
    from torch_rechub.models.ranking import DIN, DeepFM
    from torch_rechub.trainers import CTRTrainer, MatchTrainer, MTLTrainer
    from torch_rechub.utils.data import TorchDataset

    torch.manual_seed(seed)
    x, y = draw(case, seed)
    sparse = [SparseFeature(name, 41, DIM) for name in x if name != "history"]
    options = {"optimizer_params": {"lr": RATE}, "n_epoch": EPOCHS, "model_path": folder, "device": "cpu"}
    hidden = {"dims": list(HIDDEN)}
    if case == "DeepFM":
        trainer = CTRTrainer(DeepFM(sparse, sparse, hidden), **options)
    elif case == "DIN":
        history = SequenceFeature("history", 41, DIM, pooling="concat", shared_with="target")
        # without one further feature its DIN crashes
        trainer = CTRTrainer(DIN(sparse, [history], sparse, hidden, {"dims": [16]}), **options)
    elif case == "DSSM":
        tower = {"dims": [*HIDDEN, 16], "activation": "prelu"}
        trainer = MatchTrainer(DSSM(sparse[:1], sparse[1:], tower, tower, 0.1), 0, **options)
    else:
        tasks = ["classification"] * 2
        trainer = MTLTrainer(MMOE(sparse, tasks, 4, hidden, [{"dims": [16]}] * 2), tasks, **options)
    loaders = [DataLoader(TorchDataset(*rows), BATCH, shuffle=number == 0) for number, rows in enumerate(parts(x, y))]
    start = time.perf_counter()
    trainer.fit(*loaders[:2])
    seconds = time.perf_counter() - start
    return float(np.mean(trainer.evaluate(trainer.model, loaders[2]))), seconds


def measure(python, library, case, seed):
    """AUC and seconds of one training, in a process of its own."""
    command = [python, __file__, "--train", library, case, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{library} {case}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the python of the environment that has torch-rechub")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--only", choices=["genrec"])
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        import torch

        torch.set_num_threads(1)
        library, case, seed = arguments.train
        train = {"genrec": train_genrec, "torch-rechub": train_rechub}[library]
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(train(case, int(seed), folder)))
        return
    pythons = {"genrec": sys.executable}
    if arguments.only is None:
        if not arguments.peer or not Path(arguments.peer).exists():
            parser.error("--peer must be the python of an environment with benchmarks/requirements-rankers.txt")
        pythons["torch-rechub"] = arguments.peer
    print(f"{'':8}{'library':14}{'AUC':>8}{'seconds':>10}   medians of {arguments.seeds} seeds")
    for case in arguments.cases:
        # the two in turn, so that a machine's slow minutes strike both
        results = [
            {name: measure(python, name, case, seed) for name, python in pythons.items()}
            for seed in range(arguments.seeds)
        ]
        for name in pythons:
            auc, seconds = np.median([result[name] for result in results], axis=0)
            print(f"{case:8}{name:14}{auc:8.4f}{seconds:10.2f}", flush=True)


if __name__ == "__main__":
    main()
