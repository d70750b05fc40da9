"""Recall against rate as a PNG, and one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import engines, machine, tables


def write(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """result.json and report.html always; recall.png and the plot in the report where matplotlib is."""
    written = [write_json(result, folder)]
    picture = folder / "recall.png"
    if _plot(result, picture):
        written.append(picture)
    page = folder / "report.html"
    page.write_text(_page(result, picture if picture in written else None))
    return [*written, page]


def write_json(result: Mapping[str, Any], folder: Path) -> Path:
    """result.json, whole at every moment: it is written again after every stage of a run."""
    path = folder / "result.json"
    temporary = folder / ".result.json"
    temporary.write_text(json.dumps(_finite(result), indent=1, default=str) + "\n")
    os.replace(temporary, path)
    return path


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _plot(result: Mapping[str, Any], path: Path) -> bool:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    ks, modes = result["plan"]["ks"], result["plan"]["modes"]
    figure = Figure(figsize=(7 * len(modes), 5 * len(ks)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(ks), len(modes), squeeze=False)
    for row, k in enumerate(ks):
        for column, mode in enumerate(modes):
            _draw(axes[row][column], result, k, mode)
    data = result["data"]
    figure.suptitle(f"{data['name']}, {data['n']:,} x {data['dim']}, {data['metric']}")
    figure.savefig(path, dpi=130)
    return True


def _draw(axis: Any, result: Mapping[str, Any], k: int, mode: str) -> None:
    for number, (name, row) in enumerate(result["engines"].items()):
        rows = [*result["curve"], *result["points"]] if row["status"] == "measured" else []
        mine = [point for point in rows if (point["engine"], point["k"], point["mode"]) == (name, k, mode)]
        points = [
            (1 - point["recall"], point["queries_per_cpu_s"]["median"]) for point in mine if point["passes"]
        ]
        if not points:
            continue
        own = name in engines.OWN
        axis.plot(
            *zip(*sorted(points, key=lambda at: -at[1]), strict=True),
            marker="o" if own else "s",
            markersize=3,
            linewidth=2 if own else 1,
            linestyle="none" if name in engines.EXACT else "-" if own else "--",
            color=f"C{number % 10}",
            label=name,
        )
    # Misses on a logarithmic scale: 0.99 to 0.999 is as wide as 0.9 to 0.99.
    axis.set_xscale("symlog", linthresh=1e-3)
    ticks = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0]
    axis.set_xticks(ticks, [f"{1 - tick:g}" for tick in ticks])
    axis.set_xlim(0.5, -1e-4)
    axis.set(yscale="log", xlabel=f"recall@{k}", ylabel="queries per CPU second, one thread", title=mode)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def _page(result: Mapping[str, Any], picture: Path | None) -> str:
    console = Console(record=True, width=170, file=io.StringIO())
    tables.show(result, console)
    text = console.export_text()
    image = ""
    if picture is not None:
        encoded = base64.b64encode(picture.read_bytes()).decode()
        image = f'<img alt="recall against rate" src="data:image/png;base64,{encoded}">'
    title = f"{result['data']['name']}: {machine.line(result['machine'])}"
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>{html.escape(title)}</title>"
        "<style>body{font:15px system-ui;margin:2rem}img{max-width:100%}"
        "pre{overflow-x:auto;font-size:12px}</style>"
        f"<h1>{html.escape(result['data']['name'])}</h1>{image}<pre>{html.escape(text)}</pre>"
        f"<p>Command: <code>{html.escape(result['machine']['command'])}</code></p></html>\n"
    )
