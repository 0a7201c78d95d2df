"""Text that every store can hold: JSON can spell half a surrogate pair, which is no Unicode."""

from typing import Annotated

from pydantic import AfterValidator


def encodable(text: str) -> str:
    """The text itself. Raises ValueError: it is not valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(encodable)]
