"""The commands on baselines: capture one, list those that are kept, compare, and show their trends on a page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import options
from worker.cli.output import Exit, note, print_json

if TYPE_CHECKING:
    from worker.maintenance.baseline.compare import Comparison, Judgement
    from worker.maintenance.baseline.document import Capture
    from worker.ports import Services

LIST_MAX = 800
#: On a page; more of them make it no clearer.
PAGE_MAX = 800

Tests = Annotated[
    Path | None, typer.Option("--tests", metavar="FILE", help="Result of a test suite to take in, as JUnit XML.", dir_okay=False)
]
One = Annotated[str | None, typer.Argument(metavar="[A]", help="A capture: its id or the beginning of one, `latest`, or a file.")]
Other = Annotated[str | None, typer.Argument(metavar="[B]", help="Another; the latest when left out.")]
To = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write the page.", dir_okay=False)]
Limit = Annotated[int, typer.Option("--limit", min=1, max=LIST_MAX, help="How many, the newest first.")]
All = Annotated[bool, typer.Option("--all", help="Show every figure, not only those that changed.")]


def commands() -> typer.Typer:
    """The group `haul baseline`."""
    group = typer.Typer(name="baseline", help="What the system measures, kept and compared.", no_args_is_help=True, rich_markup_mode=None)
    group.command()(capture)
    group.command(name="list")(list_captures)
    group.command()(compare)
    group.command()(report)
    return group


def capture(tests: Tests = None, as_json: options.Json = False) -> None:
    """Measure the running system, for about ten seconds, and keep the result.

    Example: haul baseline capture --tests junit.xml
    """
    from worker.cli.connect import connected
    from worker.maintenance.baseline import keep

    with connected() as services:
        made = _measure(services, tests, as_json)
        path = keep.keep_file(made, keep.directory(services.settings))
        keep.keep_in_store(made, services.store, services.owner)
    if as_json:
        print_json(made.document())
        return
    _show(made)
    note(f"kept as {path}")


def list_captures(limit: Limit = 20, as_json: options.Json = False) -> None:
    """List the captures that are kept, here and in the store, newest first.

    Example: haul baseline list
    """
    found = _kept(limit)
    if as_json:
        print_json({"captures": [_line(each) for each in found]})
        return
    for each in found:
        line = _line(each)
        machine = ", ".join(f"{name} {value}" for name, value in each.machine.items())
        sys.stdout.write(f"{each.id}  {each.source:5}  {line['measured']:3} figures, {line['absent']} absent  {machine}\n")
    if not found:
        note("no capture is kept yet: `haul baseline capture` makes one")


def compare(one: One = None, other: Other = None, every: All = False, as_json: options.Json = False) -> None:
    """Compare two captures; or, with none named, the system now with the median of the last seven. Exit code 1 when a figure is worse.

    Example: haul baseline compare 20240131T02 latest
    """
    from worker.maintenance.baseline.compare import HISTORY_MIN

    compared = _now(as_json) if one is None else _two(one, other or "latest")
    if as_json:
        print_json(compared.document())
    else:
        _tell(compared, every)
    if one is None and len(compared.before) < HISTORY_MIN:
        note(f"captures of this machine that are kept: {len(compared.before)}; {HISTORY_MIN} are needed to judge by")
    raise typer.Exit(Exit.FAILED if compared.worse else Exit.OK)


def report(out: To = None, as_json: options.Json = False) -> None:
    """Write a page with the trends of all captures that are kept; it needs nothing else to be shown.

    Example: haul baseline report --out baseline.html
    """
    from worker.jobs.errors import Rejected
    from worker.maintenance.baseline import keep
    from worker.maintenance.baseline.report import page
    from worker.settings import load

    found = _kept(PAGE_MAX)
    path = out.expanduser().absolute() if out else keep.directory(load()) / "report.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(found), encoding="utf-8")
    except OSError as error:
        raise Rejected("out", f"cannot write {path}: {error.strerror}") from None
    if as_json:
        print_json({"path": str(path), "captures": len(found)})
    else:
        sys.stdout.write(f"{path}\n")


def _measure(services: Services, tests: Path | None, as_json: bool) -> Capture:
    from worker.maintenance.baseline.capture import capture as measure
    from worker.maintenance.baseline.document import HAND

    with _progress(as_json) as tell:
        return measure(services, source=HAND, tests=tests, progress=tell)


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, nothing elsewhere: it takes ten seconds."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _kept(limit: int) -> list[Capture]:
    """Those of the directory, and of the store when it can be reached."""
    from worker.cli.connect import records
    from worker.jobs.errors import Transient
    from worker.maintenance.baseline import keep
    from worker.settings import load

    where = keep.directory(load())
    try:
        with records() as (store, _):
            return keep.kept(where, store, limit)
    except Transient as error:
        note(f"{error}; these are the captures of {where} alone")
        return keep.kept(where, None, limit)


def _now(as_json: bool) -> Comparison:
    """Measured and not kept: looking changes no history."""
    from worker.cli.connect import connected
    from worker.maintenance.baseline.work import history, judged

    with connected() as services:
        before = history(services)
        made = _measure(services, None, as_json)
        return judged(made, before, lambda: _measure(services, None, as_json))


def _two(one: str, other: str) -> Comparison:
    from worker.maintenance.baseline.compare import between

    kept: list[Capture] = [] if _is_file(one) and _is_file(other) else _kept(LIST_MAX)
    old, new = _named(one, kept), _named(other, kept)
    if old.machine != new.machine or old.source != new.source:
        note("they were made on different machines, or in different ways; times may differ for that alone")
    return between(old, new)


def _is_file(name: str) -> bool:
    return name.endswith(".json")


def _named(name: str, kept: list[Capture]) -> Capture:
    """The capture of a name.

    Raises:
        Rejected: none has it, or several have.
    """
    from worker.jobs.errors import NotFound, Rejected
    from worker.maintenance.baseline import keep

    if _is_file(name):
        return keep.load(Path(name).expanduser().absolute())
    found = kept[:1] if name == "latest" else [each for each in kept if name and each.id.startswith(name)]
    if not found:
        raise NotFound("baseline", f"no capture is named {name}", fix="`haul baseline list` shows them")
    if len(found) > 1:
        raise Rejected("baseline", f"{name} is the beginning of {len(found)} captures", fix="give more of it")
    return found[0]


def _line(each: Capture) -> dict[str, object]:
    absent = sum(figure.absent is not None for figure in each.figures.values())
    return {
        "id": each.id,
        "at": each.at,
        "source": each.source,
        "machine": dict(each.machine),
        "measured": len(each.figures) - absent,
        "absent": absent,
    }


def _show(made: Capture) -> None:
    from worker.maintenance.baseline.figures import rule

    for name, figure in sorted(made.figures.items()):
        if figure.absent is not None:
            sys.stdout.write(f"{name:34} {'–':>12}  {figure.absent}\n")
            continue
        spread = f"± {figure.mad:.3g} of {figure.n}" if figure.n > 1 else ""
        sys.stdout.write(f"{name:34} {figure.median:>12.5g} {rule(name).unit:8} {spread}\n")


def _tell(compared: Comparison, every: bool) -> None:
    from worker.maintenance.baseline.compare import Verdict

    for name, old, new in compared.changed:
        sys.stdout.write(f"{name}: {old or 'unknown'} → {new or 'unknown'}\n")
    shown = [each for each in compared.judgements if every or each.verdict in (Verdict.WORSE, Verdict.BETTER)]
    for each in shown:
        sys.stdout.write(_judged(each) + "\n")
    counts = {verdict: sum(each.verdict is verdict for each in compared.judgements) for verdict in Verdict}
    sys.stdout.write(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) + "\n")


def _judged(each: Judgement) -> str:
    from worker.maintenance.baseline.figures import rule

    unit = rule(each.name).unit
    values = " → ".join("–" if value is None else f"{value:.5g}" for value in (each.before, each.now))
    change = f" ({each.change:+.0%})" if each.change is not None else ""
    unnoticed = f", up to ±{each.tolerance:.3g} would not be noticed" if each.tolerance is not None else ""
    return f"{each.verdict:8} {each.name:34} {values} {unit}{change}{unnoticed}{f': {each.why}' if each.why else ''}"
