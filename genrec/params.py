"""params.yaml as typed, frozen sections: the one reader of that file, and the one place that imports yaml.

A stage reads exactly the sections that dvc.yaml declares for it:

    model = read_section(Model)
    config = read_section(TrainTiger)

The whole file is checked at each read, so that a typo anywhere stops the pipeline before any work.
"""

import argparse
import difflib
import itertools
import re
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform, get_type_hints

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from genrec.errors import UserError
from genrec.pipeline.command import run_command

PARAMS_FILE = Path("params.yaml")
PRESETS = Path(__file__).with_name("presets")

# whole numbers and switches are taken as they are; a number with a fraction may be written as text, see check_params
Integer = Annotated[int, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Positive = Annotated[Integer, Field(ge=1)]
NotNegative = Annotated[Integer, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# what torch and numpy both take, also times the number of epochs
Seed = Annotated[Integer, Field(ge=0, le=2**32 - 1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Sizes = tuple[Positive, ...]

# The user and the password before a host, or what signs a request: params.yaml is committed, dvc.lock too, and MLflow
# shows both.
SECRET = re.compile(
    r"://[^/?#\s]*@|[?&][^=&]*(?:token|sig(?:nature)?|secret|passw(?:or)?d|credential|(?:api|access|auth)[-_]?key)[^=&]*=",
    re.IGNORECASE,
)

Section = TypeVar("Section")


@dataclass_transform(frozen_default=True)
def _section(section: type[Section]) -> type[Section]:
    decorate: Any = dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
    decorated: type[Section] = decorate(section)
    return decorated


def _validates_before_the_end(validate_every: int, info: ValidationInfo) -> int:
    """Without one validation there would be no best weights."""
    max_epochs = info.data.get("max_epochs", validate_every)  # absent if it is wrong itself
    if validate_every > max_epochs:
        raise ValueError(f"must be at most max_epochs={max_epochs}")
    return validate_every


@_section
class Columns:
    """The names of the columns of an `interactions` file; an empty name means that there is no such column."""

    user: str
    item: str
    time: str
    rating: str


@_section
class Synthetic:
    """The seed and the size of the drawn data set that tests and the smoke run use."""

    seed: Seed
    n_users: Positive
    n_items: Annotated[Integer, Field(ge=10)]
    n_clusters: Positive


@_section
class FetchData:
    name: str
    path: str
    items_path: str
    sha256: str
    columns: Columns
    synthetic: Synthetic

    @field_validator("sha256", mode="before")
    @classmethod
    def _is_text(cls, sha256: Any) -> Any:
        """YAML takes digits for a number."""
        return str(sha256) if type(sha256) is int else sha256

    @field_validator("sha256")
    @classmethod
    def _has_its_length(cls, sha256: str) -> str:
        if not re.fullmatch("([0-9a-fA-F]{64})?", sha256):
            raise ValueError("must be empty or 64 hexadecimal digits")
        return sha256


@_section
class PrepareData:
    min_user_interactions: Annotated[Integer, Field(ge=3)]
    min_item_interactions: Positive
    repeats: Literal["keep", "drop"]
    ties: Literal["file", "item", "hash"]


@_section
class Model:
    code_num: Annotated[Integer, Field(ge=2)]
    num_levels: Positive


@_section
class TrainSasrec:
    embedding_dim: Positive
    num_layers: Positive
    num_heads: Positive
    dropout: Dropout
    max_history: Positive
    loss: Literal["full_softmax", "sampled_softmax"]
    num_negatives: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    max_epochs: Positive
    patience: Positive

    @field_validator("num_heads")
    @classmethod
    def _divides_the_embedding(cls, num_heads: int, info: ValidationInfo) -> int:
        embedding_dim = info.data.get("embedding_dim", num_heads)  # absent if it is wrong itself
        if embedding_dim % num_heads:
            raise ValueError(f"must divide embedding_dim={embedding_dim}")
        return num_heads


@_section
class TextEncoder:
    """Which columns of the item table make an item's text, and the language model that embeds it."""

    model: Annotated[str, Field(min_length=1)]
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    max_length: Positive
    batch_size: Positive


@_section
class ExtractEmbeddings:
    source: Literal["sasrec", "text", "file"]
    path: str
    text: TextEncoder
    standardize: Switch

    @field_validator("path")
    @classmethod
    def _names_the_file(cls, path: str, info: ValidationInfo) -> str:
        if info.data.get("source") == "file" and not path:
            raise ValueError("must name a .npy or .parquet file if extract_embeddings.source is file")
        return path


@_section
class Gates:
    """The tokenizer's health: the stage fails when a level or the whole table is outside these bounds."""

    min_usage: Fraction
    min_entropy: Fraction
    max_collision_rate: Fraction


@_section
class TrainRqvae:
    tokenizer: Literal["rqvae", "rqkmeans"]
    quantizer: Literal["straight_through", "sinkhorn", "rotation", "ema"]
    hidden_dims: Sizes
    latent_dim: Positive
    commitment_cost: Weight
    kmeans_iterations: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    max_epochs: Positive
    validate_every: Positive
    gates: Gates

    _validates = field_validator("validate_every")(_validates_before_the_end)


@_section
class Generator:
    """The size of the encoder-decoder that generates semantic IDs."""

    embedding_dim: Positive
    num_heads: Positive
    head_dim: Positive
    attn_dim: Positive
    num_layers: Positive
    dropout: Dropout
    max_history: Positive
    encoder: Literal["bidirectional", "causal"]


@_section
class TrainTiger:
    generator: Generator
    windows_per_epoch: NotNegative
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    warmup_steps: NotNegative
    schedule: Literal["constant", "inverse_sqrt", "cosine"]
    max_epochs: Positive
    validate_every: Positive
    patience: Positive
    n_beams: Positive

    _validates = field_validator("validate_every")(_validates_before_the_end)


@_section
class FinalStage:
    """ETEGRec's last part: the tokenizer frozen for good, the recommender alone trained further."""

    learning_rate: Rate
    max_epochs: NotNegative
    patience: Positive


@_section
class TrainEtegrec:
    variant: Literal["full", "no_sia", "no_psa", "no_alignment", "no_alternation", "no_end_to_end"]
    generator: Generator
    windows_per_epoch: NotNegative
    batch_size: Positive
    learning_rate: Rate
    tokenizer_learning_rate: Rate
    weight_decay: Weight
    warmup_steps: NotNegative
    sia_weight: Weight
    psa_weight: Weight
    sia_sign: Literal["paper", "authors"]
    alpha: Weight
    cycle: Annotated[Integer, Field(ge=2)]
    warmup_epochs: NotNegative
    max_epochs: Positive
    patience: Positive
    n_beams: Positive
    final_stage: FinalStage

    @field_validator("max_epochs")
    @classmethod
    def _validates(cls, max_epochs: int, info: ValidationInfo) -> int:
        """It validates once a cycle; without one validation there would be no best state."""
        cycle = info.data.get("cycle", max_epochs)  # absent if it is wrong itself
        if max_epochs < cycle:
            raise ValueError(f"must be at least cycle={cycle}")
        if max_epochs % cycle:
            raise ValueError(f"must be a multiple of cycle={cycle}: the epochs after the last validation would be lost")
        return max_epochs

    @property
    def n_recommender_epochs(self) -> int:
        """Of the joint stage's epochs, those that train the recommender."""
        return self.max_epochs - self.max_epochs // self.cycle


@_section
class TrainTwoTower:
    network: Literal["dssm", "youtube_dnn"]
    embedding_dim: Positive
    hidden_dims: Sizes
    temperature: Rate
    dropout: Dropout
    max_history: Positive
    windows_per_epoch: NotNegative
    batch_size: Annotated[Integer, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Weight
    max_epochs: Positive
    patience: Positive


@_section
class GenerateCandidates:
    n_candidates: Positive


@_section
class TrainRanker:
    network: Literal["wide_deep", "deep_fm", "din", "shared_bottom", "mmoe", "ple", "esmm"]
    loss_weighting: Literal["equal", "uwl", "metabalance", "gradnorm"]
    item_columns: tuple[str, ...]
    embedding_dim: Positive
    hidden_dims: Annotated[Sizes, Field(min_length=1)]
    dropout: Dropout
    max_history: Positive
    holdout: Annotated[float, Field(gt=0, lt=1)]
    batch_size: Annotated[Integer, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Weight
    max_epochs: Positive
    patience: Positive


@_section
class ItemKnn:
    history: Positive
    window: Positive


@_section
class Evaluate:
    ks: Sizes
    n_beams: Positive
    batch_size: Positive
    bootstrap_samples: Positive
    item_knn: ItemKnn

    @field_validator("ks")
    @classmethod
    def _ascend(cls, ks: Sizes) -> Sizes:
        if not ks or list(ks) != sorted(set(ks)):
            raise ValueError("must be one or more numbers, strictly ascending")
        return ks

    @field_validator("n_beams")
    @classmethod
    def _fill_the_longest_list(cls, n_beams: int, info: ValidationInfo) -> int:
        longest = max(info.data.get("ks", [n_beams]))
        if n_beams < longest:
            raise ValueError(f"must be at least {longest}, the last of evaluate.ks")
        return n_beams


@_section
class EvaluateRanker:
    rating_weight: Weight


@_section
class Track:
    enabled: Switch
    experiment: Annotated[str, Field(pattern=r"^\S(.*\S)?$")]


@_section
class Trainer:
    """What runs the training and can change a result's last digits: each training and evaluation depends on it."""

    gpus: NotNegative
    precision: Literal["auto", "32-true", "bf16-mixed"]
    num_threads: Positive


@_section
class Runtime:
    """What can not change a result: no stage depends on it."""

    progress_bar: Switch


@_section
class Params:
    """The whole of params.yaml, in the order of the pipeline."""

    seed: Seed
    fetch_data: FetchData
    prepare_data: PrepareData
    model: Model
    train_sasrec: TrainSasrec
    extract_embeddings: ExtractEmbeddings
    train_rqvae: TrainRqvae
    train_tiger: TrainTiger
    train_etegrec: TrainEtegrec
    train_two_tower: TrainTwoTower
    generate_candidates: GenerateCandidates
    train_ranker: TrainRanker
    evaluate: Evaluate
    evaluate_ranker: EvaluateRanker
    track: Track
    trainer: Trainer
    runtime: Runtime


def read_seed(path: Path = PARAMS_FILE) -> int:
    """The seed from which every random choice of the pipeline follows."""
    return read_params(path).seed


def read_section(section: type[Section], path: Path = PARAMS_FILE) -> Section:
    """Read one section of params.yaml, named by its class; the whole file is checked.

    Raises:
        UserError: a key is unknown, missing or out of range.
    """
    value: Section = getattr(read_params(path), section_name(section))
    return value


def section_name(section: type) -> str:
    """The key of params.yaml that holds a section.

    Example:
        >>> section_name(TrainTiger)
        'train_tiger'
    """
    return next(name for name, kind in get_type_hints(Params).items() if kind is section)


@cache
def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole file."""
    if not path.is_file():
        raise UserError(f"{path} not found in {Path.cwd()}; run from the project's root folder")
    return check_params(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        UserError: it is not YAML.
    """
    with path.open("rb") as stream:
        try:
            return yaml.load(stream, _StrictLoader)  # nosec B506
        except yaml.YAMLError as mistake:
            raise UserError(f"{path} is not valid YAML: {' '.join(str(mistake).split())}; mend it") from mistake
        except (RecursionError, ValueError) as mistake:  # thousands of brackets; a date in month 13
            raise UserError(f"{path} holds a value that can not be read ({mistake}); mend it") from None


# a safe loader; the one in C, where there is one, is ten times as fast
class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that stands twice in a section; YAML's own rule, and PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = next((key for key in keys if keys.count(key) > 1), None)
        if repeated is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def check_params(content: object, place: str) -> Params:
    """Turn the parsed file into `Params`; 1e-05, which YAML 1.1 reads as text, becomes a number."""
    if not isinstance(content, dict):
        raise UserError(f"{place} must hold sections such as 'model:', got {shown(content)}; write them")
    try:
        params = TypeAdapter(Params).validate_python(content)
    except ValidationError as mistake:
        raise UserError(f"{place}: " + "; ".join(_explain(error) for error in mistake.errors())) from None
    for name, value in flatten(params).items():
        if SECRET.search(str(value)):
            raise UserError(
                f"{place}: {name} holds a password or a token, which dvc.lock and MLflow would show to others;"
                " download the file yourself and give its local path"
            )
    return params


def flatten(params: Params) -> dict[str, Any]:
    """All values under their dotted names, as MLflow and `dvc exp run -S` spell them."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if is_dataclass(value):
            for field in fields(value):
                visit(f"{prefix}.{field.name}" if prefix else field.name, getattr(value, field.name))
        else:
            flat[prefix] = list(value) if isinstance(value, tuple) else value

    visit("", params)
    return flat


def _explain(error: Any) -> str:
    """One of pydantic's errors as `key: rule, got value`, with the nearest known key for a typo."""
    *parents, key = error["loc"]
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "unexpected_keyword_argument":
        known = _known_keys(parents)
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0)
        return f"unknown key '{name}'; did you mean '{'.'.join([*map(str, parents), *near])}'?"
    if error["type"] == "missing":
        return f"key '{name}' is missing"
    rule = error["msg"].removeprefix("Value error, ")
    way_out = ""
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        way_out = "; put it in quotes"
    elif error["input"] is None:  # what a key without a value is in YAML
        way_out = {"string_type": "; write '' for none", "tuple_type": "; write [] for none"}.get(error["type"], "")
    return f"{name}: {rule[:1].lower()}{rule[1:]}, got {shown(error['input'])}{way_out}"


def shown(value: object, longest: int = 100) -> str:
    """A value within a line, however long or deep it is."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} within itself or thousands of others"
    return text if len(text) <= longest else f"{text[:longest]}..."


def _known_keys(parents: list[Any]) -> list[str]:
    section: Any = Params
    for parent in parents:
        section = get_type_hints(section)[parent]
    return [field.name for field in fields(section)]


def apply_preset(name: str, path: str | None, params_file: Path = PARAMS_FILE) -> None:
    """Put a preset's values and header into params.yaml, keeping its other comments.

    Args:
        path: replaces the preset's own data path.

    Raises:
        UserError: no such preset, or the result is not a valid params.yaml.
    """
    from ruamel.yaml import YAML  # keeps comments, which pyyaml does not

    presets = {file.stem: file for file in sorted(PRESETS.glob("*.yaml"))}
    if name not in presets:
        raise UserError(f"no preset named {name!r}; known: {', '.join(presets)}")
    editor = YAML()
    content = editor.load(params_file)
    _overlay(content, read_yaml(presets[name]))
    if path is not None:
        content["fetch_data"]["path"] = path
    check_params(content, f"preset {name}")
    content.yaml_set_start_comment(_header(presets[name]))
    editor.dump(content, params_file)


def _header(file: Path) -> str:
    """What the first lines of a file say: what it trains, how long, what to expect."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)


def _overlay(content: Any, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _overlay(content.setdefault(key, {}), value)
        else:
            content[key] = value


def main() -> None:
    parser = argparse.ArgumentParser(description="Put a preset's values into params.yaml; undo with `git checkout`.")
    parser.add_argument("preset", help="the preset's name, such as beauty")
    parser.add_argument("--path", help="the data file, in place of the preset's own fetch_data.path")
    arguments = parser.parse_args()
    run_command(lambda: apply_preset(arguments.preset, arguments.path))


if __name__ == "__main__":
    main()
