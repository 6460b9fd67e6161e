"""What cannot change a result."""

from genrec.params.types import Rate, Switch, section


@section
class Runtime:
    """What cannot change a result: no stage depends on it."""

    progress_bar: Switch
    memory_gb: Rate
