"""What rankers get to reorder."""

from genrec.params.types import Positive, section


@section
class GenerateCandidates:
    n_candidates: Positive
