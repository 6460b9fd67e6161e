"""Items and sequences of a data set of one's own, made of two frames."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from genrec.data.base_dataset import BaseRecommenderDataset, ItemDataset, SequenceDataset
from genrec.data.configs import DataProcessingConfig, DatasetConfig, SequenceConfig, TextEncodingConfig
from genrec.errors import UserError
from genrec.models.rqvae import RqVae

TITLES = {"a": "Lacquer", "b": "Wrench", "c": "Lacquer", "d": "Soap", "e": "Comb"}
EVERYTHING = DataProcessingConfig(min_user_interactions=1, min_item_interactions=1)
SEQUENCES = {"x": "abcdea", "y": "badce", "z": "edc", "w": "ab"}


class Shop(BaseRecommenderDataset):
    """Users x, y, z and w with 6, 5, 3 and 2 interactions."""

    def read_interactions(self):
        rows = [(user, item) for user, items in SEQUENCES.items() for item in items]
        return pd.DataFrame(rows, columns=["user_key", "item_key"], dtype="str")

    def read_items(self, item_keys):
        return pd.DataFrame([{"item_key": key, "title": TITLES[key]} for key in item_keys][::-1])


def shop(tmp_path, **changes):
    settings = {
        "text_config": TextEncodingConfig(template="{title}", encoder_model="a-model"),
        "processing_config": EVERYTHING,
        **changes,
    }
    return Shop(DatasetConfig(str(tmp_path), **settings))


def tokenizer(num_levels=2, input_dim=768):
    """An untrained RqVae of 4 codes a level: several items share their codes."""
    torch.manual_seed(0)
    return RqVae(input_dim, 8, 4, 4, num_levels=num_levels)


class TestBase:
    def test_numbers_items_from_1_in_the_order_of_their_keys(self, tmp_path):
        items = shop(tmp_path).items
        assert items["item_id"].tolist() == [1, 2, 3, 4, 5]
        assert items["item_key"].tolist() == list("abcde")
        assert items["title"].tolist() == ["Lacquer", "Wrench", "Lacquer", "Soap", "Comb"]

    def test_leaves_users_out_whose_sequences_leave_one_out_can_not_split(self, tmp_path):
        histories = shop(tmp_path, processing_config=DataProcessingConfig(1, 1, remove_duplicates=False)).histories
        assert sorted(histories.lengths.tolist()) == [3, 5, 6]

    def test_keeps_a_user_s_first_interaction_with_an_item_unless_told_otherwise(self, tmp_path):
        assert sorted(shop(tmp_path).histories.lengths.tolist()) == [3, 5, 5]

    def test_reads_nothing_before_it_is_asked(self, tmp_path):
        class Broken(Shop):
            def read_interactions(self):
                raise AssertionError("read")

        broken = Broken(DatasetConfig(str(tmp_path)))
        with pytest.raises(AssertionError, match="read"):
            broken.n_items  # noqa: B018

    def test_an_item_table_of_another_data_set_is_refused(self, tmp_path):
        class Mixed(Shop):
            def read_items(self, item_keys):
                return pd.DataFrame({"item_key": ["q"], "title": ["Other"]})

        with pytest.raises(
            ValueError, match="has none of the 5 items, such as item_key 'a', but 1 others, such as 'q'; it"
        ):
            Mixed(shop(tmp_path).config).items  # noqa: B018

    def test_takes_features_from_a_file_and_needs_no_texts(self, tmp_path):
        np.save(tmp_path / "e.npy", np.arange(12.0).reshape(6, 2) + 1)
        features = shop(tmp_path, embeddings_path=str(tmp_path / "e.npy")).item_features
        assert features.tolist() == [[0, 0], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]

    def test_takes_features_from_a_table_by_the_items_keys(self, tmp_path):
        table = pd.DataFrame({"item_key": list("edcba"), "u": [5.0, 4, 3, 2, 1]})
        table.to_parquet(tmp_path / "e.parquet", index=False)
        features = shop(tmp_path, embeddings_path=str(tmp_path / "e.parquet")).item_features
        assert features.flatten().tolist() == [0, 1, 2, 3, 4, 5]

    def test_a_file_of_other_items_is_refused(self, tmp_path):
        np.save(tmp_path / "e.npy", np.zeros((9, 2)))
        with pytest.raises(UserError, match="one for each of the 5 items, got shape"):
            shop(tmp_path, embeddings_path=str(tmp_path / "e.npy")).item_features  # noqa: B018


class TestCache:
    def test_a_tilde_is_the_home_for_a_root_and_for_a_cache(self, tmp_path, fake_encoder, monkeypatch):
        # the story: the cache went to a folder named ~ within the folder that one happened to be in
        home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.chdir(elsewhere)
        for root, cache in (("~/shop", "inner"), ("shop", "~/outer")):
            text = TextEncodingConfig(template="{title}", encoder_model="a-model", cache_dir=cache)
            Shop(DatasetConfig(root, text_config=text, processing_config=EVERYTHING)).item_features  # noqa: B018
        assert len(list((home / "shop/inner").glob("*.npy"))) == len(list((home / "outer").glob("*.npy"))) == 1
        assert not list(elsewhere.iterdir())

    def test_a_second_data_set_encodes_nothing_and_has_the_same_features(self, tmp_path, fake_encoder):
        first, second = shop(tmp_path).item_features, shop(tmp_path).item_features
        assert len(fake_encoder.encoded) == 1
        assert torch.equal(first, second)
        assert [file.suffix for file in (tmp_path / "cache" / "text_embeddings").iterdir()] == [".npy"]

    def test_equal_texts_have_equal_features_and_row_0_is_zero(self, tmp_path, fake_encoder):
        features = shop(tmp_path).item_features
        assert features.shape == (6, 768)
        assert torch.equal(features[1], features[3])
        assert not torch.equal(features[1], features[2])
        assert features[0].count_nonzero() == 0

    def test_another_model_template_or_text_is_encoded_anew(self, tmp_path, fake_encoder, monkeypatch):
        # the story: a cache named by the data set alone gave the old encoder's vectors to the new one
        text = TextEncodingConfig(template="{title}", encoder_model="a-model")
        for changed in (text, TextEncodingConfig("another", "{title}"), TextEncodingConfig("a-model", "a {title}")):
            shop(tmp_path, text_config=changed).item_features  # noqa: B018
        monkeypatch.setitem(TITLES, "e", "Brush")
        shop(tmp_path, text_config=text).item_features  # noqa: B018
        assert len(fake_encoder.encoded) == 4
        assert fake_encoder.encoded[-1][-1] == "Brush"

    def test_another_model_in_the_same_folder_is_encoded_anew(self, tmp_path, fake_encoder):
        model = tmp_path / "model"
        model.mkdir()
        text = TextEncodingConfig(str(model), "{title}")
        for weights in (b"1", b"2", b"2"):
            (model / "model.safetensors").write_bytes(weights)
            shop(tmp_path, text_config=text).item_features  # noqa: B018
        assert len(fake_encoder.encoded) == 2

    def test_force_reload_encodes_again(self, tmp_path, fake_encoder):
        for _ in range(2):
            shop(tmp_path, force_reload=True).item_features  # noqa: B018
        assert len(fake_encoder.encoded) == 2

    def test_a_relative_cache_lies_in_the_root_and_an_absolute_one_where_it_is(self, tmp_path, fake_encoder):
        text = TextEncodingConfig("a-model", "{title}", cache_dir=str(tmp_path / "elsewhere"))
        shop(tmp_path / "root", text_config=text).item_features  # noqa: B018
        assert len(list((tmp_path / "elsewhere").glob("*.npy"))) == 1
        assert not (tmp_path / "root").exists()

    def test_an_encoder_that_fails_leaves_nothing_behind(self, tmp_path, fake_encoder, monkeypatch):
        monkeypatch.setattr(fake_encoder, "encode", lambda self, texts, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shop(tmp_path).item_features  # noqa: B018
        assert not (tmp_path / "cache").exists()


class TestItems:
    def test_a_sample_is_a_dictionary_of_features(self, tmp_path, fake_encoder):
        base = shop(tmp_path)
        items = ItemDataset(base)
        assert len(items) == 5
        assert list(items[0]) == ["features"]
        assert torch.equal(items[2]["features"], base.item_features[3])

    def test_the_text_comes_beside_them_when_asked(self, tmp_path, fake_encoder):
        assert [sample["text"] for sample in ItemDataset(shop(tmp_path), return_text=True)] == list(TITLES.values())

    def test_splits_are_a_partition_of_all_items(self, tmp_path, fake_encoder):
        base = shop(tmp_path, processing_config=DataProcessingConfig(1, 1, True, 0.6, 0.2, 0.2))
        parts = [ItemDataset(base, split) for split in ("train", "val", "test")]
        assert [len(part) for part in parts] == [3, 1, 1]
        assert sorted(np.concatenate([part.item_ids for part in parts]).tolist()) == [1, 2, 3, 4, 5]
        assert torch.equal(parts[0].features, base.item_features[torch.from_numpy(parts[0].item_ids)])

    def test_a_split_s_texts_are_those_of_its_items(self, tmp_path, fake_encoder):
        part = ItemDataset(shop(tmp_path), "train", return_text=True)
        assert part.texts == [list(TITLES.values())[item_id - 1] for item_id in part.item_ids]

    def test_batches_of_the_default_loader_are_dictionaries(self, tmp_path, fake_encoder):
        batch = next(iter(DataLoader(ItemDataset(shop(tmp_path), return_text=True), batch_size=4)))
        assert batch["features"].shape == (4, 768)
        assert batch["text"] == ["Lacquer", "Wrench", "Lacquer", "Soap"]

    def test_an_unknown_split_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="must be all, train, val or test, got 'valid'"):
            ItemDataset(shop(tmp_path), "valid")

    def test_an_empty_split_is_refused(self, tmp_path):
        ratios = DataProcessingConfig(1, 1, train_ratio=0.98, val_ratio=0.01, test_ratio=0.01)
        with pytest.raises(ValueError, match="none of the 5 items falls into 'val'"):
            ItemDataset(shop(tmp_path, processing_config=ratios), "val")


class TestSequences:
    """x has items 1 2 3 4 5, y 2 1 4 3 5, z 5 4 3; users are numbered x, y, z."""

    def samples(self, dataset):
        return [(sample["input_ids"].tolist(), sample["labels"].tolist()) for sample in dataset]

    def test_are_split_by_leave_one_out(self, tmp_path):
        base = shop(tmp_path)
        assert self.samples(SequenceDataset(base, "train")) == [([1], [2]), ([1, 2], [3]), ([2], [1]), ([2, 1], [4])]
        assert self.samples(SequenceDataset(base, "val")) == [([1, 2, 3], [4]), ([2, 1, 4], [3]), ([5], [4])]
        assert self.samples(SequenceDataset(base, "test")) == [([1, 2, 3, 4], [5]), ([2, 1, 4, 3], [5]), ([5, 4], [3])]

    def test_no_training_sample_holds_a_held_out_item_of_its_user(self, tmp_path):
        # the story: a random split of prefix samples trains on what other prefixes of the same user are tested on
        base = shop(tmp_path)
        items, offsets = base.histories.items, base.histories.offsets
        train = SequenceDataset(base, "train").examples
        for start, end in zip(train.starts, train.ends, strict=True):
            user = int(np.searchsorted(offsets, start, side="right"))
            assert end < offsets[user] - 2
            assert not {*items[start : end + 1].tolist()} & {*items[offsets[user] - 2 : offsets[user]].tolist()}

    def test_the_mask_is_one_at_every_token(self, tmp_path):
        sample = SequenceDataset(shop(tmp_path), "test")[0]
        assert sample["attention_mask"].tolist() == [1.0] * 4
        assert {name: value.dtype for name, value in sample.items()} == {
            "input_ids": torch.int64,
            "labels": torch.int64,
            "attention_mask": torch.float32,
        }

    def test_only_the_latest_items_of_a_long_history_are_seen(self, tmp_path):
        base = shop(tmp_path, sequence_config=SequenceConfig(max_seq_length=2))
        assert self.samples(SequenceDataset(base, "test"))[0] == ([3, 4], [5])

    def test_with_an_rqvae_a_sample_is_the_semantic_ids_of_the_same_window(self, tmp_path, fake_encoder):
        base = shop(tmp_path)
        plain, coded = SequenceDataset(base, "test"), SequenceDataset(base, "test", tokenizer())
        for item_sample, token_sample in zip(plain, coded, strict=True):
            tokens = coded.item_tokens[item_sample["input_ids"]]
            assert token_sample["input_ids"].tolist() == tokens.flatten().tolist()
            assert token_sample["labels"].tolist() == coded.item_tokens[item_sample["labels"][0]].tolist()

    def test_a_semantic_id_is_the_rqvae_s_codes_and_a_collision_code(self, tmp_path, fake_encoder):
        base, encoder = shop(tmp_path), tokenizer()
        table = SequenceDataset(base, "test", encoder).code_table
        assert table.shape == (6, 3)
        assert table[0].tolist() == [-1, -1, -1]
        assert torch.equal(table[1:, :2].long(), encoder.semantic_codes(base.item_features[1:]))
        # items 1 and 3 have the same text
        assert table[3, :2].tolist() == table[1, :2].tolist()
        assert table[3, 2] > table[1, 2] == 0

    @pytest.mark.parametrize("num_levels", [1, 3])
    def test_token_0_is_padding_alone_and_every_item_has_tokens_of_its_own(self, tmp_path, fake_encoder, num_levels):
        # the story: with the mask `ids != 0` an item of code 0 vanished from the histories
        dataset = SequenceDataset(shop(tmp_path), "test", tokenizer(num_levels))
        assert (dataset.code_table[1:] == 0).any()
        assert dataset.item_tokens[0].count_nonzero() == 0
        assert dataset.item_tokens[1:].min() >= 1
        assert dataset.item_tokens.max() < dataset.vocab_size == 1 + (num_levels + 1) * 4
        assert len(dataset.item_tokens.unique(dim=0)) == 6
        positions = [set(column.tolist()) for column in dataset.item_tokens[1:].T]
        assert sum(map(len, positions)) == len(set.union(*positions))

    def test_another_split_shares_the_tokens_and_encodes_nothing_again(self, tmp_path, fake_encoder):
        base = shop(tmp_path)
        train = SequenceDataset(base, "train", tokenizer())
        val = train.for_split("val")
        assert (train.split, val.split) == ("train", "val")
        assert self.samples(val) == self.samples(SequenceDataset(base, "val", tokenizer()))
        assert val.code_table is train.code_table
        assert len(fake_encoder.encoded) == 1

    def test_an_rqvae_keeps_its_mode(self, tmp_path, fake_encoder):
        encoder = tokenizer().train()
        SequenceDataset(shop(tmp_path), "test", encoder)
        assert encoder.training

    def test_features_of_another_width_are_refused(self, tmp_path, fake_encoder):
        with pytest.raises(ValueError, match="takes 32 features, but the items have 768"):
            SequenceDataset(shop(tmp_path), "test", tokenizer(input_dim=32))

    def test_an_unknown_split_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="must be train, val or test, got 'all'"):
            SequenceDataset(shop(tmp_path), "all")

    def test_histories_too_short_to_train_on_are_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys.modules[__name__], "SEQUENCES", {"x": "abc", "y": "bca"})
        with pytest.raises(ValueError, match="no history is long enough for a window of 'train'"):
            SequenceDataset(shop(tmp_path), "train")
