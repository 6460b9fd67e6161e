"""P5's files become items and sequences with known answers; what is missing or mixed up is named."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from p5_files import HISTORIES, N_ITEMS, N_USERS, metadata, write_metadata, write_p5

from genrec.data.configs import DataProcessingConfig, P5AmazonConfig, TextEncodingConfig
from genrec.data.p5_amazon import P5AmazonDataset, P5AmazonItemDataset, P5AmazonSequenceDataset
from genrec.errors import UserError
from genrec.models.rqvae import RqVae
from genrec.storage.checkpoint import save_model


def base(root, **settings):
    return P5AmazonDataset(P5AmazonConfig(str(root), **settings))


class TestFiles:
    def test_item_ids_and_histories_are_p5_s_own(self, p5_root):
        histories = base(p5_root).histories
        assert (histories.n_users, histories.n_items) == (N_USERS, N_ITEMS)
        assert histories.items.reshape(N_USERS, -1).tolist() == list(HISTORIES.values())

    def test_numbers_are_ordered_as_numbers(self, tmp_path):
        # as text 10 would come before 9
        histories = {user: list(range(1, 13)) for user in range(1, 6)}
        items = base(write_p5(tmp_path, histories), embeddings_path="unused").prepared.items
        assert items["item_key"].tolist() == [str(number) for number in range(1, 13)]

    def test_files_that_count_from_0_hide_no_item_behind_padding(self, tmp_path):
        histories = {user: [item - 1 for item in items] for user, items in HISTORIES.items()}
        dataset = base(write_p5(tmp_path, histories))
        assert dataset.n_items == N_ITEMS
        assert dataset.histories.items.min() == 1
        assert dataset.prepared.items["item_key"][0] == "0"

    def test_the_item_table_has_amazon_s_columns_in_the_order_of_item_ids(self, p5_root):
        items = base(p5_root).items
        assert items["asin"].tolist() == [f"B00{item}" for item in range(1, 9)]
        assert items["title"].tolist() == [f"Lacquer {item}" for item in range(1, 9)]
        assert items["price"].tolist() == [str(item + 0.5) for item in range(1, 9)]

    def test_a_text_follows_the_template_and_says_what_is_unknown(self, p5_root):
        assert base(p5_root).item_texts[:2] == [
            "Title: Lacquer 1; Brand: Unknown; Categories: Beauty, Nails, Gifts; Price: 1.5",
            "Title: Lacquer 2; Brand: Brand 2; Categories: Beauty, Nails, Gifts; Price: 2.5",
        ]

    def test_an_item_without_metadata_is_unknown_throughout(self, tmp_path):
        root = write_p5(tmp_path, items=metadata()[:-2])
        text = base(root, text_config=TextEncodingConfig(template="{title}")).item_texts
        assert text == ["Unknown"] + [f"Lacquer {item}" for item in range(2, 9)]

    def test_the_core_is_filtered_as_the_config_says(self, p5_root):
        # 6 interactions an item: nothing is left of a core of 7
        with pytest.raises(UserError, match="no interaction is left"):
            base(p5_root, processing_config=DataProcessingConfig(5, 7)).n_items  # noqa: B018

    def test_sequences_alone_are_enough_for_item_ids(self, p5_root):
        for name in ("datamaps.json", "meta.json.gz"):
            (p5_root / "raw" / "beauty" / name).unlink()
        assert len(P5AmazonSequenceDataset(str(p5_root))) == N_USERS * 3

    def test_sequences_and_features_are_enough_for_items(self, p5_root, tmp_path):
        for name in ("datamaps.json", "meta.json.gz"):
            (p5_root / "raw" / "beauty" / name).unlink()
        np.save(tmp_path / "e.npy", np.ones((N_ITEMS + 1, 4), np.float32))
        assert P5AmazonItemDataset(str(p5_root), embeddings_path=str(tmp_path / "e.npy"))[0]["features"].shape == (4,)


class TestMistakes:
    def message(self, act):
        with pytest.raises(UserError) as refusal:
            act()
        message = str(refusal.value)
        assert "\n" not in message
        return message

    def test_absent_files_say_where_they_were_sought_and_where_they_come_from(self, tmp_path):
        message = self.message(lambda: P5AmazonItemDataset(str(tmp_path / "none")))
        assert message.startswith(f"{tmp_path}/none/raw/beauty/sequential_data.txt not found")
        assert "github.com/jeykigung/P5" in message

    def test_a_category_that_is_not_there_lists_those_that_are(self, p5_root):
        write_p5(p5_root, split="toys")
        assert "raw has beauty, toys)" in self.message(lambda: P5AmazonSequenceDataset(str(p5_root), split="books"))

    @pytest.mark.parametrize("name", ["datamaps.json", "meta.json.gz"])
    def test_a_file_that_texts_need_is_named(self, p5_root, name):
        (p5_root / "raw" / "beauty" / name).unlink()
        assert f"raw/beauty/{name} not found" in self.message(lambda: base(p5_root).items)

    @pytest.mark.parametrize(
        ("content", "rule"),
        [(b"{", "must be JSON"), (b"[]", "must hold an object `item2id`"), (b"{}", "must hold an object `item2id`")],
    )
    def test_a_damaged_map_of_numbers_is_named(self, p5_root, content, rule):
        (p5_root / "raw" / "beauty" / "datamaps.json").write_bytes(content)
        assert rule in self.message(lambda: base(p5_root).items)

    def test_a_map_of_other_items_is_refused(self, p5_root):
        file = p5_root / "raw" / "beauty" / "datamaps.json"
        maps = json.loads(file.read_text())
        del maps["item2id"]["B003"]
        file.write_text(json.dumps(maps))
        assert "lacks 1 items of sequential_data.txt, such as '3'" in self.message(lambda: base(p5_root).items)

    def test_metadata_of_another_category_are_refused(self, p5_root):
        write_metadata(p5_root / "raw" / "beauty", [{"asin": "B999", "title": "Wrench"}])
        with pytest.raises(ValueError, match="has none of the 8 items"):
            base(p5_root).items  # noqa: B018

    def test_metadata_that_end_early_are_named(self, p5_root):
        file = p5_root / "raw" / "beauty" / "meta.json.gz"
        file.write_bytes(file.read_bytes()[:-20])
        assert "ends before its gzip stream does" in self.message(lambda: base(p5_root).items)

    def test_a_user_without_items_is_named_with_its_line(self, p5_root):
        file = p5_root / "raw" / "beauty" / "sequential_data.txt"
        file.write_text(file.read_text() + "99\n")
        assert "line 9: must hold a user and its items" in self.message(lambda: base(p5_root).n_items)

    def test_an_unknown_setting_is_named(self, p5_root):
        with pytest.raises(TypeError, match="unexpected keyword argument 'embedding_path'"):
            P5AmazonItemDataset(str(p5_root), embedding_path="e.npy")


class TestItems:
    def test_have_a_vector_an_item_of_768_dimensions(self, p5_root, fake_encoder):
        dataset = P5AmazonItemDataset(str(p5_root))
        assert len(dataset) == N_ITEMS
        assert dataset[0]["features"].shape == (768,)
        assert fake_encoder.made == [("sentence-transformers/sentence-t5-base", None)]

    def test_a_split_holds_its_share(self, p5_root, fake_encoder):
        sizes = [len(P5AmazonItemDataset(str(p5_root), train_test_split=name)) for name in ("train", "val", "test")]
        assert sizes == [6, 1, 1]

    def test_the_cache_lies_beside_the_raw_files(self, p5_root, fake_encoder):
        for _ in range(2):
            P5AmazonItemDataset(str(p5_root), return_text=True)
        assert len(fake_encoder.encoded) == 1
        assert len(list((p5_root / "cache" / "text_embeddings").glob("*.npy"))) == 1

    def test_two_categories_do_not_share_a_cache_entry(self, p5_root, fake_encoder):
        write_p5(p5_root, split="toys")
        for split in ("beauty", "toys"):
            P5AmazonItemDataset(str(p5_root), split=split)
        assert len(fake_encoder.encoded) == 2


class TestSequences:
    def test_by_item_ids_are_the_windows_of_leave_one_out(self, p5_root):
        train = P5AmazonSequenceDataset(str(p5_root))
        first = [train[0], train.for_split("val")[0], train.for_split("test")[0]]
        assert [sample["input_ids"].tolist() for sample in first] == [[1], [1, 2, 3, 4], [1, 2, 3, 4, 5]]
        assert [sample["labels"].tolist() for sample in first] == [[2], [5], [6]]

    def test_with_an_rqvae_item_3_has_the_tokens_of_its_codes(self, p5_root, tmp_path, fake_encoder):
        torch.manual_seed(0)
        model = RqVae(768, 16, 8, num_embeddings=16, num_levels=2)
        save_model(model, tmp_path / "rqvae.ckpt")
        dataset = P5AmazonSequenceDataset(str(p5_root), pretrained_rqvae_path=str(tmp_path / "rqvae.ckpt"))
        codes = model.semantic_codes(dataset.base_dataset.item_features[3:4])[0].tolist()
        collision = int(dataset.code_table[3, 2])
        assert dataset[1]["labels"].tolist() == [1 + codes[0], 17 + codes[1], 33 + collision]
        assert dataset[1]["input_ids"].shape == (6,)

    @pytest.mark.filterwarnings(
        "ignore:.*but have no `val_dataloader`.*",
        "ignore:.*does not have many workers.*",
        "ignore:.*The number of training batches.*",
    )
    def test_a_checkpoint_of_lightning_s_own_is_read_too(self, p5_root, tmp_path, fake_encoder):
        model = RqVae(768, 16, 8, num_embeddings=16, num_levels=2)
        items = torch.utils.data.DataLoader(P5AmazonItemDataset(str(p5_root)), batch_size=8)
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, items)
        trainer.save_checkpoint(tmp_path / "rqvae.ckpt")
        dataset = P5AmazonSequenceDataset(str(p5_root), pretrained_rqvae_path=str(tmp_path / "rqvae.ckpt"))
        features = dataset.base_dataset.item_features[1:]
        assert torch.equal(dataset.code_table[1:, :2].long(), model.semantic_codes(features))

    def test_the_folder_of_a_saved_rqvae_gives_the_tokens_of_its_checkpoint(self, p5_root, tmp_path, fake_encoder):
        model = RqVae(768, 16, 8, num_embeddings=16, num_levels=2)
        save_model(model, tmp_path / "rqvae.ckpt")
        model.save_pretrained(tmp_path / "rqvae")
        tables = [
            P5AmazonSequenceDataset(str(p5_root), pretrained_rqvae_path=str(tmp_path / name)).code_table
            for name in ("rqvae.ckpt", "rqvae")
        ]
        assert torch.equal(*tables)

    def test_a_checkpoint_that_is_none_is_named(self, p5_root, tmp_path):
        (tmp_path / "rqvae.ckpt").write_bytes(b"")
        with pytest.raises(UserError, match="is not a checkpoint of RqVae"):
            P5AmazonSequenceDataset(str(p5_root), pretrained_rqvae_path=str(tmp_path / "rqvae.ckpt"))


def test_metadata_in_strict_json_give_the_same_items(tmp_path):
    first, second = write_p5(tmp_path / "literals"), write_p5(tmp_path / "json")
    lines = "".join(json.dumps(item) + "\n" for item in metadata())
    (second / "raw" / "beauty" / "meta.json.gz").write_bytes(gzip.compress(lines.encode()))
    pd.testing.assert_frame_equal(base(first).items, base(second).items)
