"""The one exception for mistakes that a user can mend; everything else is a bug and keeps its traceback."""


class UserError(ValueError):
    """Wrong input: its single line names the rule, the value, the place and the way out."""
