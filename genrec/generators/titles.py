"""What people read where files say a model's name."""

from functools import cache

from genrec.generators.entry import generators

BASELINES = {"popularity": "popularity", "item_knn": "item co-occurrence"}


@cache
def model_titles() -> dict[str, str]:
    """The rows of tables, from above: the baselines, then each generator and its candidates in a ranker's order."""
    titles = dict(BASELINES)
    for generator in generators():
        titles[generator.name] = generator.title
        titles[generator.with_memory_name] = f"{generator.title} with memory"
        if generator.code_table is not None:
            titles[generator.best_signal_name] = f"{generator.title}, best single signal"
            titles[generator.ranked_name] = f"{generator.title}, ranked"
    return titles
