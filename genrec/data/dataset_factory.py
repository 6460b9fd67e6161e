"""Data sets by name: a data set of one's own is registered once and then made like those that come with genrec."""

from typing import Any, ClassVar

from genrec.data.base_dataset import BaseRecommenderDataset, ItemDataset, SequenceDataset
from genrec.data.p5_amazon import P5AmazonDataset, P5AmazonItemDataset, P5AmazonSequenceDataset


class DatasetFactory:
    """Makes data sets from a name and their settings.

    Example:
        >>> DatasetFactory.list_datasets()
        ['p5_amazon']
        >>> DatasetFactory.get_dataset_info("p5_amazon")["item"].__name__
        'P5AmazonItemDataset'
    """

    _registered: ClassVar[dict[str, dict[str, type]]] = {
        "p5_amazon": {"base": P5AmazonDataset, "item": P5AmazonItemDataset, "sequence": P5AmazonSequenceDataset}
    }

    @classmethod
    def register_dataset(
        cls,
        name: str,
        base_class: type[BaseRecommenderDataset],
        item_class: type[ItemDataset],
        sequence_class: type[SequenceDataset],
    ) -> None:
        """Give three classes of a data set a name.

        Raises:
            ValueError: the name is another data set's.
        """
        classes: dict[str, type] = {"base": base_class, "item": item_class, "sequence": sequence_class}
        if cls._registered.setdefault(name, classes) != classes:
            raise ValueError(f"a data set named {name!r} is registered already; choose another name")

    @classmethod
    def list_datasets(cls) -> list[str]:
        """The names, sorted."""
        return sorted(cls._registered)

    @classmethod
    def get_dataset_info(cls, name: str) -> dict[str, type]:
        """The classes of a data set: `base`, `item` and `sequence`.

        Raises:
            ValueError: no data set has this name.
        """
        if name not in cls._registered:
            raise ValueError(f"no data set named {name!r}; known: {', '.join(cls.list_datasets())}")
        return dict(cls._registered[name])

    @classmethod
    def create_base_dataset(cls, name: str, *, root: str, **settings: Any) -> BaseRecommenderDataset:
        """Interactions and items.

        Args:
            settings: further fields of the data set's config, such as `split`.
        """
        base_class: type[BaseRecommenderDataset] = cls.get_dataset_info(name)["base"]
        return base_class(base_class.config_class(root_dir=root, **settings))

    @classmethod
    def create_item_dataset(cls, name: str, **settings: Any) -> ItemDataset:
        """A sample an item.

        Args:
            settings: the class's own arguments, such as `root`, `split`, `train_test_split`.
        """
        dataset: ItemDataset = cls.get_dataset_info(name)["item"](**settings)
        return dataset

    @classmethod
    def create_sequence_dataset(cls, name: str, **settings: Any) -> SequenceDataset:
        """A sample a window of a user's history.

        Args:
            settings: the class's own arguments, such as `root`, `split`, `train_test_split`, `pretrained_rqvae_path`.
        """
        dataset: SequenceDataset = cls.get_dataset_info(name)["sequence"](**settings)
        return dataset
