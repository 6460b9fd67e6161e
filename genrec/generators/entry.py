"""What an entry of the list of generators says, and the list."""

import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import genrec.generators
from genrec.errors import UserError


@dataclass(frozen=True)
class GeneratorEntry:
    """A model that ranks the catalogue for a user: how stages, rankers, report and tracking name it and find it.

    Attributes:
        name: `train_<name>` and `evaluate_<name>` are its stages, and `train_<name>` its section of params.yaml.
        title: what people read.
        place: its row in tables, from above; each has its own.
        network: the class, as `module.Class`, that its checkpoint loads into; it has `max_history`, and by `ranks`
        ranks: `scores`: its `scores(history)` rates all items; `beams`: its `generator` searches.
        code_table: whose codes describe items to the ranker of its candidates; None: it proposes none.
    """

    name: str
    title: str
    place: int
    network: str
    ranks: Literal["scores", "beams"]
    code_table: Path | None

    @property
    def checkpoint(self) -> Path:
        return Path(f"data/models/{self.name}.ckpt")

    @property
    def metrics(self) -> Path:
        return Path(f"reports/evaluate_{self.name}/metrics.json")

    @property
    def intervals(self) -> Path:
        return Path(f"reports/evaluate_{self.name}/intervals.json")

    @property
    def ranks_file(self) -> Path:
        """Where each user's rank is, which models are compared by."""
        return Path(f"data/ranks/{self.name}.npz")

    @property
    def curves(self) -> Path:
        return Path(f"reports/train_{self.name}/history.csv")

    @property
    def audit_file(self) -> Path:
        """Where its search stands beside exact scoring; only of one that ranks by beams."""
        return Path(f"data/audits/{self.name}.npz")

    @property
    def with_memory_name(self) -> str:
        """Of its distribution mixed with the memory of transitions."""
        return f"{self.name}_with_memory"

    @property
    def best_signal_name(self) -> str:
        """Of its candidates in the order of the one signal of the ranker that orders them best."""
        return f"{self.name}_best_signal"

    def described_by(self) -> Path:
        """The code table of one that proposes candidates."""
        assert self.code_table is not None, f"{self.name} proposes no candidates"
        return self.code_table

    @property
    def ranked_name(self) -> str:
        """Of its candidates in a ranker's order."""
        return f"{self.name}_ranked"

    def network_class(self) -> Any:
        """Import the network, and nothing that trains it."""
        module, _, name = self.network.rpartition(".")
        return getattr(import_module(module), name)


@cache
def generators() -> tuple[GeneratorEntry, ...]:
    """All entries, by their place.

    Raises:
        ValueError: two have one name or one place.
    """
    entries = sorted((module.ENTRY for module in entry_modules()), key=lambda entry: entry.place)
    for what in ("name", "place"):
        values = [getattr(entry, what) for entry in entries]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(
                f"each file of genrec/generators must have a {what} of its own, but {twice!r} stands twice"
            )
    return tuple(entries)


def proposing_generators() -> tuple[GeneratorEntry, ...]:
    """Those whose lists are a ranker's candidates."""
    return tuple(entry for entry in generators() if entry.code_table is not None)


def generator_named(name: str) -> GeneratorEntry:
    """The entry of a name.

    Raises:
        UserError: there is none.
    """
    known = {entry.name: entry for entry in generators()}
    if name not in known:
        raise UserError(f"no generator named {name!r}; known: {', '.join(known)}; each is a file of genrec/generators/")
    return known[name]


def entry_modules() -> list[ModuleType]:
    """The modules of this folder that hold an entry."""
    names = sorted(found.name for found in pkgutil.iter_modules(genrec.generators.__path__))
    modules = [import_module(f"genrec.generators.{name}") for name in names]
    return [module for module in modules if hasattr(module, "ENTRY")]
