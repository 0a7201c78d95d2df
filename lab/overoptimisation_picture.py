"""The curves of `lab.overoptimisation` as SVG: win rates over version 0 against the KL to the base, an arm a panel."""

from collections.abc import Sequence
from html import escape

from lab.overoptimisation import ARMS, stopped
from lab.overoptimisation_study import Point

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 330, 240, 60, 64, 70
_LINES = {"proxy": ("optimizer's reward", "#b9770e"), "judge": ("judge", "#3a6ea5"), "gold": ("gold", "#2d7d46")}


def picture(points: Sequence[Point]) -> str:
    """Both panels with the same axes; a dashed line where the gate first said no."""
    largest = max(1.0, *(point.kl_to_base for point in points))
    width = _LEFT + len(ARMS) * (_WIDTH + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_TOP + _HEIGHT + 60}" width="{width}" '
        f'height="{_TOP + _HEIGHT + 60}" font-family="system-ui, sans-serif" font-size="12" role="img" '
        'aria-label="Win rates over version 0 against KL to the base, by a biased and an honest reward model">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend(),
    ]
    for number, arm in enumerate(ARMS):
        parts += _panel(points, arm, _LEFT + number * (_WIDTH + _GAP), largest)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    found = []
    for number, (name, colour) in enumerate(_LINES.values()):
        x = _LEFT + 150 * number
        found.append(f'<line x1="{x}" y1="18" x2="{x + 22}" y2="18" stroke="{colour}" stroke-width="2.5"/>')
        found.append(f'<text x="{x + 28}" y="22" fill="#1d232b">{escape(name)}</text>')
    return found


def _panel(points: Sequence[Point], arm: str, left: float, largest: float) -> list[str]:
    own = [point for point in points if point.arm == arm]

    def place(kl: float, share: float) -> tuple[float, float]:
        return round(left + _WIDTH * kl / largest, 1), round(_TOP + _HEIGHT * (1 - share), 1)

    found = [f'<text x="{left}" y="{_TOP - 14}" font-weight="600" fill="#1d232b">{escape(arm)} reward model</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = place(0, share)
        dark = "#5b6472" if share == 0.5 else "#dde1e6"
        found.append(f'<line x1="{x}" y1="{y}" x2="{x + _WIDTH}" y2="{y}" stroke="{dark}"/>')
        found.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end" fill="#5b6472">{share:.2f}</text>')
    for number in range(5):
        x, y = place(largest * number / 4, 0)
        found.append(
            f'<text x="{x}" y="{y + 18}" text-anchor="middle" fill="#5b6472">{largest * number / 4:.1f}</text>'
        )
    x, y = place(largest / 2, 0)
    found.append(f'<text x="{x}" y="{y + 38}" text-anchor="middle" fill="#5b6472">KL to the base, nats</text>')
    for name, (_, colour) in _LINES.items():
        marks = [place(0, 0.5), *(place(point.kl_to_base, getattr(point, name)) for point in own)]
        joined = " ".join(f"{x},{y}" for x, y in marks)
        found.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        found += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in marks[1:]]
    return found + _stop(points, arm, place)


def _stop(points: Sequence[Point], arm: str, place: object) -> list[str]:
    at = stopped(points, arm)
    if at is None:
        return []
    assert callable(place)
    (x, top), (_, bottom) = place(at.kl_to_base, 1.0), place(at.kl_to_base, 0.0)
    return [
        f'<line x1="{x}" y1="{top}" x2="{x}" y2="{bottom}" stroke="#b3261e" stroke-dasharray="5 4"/>',
        f'<text x="{x + 5}" y="{bottom - 6}" fill="#b3261e">blocked</text>',
    ]
