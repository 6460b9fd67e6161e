"""The regression from words, and the frozen words themselves."""

import numpy as np
import pandas as pd

from genrec.add_items.encoding import Regression
from genrec.data.words import WordModel, embed_words


def test_what_is_a_linear_function_of_the_words_is_found_again():
    random = np.random.default_rng(0)
    words, weights = random.normal(size=(80, 5)), random.normal(size=(5, 3))
    predict = Regression(words, words @ weights + 2.0)
    new = random.normal(size=(9, 5))
    assert np.allclose(predict(new), new @ weights + 2.0, atol=1e-4)


def test_what_has_nothing_to_do_with_the_words_is_predicted_near_its_mean():
    random = np.random.default_rng(0)
    words, noise = random.normal(size=(60, 30)), random.normal(size=(60, 8))
    predicted = Regression(words, noise)(random.normal(size=(200, 30)))
    assert np.square(predicted - noise.mean(0)).mean() < 0.2


def test_a_known_item_gets_its_own_vector_and_words_of_nobody_get_none():
    items = pd.DataFrame({"title": [f"colour{i % 3} shape{i % 4} size{i % 5}" for i in range(30)]})
    model = WordModel.fit(items, ["title"], 4, seed=0)
    assert np.array_equal(model.known.vectors, embed_words(items, ["title"], 4, seed=0).vectors)
    again = model.vectors(items.iloc[[7, 3]])
    assert np.allclose(again, model.known.vectors[[8, 4]], atol=1e-6)
    assert not model.vectors(pd.DataFrame({"title": ["nothing known", None]})).any()
