"""The one exception for mistakes that a user can mend; everything else is a bug and keeps its traceback."""


class UserError(ValueError):
    """Wrong input: its single line names the rule, the value, the place and the way out.

    What a file holds may stand in it, so line ends and what commands a terminal are spelled out.
    """

    def __init__(self, line: str) -> None:
        shown = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
        super().__init__("".join(shown))
