"""The settings of data sets: checked when made, the same in every process."""

import dataclasses

import pytest

from genrec.data.configs import DataProcessingConfig, DatasetConfig, P5AmazonConfig, SequenceConfig, TextEncodingConfig


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextEncodingConfig(batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: TextEncodingConfig(max_length=-1), "max_length must be at least 1, got -1"),
        (lambda: SequenceConfig(max_seq_length=0), "max_seq_length must be at least 1, got 0"),
        (lambda: SequenceConfig(min_seq_length=2), "min_seq_length must be at least 3, got 2"),
        (lambda: DataProcessingConfig(min_user_interactions=0), "min_user_interactions must be at least 1, got 0"),
        (lambda: DataProcessingConfig(min_item_interactions=0), "min_item_interactions must be at least 1, got 0"),
        (lambda: DataProcessingConfig(train_ratio=0.8), "must be positive and sum to 1, got (0.8, 0.15, 0.15)"),
        (lambda: DataProcessingConfig(0, 0), "min_user_interactions must be at least 1"),
        (
            lambda: DataProcessingConfig(train_ratio=1.1, val_ratio=-0.2, test_ratio=0.1),
            "must be positive and sum to 1, got (1.1, -0.2, 0.1)",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_rule(make, message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        make()
    assert message in str(refusal.value)


def test_a_config_can_not_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DatasetConfig("root").split = "other"


def test_each_config_has_parts_of_its_own_defaults():
    config = P5AmazonConfig("root")
    assert (config.split, config.sequence_config.max_seq_length) == ("beauty", 50)
    assert config.text_config == TextEncodingConfig()
    assert DatasetConfig("root").split == "default"


class TestCacheKey:
    def test_is_hexadecimal_and_known(self):
        key = TextEncodingConfig().get_cache_key("beauty")
        assert len(key) == 64
        assert int(key, 16) > 0

    def test_differs_with_everything_that_shapes_an_embedding(self):
        text = TextEncodingConfig()
        keys = [
            text.get_cache_key("beauty"),
            text.get_cache_key("toys"),
            text.get_cache_key("beauty", "another/model"),
            TextEncodingConfig(template="{title}").get_cache_key("beauty"),
            TextEncodingConfig(max_length=64).get_cache_key("beauty"),
            TextEncodingConfig(normalize_embeddings=False).get_cache_key("beauty"),
        ]
        assert len(set(keys)) == 6

    def test_does_not_follow_what_shapes_none(self):
        key = TextEncodingConfig().get_cache_key("beauty")
        assert TextEncodingConfig(batch_size=1, device="cuda", cache_dir="x").get_cache_key("beauty") == key

    def test_of_the_model_given_by_name_is_that_of_a_config_with_it(self):
        assert TextEncodingConfig().get_cache_key("toys", "m") == TextEncodingConfig("m").get_cache_key("toys")


class TestFormatText:
    def test_fills_the_template(self):
        item = {"title": "Lacquer", "brand": "OPI", "categories": [["Beauty", "Nails"]], "price": 12.0, "more": 1}
        assert TextEncodingConfig().format_text(item) == (
            "Title: Lacquer; Brand: OPI; Categories: Beauty, Nails; Price: 12.0"
        )

    def test_calls_what_an_item_lacks_unknown(self):
        assert TextEncodingConfig(template="{title}, {brand}").format_text({"brand": None}) == "Unknown, Unknown"


class TestSplitIndices:
    @pytest.mark.parametrize(("size", "sizes"), [(20, [14, 3, 3]), (100, [70, 15, 15]), (3, [2, 1, 0]), (0, [0, 0, 0])])
    def test_are_cut_by_the_ratios(self, size, sizes):
        assert [len(part) for part in DataProcessingConfig().get_split_indices(size)] == sizes

    def test_are_a_partition(self):
        parts = DataProcessingConfig().get_split_indices(101)
        assert sorted(index for part in parts for index in part) == list(range(101))

    def test_follow_the_seed(self):
        first, again = (DataProcessingConfig(random_seed=1).get_split_indices(50) for _ in range(2))
        assert first == again
        assert DataProcessingConfig(random_seed=2).get_split_indices(50) != first
        assert first[0] != sorted(first[0])
