"""Plots as SVG: bars that are compared line by line, and latencies on a logarithmic scale.

Each line of bars has a scale of its own, from nothing to the longest of its bars, so that requests
a second and gibibytes a second stand on one page; the figures are written at the bars. A yardstick
that is longer ends in an arrow. A thin line shows the least and the most of the rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 900, 190, 150
BAR, GAP, TOP, FOOT = 13, 9, 40, 34
COLOURS: Final = ("#1f6feb", "#9a9a9a", "#d98200", "#2f9e58", "#8250df", "#c0392b")
FONT: Final = "font-family='DejaVu Sans, Verdana, sans-serif'"


@dataclass(frozen=True)
class Bar:
    """`least` and `most` of the rounds; `parts`: where the bar is cut into shades; `beside`: it is
    a yardstick, whose length sets no scale."""

    series: str
    value: float
    least: float
    most: float
    text: str
    parts: tuple[float, ...] = ()
    beside: bool = False


@dataclass(frozen=True)
class Dots:
    """Percentiles of one series, in milliseconds, in rising order."""

    series: str
    values_ms: tuple[float, ...]


def digits(value: float) -> str:
    """Three digits, or the whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bars(title: str, note: str, lines: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """A picture of lines of bars: (name, bars)."""
    names = _series([bar.series for _, line in lines for bar in line])
    body, y = [], TOP
    for name, line in lines:
        height = BAR * len(line)
        body.append(_text(LEFT - 8, y + height / 2 + 4, name, "end"))
        scale = (WIDTH - LEFT - RIGHT) / max(1e-12, *(bar.most for bar in line if not bar.beside))
        for bar in line:
            body += _bar(bar, y, scale, names[bar.series])
            y += BAR
        y += GAP
    return _picture(title, note, names, body, y)


def _bar(bar: Bar, y: int, scale: float, colour: str) -> list[str]:
    drawn, at, text = [], float(LEFT), bar.text
    if bar.most * scale > WIDTH - LEFT - RIGHT:
        drawn.append(_arrow(y, colour))
        return [*drawn, _text(WIDTH - RIGHT + 12, y + BAR - 3, text, "start", 10)]
    for number, part in enumerate(bar.parts or (bar.value,)):
        opacity = 1.0 if number == 0 else 0.55
        drawn.append(
            f"<rect x='{at:.1f}' y='{y + 1}' width='{part * scale:.1f}' height='{BAR - 2}' "
            f"fill='{colour}' fill-opacity='{opacity}'/>"
        )
        at += part * scale
    middle = y + BAR / 2
    drawn.append(
        f"<path d='M{LEFT + bar.least * scale:.1f} {middle}H{LEFT + bar.most * scale:.1f}' "
        "stroke='#222' stroke-width='1'/>"
    )
    end = LEFT + max(bar.value, bar.most) * scale + 6
    return [*drawn, _text(end, y + BAR - 3, text, "start", 10)]


def _arrow(y: int, colour: str) -> str:
    """A bar that is longer than there is room."""
    right, half = WIDTH - RIGHT, BAR / 2
    return (
        f"<path d='M{LEFT} {y + 1}H{right}L{right + 8} {y + half}L{right} {y + BAR - 1}H{LEFT}Z' "
        f"fill='{colour}' fill-opacity='0.5'/>"
    )


def latencies(title: str, note: str, lines: Sequence[tuple[str, Sequence[Dots]]]) -> str:
    """A picture of percentiles: (name, series)."""
    names = _series([dots.series for _, line in lines for dots in line])
    values = [one for _, line in lines for dots in line for one in dots.values_ms if one > 0]
    low = math.floor(math.log10(min(values, default=1.0)))
    high = max(math.ceil(math.log10(max(values, default=10.0))), low + 1)
    width = WIDTH - LEFT - RIGHT

    def place(value_ms: float) -> float:
        return LEFT + width * (math.log10(max(value_ms, 10.0**low)) - low) / (high - low)

    body, y = [], TOP
    for name, line in lines:
        body.append(_text(LEFT - 8, y + BAR * len(line) / 2 + 4, name, "end"))
        for dots in line:
            middle, colour = y + BAR / 2, names[dots.series]
            first, last = place(dots.values_ms[0]), place(dots.values_ms[-1])
            body.append(f"<path d='M{first:.1f} {middle}H{last:.1f}' stroke='{colour}'/>")
            body += [
                f"<circle cx='{place(one):.1f}' cy='{middle}' r='{4 - number}' fill='{colour}'/>"
                for number, one in enumerate(dots.values_ms)
            ]
            text = " / ".join(digits(one) for one in dots.values_ms)
            body.append(_text(last + 8, y + BAR - 3, f"{text} ms", "start", 10))
            y += BAR
        y += GAP
    for power in range(low, high + 1):
        x = place(10.0**power)
        body.insert(0, f"<path d='M{x:.1f} {TOP - 4}V{y}' stroke='#ddd'/>")
        body.append(_text(x, y + 12, f"{10.0**power:g} ms", "middle", 10))
    return _picture(title, note, names, body, y + 12)


def _series(found: Sequence[str]) -> dict[str, str]:
    """A colour for each."""
    names = list(dict.fromkeys(found))
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-size='{size}'"
    return f"<text {place}>{escape(text)}</text>"


def _picture(title: str, note: str, names: dict[str, str], body: list[str], bottom: int) -> str:
    legend, x, y = [], float(LEFT), bottom + 8
    for name, colour in names.items():
        wide = 34 + 6.6 * len(name)
        if x + wide > WIDTH and x > LEFT:
            x, y = float(LEFT), y + 18
        legend.append(f"<rect x='{x:.1f}' y='{y}' width='11' height='11' fill='{colour}'/>")
        legend.append(_text(x + 16, y + 10, name, "start", 11))
        x += wide
    height = y + FOOT + 10
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' "
            f"width='{WIDTH}' height='{height}' {FONT} fill='#222'>",
            f"<rect width='{WIDTH}' height='{height}' fill='#fff'/>",
            _text(LEFT, 22, title, "start", 15),
            *legend,
            *body,
            _text(LEFT, height - 10, note, "start", 10),
            "</svg>\n",
        ]
    )
