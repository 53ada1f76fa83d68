"""No file is read or written by the encoding of the machine's locale, which may know no more than ASCII."""

from __future__ import annotations

import ast

from tests.tidy.sources import ROOT

#: Methods that open a file as text unless they are told otherwise.
TEXT = frozenset({"read_text", "write_text", "fdopen"})


def test_each_text_file_has_its_encoding_named() -> None:
    unnamed = []
    for path in sorted((ROOT / "worker").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TEXT):
                continue
            binary = any(isinstance(argument, ast.Constant) and "b" in str(argument.value) for argument in node.args[1:2])
            if not binary and not any(keyword.arg == "encoding" for keyword in node.keywords):
                unnamed.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert unnamed == []
