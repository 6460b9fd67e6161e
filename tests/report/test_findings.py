"""What items are called, and whether numbers are times."""

import numpy as np
import pandas as pd

from genrec.report.findings import item_names, known_times


def test_a_column_of_titles_names_items_and_the_key_those_without():
    items = pd.DataFrame({"item_key": ["a", "b"], "brand_name": ["x", "y"], "movie_title": ["Heat", None]})
    assert item_names(items) == (["", "Heat", "b"], True)


def test_without_titles_items_have_their_keys():
    assert item_names(pd.DataFrame({"item_key": ["a"], "class": ["Drama"]})) == (["", "a"], False)


def test_places_in_a_file_are_no_times():
    assert known_times(np.array([0, 3, 1]), rows_read=4) is None
    assert known_times(np.array([5, 5]), rows_read=2) is None
    assert known_times(np.array([5, 6]), rows_read=2) is not None
