"""The committed OpenAPI documents say what the code says."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from plumbline import openapi
from plumbline.openapi import Listener
from tests import warm

ROOT = Path(__file__).parents[2]
FILES: dict[Listener, str] = {"public": "openapi.json", "admin": "openapi-admin.json"}
METHODS = {"get", "post", "patch", "delete", "put"}
document = cache(openapi.document)


@pytest.mark.parametrize("listener", FILES)
def test_committed_document_is_the_codes(listener: Listener) -> None:
    """Who changes the API commits its document: `python -m plumbline.openapi public > docs/openapi.json`."""
    assert (ROOT / "docs" / FILES[listener]).read_text() == openapi.text(listener)


@pytest.mark.parametrize("listener", FILES)
def test_every_refusal_has_openais_shape(listener: Listener) -> None:
    """Each operation says so of 4XX and 5XX, and names no other error: FastAPI's 422 is not ours."""
    found = document(listener)
    operations = [(path, method) for path, each in found["paths"].items() for method in METHODS & set(each)]
    assert operations
    for path, method in operations:
        responses = found["paths"][path][method]["responses"]
        assert {status for status in responses if status[0] in "45"} == {"4XX", "5XX"}, (method, path)
        for status in ("4XX", "5XX"):
            schema = responses[status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorBody"}, (method, path)
    assert set(found["components"]["schemas"]) & {"HTTPValidationError", "ValidationError"} == set()


def test_operations_have_names_of_their_own() -> None:
    """Generated clients name their functions after them."""
    for listener in FILES:
        paths = document(listener)["paths"]
        names = [each[method]["operationId"] for each in paths.values() for method in METHODS & set(each)]
        assert len(set(names)) == len(names)


def test_who_may_chat_may_do_the_rest() -> None:
    """A person's id is as long in votes, consent and erasure as in chats: else they could not be erased."""
    public, admin = document("public"), document("admin")
    schemas = public["components"]["schemas"]
    [erased] = admin["paths"]["/v1/users/{rater_id}"]["delete"]["parameters"]
    [consenting] = public["paths"]["/v1/raters/{rater_id}/consent"]["post"]["parameters"]
    lengths = {
        schemas["RaterBody"]["properties"]["id"]["maxLength"],
        schemas["TaskRater"]["properties"]["id"]["maxLength"],
    }
    lengths |= {erased["schema"]["maxLength"], consenting["schema"]["maxLength"]}
    [longest] = [
        each["maxLength"] for each in schemas["ChatBody"]["properties"]["user"]["anyOf"] if "maxLength" in each
    ]
    assert lengths == {longest}


def test_it_takes_neither_torch_nor_vllm_nor_redis() -> None:
    """It runs where only the light libraries are; a wrong word is one line."""
    code = "import sys\nfrom plumbline import openapi\nopenapi.text('public')\nopenapi.text('admin')\n"
    code += "print(*sorted({'torch', 'vllm', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    wrong = warm.run("plumbline.openapi", "x")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
