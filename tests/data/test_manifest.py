"""source.json, written and read."""

import pytest

from genrec.data.manifest import Layout, Manifest, RawFile
from genrec.errors import UserError

MANIFEST = Manifest(
    "interactions",
    RawFile("x.csv", "ab", Layout("delimited", {"user_key": "u", "item_key": "i"}, names=("u", "i"))),
    items=RawFile("é.json.gz", "cd", Layout("json_lines", {"item_key": "asin"}, time_unit="milliseconds")),
)


def test_what_is_saved_is_loaded(tmp_path):
    MANIFEST.save(tmp_path)
    assert Manifest.load(tmp_path) == MANIFEST


def test_nothing_but_content_decides_the_bytes(tmp_path):
    MANIFEST.save(tmp_path)
    text = (tmp_path / "source.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "dataset": "interactions",\n  "interactions": {')
    assert str(tmp_path) not in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("content", [None, "{", '{"dataset": "x"}', "[]"])
def test_anything_else_is_refused_with_the_stage_to_run(tmp_path, content):
    if content is not None:
        (tmp_path / "source.json").write_text(content)
    with pytest.raises(UserError, match=r"source\.json .*run `dvc repro (-f )?fetch_data`"):
        Manifest.load(tmp_path)
