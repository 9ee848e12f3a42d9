"""Use over time as an SVG: one panel for each load, one line for each who was put under it. No dependencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from ops.bench.strict.endpoint import MINUTE_S, Record

WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM = 860, 240, 56, 24, 72, 34
LEGEND_COLUMNS = 3
MEAN_S = 10
"""Each point is the mean of so many seconds."""
MOST_PERCENT = 200
"""Where a panel ends above; what goes beyond is cut off there."""
INK = "#7d8590"
"""Readable on white and on black, as are the lines."""
COLOURS = ("#1f9d76", "#d97a2b", "#b08a1e", "#c2528b", "#5b8dd9")


def plot(panels: Mapping[str, Mapping[str, Record]]) -> str:
    """Draw records: by the panel's title, then by whose they are (in the order of the colours)."""
    whose = list(dict.fromkeys(name for records in panels.values() for name in records))
    colours = dict(zip(whose, COLOURS, strict=False))
    height = TOP + PANEL * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" fill="{INK}">',
        *_legend(colours),
    ]
    for place, (title, records) in enumerate(panels.items()):
        parts += _panel(TOP + place * PANEL, title, records, colours)
    return "\n".join([*parts, "</svg>", ""])


def _legend(colours: Mapping[str, str]) -> list[str]:
    title = f"share of the limit used, means of {MEAN_S} s; cut off at {MOST_PERCENT} %"
    parts = [f'<text x="{LEFT}" y="16">{title}</text>']
    across = (WIDTH - LEFT) / LEGEND_COLUMNS
    for place, (name, colour) in enumerate(colours.items()):
        at, line = LEFT + place % LEGEND_COLUMNS * across, 36 + 18 * (place // LEGEND_COLUMNS)
        parts.append(f'<path d="M{at:.0f} {line - 4}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{at + 24:.0f}" y="{line}">{escape(name)}</text>')
    return parts


def _panel(top: int, title: str, records: Mapping[str, Record], colours: Mapping[str, str]) -> list[str]:
    high = PANEL - BOTTOM - 24
    base = top + 24 + high
    seconds = max((record.seconds for record in records.values()), default=0) or 1
    since = max((record.since for record in records.values()), default=0)

    def x(second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * second / seconds

    def y(percent: float) -> float:
        return base - high * min(percent, MOST_PERCENT) / MOST_PERCENT

    parts = [f'<text x="{LEFT}" y="{top + 14}" font-weight="bold">{escape(title)}</text>']
    for percent in (0, 50, 100, 150, 200):
        dash = "" if percent in (0, 100) else ' stroke-dasharray="2 4"'
        strong = 1.5 if percent == 100 else 0.5
        parts.append(
            f'<path d="M{LEFT} {y(percent):.1f}H{WIDTH - RIGHT}" stroke="{INK}" stroke-width="{strong}"{dash}/>'
        )
        name = "limit" if percent == 100 else f"{percent} %"
        parts.append(f'<text x="{LEFT - 8}" y="{y(percent) + 4:.1f}" text-anchor="end">{name}</text>')
    step = MINUTE_S if seconds >= 2 * MINUTE_S else max(1, seconds // 5)
    parts.extend(
        f'<text x="{x(second):.1f}" y="{base + 18}" text-anchor="middle">{second} s</text>'
        for second in range(0, seconds + 1, step)
    )
    parts.append(f'<path d="M{x(since):.1f} {base}V{top + 24}" stroke="{INK}" stroke-width="0.5"/>')
    parts.append(f'<text x="{x(since) + 4:.1f}" y="{top + 38}">measured from here</text>')
    for name, record in reversed([*records.items()]):  # the first lies on top
        points = " ".join(f"{x(second):.1f},{y(percent):.1f}" for second, percent in _means(record))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="1.8"/>')
    return parts


def _means(record: Record) -> Sequence[tuple[float, float]]:
    """The middle of each stretch, and the share of the limit used in it, in percent."""
    counted = record.counted[record.load.bound_by]
    per_s = record.load.limit / MINUTE_S
    step = min(MEAN_S, max(1, len(counted)))
    return [
        (at + step / 2, 100 * sum(counted[at : at + step]) / (step * per_s))
        for at in range(0, len(counted) - step + 1, step)
    ]
