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
    code, status, title = "model_not_allowed", 403, "The tier does not allow this quality"


class ModelRetired(ModelRefused):
    code, status, title = "model_retired", 410, "The model is retired"
