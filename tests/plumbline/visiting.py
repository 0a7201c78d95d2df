"""A browser without an API key: its cookie jar, and the token that it sends along."""

import time
from typing import Any

import httpx
import redis

from core import keys


class Visitor:
    """One session on one replica: `Visitor(replica.url)` is let in at once."""

    def __init__(self, url: str, **headers: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=30, headers=headers)
        self.answer = self.begin()
        session = self.answer.json() if self.answer.status_code == 200 else {}
        self.rater: str = session.get("rater", "")
        self.csrf: str = session.get("csrf", "")

    def begin(self) -> httpx.Response:
        return self.client.post("/page/session", json={})

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"x-csrf-token": self.csrf} | options.pop("headers", {})
        return self.client.request(method, path, headers=headers, **options)

    def chat(self, content: str = "A dog is", **fields: Any) -> httpx.Response:
        body = {"model": "assistant", "messages": [{"role": "user", "content": content}], "max_tokens": 4}
        return self.send("POST", "/v1/chat/completions", json=body | fields)

    def vote(self, completion: str, **fields: Any) -> httpx.Response:
        body = {"target": {"type": "completion", "id": completion}, "kind": "thumb", "value": 1}
        return self.send("POST", "/v1/feedback", json=body | fields)


def leave(client: redis.Redis, counted_as: str, bucket: str, left: int) -> None:
    """Has a bucket hold so much and gain nothing for an hour, however slow the machine is."""
    client.hset(keys.quota(counted_as), mapping={bucket: left, f"{bucket}_at": time.time() + 3600})
