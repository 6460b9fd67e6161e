"""A package as it is read: its manifest, its models, its catalogue."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from genrec.errors import UserError
from genrec.serving.catalogue import AGAIN, Catalogue
from genrec.serving.folder import MANIFEST, resolved
from genrec.serving.packaging import ARGUMENTS, FORMAT, TOKENIZER, WEIGHTS, Origin, PackagedModel

# what a package names is imported: nothing but networks of the project
NETWORKS = ("genrec.networks.", "genrec.ranking.ranker.", "genrec.codes.tokenizer.rqvae.")


@dataclass(frozen=True)
class Package:
    """A folder that `write_package` wrote.

    Attributes:
        models: by name; the first answers where none is named.
        networks: `module.Class` by the folder of its weights.
        n_beams: of the searches, as in the evaluation.
        version: changes with every file of the package.
        data: of the histories; packages of equal data can be compared user by user.
        n_trained: how many items models were trained on; those of higher item_ids came later.
        origin: how items became codes.
    """

    folder: Path
    models: Mapping[str, PackagedModel]
    networks: Mapping[str, str]
    n_beams: int
    version: str
    data: str
    n_trained: int
    origin: Origin

    @classmethod
    def open(cls, folder: Path) -> "Package":
        """Read the manifest.

        Args:
            folder: a package, or packages of which `current` names one.

        Raises:
            UserError: the folder is no package, or one of another format.
        """
        folder = resolved(folder)
        file = folder / MANIFEST
        if not file.is_file():
            raise UserError(f"{file} not found; run `dvc repro package`, which makes it, or name another folder")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise UserError(f"{file} has format {content['format']}, but this version reads {FORMAT}; {AGAIN}")
            models = {each["name"]: PackagedModel.read(each) for each in content["models"]}
            return cls(
                folder, models, dict(content["networks"]), int(content["n_beams"]), str(content["version"]),
                str(content["data"]), int(content["n_trained"]), Origin(**content["origin"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as damage:
            if isinstance(damage, UserError):
                raise
            raise UserError(f"{file} is no manifest of a package ({damage}); {AGAIN}") from None

    @property
    def default(self) -> str:
        return next(iter(self.models))

    def model_named(self, name: str | None) -> PackagedModel:
        """The entry of a name, or the first for None.

        Raises:
            UserError: there is none.
        """
        if name is None:
            return self.models[self.default]
        if name not in self.models:
            raise UserError(f"no model named {name!r} in {self.folder}; it has {', '.join(self.models)}")
        return self.models[name]

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue.load(self.folder)

    @property
    def code_num(self) -> int:
        """Codes a level of the tokenizer."""
        return int(self.network_arguments(TOKENIZER)["num_embeddings"])

    def network_arguments(self, name: str) -> dict[str, Any]:
        """Those of the constructor of a folder's network."""
        from genrec.storage.checkpoint import network_arguments

        arguments = json.loads((self.folder / name / ARGUMENTS).read_text(encoding="utf-8"))
        return network_arguments(self._kind(name), arguments)

    def _kind(self, name: str) -> Any:
        module, _, kind = self.networks[name].rpartition(".")
        if not f"{module}.".startswith(NETWORKS):
            raise UserError(
                f"{self.folder / MANIFEST}: a network must be of {NETWORKS[0]}*, got {self.networks[name]!r}"
            )
        return getattr(import_module(module), kind)

    def load_network(self, name: str) -> Any:
        """The network of a folder with its weights, on the CPU, in eval mode.

        Raises:
            UserError: its files are missing, or are of another network or catalogue.
        """
        from safetensors import SafetensorError  # with torch, which who reads the catalogue alone does without
        from safetensors.torch import load_file

        folder, kind = self.folder / name, self.networks[name].rpartition(".")[2]
        for part in (ARGUMENTS, WEIGHTS):
            if not (folder / part).is_file():
                raise UserError(f"{folder / part} not found; {AGAIN}")
        try:
            arguments = self.network_arguments(name)
            built = self._kind(name)(**arguments)
            built.load_state_dict(load_file(folder / WEIGHTS), strict=True)
        except UserError:
            raise
        except (SafetensorError, RuntimeError, ImportError, AttributeError, TypeError, ValueError) as mistake:
            reason = str(mistake).splitlines()[0]
            raise UserError(f"{folder} holds no {kind} ({reason}); {AGAIN}") from mistake
        n_items = arguments.get("n_items", self.catalogue.n_items)  # a tokenizer is of no catalogue
        if n_items not in (self.catalogue.n_items, self.n_trained):
            raise UserError(f"{folder} is of {n_items} items, not {self.catalogue.n_items}; {AGAIN}")
        return built.eval()
