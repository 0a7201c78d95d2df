"""What an application does with LangChain's ChatOpenAI; prints one JSON object that the test looks at.

Arguments: base URL of the API. Runs in an interpreter that has langchain-openai.
"""

import json
import sys
from typing import Any, Literal

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Oslo", "Rome"]


def main(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": "none", "model": "assistant", "max_retries": 0}
    model = ChatOpenAI(**options, max_tokens=8, stream_usage=True)
    turns = [SystemMessage("Be brief."), HumanMessage("A dog is"), AIMessage("a pet."), HumanMessage("A cat is")]
    whole = model.invoke(turns)
    chunks = list(model.stream(turns))
    streamed = chunks[0]
    for chunk in chunks[1:]:
        streamed += chunk
    longer = ChatOpenAI(**options, max_tokens=200)
    called = longer.bind_tools([Weather], tool_choice="Weather").invoke("Weather in Oslo?")
    structured = longer.with_structured_output(Weather, method="json_schema")
    return {
        "whole": [whole.response_metadata["model_name"], whole.usage_metadata["output_tokens"]],
        "fingerprint": whole.response_metadata["system_fingerprint"],
        "streamed": [
            streamed.text == "".join(chunk.text for chunk in chunks),
            streamed.usage_metadata["output_tokens"],
        ],
        "called": [called.tool_calls[0]["name"], called.tool_calls[0]["args"]["city"]],
        "structured": structured.invoke("Weather in Rome?").city,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
