"""A snapshot with rows of every table, and what exports of it hold."""

import json
from pathlib import Path

from feedback import snapshot
from feedback.snapshot import DemonstrationRow, PairRow, PromptRow, RankingRow, RatingRow, Snapshot, ThumbRow

PROMPT = '[{"role":"system","content":"Be brief."},{"role":"user","content":"Was ist ein „Hund“?\\u2028"}]'
MESSAGES = json.loads(PROMPT)
COMMON = {"created_at": 1.0, "cluster": "c", "prompt": PROMPT, "prompt_token_ids": [1], "weight": 0.5, "rater": "ab"}
PAIR = COMMON | {"comparison_id": "cmp_1", "chosen_token_ids": [70, 4], "rejected_token_ids": [71, 4]}
PAIR |= {"chosen_version": 3, "rejected_version": 2, "tie": False, "trains_policy": True}
ONE = COMMON | {"completion_id": "chatcmpl-1", "version": 3}
SAMPLED = ONE | {"completion_token_ids": [70, 4], "completion_text": "Ein Tier.", "fold": "optimize"}


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def pair(name: str, chosen: str, rejected: str, **given: object) -> PairRow:
    fields = PAIR | {"feedback_id": f"fb_{name}", "fold": "optimize", "chosen_text": chosen, "rejected_text": rejected}
    return PairRow(**(fields | given))


def freeze(artifacts: Path) -> Snapshot:
    """Rows of every table. Of the pairs one is a tie, one has an empty side, one equal sides, one tests."""
    pairs = [
        pair("p", "Ein Tier.", "Nein."),
        pair("q", "Ja.", "Nein.", tie=True),
        pair("r", "Ja.", " \n"),
        pair("s", "Ja.", "Ja. "),
        pair("t", "Ja.", "Nein.", fold="test"),
    ]
    thumbs = [
        ThumbRow(**SAMPLED, feedback_id="fb_u", up=False, trains_policy=True),
        ThumbRow(**(SAMPLED | {"completion_text": ""}), feedback_id="fb_v", up=True, trains_policy=True),
    ]
    ranking = {"comparison_id": "cmp_2", "versions": [3] * 3, "ranks": [1, 1, 2], "completion_texts": ["a", "b", "c"]}
    ids = {"completion_token_ids": [[70], [71], [72]]}
    return snapshot.write(
        artifacts / "snapshots",
        pairs=pairs,
        thumbs=thumbs,
        rankings=[RankingRow(**COMMON, **ranking, **ids, feedback_id="fb_w", fold="judge")],
        ratings=[RatingRow(**SAMPLED, feedback_id="fb_x", stars=4)],
        demonstrations=[
            DemonstrationRow(**ONE, feedback_id="fb_y", text="Ein Haustier.", fold="optimize", trains_policy=True)
        ],
        prompts=[PromptRow(cluster="c", fold="optimize", prompt=PROMPT, prompt_token_ids=[1])],
        created=1.0,
        last_event="1-0",
        dropped={},
        live_version=0,
        base_sha256="b",
        tokenizer_sha256="t",
    )


ORIGIN = {"weight": 0.5, "fold": "optimize"}
EXPECTED = {
    "trl-preference": [
        {"prompt": MESSAGES, "chosen": answer("Ein Tier."), "rejected": answer("Nein."), "feedback_id": "fb_p"}
        | ORIGIN,
        {"prompt": MESSAGES, "chosen": answer("Ja."), "rejected": answer("Nein."), "feedback_id": "fb_t"}
        | (ORIGIN | {"fold": "test"}),
    ],
    "trl-kto": [
        {"prompt": MESSAGES, "completion": answer("Ein Tier."), "label": False, "feedback_id": "fb_u"} | ORIGIN,
    ],
    "trl-sft": [{"messages": MESSAGES + answer("Ein Haustier."), "feedback_id": "fb_y"} | ORIGIN],
    "openai-dpo": [
        {
            "input": {"messages": MESSAGES, "tools": [], "parallel_tool_calls": True},
            "preferred_output": answer(chosen),
            "non_preferred_output": answer("Nein."),
        }
        for chosen in ("Ein Tier.", "Ja.")
    ],
}
