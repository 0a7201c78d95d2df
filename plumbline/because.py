"""Why somebody acts: what the admin listener asks of whoever changes something, for the audit trail."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints


class Because(BaseModel):
    """Why; kept in the audit trail."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
