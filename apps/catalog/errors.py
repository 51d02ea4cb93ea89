"""Why a model cannot be had. Each names the `model` field and the models that could be asked for instead."""

from collections.abc import Sequence

from apps.core.errors import DomainError


class ModelRefused(DomainError):
    def __init__(self, detail: str, *, alternatives: Sequence[str], field: str = "model") -> None:
        error = {"field": field, "message": detail, "code": self.code}
        super().__init__(detail, errors=[error], alternatives=list(alternatives))


class ModelNotFound(ModelRefused):
    code, status, title = "model_not_found", 404, "There is no such model"


class ModelNotAllowed(ModelRefused):
    code, status, title = "model_not_allowed", 403, "The tier does not allow this model"


class ModelNotLicensed(ModelRefused):
    code, status, title = "model_not_licensed", 422, "The licence of the model does not allow this use"


class ModelRetired(ModelRefused):
    code, status, title = "model_retired", 410, "The model is retired"


class RequirementsNotMet(ModelRefused):
    code, status, title = "requirements_not_met", 422, "No model meets the requirements"


class QuoteRefused(DomainError):
    """Names the `quote_id` field."""

    def __init__(self, detail: str) -> None:
        error = {"field": "quote_id", "message": detail, "code": self.code}
        super().__init__(detail, errors=[error])


class QuoteExpired(QuoteRefused):
    code, status, title = "quote_expired", 422, "There is no such quote any more"


class QuoteMismatch(QuoteRefused):
    code, status, title = "quote_mismatch", 422, "The quote is for another request"
