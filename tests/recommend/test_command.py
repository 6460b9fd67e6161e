"""The command line answers people, programs and whole populations, and says mistakes in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from packages import N_USERS, World, make_world

from genrec.recommend.command import main
from genrec.serving import all_users
from genrec.serving.recommender import Recommender, Request


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def answer_of(world: World, **settings):
    return Recommender.load(world.package).recommend([Request(**settings)])[0]


def test_a_user_gets_titles(world, capsys):
    main(["--package", str(world.package), "--user", "u3", "--k", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[-1] == "from sasrec"
    for line, each in zip(lines[1:], answer_of(world, user="u3", k=4).recommendations, strict=False):
        assert each.title in line


def test_items_of_somebody_unknown_are_answered_as_json(world, capsys):
    main(["--package", str(world.package), "--items", "i1, i2,x", "--model", "tiger", "--k", "3", "--json"])
    given = json.loads(capsys.readouterr().out)
    expected = answer_of(world, items=["i1", "i2", "x"], model="tiger", k=3)
    assert [each["item"] for each in given["recommendations"]] == [each.item for each in expected.recommendations]
    assert given["unknown_items"] == 1


def test_all_users_are_written_as_they_are_answered_one_by_one(world, tmp_path, monkeypatch):
    monkeypatch.setattr(all_users, "USERS_A_PART", 7)
    file = tmp_path / "all.parquet"
    main(["--package", str(world.package), "--all", "-o", str(file), "--k", "3", "--without-last", "1"])
    rows = pq.read_table(file).to_pylist()
    assert [row["user"] for row in rows[::3]] == [f"u{user}" for user in range(1, N_USERS + 1)]
    recommender = Recommender.load(world.package)
    answers = recommender.recommend([Request(user=f"u{user}", k=3, without_last=1) for user in range(1, N_USERS + 1)])
    expected = [(rank, each.item) for answer in answers for rank, each in enumerate(answer.recommendations, start=1)]
    assert [(row["rank"], row["item"]) for row in rows] == expected
    assert list(tmp_path.iterdir()) == [file]


def test_what_was_stopped_goes_on_and_gives_the_same_file(world, tmp_path, monkeypatch):
    monkeypatch.setattr(all_users, "USERS_A_PART", 7)
    whole, resumed = tmp_path / "whole.parquet", tmp_path / "resumed.parquet"
    arguments = ["--package", str(world.package), "--all", "--k", "3", "-o"]
    main([*arguments, str(whole)])
    computed, compute = [], all_users._part

    def stops(recommender, start, *others):
        computed.append(start)
        if len(computed) == 4:
            raise KeyboardInterrupt
        return compute(recommender, start, *others)

    monkeypatch.setattr(all_users, "_part", stops)
    with pytest.raises(KeyboardInterrupt):
        main([*arguments, str(resumed)])
    assert not resumed.exists()
    main([*arguments, str(resumed)])
    assert computed == [0, 7, 14, 21, 21, 28, 35]
    assert resumed.read_bytes() == whole.read_bytes()


def test_its_folders_may_begin_at_the_home_folder(world, tmp_path, monkeypatch):
    # a shell leaves the ~ of --output=~/x as it is, and a folder named ~ was sought
    monkeypatch.setenv("HOME", str(world.package.parent))
    file = world.package.parent / "all.parquet"
    main([f"--package=~/{world.package.name}", "--all", "--output=~/all.parquet"])
    assert file.exists()
    file.unlink()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--user", "u1", "--k", "0"], "error: --k must be at least 1, got 0"),
        (["--all"], "error: --all and -o FILE.parquet go together"),
        (["--user", "u1", "--model", "gru"], "error: no model named 'gru'"),
        (["--user", "u1", "--package", "~nobody-at-all"], "error: --package: ~nobody-at-all begins with the name of"),
        (["--user", "u1", "--package", "nowhere"], "error: nowhere/package.json not found"),
    ],
)
def test_mistakes_are_said_in_one_line(world, arguments, line):
    with pytest.raises(SystemExit) as mistake:
        main(["--package", str(world.package), *arguments])
    assert str(mistake.value).startswith(line)
    assert "\n" not in str(mistake.value)


def test_it_starts_without_what_trains_tracks_and_tabulates(world):
    program = (
        "import sys; from genrec.recommend.command import main; main(sys.argv[1:]); "
        "print([m for m in ('pytorch_lightning', 'mlflow', 'pandas', 'pydantic', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--package", str(world.package), "--user", "u1", "--model", "tiger"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
