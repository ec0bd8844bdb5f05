"""A run on one page: its curve, its diagnostics, its settings, what is found wrong with it, and a look at its policy.

As a figure, and as one HTML file that needs no other.
"""

import base64
import html
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from torch_ppo.showing.curves import FONT_SIZE, GUIDES, Line, Panel, draw_lines, draw_panel, new_figure, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 13.0  # inches
PANEL_COLUMNS = 4
TEXT_SIZE = 11.0  # points
LINE_HEIGHT = 0.215  # inches
SETTING_WIDTH, FINDING_WIDTH = 42, 54  # characters
MOST_FINDINGS = 6  # on the figure


@dataclass(frozen=True)
class Report:
    """What is on the page.

    title:     a few words
    summary:   lines under it
    curve:     the return over the run
    ylabel:    what the curve shows
    band:      what the band around it is
    columns:   every number of the history by name: (env steps, values)
    settings:  (name, value, default) of those that are not the default
    findings:  what is found wrong, a paragraph each
    frames:    uint8 pictures (height, width, 3) of the policy, with what is under each
    note:      why there are no frames; empty if there are
    """

    title: str
    summary: tuple[str, ...]
    curve: Line
    ylabel: str
    band: str
    columns: dict[str, tuple[list[int], list[float]]]
    settings: tuple[tuple[str, str, str], ...]
    findings: tuple[str, ...]
    frames: tuple[tuple[np.ndarray, str], ...] = ()
    note: str = ""

    @property
    def panels(self) -> list[Panel]:
        return panels_of(self.columns)


def setting_lines(settings: Sequence[tuple[str, str, str]], width: int = SETTING_WIDTH) -> list[str]:
    """`name = value` each, cut to the width."""
    lines = [f"{name} = {value}" for name, value, _ in settings]
    return [line if len(line) <= width else f"{line[: width - 3]}..." for line in lines]


def draw_report(report: Report) -> "Figure":
    """The page as a figure, as high as what is on it."""
    settings = setting_lines(report.settings)
    half = -(-len(settings) // 2)
    told = [*report.findings[:MOST_FINDINGS]]
    if left_out := len(report.findings) - len(told):
        told.append(f"and {left_out} more: torch-ppo doctor has all")
    findings = [line for finding in told for line in textwrap.wrap(finding, FINDING_WIDTH, subsequent_indent="  ")]
    panel_rows = -(-len(report.panels) // PANEL_COLUMNS)
    heights = [
        LINE_HEIGHT * (len(report.summary) + 2.6),
        4.8,
        2.6 * panel_rows,
        LINE_HEIGHT * (max(half, len(findings)) + 3.8),
    ]
    figure = new_figure(WIDTH, sum(heights) + 0.2)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    head, above, middle, below = figure.subfigures(4, 1, height_ratios=[max(height, 0.01) for height in heights])
    write_lines(head, 0.012, [report.title], size=1.6 * FONT_SIZE, weight="bold")
    write_lines(head, 0.012, report.summary, size=0.95 * FONT_SIZE, skip=2.2)

    grid = above.add_gridspec(2, 2, width_ratios=[2.35, 1.0])
    draw_lines(above.add_subplot(grid[:, 0]), [report.curve], title=report.band, ylabel=report.ylabel)
    _draw_frames([above.add_subplot(grid[row, 1]) for row in range(2)], report)

    if panel_rows:
        cells = middle.add_gridspec(panel_rows, PANEL_COLUMNS)
        for number, panel in enumerate(report.panels):
            cell = cells[number // PANEL_COLUMNS, number % PANEL_COLUMNS]
            draw_panel(middle.add_subplot(cell), panel, report.columns)

    mono = {"size": TEXT_SIZE, "family": "monospace"}
    write_lines(below, 0.012, [GUIDES] if panel_rows else [], size=0.85 * FONT_SIZE, color="#555555")
    write_lines(below, 0.012, ["Settings that are not the default"], skip=1.8, size=FONT_SIZE, weight="bold")
    write_lines(below, 0.012, settings[:half], skip=3.0, **mono)
    write_lines(below, 0.305, settings[half:], skip=3.0, **mono)
    write_lines(below, 0.61, ["Findings"], skip=1.8, size=FONT_SIZE, weight="bold")
    write_lines(below, 0.61, findings, skip=3.0, **mono)
    return figure


def write_lines(figure: "Figure", left: float, lines: Sequence[str], *, skip: float = 0.5, **font: object) -> None:
    """Lines of text from the top of a figure, `skip` line heights down. `left` is a share of its width."""
    height = figure.bbox.height / figure.dpi
    for number, line in enumerate(lines):
        top = 1 - (skip + number) * LINE_HEIGHT / height
        figure.text(left, top, line, va="top", parse_math=False, **font)


def _draw_frames(cells: "Sequence[Axes]", report: Report) -> None:
    for cell in cells:
        cell.set_axis_off()
    for cell, (picture, caption) in zip(cells, report.frames, strict=False):
        cell.imshow(picture, interpolation="antialiased")
        cell.set_title(caption, fontsize=0.85 * FONT_SIZE)
    if not report.frames and report.note:
        words = "\n".join(textwrap.wrap(report.note, 44))
        cells[0].text(0.5, 0.5, words, ha="center", va="center", fontsize=0.85 * FONT_SIZE, color="#555555")


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.45 system-ui, sans-serif; color: #222; background: #fff; max-width: 1100px; margin: 2em auto;
  padding: 0 1em; }}
img {{ max-width: 100%; height: auto; }}
.plot {{ overflow-x: auto; }}
.plot img {{ min-width: 38rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ text-align: left; padding: .15em .9em .15em 0; border-bottom: 1px solid #ddd; vertical-align: top; }}
td, li.finding {{ font-variant-numeric: tabular-nums; }}
td:first-child {{ font-family: ui-monospace, monospace; }}
figure {{ display: inline-block; margin: 0 1em 0 0; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def report_html(report: Report) -> str:
    """The page as HTML with its pictures inside: curves as SVG, frames as PNG."""
    parts = [f"<h1>{html.escape(report.title)}</h1>", *(f"<p>{html.escape(line)}</p>" for line in report.summary)]
    curve = new_figure(10.5, 4.4)
    draw_lines(curve.subplots(), [report.curve], title=report.band, ylabel=report.ylabel)
    parts.append(svg_image(curve, report.ylabel))
    if report.frames or report.note:
        parts.append("<h2>Policy</h2>")
    for picture, caption in report.frames:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "png")
        words = html.escape(caption)
        parts.append(f"<figure>{image('png', stream.getvalue(), caption)}<figcaption>{words}</figcaption></figure>")
    if report.note and not report.frames:
        parts.append(f"<p>{html.escape(report.note)}</p>")
    parts += ["<h2>Findings</h2>", "<ul>"]
    parts += [f'<li class="finding">{html.escape(finding)}</li>' for finding in report.findings]
    parts.append("</ul>")
    if report.panels:
        rows = -(-len(report.panels) // 2)
        figure = new_figure(10.5, 3.0 * rows)
        for panel, axes in zip(report.panels, figure.subplots(rows, 2, squeeze=False).flat, strict=False):
            draw_panel(axes, panel, report.columns)
        for axes in figure.axes[len(report.panels) :]:
            axes.set_axis_off()
        parts += ["<h2>Diagnostics</h2>", svg_image(figure, "diagnostics over env steps"), f"<p>{GUIDES}</p>"]
    parts += [
        "<h2>Settings that are not the default</h2>",
        table_html(("setting", "value", "default"), report.settings),
    ]
    return page_html(report.title, parts)


def page_html(title: str, parts: Sequence[str]) -> str:
    """A whole file of pieces of HTML."""
    return PAGE.format(title=html.escape(title), body="\n".join(parts))


def table_html(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return "\n".join(["<table>", *lines, "</table>"])


def svg_image(figure: "Figure", words: str) -> str:
    """A figure as an image that is in the page; as SVG in the page itself, names in two of them would be taken for one."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    # On a narrow screen it is moved sideways, as its words would be too small to read.
    return f'<div class="plot">{image("svg+xml", stream.getvalue(), words)}</div>'


def image(kind: str, content: bytes, words: str) -> str:
    """An image of bytes; `words` are for whoever cannot see it."""
    data = base64.b64encode(content).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(words)}">'
