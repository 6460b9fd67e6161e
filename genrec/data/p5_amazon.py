"""P5's Amazon data sets (Geng et al. 2022, arXiv 2203.13366): beauty, sports and toys of 2014, filtered to 5-core.

    root/raw/beauty/sequential_data.txt   `user item item ...` a line, oldest first, by P5's numbers
    root/raw/beauty/datamaps.json         `item2id`: Amazon's key of an item (its ASIN) to P5's number
    root/raw/beauty/meta.json.gz          an item a line: asin, title, brand, categories, price ...

Only the sequences are needed for item_ids; the other two, for texts.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from genrec.data.base_dataset import BaseRecommenderDataset, ItemDataset, SequenceDataset
from genrec.data.configs import P5AmazonConfig
from genrec.data.manifest import Layout, Manifest, RawFile
from genrec.data.readers import read_interactions, read_items
from genrec.errors import UserError
from genrec.storage.files import user_path

if TYPE_CHECKING:
    from genrec.models.rqvae import RqVae

SEQUENCES = "sequential_data.txt"
NUMBERS = "datamaps.json"
ITEMS = "meta.json.gz"
MANIFEST = Manifest(
    "p5_amazon",
    RawFile(SEQUENCES, "", Layout("sequences")),
    RawFile(ITEMS, "", Layout("json_lines", {"item_key": "asin"})),
)


class P5AmazonDataset(BaseRecommenderDataset):
    """One of P5's Amazon data sets.

    An item_key is P5's number of the item. While nothing is filtered and P5 counts from 1, as it does in its own
    files, that is its item_id too.

    Raises:
        UserError: a file is missing, or the files do not belong together.
    """

    config_class = P5AmazonConfig

    def read_interactions(self) -> pd.DataFrame:
        return read_interactions(self._folder_with(SEQUENCES), MANIFEST)

    def read_items(self, item_keys: pd.Series) -> pd.DataFrame:
        """The metadata of these items: item_key, asin and Amazon's own columns as text."""
        numbers = self._numbers
        unknown = sorted(set(item_keys) - set(numbers))
        if unknown:
            raise UserError(
                f"{NUMBERS} lacks {len(unknown)} items of {SEQUENCES}, such as {unknown[0]!r};"
                " take both from the same archive"
            )
        asins = item_keys.map(numbers)
        table = read_items(self._folder_with(ITEMS), MANIFEST, asins).rename(columns={"item_key": "asin"})
        keys = table["asin"].map(dict(zip(asins, item_keys, strict=True)))
        return pd.concat([keys.rename("item_key"), table], axis=1)

    @cached_property
    def _numbers(self) -> dict[str, str]:
        """P5's number of an item to its ASIN."""
        file = self._folder_with(NUMBERS) / NUMBERS
        try:
            content = json.loads(file.read_bytes())
        except ValueError as mistake:
            raise UserError(f"{file} must be JSON ({mistake}); fetch it again") from mistake
        if not isinstance(content, dict) or not isinstance(content.get("item2id"), dict):
            raise UserError(f"{file} must hold an object `item2id` of ASINs and numbers; fetch it again")
        return {str(number): asin for asin, number in content["item2id"].items()}

    def _folder_with(self, name: str) -> Path:
        """The split's folder, if it has the file."""
        raw = user_path(self.config.root_dir, "root") / "raw"
        file = raw / self.config.split / name
        if not file.is_file():
            present = sorted(folder.name for folder in raw.iterdir() if folder.is_dir()) if raw.is_dir() else []
            raise UserError(
                f"{file} not found ({raw} has {', '.join(present) or 'nothing'}); unpack P5's preprocessed data, which"
                f" github.com/jeykigung/P5 links to, so that its folder {self.config.split} lies in {raw}, or give"
                " another root or split"
            )
        return file.parent


class P5AmazonItemDataset(ItemDataset):
    """The items of one of P5's Amazon data sets.

    Args:
        root: the folder that holds raw/.
        split: the category.
        train_test_split: "all", "train", "val" or "test" of the items, drawn at random.
        settings: further fields of `P5AmazonConfig`: embeddings_path, text_config, processing_config, ...
    """

    def __init__(
        self,
        root: str,
        split: str = "beauty",
        train_test_split: str = "all",
        return_text: bool = False,
        **settings: Any,
    ) -> None:
        base_dataset = P5AmazonDataset(P5AmazonConfig(root_dir=root, split=split, **settings))
        super().__init__(base_dataset, train_test_split, return_text)


class P5AmazonSequenceDataset(SequenceDataset):
    """The users' sequences of one of P5's Amazon data sets.

    Args:
        root: the folder that holds raw/.
        split: the category.
        train_test_split: "train", "val" or "test" of each user's sequence, by leave-one-out.
        pretrained_rqvae_path: an RqVae, whose codes become the tokens: its checkpoint, or the folder that its
            `save_pretrained` wrote; None: item_ids are the tokens.
        settings: further fields of `P5AmazonConfig`; those of texts and embeddings must be the RqVae's own.
    """

    def __init__(
        self,
        root: str,
        split: str = "beauty",
        train_test_split: str = "train",
        pretrained_rqvae_path: str | None = None,
        **settings: Any,
    ) -> None:
        base_dataset = P5AmazonDataset(P5AmazonConfig(root_dir=root, split=split, **settings))
        super().__init__(base_dataset, train_test_split, _load_rqvae(pretrained_rqvae_path))


def _load_rqvae(path: str | None) -> "RqVae | None":
    if path is None:
        return None
    from genrec.models.rqvae import RqVae
    from genrec.storage.checkpoint import load_folder, load_model  # here: without an RqVae no need for Lightning

    place = user_path(path, "pretrained_rqvae_path")
    if not place.exists():
        raise UserError(f"{place} not found; train an RqVae there, as `python -m genrec.trainers.rqvae` does")
    return load_folder(RqVae, place) if place.is_dir() else load_model(RqVae, place)
