"""What users and ops said of look-alikes, pooled by what differed: a kind of difference that proves wrong is not
served any more, whoever asks (after vCache, arXiv 2502.03771: the operator sets the bound, the system keeps it)."""

import math
import uuid

from django.conf import settings
from django.db.models import Count, Q

from apps.caching.models import SemanticMatch

# What the guard's own validation is worth: as many right verdicts for each signature. One wrong verdict takes a
# signature below the default bound until about 150 right ones have come.
_PRIOR_RIGHT = 400
_Z = 1.96


def may_serve(signature: str) -> bool:
    """Whether the error of look-alikes that differ so is below SEMANTIC_MAX_ERROR with 97.5 % confidence."""
    counts = SemanticMatch.objects.filter(signature=signature).aggregate(
        wrong=Count("pk", filter=Q(judged="wrong")), right=Count("pk", filter=Q(judged="right"))
    )
    return (
        upper_bound(counts["wrong"], counts["wrong"] + counts["right"] + _PRIOR_RIGHT)
        <= settings.SEMANTIC_MAX_ERROR
    )


def upper_bound(wrong: int, total: int) -> float:
    """Wilson's score interval (Wilson, 1927), its upper end."""
    share, z2 = wrong / total, _Z * _Z
    centre = share + z2 / (2 * total)
    spread = _Z * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return (centre + spread) / (1 + z2 / total)


def judge(subject_id: uuid.UUID, judged: SemanticMatch.Judged) -> bool:
    """Notes the verdict on the match that answered, or would have answered, the purchase. False: there was none."""
    return bool(SemanticMatch.objects.filter(subject_id=subject_id).update(judged=judged))
