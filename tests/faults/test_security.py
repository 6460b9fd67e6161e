"""What a user names is data: nothing of it is ever run, unpickled, unpacked beside its place, or logged as a secret."""

import ast
import io
import re
import zipfile
from pathlib import Path

import pytest

from faults.stages_in_processes import PROJECT
from genrec.data.fetching import fetch_movielens
from genrec.errors import UserError
from genrec.params.reading import SECRET, flatten, read_params, read_yaml
from genrec.pipeline.run_store import Store, without_credentials

CODE = {
    file.relative_to(PROJECT).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
    for room in ("genrec", "stages")
    for file in sorted((PROJECT / room).rglob("*.py"))
}
CALLS = [
    (file, ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}, node)
    for file, tree in CODE.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.Call)
]
FORBIDDEN = (
    r"eval|exec|compile|__import__|os\.system|os\.popen|pickle\.loads?|joblib\.load|marshal\.loads?|shelve\.open"
    r"|pd\.read_pickle|yaml\.(full_load|unsafe_load|load_all)|tempfile\.mktemp"
)


def places(wrong: list[tuple[str, ast.AST]]) -> list[str]:
    return [f"{file}:{getattr(node, 'lineno', 0)} {ast.unparse(node)[:80]}" for file, node in wrong]


@pytest.mark.fault("unsafe calls in the code")
class TestCode:
    def test_there_are_calls_to_look_at(self) -> None:
        assert len(CALLS) > 1000

    def test_nothing_that_is_read_is_run(self) -> None:
        wrong = [(file, node) for file, name, _, node in CALLS if re.fullmatch(FORBIDDEN, name)]
        assert places(wrong) == []

    def test_checkpoints_are_loaded_without_unpickling_objects(self) -> None:
        wrong = [
            (file, node)
            for file, name, options, node in CALLS
            if name in ("torch.load", "trainer.fit", "self.trainer.fit") or name.endswith("load_from_checkpoint")
            if options.get("weights_only") != "True"
        ]
        assert places(wrong) == []

    def test_arrays_are_loaded_without_unpickling_objects(self) -> None:
        wrong = [
            (file, node)
            for file, name, options, node in CALLS
            if name in ("np.load", "numpy.load") and options.get("allow_pickle") != "False"
        ]
        assert places(wrong) == []

    def test_no_shell_reads_a_command(self) -> None:
        wrong = [
            (file, node)
            for file, name, options, node in CALLS
            if name.startswith("subprocess.")
            and (options.get("shell", "False") != "False" or any(map(_is_text, node.args[:1])))
        ]
        assert places(wrong) == []

    def test_no_archive_is_unpacked_by_its_own_names(self) -> None:
        wrong = [
            (file, node)
            for file, name, _, node in CALLS
            if name.endswith((".extractall", ".extract"))
            and not name.endswith(".str.extract")
            or name in ("shutil.unpack_archive", "tarfile.open")
        ]
        assert places(wrong) == []


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.mark.fault("archives that climb out of their folder")
@pytest.mark.parametrize("name", ["../u.data", "/tmp/u.data", "ml-100k/../../u.data", "..\\u.data"])
def test_an_archive_writes_nothing_but_the_known_files(tmp_path, name):
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for known in ("u.data", "u.item", "u.user"):
            archive.writestr(f"ml-100k/{known}", "1\t1\t5\t1\n")
        archive.writestr(name, "stolen")
    before = {file for file in tmp_path.rglob("*") if not file.is_relative_to(raw)}
    fetch_movielens(str(tmp_path / "a.zip"), "", raw)
    assert {file for file in tmp_path.rglob("*") if not file.is_relative_to(raw)} == before
    assert sorted(file.name for file in raw.iterdir()) == ["u.data", "u.item", "u.user"]
    assert all(file.read_text() == "1\t1\t5\t1\n" for file in raw.iterdir())


@pytest.mark.fault("archives that climb out of their folder")
def test_an_archive_with_a_password_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("u.data", "1\t1\t5\t1\n")
        for name in ("u.item", "u.user"):
            archive.writestr(name, "1|a\n")
    content = bytearray(buffer.getvalue())
    # the bit "encrypted" of each entry, in its own header and in the directory
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(mark), bytes(content)):
            content[found.start() + place] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"a.zip is damaged at u.data .*password required.*; fetch it again"):
        fetch_movielens(str(tmp_path / "a.zip"), "", tmp_path)


@pytest.mark.fault("YAML that builds objects")
@pytest.mark.parametrize("tag", ["python/object/apply:os.system ['touch stolen']", "python/name:os.system ''"])
def test_yaml_builds_plain_values_only(tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(f"a: !!{tag}\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        read_yaml(tmp_path / "a.yaml")
    assert not (tmp_path / "stolen").exists()


@pytest.mark.fault("secrets and open doors")
class TestSecrets:
    def test_no_parameter_holds_a_secret(self) -> None:
        names = flatten(read_params(PROJECT / "params.yaml"))
        assert not [name for name in names if re.search("password|secret|token(?!izer)|credential|api_?key", name)]

    def test_a_password_in_the_stores_address_is_never_shown(self, monkeypatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:secret@host/x")
        assert "secret" not in Store.find(Path("/p")).shown
        assert "secret" not in str(Store.find(Path("/p")).failure(OSError("https://ann:secret@host/x is down")))
        assert "secret" not in without_credentials("GET http://ann:secret@host and ftp://bob:secret@host")

    def test_an_ordinary_address_holds_none(self) -> None:
        for address in ("https://example.org/data/beauty.csv.gz?download=1&key=ratings", "a@b/c.csv", "monkey?a=b"):
            assert not SECRET.search(address)

    def test_the_server_listens_to_this_machine_alone(self) -> None:
        commands = re.findall(r'\["mlflow", "ui".*\]', (PROJECT / "genrec/pipeline/ui.py").read_text())
        assert len(commands) == 1
        assert '"--host", "127.0.0.1"' in commands[0]

    def test_nothing_else_opens_a_port(self) -> None:
        opened = [(file, node) for file, name, _, node in CALLS if re.search(r"\.(bind|listen|serve_forever)$", name)]
        # which asks for a free port, and closes it before anybody can reach it
        assert [place.partition(":")[0] for place in places(opened)] == ["genrec/cluster/machine.py"]


def test_a_full_copy_of_the_code_was_looked_at() -> None:
    assert {"genrec/pipeline/tracking.py", "genrec/storage/checkpoint.py", "stages/train_etegrec.py"} <= CODE.keys()
