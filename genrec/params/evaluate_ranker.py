"""How rankers order."""

from genrec.params.types import Weight, section


@section
class EvaluateRanker:
    rating_weight: Weight
