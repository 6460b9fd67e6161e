"""Embeddings of words: what counts as one, what its weight is, items without any, and sources side by side."""

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from genrec.data.words import embed_words, has_words, item_categories, item_words, join_embeddings
from genrec.errors import UserError

TITLES = ["red nail lacquer", "blue nail lacquer", "red lip balm", "blue lip balm", "shaving foam", "shaving brush"]


def items(**columns):
    return pd.DataFrame(columns)


def similarities(embeddings):
    vectors = embeddings.vectors[1:].astype(np.float64)
    return vectors @ vectors.T


def test_with_all_dimensions_products_of_vectors_are_those_of_tf_idf():
    table = items(title=TITLES)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2)
    weights = vectorizer.fit_transform(TITLES).toarray()
    np.testing.assert_allclose(similarities(embed_words(table, ["title"], 6, seed=0)), weights @ weights.T, atol=1e-6)


def test_no_pair_of_words_reaches_from_one_column_into_the_next():
    apart = items(title=["nail lacquer", "hair lacquer", "lip balm"], brand=["red", "red", "red"])
    joined = items(title=[f"{title} red" for title in apart["title"]])
    assert embed_words(joined, ["title"], 3, seed=0).vectors.shape == (4, 3)  # lacquer, red, lacquer red
    with pytest.raises(UserError, match="2 words and pairs"):
        embed_words(apart, ["title", "brand"], 3, seed=0)


def test_a_column_that_stands_twice_counts_twice():
    table = items(
        title=["red lacquer", "blue lacquer", "red balm", "blue balm"], brand=["acme", "bolt", "bolt", "acme"]
    )
    once = similarities(embed_words(table, ["title", "brand"], 4, seed=0))
    twice = similarities(embed_words(table, ["title", "brand", "brand"], 4, seed=0))
    # weights of 1, 1 and 1, then 1, 1 and 2: of three words that are equally rare the brand is a third, then 4 / 6
    assert once[0, 3] == pytest.approx(1 / 3, abs=1e-6)
    assert twice[0, 3] == pytest.approx(4 / 6, abs=1e-6)


@pytest.mark.parametrize("nothing", [None, "", "  ", float("nan"), "[]", "unheard-of"])
def test_an_item_without_words_that_others_share_is_zero_and_counted(nothing):
    embeddings = embed_words(items(title=[*TITLES, nothing]), ["title"], 3, seed=0)
    assert embeddings.n_without == 1
    assert (embeddings.vectors[-1] == 0).all()
    assert (embeddings.vectors[1:-1] != 0).any(axis=1).all()


def test_row_0_is_padding():
    embeddings = embed_words(items(title=TITLES), ["title"], 3, seed=0)
    assert embeddings.vectors.shape == (7, 3)
    assert embeddings.vectors.dtype == np.float32
    assert (embeddings.vectors[0] == 0).all()


def test_lists_of_categories_read_as_their_members():
    lists = items(categories=['[["Beauty", "Nails"]]', '[["Beauty", "Nails"]]', '[["Beauty"]]'])
    plain = items(categories=["Beauty, Nails", "Beauty, Nails", "Beauty"])
    np.testing.assert_array_equal(
        embed_words(lists, ["categories"], 2, seed=0).vectors, embed_words(plain, ["categories"], 2, seed=0).vectors
    )


def test_equal_seeds_give_equal_bytes_and_each_dimension_is_positive_where_it_is_largest():
    first, second = (embed_words(items(title=TITLES), ["title"], 4, seed=3).vectors for _ in range(2))
    assert first.tobytes() == second.tobytes()
    sizes = np.abs(first)
    assert (first[(sizes >= sizes.max(axis=0) * (1 - 1e-6)).argmax(axis=0), np.arange(4)] > 0).all()


def test_a_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(UserError, match="no column 'titel'; it has title"):
        embed_words(items(title=TITLES), ["titel"], 2, seed=0)


@pytest.mark.parametrize(("titles", "limit"), [(TITLES, 6), (["a b"] * 3, 0), (["foam"] * 3, 1)])
def test_more_dimensions_than_words_make_are_refused_with_the_limit(titles, limit):
    with pytest.raises(UserError, match=rf"make at most {limit} dimensions .* got dim=7"):
        embed_words(items(title=titles), ["title"], 7, seed=0)


def source(*rows):
    return np.array([[0.0] * len(rows[0]), *rows], np.float32)


def test_sources_side_by_side_are_equally_loud():
    quiet, loud = source([0.01, 0.0], [-0.01, 0.0]), source([0.0, 100.0], [0.0, 300.0])
    joined = join_embeddings([quiet, loud])
    np.testing.assert_allclose(joined, source([1, 0, 0, -1], [-1, 0, 0, 1]), atol=1e-6)


def test_within_a_source_a_large_dimension_stays_large():
    joined = join_embeddings([source([3.0, 1.0], [-3.0, -1.0])])
    np.testing.assert_allclose(joined[1] / joined[1, 1], [3, 1], rtol=1e-6)


def test_an_item_that_a_source_does_not_know_has_its_mean_and_does_not_move_it():
    joined = join_embeddings([source([1.0], [0.0], [3.0])])
    np.testing.assert_allclose(joined, source([-1.0], [0.0], [1.0]), atol=1e-6)


def test_a_source_that_says_the_same_of_all_items_says_nothing():
    np.testing.assert_array_equal(join_embeddings([source([2.0], [2.0])]), source([0.0], [0.0]))


def test_no_columns_stand_for_all_but_the_ids():
    table = items(item_id=range(1, 7), item_key=[f"same words {n}" for n in range(6)], title=TITLES, brand=["acme"] * 6)
    chosen, all_of_them = (embed_words(table, columns, 3, seed=0).vectors for columns in (["title", "brand"], []))
    assert (chosen == all_of_them).all()


def test_a_table_of_ids_alone_has_no_words():
    table = items(item_id=[1, 2, 3], item_key=["red lacquer", "red balm", "red lacquer"])
    with pytest.raises(UserError, match=r"need an item table, .* give fetch_data\.items_path, or do without"):
        embed_words(table, [], 2, seed=0)
    assert not has_words(table, 2)


@pytest.mark.parametrize(("dim", "is_enough"), [(6, True), (7, False)])
def test_a_table_has_words_enough_for_as_many_dimensions_as_items_and_shared_words_allow(dim, is_enough):
    assert has_words(items(item_id=range(1, 7), title=TITLES), dim) == is_enough


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("genres", ["Film-Noir|Sci-Fi", "Sci-Fi", None]),
        ("class", ["Film-Noir Sci-Fi", "Sci-Fi", ""]),
        ("categories", ['[["Film-Noir", "Sci-Fi"], ["Sci-Fi"]]', '["Sci-Fi"]', "[]"]),
        ("category", ["Film-Noir, Sci-Fi", "Sci-Fi", None]),
    ],
)
def test_categories_are_told_apart_as_the_table_does(column, values):
    found = item_categories(pd.DataFrame({"item_id": [1, 2, 3], "movie_title": ["a", "b", "c"], column: values}))
    assert found.toarray().tolist() == [[False, False], [True, True], [False, True], [False, False]]


def test_numbers_of_clusters_are_categories():
    assert item_categories(pd.DataFrame({"cluster": [2, 0, 2]})).toarray()[1:, 1].tolist() == [True, False, True]


@pytest.mark.parametrize("columns", [{}, {"title": ["a", "b"]}, {"class": [None, None]}])
def test_a_table_without_categories_has_none(columns):
    assert item_categories(pd.DataFrame({"item_id": [1, 2], **columns})) is None


def test_words_are_those_of_all_columns_but_the_ids():
    table = pd.DataFrame(
        {"item_id": [1, 2], "item_key": ["key", "other"], "title": ["Red, red balm", None], "year": [1995, 7]}
    )
    assert item_words(table).toarray().tolist() == [[False] * 3, [True] * 3, [False] * 3]  # 1995, balm, red
    assert item_words(table[["item_id", "item_key"]]) is None
