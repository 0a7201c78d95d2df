"""The AI rater against a judge and a deployment on real ports."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from core.errors import PlumblineError, UsageError
from feedback import ai_rater
from feedback.schemas import FeedbackRequest

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]


class Judge:
    """Stands in for a third party's model: replies with what `decide` makes of the two answers it is shown."""

    def __init__(self, decide: Callable[[str, str], str], *, models: tuple[str, ...] = ("judge-1",)) -> None:
        self.decide = decide
        self.models = models
        self.headers: dict[str, str] = {}
        self.asked: list[Json] = []

    def app(self) -> FastAPI:
        app = FastAPI()
        app.get("/v1/models")(self.list_models)
        app.post("/v1/chat/completions")(self.chat)
        return app

    async def list_models(self) -> Json:
        return {"data": [{"id": name} for name in self.models]}

    async def chat(self, request: Request, response: Response) -> Json:
        body = await request.json()
        self.asked.append(body)
        response.headers.update(self.headers)
        text = body["messages"][-1]["content"]
        a, b = (text.split(f"<answer_{side}>\n")[1].split("\n</answer")[0] for side in "AB")
        return {"choices": [{"message": {"role": "assistant", "content": self.decide(a, b)}}]}


class Deployment:
    """Stands in for the public API: hands out these answers, and takes votes as the real schema reads them."""

    def __init__(self, *sides: str, finish_reason: str = "stop") -> None:
        self.sides = sides
        self.finish_reason = finish_reason
        self.comparisons: list[Json] = []
        self.votes: list[FeedbackRequest] = []

    def app(self) -> FastAPI:
        app = FastAPI()
        app.post("/v1/comparisons", status_code=201)(self.compare)
        app.post("/v1/feedback", status_code=201)(self.vote)
        return app

    async def compare(self, request: Request) -> Json:
        self.comparisons.append(await request.json())
        sides = [
            {"side": side, "content": text, "finish_reason": self.finish_reason}
            for side, text in zip("ab", self.sides, strict=True)
        ]
        return {"id": f"cmp_{len(self.comparisons)}", "object": "comparison", "created": 1, "sides": sides}

    async def vote(self, body: FeedbackRequest) -> Json:
        self.votes.append(body)
        return {"id": "fb_1"}


@contextmanager
def on_a_port(app: FastAPI) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def rate(judge: Judge, deployment: Deployment, directory: Path, *, prompts: int = 1, allow: bool = False) -> Json:
    """What came of a run of the command's own function."""
    (directory / "prompts.jsonl").write_text("".join(f'{{"prompt": "question {i}"}}\n' for i in range(prompts)))
    with on_a_port(judge.app()) as judge_url, on_a_port(deployment.app()) as url:
        work = ai_rater.run(
            url=url,
            judge_url=f"{judge_url}/v1",
            judge_model="judge-1",
            judge_key=None,
            api_key=None,
            constitution=ROOT / "docs/constitution.yaml",
            prompts=directory / "prompts.jsonl",
            concurrency=2,
            allow_self_judge=allow,
        )
        return dict(asyncio.run(work))


def shorter(a: str, b: str) -> str:
    return "A" if len(a) < len(b) else "B"


@pytest.mark.parametrize(("sides", "expected"), [(("short", "much longer"), "a"), (("much longer", "short"), "b")])
def test_a_judge_that_keeps_its_mind_votes(sides: tuple[str, str], expected: str, tmp_path: Path) -> None:
    """Asked in both orders by the constitution, it prefers one answer: an ordinary vote of an AI."""
    judge, deployment = Judge(shorter), Deployment(*sides)
    assert rate(judge, deployment, tmp_path) == {expected: 1}
    (vote,) = deployment.votes
    assert (vote.target.id, vote.kind, vote.value) == ("cmp_1", "preference", expected)
    assert vote.rater is not None
    assert (vote.rater.id, vote.rater.kind) == ("ai:judge-1", "ai")
    assert deployment.comparisons == [{"messages": [{"role": "user", "content": "question 0"}], "store": True}]
    assert len(judge.asked) == 2
    assert "Prefer the answer that says nothing false" in judge.asked[0]["messages"][0]["content"]
    assert judge.asked[0]["messages"][1] != judge.asked[1]["messages"][1]


def test_a_judge_that_goes_by_the_order_ties(tmp_path: Path) -> None:
    """Always the first one: no preference."""
    deployment = Deployment("one", "other")
    assert rate(Judge(lambda a, b: "A"), deployment, tmp_path, prompts=3) == {"tie": 3}
    assert {vote.value for vote in deployment.votes} == {"tie"}


@pytest.mark.parametrize(
    ("judge", "deployment", "outcome"),
    [
        (Judge(lambda a, b: "Both are fine."), Deployment("one", "other"), "unclear"),
        (Judge(lambda a, b: ""), Deployment("one", "other"), "unclear"),
        (Judge(shorter), Deployment("same", "same"), "identical"),
        (Judge(shorter), Deployment("one", "other", finish_reason="length"), "unfinished"),
    ],
)
def test_what_cannot_be_judged_is_no_vote(judge: Judge, deployment: Deployment, outcome: str, tmp_path: Path) -> None:
    """It is counted, not guessed."""
    assert rate(judge, deployment, tmp_path) == {outcome: 1}
    assert deployment.votes == []


@pytest.mark.parametrize("reply", ["A", " b.", "**A**", "Answer B", "a\n"])
def test_a_letter_however_dressed(reply: str, tmp_path: Path) -> None:
    assert rate(Judge(lambda a, b: reply), Deployment("one", "other"), tmp_path) == {"tie": 1}


@pytest.mark.parametrize(
    ("models", "headers"), [(("assistant", "assistant@v3"), {}), (("judge-1",), {"x-policy-version": "3"})]
)
def test_a_judge_that_is_a_policy_of_ours_is_refused(
    models: tuple[str, ...], headers: dict[str, str], tmp_path: Path
) -> None:
    """By its list of models or by its answers, before a vote is cast; if allowed, the votes say so."""
    judge, deployment = Judge(shorter, models=models), Deployment("one", "other")
    judge.headers = headers
    with pytest.raises(ai_rater.SelfJudged, match="--allow-self-judge"):
        rate(judge, deployment, tmp_path)
    assert deployment.votes == []
    rate(judge, deployment, tmp_path, allow=True)
    assert [vote.rater.kind for vote in deployment.votes if vote.rater] == ["ai_self"]


def test_a_judge_that_is_away_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "x"}\n')
    work = ai_rater.run(
        url="http://127.0.0.1:9",
        judge_url="http://127.0.0.1:9/v1",
        judge_model="m",
        judge_key=None,
        api_key=None,
        constitution=ROOT / "docs/constitution.yaml",
        prompts=tmp_path / "prompts.jsonl",
        concurrency=1,
        allow_self_judge=False,
    )
    with pytest.raises(PlumblineError, match=r"127\.0\.0\.1:9/v1/ does not answer"):
        asyncio.run(work)


@pytest.mark.parametrize("text", ["principles: []", "name: x", "principles: [a", "- a", "principles: [a]\nother: 1"])
def test_a_bad_constitution_is_a_usage_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"c\.yaml"):
        ai_rater.read_constitution(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "row", ["x", '{"prompt": ""}', '{"prompt": []}', '{"prompt": [{"role": "user"}]}', '["prompt"]']
)
def test_a_bad_prompt_is_named(row: str, tmp_path: Path) -> None:
    good = json.dumps({"prompt": [{"role": "user", "content": "hi"}], "id": 7})
    (tmp_path / "p.jsonl").write_text(f"{good}\n{row}\n")
    with pytest.raises(UsageError, match="row 2"):
        ai_rater.read_prompts(tmp_path / "p.jsonl")
