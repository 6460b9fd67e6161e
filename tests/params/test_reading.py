"""params.yaml: what stands in it is what runs, and a mistake in it is named in one line before any work."""

import copy
import dataclasses
import difflib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_pipeline import PROJECT
from ruamel.yaml import YAML

from benchmarks.scale import MILLION
from genrec.errors import UserError
from genrec.params import preset as preset_module
from genrec.params.evaluate import Evaluate
from genrec.params.model import Model
from genrec.params.preset import apply_preset, overlay
from genrec.params.reading import check_params, flatten, read_params, read_section, read_seed, read_yaml

FILE = PROJECT / "params.yaml"
CONTENT: dict[str, Any] = read_yaml(FILE)


def sections_of(content: dict[str, Any], *parents: str) -> Iterator[tuple[str, ...]]:
    """The path of every mapping, the whole file first."""
    yield parents
    for key, value in content.items():
        if isinstance(value, dict):
            yield from sections_of(value, *parents, key)


SECTIONS = list(sections_of(CONTENT))


def changed(name: str, value: Any) -> dict[str, Any]:
    """The project's params with one value, given by its dotted name, replaced."""
    content = copy.deepcopy(CONTENT)
    *parents, key = name.split(".")
    section_at(content, parents)[key] = value
    return content


def section_at(content: dict[str, Any], path: list[str] | tuple[str, ...]) -> dict[str, Any]:
    for key in path:
        content = content[key]
    return content


def mistake_in(content: object) -> str:
    with pytest.raises(UserError) as refused:
        check_params(content, "params.yaml")
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of the project's params.yaml."""
    copied = tmp_path / "params.yaml"
    copied.write_bytes(FILE.read_bytes())
    return copied


class TestReading:
    def test_gives_typed_sections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(PROJECT)
        assert read_section(Model) == Model(code_num=64, num_levels=3)
        assert read_section(Evaluate).ks == (5, 10, 20)
        assert read_seed() == CONTENT["seed"]

    def test_gives_sections_that_nobody_can_change(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            read_params(FILE).model.code_num = 128  # type: ignore[misc]

    def test_of_a_file_that_is_not_there_says_where_it_was_sought(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=f"^params.yaml not found in {tmp_path}; run from the project's root"):
            read_params()

    @pytest.mark.parametrize(("text", "got"), [("", "None"), ("# a comment", "None"), ("- 1\n- 2", r"\[1, 2\]")])
    def test_of_a_file_without_sections_says_what_it_is(self, file: Path, text: str, got: str) -> None:
        file.write_text(text)
        with pytest.raises(
            UserError, match=rf"params.yaml must hold sections such as 'model:', got {got}; write them$"
        ):
            read_params(file)

    @pytest.mark.parametrize("text", [b"model: {", b"model:\n\tcode_num: 2", b"model: \xff", b"a: 1\n<<<<<<< HEAD\n"])
    def test_of_invalid_yaml_says_so_in_one_line(self, file: Path, text: bytes) -> None:
        file.write_bytes(text)
        with pytest.raises(UserError, match="params.yaml is not valid YAML: ") as refused:
            read_params(file)
        assert "\n" not in str(refused.value)

    def test_of_invalid_yaml_names_the_line(self, file: Path) -> None:
        file.write_text("model:\n  code_num: [64\ntrack: on\n")
        with pytest.raises(UserError, match="line 3, column"):
            read_params(file)

    @pytest.mark.parametrize("text", ["1e-05", "1E-5", "1.0e-5", "0.00001"])
    def test_knows_a_number_in_all_its_spellings(self, file: Path, text: str) -> None:
        # YAML 1.1 reads 1e-05, which ruamel and `dvc exp run -S` write, as text
        file.write_text(FILE.read_text().replace("sia_weight: 0.0001", f"sia_weight: {text}"))
        assert read_params(file).train_etegrec.sia_weight == 0.00001


class TestKeys:
    @pytest.mark.parametrize("path", SECTIONS, ids=".".join)
    def test_an_unknown_one_names_the_nearest(self, path: tuple[str, ...]) -> None:
        content = copy.deepcopy(CONTENT)
        section = section_at(content, path)
        known = next(iter(section))
        section[f"{known}_"] = section[known]
        right = ".".join((*path, known))
        assert mistake_in(content) == f"params.yaml: unknown key '{right}_'; did you mean '{right}'?"

    @pytest.mark.parametrize("path", SECTIONS, ids=".".join)
    def test_a_missing_one_is_named(self, path: tuple[str, ...]) -> None:
        content = copy.deepcopy(CONTENT)
        section = section_at(content, path)
        *_, last = section
        del section[last]
        assert mistake_in(content) == f"params.yaml: key '{'.'.join((*path, last))}' is missing"

    def test_all_mistakes_are_named_at_once(self) -> None:
        content = changed("model.code_num", 1)
        del content["trainer"]["num_threads"]
        assert mistake_in(content) == (
            "params.yaml: model.code_num: input should be greater than or equal to 2, got 1; "
            "key 'trainer.num_threads' is missing"
        )

    def test_a_section_is_a_section(self) -> None:
        message = mistake_in(changed("model", 64))
        assert message.startswith("params.yaml: model: input should be a dictionary")
        assert message.endswith("got 64")


class TestValues:
    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("seed", -1, "input should be greater than or equal to 0"),
            ("model.code_num", 1, "input should be greater than or equal to 2"),
            ("model.num_levels", 0, "input should be greater than or equal to 1"),
            ("prepare_data.min_user_interactions", 2, "input should be greater than or equal to 3"),
            ("prepare_data.ties", "fil", "input should be 'file', 'item' or 'hash'"),
            ("prepare_data.split", "random", "input should be 'leave_one_out' or 'time'"),
            ("prepare_data.time.train_until", 1.5, "must be a share between 0 and 1, or a date such as '1998-03-01'"),
            ("prepare_data.time.train_until", "May", "must be a share between 0 and 1, or a date such as '1998-03-01'"),
            ("prepare_data.time.train_until", True, "must be a share between 0 and 1, or a date such as '1998-03-01'"),
            (
                "prepare_data.held_out_users",
                1,
                "must be 0, all users, or at least 2: a ranker learns from some and is chosen by others",
            ),
            (
                "extract_embeddings.source",
                "texts",
                "input should be 'sasrec', 'words', 'sasrec+words', 'text' or 'file'",
            ),
            ("extract_embeddings.words.dim", 1, "input should be greater than or equal to 2"),
            ("extract_embeddings.text.model", "", "string should have at least 1 character"),
            ("extract_embeddings.text.max_length", 0, "input should be greater than or equal to 1"),
            ("train_sasrec.num_heads", 0, "input should be greater than or equal to 1"),
            ("train_sasrec.num_heads", 3, "must divide embedding_dim=64"),
            ("train_sasrec.num_heads", 128, "must divide embedding_dim=64"),
            (
                "train_sasrec.sparse_items",
                True,
                "needs loss: sampled_softmax, since a full one touches all items at each step",
            ),
            ("train_sasrec.dropout", 1, "input should be less than 1"),
            ("train_sasrec.learning_rate", 0, "input should be greater than 0"),
            ("train_sasrec.learning_rate", float("inf"), "input should be a finite number"),
            ("train_sasrec.learning_rate", float("nan"), "input should be a finite number"),
            (
                "train_sasrec.learning_rate",
                "fast",
                "input should be a valid number, unable to parse string as a number",
            ),
            (
                "train_rqvae.quantizer",
                "gumbel",
                "input should be 'straight_through', 'sinkhorn', 'rotation' or 'ema'",
            ),
            ("train_rqvae.gates.min_usage", 1.1, "input should be less than or equal to 1"),
            ("train_rqvae.hidden_dims.0", 0, "input should be greater than or equal to 1"),
            ("train_tiger.generator.num_heads", 0, "input should be greater than or equal to 1"),
            ("train_tiger.n_beams", 0, "input should be greater than or equal to 1"),
            ("train_etegrec.cycle", 1, "input should be greater than or equal to 2"),
            ("evaluate.ks", [], "must be one or more numbers, strictly ascending"),
            ("evaluate.ks", [10, 5], "must be one or more numbers, strictly ascending"),
            ("evaluate.ks", [5, 5, 10], "must be one or more numbers, strictly ascending"),
            ("evaluate.ks.1", 0, "input should be greater than or equal to 1"),
            ("evaluate.n_beams", 19, "must be at least 20, the last of evaluate.ks"),
            ("trainer.precision", "16", "input should be 'auto', '32-true' or 'bf16-mixed'"),
            ("trainer.devices", 0, "input should be greater than or equal to 1"),
            ("trainer.strategy", "fsdp", "input should be 'auto' or 'ddp'"),
        ],
    )
    def test_out_of_range_are_refused_with_the_rule(self, name: str, value: Any, rule: str) -> None:
        *parents, key = name.split(".")
        if key.isdigit():
            parent = ".".join(parents)
            items: Any = list(section_at(CONTENT, parents))
            items[int(key)] = value
            content = changed(parent, items)
        else:
            content = changed(name, value)
        assert mistake_in(content) == f"params.yaml: {name}: {rule}, got {value!r}"

    def test_a_split_in_time_holds_out_of_all_users_the_same(self) -> None:
        content = changed("prepare_data.split", "time")
        content["prepare_data"]["held_out_users"] = 2
        assert mistake_in(content).startswith("params.yaml: prepare_data.held_out_users: must be 0 where")

    @pytest.mark.parametrize("value", [3.5, 64.0, "64", True, None])
    def test_a_whole_number_is_nothing_else(self, value: object) -> None:
        # 64.0 would be locked and published as another state than 64
        assert mistake_in(changed("model.code_num", value)) == (
            f"params.yaml: model.code_num: input should be a valid integer, got {value!r}"
        )

    @pytest.mark.parametrize("value", ["true", "yes", "", 1, None])
    def test_a_switch_is_true_or_false(self, value: object) -> None:
        assert mistake_in(changed("track.enabled", value)) == (
            f"params.yaml: track.enabled: input should be a valid boolean, got {value!r}"
        )

    def test_rules_between_two_values_wait_until_both_are_right(self) -> None:
        message = mistake_in(changed("train_sasrec.embedding_dim", 0))
        assert message == "params.yaml: train_sasrec.embedding_dim: input should be greater than or equal to 1, got 0"
        assert mistake_in(changed("evaluate.ks", [20, 10])).count("evaluate.") == 1

    def test_a_loss_over_items_needs_a_generator_that_reads_them(self) -> None:
        content = changed("train_tiger.dense_loss_weight", 0.5)
        content["train_tiger"]["generator"]["encoder"] = "causal"
        assert "train_tiger.dense_loss_weight: needs generator.encoder: items" in mistake_in(content)
        content["train_tiger"]["generator"]["encoder"] = "items"
        assert check_params(content, "params.yaml").train_tiger.dense_loss_weight == 0.5

    def test_processes_have_a_gpu_each_and_ddp_has_several(self) -> None:
        content = changed("trainer.gpus", 2)
        assert mistake_in(content) == (
            "params.yaml: trainer.devices: must be 2 where trainer.gpus is 2, a process for each GPU, got 1"
        )
        content["trainer"].update(devices=2, strategy="ddp")
        assert check_params(content, "params.yaml").trainer.devices == 2
        content = changed("trainer.strategy", "ddp")
        content["trainer"]["portable"] = False
        assert mistake_in(content).startswith(
            "params.yaml: trainer.num_nodes: must, or trainer.devices, be above 1 where trainer.strategy is ddp"
        )

    @pytest.mark.parametrize(("name", "value", "one"), [("strategy", "ddp", "auto"), ("num_nodes", 2, 1)])
    def test_what_is_portable_is_trained_by_one_process(self, name: str, value: object, one: object) -> None:
        content = changed(f"trainer.{name}", value)
        assert f"trainer.{name}: must be {one} where trainer.portable is true, whose" in mistake_in(content)
        content["trainer"] |= {"portable": False, "devices": 2}
        assert getattr(check_params(content, "params.yaml").trainer, name) == value

    def test_a_number_for_a_name_is_refused_with_the_way_out(self) -> None:
        line = mistake_in(changed("track.experiment", 7))
        assert line == "params.yaml: track.experiment: input should be a valid string, got 7; put it in quotes"

    def test_a_checksum_of_digits_is_a_checksum(self) -> None:
        # YAML takes it for a number
        assert check_params(changed("fetch_data.sha256", int("7" * 64)), "params.yaml").fetch_data.sha256 == "7" * 64


class TestFlatten:
    def test_names_every_value_as_dvc_does(self) -> None:
        flat = flatten(read_params(FILE))
        assert flat["seed"] == CONTENT["seed"]
        assert flat["train_tiger.generator.num_heads"] == CONTENT["train_tiger"]["generator"]["num_heads"]
        assert flat["evaluate.ks"] == [5, 10, 20]

    def test_loses_nothing(self) -> None:
        content: dict[str, Any] = {}
        for name, value in flatten(read_params(FILE)).items():
            *parents, key = name.split(".")
            section = content
            for parent in parents:
                section = section.setdefault(parent, {})
            section[key] = value
        assert content == CONTENT


class TestFile:
    def test_is_flattened_in_its_own_order(self) -> None:
        assert list(flatten(read_params(FILE))) == [name for name, _ in leaves(CONTENT)]

    def test_is_written_as_dvc_writes_it(self) -> None:
        # else the first `dvc exp run -S` would change lines that nobody meant
        assert as_dvc_writes(YAML().load(FILE)) == FILE.read_text(encoding="utf-8")

    def test_changes_by_one_line_with_one_value(self) -> None:
        content = YAML().load(FILE)
        content["model"]["code_num"] = 256
        before, after = FILE.read_text(encoding="utf-8").splitlines(), as_dvc_writes(content).splitlines()
        difference = [line for line in difflib.ndiff(before, after) if line[0] in "-+"]
        assert difference == ["-   code_num: 64", "+   code_num: 256"]


def leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def as_dvc_writes(content: Any) -> str:
    """As dvc.utils.serialize does."""
    editor, text = YAML(), io.StringIO()
    editor.default_flow_style = False
    editor.dump(content, text)
    return text.getvalue()


class TestPresets:
    @pytest.fixture
    def preset(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The file of the only preset, `small`."""
        folder = tmp_path / "presets"
        folder.mkdir()
        monkeypatch.setattr(preset_module, "PRESETS", folder)
        preset = folder / "small.yaml"
        preset.write_text("# of a paper\nmodel:\n  code_num: 16\nevaluate:\n  ks: [1, 5]\n")
        return preset

    @pytest.mark.parametrize("name", sorted(file.stem for file in preset_module.PRESETS.glob("*.yaml")))
    def test_of_the_project_are_valid(self, file: Path, name: str) -> None:
        before = flatten(read_params(file))
        apply_preset(name, None, file)
        read_params.cache_clear()
        after = flatten(read_params(file))
        assert before != after

    def test_of_the_benchmark_of_scale_are_valid(self) -> None:
        content = copy.deepcopy(CONTENT)
        overlay(content, read_yaml(MILLION))
        check_params(content, MILLION.name)

    @pytest.mark.usefixtures("preset")
    def test_bring_their_own_header(self, file: Path) -> None:
        apply_preset("small", None, file)
        assert file.read_text().startswith("# of a paper\nseed: ")

    @pytest.mark.usefixtures("preset")
    def test_change_their_values_and_keep_all_else(self, file: Path) -> None:
        apply_preset("small", None, file)
        comments = [
            [line for line in text.read_text().splitlines()[2:] if line.lstrip().startswith("#")]
            for text in (file, FILE)
        ]
        assert comments[0] == comments[1] != []
        read_params.cache_clear()
        after, before = flatten(read_params(file)), flatten(read_params(FILE))
        assert {name: value for name, value in after.items() if value != before[name]} == {
            "model.code_num": 16,
            "evaluate.ks": [1, 5],
        }

    @pytest.mark.usefixtures("preset")
    def test_take_another_path_of_the_data(self, file: Path) -> None:
        apply_preset("small", "/data/reviews.json.gz", file)
        assert read_yaml(file)["fetch_data"]["path"] == "/data/reviews.json.gz"

    def test_take_an_item_table_with_the_data_or_do_without_words(self, file: Path) -> None:
        found = {}
        for items in ("/data/items.tsv", None):
            apply_preset("beauty", "/data/sequences.txt", file, items)
            content = read_yaml(file)
            found[items] = content["fetch_data"]["items_path"], content["extract_embeddings"]["words"]["columns"]
        assert found == {
            "/data/items.tsv": ("/data/items.tsv", ["title", "brand", "brand", "categories"]),
            None: ("", []),
        }

    @pytest.mark.usefixtures("preset")
    def test_that_do_not_exist_are_refused_with_those_that_do(self, file: Path) -> None:
        with pytest.raises(UserError, match="^no preset named 'smal'; known: small$"):
            apply_preset("smal", None, file)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("modle:\n  code_num: 16\n", "preset small: unknown key 'modle'; did you mean 'model'?"),
            ("model:\n  code_nun: 16\n", "preset small: unknown key 'model.code_nun'; did you mean 'model.code_num'?"),
            (
                "model:\n  code_num: 1\n",
                "preset small: model.code_num: input should be greater than or equal to 2, got 1",
            ),
        ],
    )
    def test_with_a_mistake_leave_the_file_as_it_was(self, file: Path, preset: Path, text: str, message: str) -> None:
        preset.write_text(text)
        with pytest.raises(UserError) as refused:
            apply_preset("small", None, file)
        assert str(refused.value) == message
        assert file.read_bytes() == FILE.read_bytes()
