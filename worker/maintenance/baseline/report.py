"""The trends of kept captures as one page: no script, nothing fetched from anywhere, readable without seeing the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from worker.maintenance.baseline.compare import Comparison, Judgement, against
from worker.maintenance.baseline.document import Capture
from worker.maintenance.baseline.figures import rule

#: Of a curve; of more captures each point is the last of several.
POINTS_MAX = 120
WIDTH, HEIGHT, EDGE = 240, 44, 4

HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Haul: baselines</title>
<style>
:root { color-scheme: light dark; --text: #1b1f24; --dim: #57606a; --line: #d0d7de; --page: #fff; }
:root { --curve: #0b62c4; --bad: #b3261e; --good: #1a6b2f; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --dim: #9aa4af; --line: #3a424b; --page: #0f1419; }
  :root { --curve: #6cb0ff; --bad: #ff8a80; --good: #7ee08e; }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--text); background: var(--page); }
body { max-width: 72rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
small, .dim { color: var(--dim); }
.worse { color: var(--bad); font-weight: 600; }
.better { color: var(--good); }
svg { display: block; width: 15rem; height: 2.75rem; max-width: 100%; }
polyline { fill: none; stroke: var(--curve); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
circle { fill: var(--curve); }
.wide { overflow-x: auto; }
</style>
</head>
<body>
"""


def page(captures: Sequence[Capture]) -> str:
    """The page of captures, newest first; the newest is judged by those before it."""
    if not captures:
        none = "<p>No capture is kept yet: <code>haul baseline capture</code> makes one.</p>"
        return f"{HEAD}<main><h1>Baselines</h1>{none}</main></body></html>\n"
    newest, judged = captures[0], against(captures[0], captures[1:])
    alike = [each for each in captures if each.machine == newest.machine][::-1]
    parts = [HEAD, "<main>", f"<h1>Baselines of {len(captures)} captures</h1>", _about(newest, captures, alike), _findings(judged)]
    verdicts = {each.name: each for each in judged.judgements}
    groups: dict[str, list[str]] = {}
    for name in sorted(newest.figures):
        groups.setdefault(name.partition(".")[0], []).append(name)
    parts += [_table(group, names, alike, verdicts) for group, names in groups.items()]
    return "\n".join([*parts, _versions(alike), "</main>", "</body>", "</html>", ""])


def curve(name: str, values: Sequence[tuple[float, float]], unit: str) -> str:
    """An inline drawing of (time, value) pairs, oldest first; its words say what it shows."""
    if not values:
        return '<span class="dim">no values</span>'
    step = -(-len(values) // POINTS_MAX)
    shown = values[::-1][::step][::-1]  # the newest is always there
    low, high = min(value for _, value in shown), max(value for _, value in shown)
    first, last = shown[0][0], shown[-1][0]
    across, up = (last - first) or 1.0, (high - low) or 1.0
    points = [
        (EDGE + (WIDTH - 2 * EDGE) * (at - first) / across, HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (value - low) / up) for at, value in shown
    ]
    words = f"{name}: {len(values)} values from {_number(low)} to {_number(high)} {unit}, the last {_number(shown[-1][1])}"
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}" preserveAspectRatio="none">'
        f'<polyline points="{path}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/></svg>'
    )


def _about(newest: Capture, captures: Sequence[Capture], alike: Sequence[Capture]) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in newest.machine.items())
    others = len(captures) - len(alike)
    apart = f" {others} of other machines are not shown." if others else ""
    return f"<p>The newest is of <time>{_time(newest.at)}</time> ({escape(newest.source)}; {escape(machine)}).{apart}</p>"


def _findings(judged: Comparison) -> str:
    if not judged.before:
        return "<p>There is nothing to compare it with yet.</p>"
    if not judged.worse:
        return f"<p>No figure is worse than the median of the {len(judged.before)} captures before it.</p>"
    lines = "".join(f"<li>{escape(each.name)}: {_number(each.before)} → {_number(each.now)}{_change(each)}</li>" for each in judged.worse)
    return f'<h2 class="worse">Worse than the median of the {len(judged.before)} captures before</h2><ul>{lines}</ul>'


def _table(group: str, names: Sequence[str], alike: Sequence[Capture], verdicts: Mapping[str, Judgement]) -> str:
    rows = "\n".join(_row(name, alike, verdicts[name]) for name in names)
    head = "<tr>" + "".join(f'<th scope="col">{word}</th>' for word in ("figure", "now", "before", "verdict", "trend")) + "</tr>"
    return f'<div class="wide"><table><caption>{escape(group)}</caption><thead>{head}</thead><tbody>\n{rows}\n</tbody></table></div>'


def _row(name: str, alike: Sequence[Capture], judged: Judgement) -> str:
    how = rule(name)
    values = [(each.at, figure.median) for each in alike if (figure := each.figures.get(name)) and figure.absent is None]
    now = _number(judged.now) if judged.now is not None else "–"
    before = _number(judged.before) if judged.before is not None else "–"
    why = f"<br><small>{escape(judged.why)}</small>" if judged.why else ""
    verdict = escape(str(judged.verdict))
    return (
        f'<tr><th scope="row">{escape(name)}<br><small>{escape(how.meaning)}</small></th>'
        f'<td class="n">{now} {escape(how.unit)}</td><td class="n">{before}</td>'
        f'<td class="{verdict}">{verdict}{_change(judged)}{why}</td><td>{curve(name, values, how.unit)}</td></tr>'
    )


def _versions(alike: Sequence[Capture]) -> str:
    names = sorted({name for each in alike for name in each.versions})
    rows = []
    for name in names:
        seen: dict[str, float] = {}
        for each in alike:
            seen.setdefault(each.versions.get(name) or "unknown", each.at)
        text = "; ".join(f"{escape(version)} since {_time(at)}" for version, at in seen.items())
        rows.append(f'<tr><th scope="row">{escape(name)}</th><td>{text}</td></tr>')
    return f"<table><caption>versions</caption><tbody>{''.join(rows)}</tbody></table>"


def _change(judged: Judgement) -> str:
    return f" ({judged.change:+.0%})" if judged.change is not None else ""


def _number(value: float | None) -> str:
    """For people: four digits, large ones with their power of a thousand."""
    if value is None:
        return "–"
    for power, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= power:
            return f"{value / (1e3 if letter == 'k' else power):.4g} {letter}"
    return f"{value:.4g}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
