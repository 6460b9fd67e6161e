"""Does what docs/extending.md says: each of its code blocks names a file, and what becomes of it."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


@dataclass(frozen=True)
class Edit:
    """A code block.

    Attributes:
        file: relative to the project.
        action: "" for a new file, else `append`, or `before` or `after` an anchor, in a stage's entry or in the file.
    """

    file: str
    action: str
    text: str

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        if not self.action:
            assert not path.exists(), f"{self.file} is there already"
            path.write_text(self.text, encoding="utf-8")
            return
        content = path.read_text(encoding="utf-8")
        if self.action == "append":
            path.write_text(f"{content}\n\n{self.text}", encoding="utf-8")
            return
        match = re.fullmatch(r'(?:in (\w+) )?(before|after) "(.*)"', self.action)
        assert match, self.action
        stage, side, anchor = match.groups()
        start = content.index(f"\n  {stage}:\n") if stage else 0
        place = content.find(anchor, start)
        assert place >= 0, f"{self.file} holds no {anchor!r}"
        if side == "after":
            place += len(anchor)
            text = self.text.rstrip("\n")
        else:
            text = self.text
        path.write_text(content[:place] + text + content[place:], encoding="utf-8")


def edits_of(section: str) -> list[Edit]:
    """The edits under a heading of the page, in their order."""
    text = PAGE.read_text(encoding="utf-8")
    body = re.split(r"^## ", text, flags=re.MULTILINE)
    (found,) = [part for part in body if part.startswith(f"{section}\n")]
    blocks = re.findall(r"^```\w+ (\S+)(?: ([^\n]+))?\n(.*?)^```$", found, flags=re.MULTILINE | re.DOTALL)
    return [Edit(file, action, content) for file, action, content in blocks]
