"""Who may import whom, and that no module keeps anything that changes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from tests.tidy.sources import ROOT, functions, modules

#: A name that holds one of these must have a type that cannot be written to; mypy then refuses the write.
READ_ONLY = ("Mapping", "Sequence", "Collection", "AbstractSet", "frozenset", "tuple")
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)
#: Calls whose results nobody can change; `Fault`, `Meaning` and `Kind` are frozen dataclasses.
MAKE_VALUES = ("frozenset", "tuple", "re.compile", "Path", "TypeVar", "len", "join", "attrgetter", "Fault", "Meaning", "Kind")
#: What changes, or might, and may stand in a module all the same.
EXCEPTIONS = {
    ("*", "__all__"): "read by tools, which want a list",
    ("*", "log"): "a logger",
    ("worker/doing.py", "_CURRENT"): "each thread and each request has its own",
    ("worker/cli/app.py", "app"): "the table of commands: filled in the same module, then only read",
    ("worker/cli/app.py", "engines"): "as `app`",
    ("worker/celery/__init__.py", "_default_app"): "Celery's command line imports the application by name; made once, at first use",
}


def test_the_import_contracts_hold() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph("worker", exclude_type_checking_imports=True, cache_dir=None)
    try:
        TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_no_module_holds_what_can_be_changed() -> None:
    """Two jobs, tests or forked processes would share it.

    A list, dict or set bound in a module needs an annotation from READ_ONLY, and the result of a call must be of MAKE_VALUES.
    `global` is not used, and no function of a module keeps its results. Class bodies are ruff's (RUF012).
    """
    found = [f"{path}:{line}: {name}" for path, source in modules().items() for line, name in _changeable(path, ast.parse(source))]
    assert not found, "annotate as Mapping, Sequence or Collection, use a tuple or a frozenset, or build it in wiring:\n" + "\n".join(found)


def test_every_exception_is_still_needed() -> None:
    held = {(path, name) for path, source in modules().items() for _, name in _changeable(path, ast.parse(source), exceptions=False)}
    held |= {("*", name) for _, name in held}
    assert set(EXCEPTIONS) <= held


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("SEEN = []", True),
        ("SEEN: list[str] = []", True),
        ("SEEN = set(other) | {1}", True),
        ("if True:\n    SEEN = dict(a=1)", True),
        ("pool = Pool()", True),
        ("def seen():\n    global SEEN", True),
        ("@cache\ndef seen(): ...", True),
        ("@functools.lru_cache(maxsize=9)\ndef seen(): ...", True),
        ("KNOWN: Mapping[str, int] = {}", False),
        ("KNOWN = frozenset({1, 2}) - {1}", False),
        ("KNOWN = (1, 2)", False),
        ("def seen():\n    found = []", False),
        ("class Seen:\n    @cached_property\n    def it(self): ...", False),
    ],
)
def test_the_rule_tells_state_from_constants(source: str, refused: bool) -> None:
    assert bool([*_changeable("x.py", ast.parse(source))]) == refused


def _changeable(path: str, tree: ast.Module, *, exceptions: bool = True) -> Iterator[tuple[int, str]]:
    """Line and name of what the rule above refuses."""
    found = [*_assigned(tree.body), *_kept(tree)]
    return ((line, name) for line, name in found if not (exceptions and ({(path, name), ("*", name)} & EXCEPTIONS.keys())))


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            annotation = ast.unparse(statement.annotation) if isinstance(statement, ast.AnnAssign) else ""
            if statement.value and not annotation.startswith(READ_ONLY) and _can_change(statement.value):
                yield statement.lineno, ast.unparse(target)
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for field in ("body", "orelse", "finalbody"):
                yield from _assigned(getattr(statement, field, []))


def _can_change(value: ast.expr) -> bool:
    if isinstance(value, ast.BinOp):
        return _can_change(value.left)  # `frozenset | set` is a frozenset
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).endswith(MAKE_VALUES) is False
    return isinstance(value, MUTABLE)


def _kept(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield node.lineno, f"global {', '.join(node.names)}"
    for function in functions(tree):
        if any(ast.unparse(decorator).partition("(")[0].endswith(("cache", "lru_cache")) for decorator in function.decorator_list):
            yield function.lineno, function.name
