"""Do the answers have the shapes that the OpenAPI document promises?"""

import json
from typing import Any

from pydantic import BaseModel


def conforms(shape: type[BaseModel], body: dict[str, Any]) -> bool:
    """Raises ValidationError unless `body` has exactly the fields of `shape`, each of its type."""
    shape.model_validate_json(json.dumps(body), strict=True, extra="forbid")
    return True
