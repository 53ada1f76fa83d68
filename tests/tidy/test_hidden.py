"""No test hides another: of two methods of one name in a class and its bases only the first is run, and nobody is told."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping

from tests.tidy.sources import modules

HIDING = """
class One:
    def test_a(self): ...
class Other:
    def test_a(self): ...
    def test_b(self): ...
class Both(One, Other):
    test_b = None
class Again(Other):
    def test_b(self): ...
def test_c(): ...
def test_c(): ...
"""


def test_no_test_is_hidden_by_another_of_its_name() -> None:
    assert not hidden(modules("tests"))


def test_what_is_hidden_is_found() -> None:
    assert hidden({"x.py": HIDING}) == ["x.py: test_c", "x.py: Both.test_a", "x.py: Again.test_b"]


def hidden(sources: Mapping[str, str]) -> list[str]:
    """Tests of which a module, or a class with its bases, has more than one; a class may say `test_x = …` of what it inherits."""
    trees = {path: ast.parse(source) for path, source in sources.items()}
    classes = {node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = []
    for path, tree in trees.items():
        found += [f"{path}: {name}" for name in _twice(tree.body)]
        for each in ast.walk(tree):
            if isinstance(each, ast.ClassDef):
                found += [f"{path}: {each.name}.{name}" for name in _twice([line for of in _with_bases(each, classes) for line in of.body])]
    return found


def _twice(body: list[ast.stmt]) -> list[str]:
    said = {target.id for line in body if isinstance(line, ast.Assign) for target in line.targets if isinstance(target, ast.Name)}
    tests = Counter(line.name for line in body if isinstance(line, ast.FunctionDef) and line.name.startswith("test_"))
    return [name for name, times in tests.items() if times > 1 and name not in said]


def _with_bases(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """The class and all it is made of, each once."""
    found = [node]
    for each in found:
        found += [base for name in each.bases if (base := classes.get(ast.unparse(name))) is not None and base not in found]
    return found
