"""What a PromQL expression names: no tool of Prometheus says so, so this takes the language apart as far as needed.

`selectors('sum by (kind) (rate(plumbline_votes_total{result="new"}[5m])) > 0')`
is `[Selector(metric="plumbline_votes_total", labels=("result",))]`.
"""

import re
from dataclasses import dataclass

_GRAFANA = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?(\s*\()?")
_LABEL = re.compile(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "Inf", "NaN"})
_NUMBER = re.compile(r"\b\d[\w.]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Selector:
    metric: str
    labels: tuple[str, ...]


def filled(expression: str) -> str:
    """With values for Grafana's own variables, so that Prometheus can read it."""
    for name, value in _GRAFANA.items():
        expression = expression.replace(name, value)
    return expression


def selectors(expression: str) -> list[Selector]:
    """Every metric that is named, with the labels that it is asked by."""
    bare = _STRING.sub('""', filled(expression))
    for noise in (_RANGE, _GROUPING, _NUMBER):
        bare = noise.sub(" ", bare)
    found = []
    for name, matchers, call in _SELECTOR.findall(bare):
        if name not in _WORDS and not call:
            found.append(Selector(metric=name, labels=tuple(_LABEL.findall(matchers))))
    return found
