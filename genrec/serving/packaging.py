"""The package: a folder with all that recommending takes, written by a stage and read by `genrec.serving.package`.

Arguments as JSON, weights as safetensors, tables as npz and parquet: nothing is pickled, and no other file is needed.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.errors import UserError
from genrec.sequences.histories import Histories
from genrec.serving.folder import MANIFEST
from genrec.storage.files import load_arrays, save_arrays
from genrec.storage.output import replaced

FORMAT = 3
CARD, TABLES, HISTORIES = "README.md", "tables.npz", "histories.npz"
TRANSITIONS = "transitions.npz"
ITEMS, USERS, RANKS = "items.parquet", "users.parquet", "validation_ranks.npz"
ARGUMENTS, WEIGHTS = "config.json", "model.safetensors"
# of the frozen tokenizer, and what it was trained on
TOKENIZER, EMBEDDINGS = "tokenizer", "item_embeddings.npz"
# whose opinion of a candidate every ranker is given
SEQUENCE_MODEL = "sasrec"

# What a program may send and what it is answered: a name, a type, what it is.
INPUTS = (
    ("user", "string", "the key of a user in the source; or"),
    ("items", "list of strings", "the keys of the items of somebody's history, oldest first"),
)
OUTPUTS = (
    ("request", "long", "the place of the request, from 0"),
    ("rank", "long", "from 1"),
    ("item", "string", "the key of the item in the source"),
    ("title", "string", "empty where the source has none"),
    ("score", "double", "the natural logarithm of the item's probability under the model, or of its ranker's estimate"),
    ("source", "string", "the model's name, or `popularity` where there was no history to read"),
)


@dataclass(frozen=True)
class RankedBy:
    """How a ranker orders a model's candidates, as `generate_candidates` and `evaluate_ranker` were told."""

    n_candidates: int
    max_history: int
    rating_weight: float


@dataclass(frozen=True)
class PackagedModel:
    """A model of the package, as package.json names it.

    Attributes:
        ranks: `scores` or `beams`, as in the list of generators.
        figures: of validation and test, history excluded, metric to value; a ranker has learned from validation.
        base: the folder of its weights: its own, or that of the model that a memory or a ranker stands beside.
        memory_share: of the memory of transitions; 0 for none.
        ranker: the ranker's weights lie in the folder of the name; None for none.
    """

    name: str
    title: str
    ranks: str
    figures: dict[str, dict[str, float]]
    base: str
    memory_share: float = 0.0
    ranker: RankedBy | None = None

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "PackagedModel":
        """An entry of package.json."""
        ranker = content["ranker"]
        return cls(**{**content, "ranker": None if ranker is None else RankedBy(**ranker)})

    @property
    def folders(self) -> tuple[str, ...]:
        """Whose weights it needs."""
        return (self.base,) if self.ranker is None else (self.base, self.name, SEQUENCE_MODEL)


@dataclass(frozen=True)
class Origin:
    """How items became codes, as params.yaml said, so that new items become codes in the same way.

    Attributes:
        word_columns, word_dim: of `extract_embeddings.words`.
        embedding_digits, word_digits, digit_codes, iterations, seed: of `build_digits`.
    """

    word_columns: tuple[str, ...]
    word_dim: int
    embedding_digits: int
    word_digits: int
    digit_codes: int
    iterations: int
    seed: int


@dataclass(frozen=True)
class Weights:
    """A checkpoint, and `module.Class` of the network that it loads into."""

    network: str
    checkpoint: Path


@dataclass(frozen=True)
class Sources:
    """Where the parts of a package come from.

    Attributes:
        weights: by the folder of the package; that of the tokenizer is `TOKENIZER`.
        ranks: by the model's name, of those that validation measured.
    """

    histories: Path
    items: Path
    users: Path
    code_table: Path
    item_embeddings: Path
    transitions: Path
    weights: Mapping[str, Weights]
    ranks: Mapping[str, Path]


def write_package(
    folder: Path, models: Sequence[PackagedModel], n_beams: int, sources: Sources, origin: Origin, portable: bool
) -> dict[str, int]:
    """Write the package, whole or not at all; equal inputs give equal bytes.

    Args:
        models: the first answers where none is named.
        n_beams: of the searches, as in the evaluation whose lists the package gives.
        portable: whether that computed with portable instructions, as answers then do.

    Returns:
        Figures about it: numbers of models, users and items, and its size in bytes.

    Raises:
        UserError: a file is missing or damaged, tables are of different catalogues, or the first model was not
            measured on validation.
    """
    if models[0].name not in sources.ranks:
        raise UserError(
            f"the first model of a package must be one that validation measures, got {models[0].name}: rankers learned "
            "from it; name another first"
        )
    histories = Histories.load(sources.histories)
    tables = _tables(histories, sources)
    folders = sorted({TOKENIZER} | {folder for model in models for folder in model.folders})
    with replaced(folder) as partial:
        for name in folders:
            _write_model(sources.weights[name].checkpoint, partial / name)
        save_arrays(tables, partial / TABLES)
        measured = [model.name for model in models if model.name in sources.ranks]
        user_ids = histories.users_of(histories.examples("validation"))
        save_arrays({"user_ids": user_ids, **{name: _ranks(sources, name) for name in measured}}, partial / RANKS)
        for name, source in ((HISTORIES, sources.histories), (ITEMS, sources.items), (USERS, sources.users)):
            _copy(source, partial / name)
        save_arrays({"vectors": load_arrays(sources.item_embeddings)["array"]}, partial / TOKENIZER / EMBEDDINGS)
        if any(model.memory_share or model.ranker for model in models):
            _copy(sources.transitions, partial / TRANSITIONS)
        manifest = {
            "format": FORMAT,
            "models": [asdict(model) for model in models],
            "networks": {name: sources.weights[name].network for name in folders},
            "n_beams": n_beams,
            "portable": portable,
            "n_users": histories.n_users,
            "n_items": histories.n_items,
            "n_trained": histories.n_items,
            "origin": asdict(origin),
            "data": digest([partial / HISTORIES], partial),
            "split": _split_of(histories),
            "signature": {"inputs": INPUTS, "outputs": OUTPUTS},
        }
        seal(partial, manifest)
        size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    return {"n_models": len(models), "n_users": histories.n_users, "n_items": histories.n_items, "bytes": size}


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest and the card of a package whose other files are there; its version is made of all bytes."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in (MANIFEST, CARD))
    named = {name: value for name, value in manifest.items() if name != "version"}
    manifest["version"] = hashlib.sha256((digest(files, folder) + json.dumps(named)).encode()).hexdigest()[:16]
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(model_card(manifest), encoding="utf-8")


def digest(files: Sequence[Path], root: Path) -> str:
    """SHA-256 of the files' names below a folder and their contents."""
    found = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        found.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()


def _tables(histories: Histories, sources: Sources) -> dict[str, NDArray[Any]]:
    """`codes` int32 (n_items + 1, length), `embeddings` float16 of length 1 a row, `popularity` int64 (n_items + 1,).

    What is popular is counted in what models learn from, as in the evaluation.
    """
    codes = load_arrays(sources.code_table)["array"]
    vectors = load_arrays(sources.item_embeddings)["array"].astype(np.float32)
    for name, table in ((sources.code_table, codes), (sources.item_embeddings, vectors)):
        if len(table) != histories.n_items + 1:
            raise UserError(
                f"{name} must have a row for each of {histories.n_items} items and one of padding, got {len(table)}; "
                "run `dvc repro`"
            )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    counts = histories.train_counts()
    return {
        "codes": codes,
        "embeddings": (vectors / np.maximum(lengths, 1e-12)).astype(np.float16),
        "popularity": counts,
    }


def _split_of(histories: Histories) -> str:
    if histories.cuts is None:
        return "leave_one_out"
    return "leave_one_out_of_some" if histories.holds_out_some else "time"


def _ranks(sources: Sources, name: str) -> NDArray[Any]:
    """Each user's rank on validation, history excluded, by which packages are compared."""
    ranks = load_arrays(sources.ranks[name])
    key = f"{name}/validation/excluded"
    if key not in ranks:
        raise UserError(f"{sources.ranks[name]} holds no {key}; run `dvc repro -f evaluate_{sources.ranks[name].stem}`")
    return ranks[key]


def _write_model(checkpoint: Path, folder: Path) -> None:
    import torch  # here: who reads the tables of a package alone takes this file's names, and no second for torch
    from safetensors.torch import save

    from genrec.storage.checkpoint import load_arguments

    arguments = load_arguments(checkpoint)
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    folder.mkdir()
    # copies: safetensors refuses tensors that share memory
    content = save({name: value.clone().contiguous() for name, value in weights.items()})
    (folder / WEIGHTS).write_bytes(content)
    (folder / ARGUMENTS).write_text(json.dumps(arguments, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise UserError(f"{source} not found; run `dvc repro`, which makes it")
    shutil.copyfile(source, target)


def model_card(manifest: Mapping[str, Any]) -> str:
    """What the package is, for people: README.md of the folder."""
    # 10, or the longest list that was measured
    measured = [
        int(name.removeprefix("recall_at_"))
        for name in manifest["models"][0]["figures"]["test"]
        if "recall_at_" in name
    ]
    k = 10 if 10 in measured else max(measured)
    metrics = (f"recall_at_{k}", f"ndcg_at_{k}")
    rows = [
        f"| {model['title']} | `{model['name']}` | "
        + " | ".join(_shown(model["figures"], split, metric) for split in ("validation", "test") for metric in metrics)
        + " |"
        for model in manifest["models"]
    ]
    default = manifest["models"][0]
    signature = manifest["signature"]
    inputs, outputs = (
        [f"- `{name}` ({kind}): {text}" for name, kind, text in signature[part]] for part in ("inputs", "outputs")
    )
    return CARD_TEXT.format(
        title=default["title"],
        n_users=manifest["n_users"],
        n_items=manifest["n_items"],
        version=manifest["version"],
        rows="\n".join(rows),
        k=k,
        inputs="\n".join(inputs),
        outputs="\n".join(outputs),
        n_beams=manifest["n_beams"],
        split=SPLITS_IN_WORDS[manifest["split"]],
        n_new=manifest["n_items"] - manifest["n_trained"],
    )


def _shown(figures: Mapping[str, Any], split: str, metric: str) -> str:
    return f"{figures[split][metric]:.3f}" if split in figures else "-"


SPLITS_IN_WORDS = {
    "leave_one_out": "Leave-one-out: each user's last item but one (validation) or last (test).",
    "leave_one_out_of_some": "Leave-one-out of some users: their last item but one (validation) or last (test).",
    "time": "Split in time: what came after one moment (validation) or another (test), of all users alike.",
}
CARD_TEXT = """\
# A recommender made by genrec

Version `{version}`: {n_users} users, {n_items} items; {title} answers where no model is named. A user's history goes
in, oldest first, and the items that may follow come out, best first.

| model | name | validation recall@{k} | NDCG@{k} | test recall@{k} | NDCG@{k} |
|---|---|---|---|---|---|
{rows}

{split} All items ranked, the history excluded.

## Use

```
python -m genrec.recommend --package . --user KEY --k 5
python -m genrec.recommend --package . --items KEY,KEY,KEY
```

Input:

{inputs}

Output, a row for each recommended item:

{outputs}

Generating models search with {n_beams} beams or as many as items are asked for, if those are more. Somebody without a
history gets the most popular items, and the answer says so.

## Files

- `package.json`: the models, the signature, the version
- `<model>/config.json`, `<model>/model.safetensors`: a network's arguments and its weights; a model with memory has
  those of the model beside which the memory stands, a ranked one also a ranker's of its own
- `items.parquet`, `users.parquet`: the source's keys beside the numbers that the models know
- `histories.npz`: all users' histories; `tables.npz`: semantic IDs, item embeddings, popularity
- `tokenizer/`: what new items become codes by
- `transitions.npz`, where a model needs it: which items stood near which
- `validation_ranks.npz`: where each held-out item ranked, and whose it is, by which two packages are compared

## Limits

It knows the items of `items.parquet` and no others, {n_new} of which came after training; items that it does not know
are left out of a history. What the data favour, such as what is popular, it favours too. `histories.npz` holds what
every user did: guard it.
"""
