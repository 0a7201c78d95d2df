"""What the tests of the feedback API send, and how they read an error."""

from httpx import Response

COMPLETION = {"type": "completion", "id": "chatcmpl-1"}
COMPARISON = {"type": "comparison", "id": "cmp_1"}
THUMB = {"target": COMPLETION, "kind": "thumb", "value": 1}
PREFERENCE = {"target": COMPARISON, "kind": "preference", "value": "a"}
RANKING = {"target": COMPARISON, "kind": "ranking", "value": [["b"], ["a", "d"], ["c"]]}


def error_of(response: Response) -> tuple[int, str | None, str | None]:
    """Status, code and param; nothing but OpenAI's error shape passes."""
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"], error["param"]
