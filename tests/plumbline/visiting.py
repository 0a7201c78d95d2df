"""A browser without an API key: its cookie jar, and the token that it sends along."""

import time
from typing import Any

import httpx
import redis

from core import keys
from feedback import invitations
from tests.plumbline.replicas import Deployment


class Visitor:
    """One browser on one replica: `Visitor(replica.url)` is let in at once, by an invitation if there is one."""

    def __init__(self, url: str, *, invitation: str | None = None, **headers: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=30, headers=headers)
        self.rater, self.csrf = "", ""
        self.answer = self.begin() if invitation is None else self.follow(invitation)

    def begin(self, **asked: object) -> httpx.Response:
        answer = self.client.post("/page/session", json=asked)
        if answer.status_code == 200:
            self.rater, self.csrf = answer.json()["rater"], answer.json()["csrf"]
        return answer

    def follow(self, invitation: str, *, accept: bool = True) -> httpx.Response:
        return self.begin(invitation=invitation, accept=accept)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"x-csrf-token": self.csrf} | options.pop("headers", {})
        return self.client.request(method, path, headers=headers, **options)

    def chat(self, content: str = "A dog is", **fields: Any) -> httpx.Response:
        body = {"model": "assistant", "messages": [{"role": "user", "content": content}], "max_tokens": 4}
        return self.send("POST", "/v1/chat/completions", json=body | fields)

    def vote(self, completion: str, **fields: Any) -> httpx.Response:
        body = {"target": {"type": "completion", "id": completion}, "kind": "thumb", "value": 1}
        return self.send("POST", "/v1/feedback", json=body | fields)


def invitation(deployment: Deployment, rater: str, *, days: int = 30) -> str:
    """What a link says behind its `#invitation=`."""
    it = invitations.invite(deployment.store.client(), rater, days=days, actor="test")
    return invitations.link(invitations.signing_key(deployment.secret), it).removeprefix("/tasks#invitation=")


def leave(client: redis.Redis, counted_as: str, bucket: str, left: int) -> None:
    """Has a bucket hold so much and gain nothing for an hour, however slow the machine is."""
    client.hset(keys.quota(counted_as), mapping={bucket: left, f"{bucket}_at": time.time() + 3600})
