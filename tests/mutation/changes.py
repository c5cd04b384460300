"""The changes that mutation makes to a function, and the function compiled with one of them."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Literal

Kind = Literal["sign", "dropped", "doubled"]


@dataclass(frozen=True)
class Mutant:
    """One change of one function."""

    kind: Kind
    line: int
    change: str
    code: CodeType = field(repr=False)


def changes(function: ast.FunctionDef) -> Iterator[tuple[Kind, int, ast.AST, str]]:
    """(kind, line, the whole function changed in one place, the change in words), for every change of its body.

    A number is shown in the expression that holds it, anything else by itself.
    """
    for index, (node, holder) in enumerate(nodes(function)):
        for kind, make in edits(node):
            changed = copy.deepcopy(function)
            old, around = nodes(changed)[index]
            new = make(old)
            whole = exchanged(changed, old, new)
            shown = (holder, around) if kind == "doubled" else (node, new)
            yield kind, node.lineno, whole, "  →  ".join(map(ast.unparse, shown))


def nodes(function: ast.FunctionDef) -> list[tuple[Any, ast.AST]]:
    """The nodes of the body in a fixed order, each with the one that holds it.

    Messages, annotations, indices and dimensions are left out.
    """
    found: list[tuple[Any, ast.AST]] = []

    def visit(node: ast.AST, holder: ast.AST) -> None:
        if isinstance(node, ast.Raise | ast.JoinedStr):
            return
        found.append((node, holder))
        for name, value in ast.iter_fields(node):
            if (isinstance(node, ast.Subscript) and name == "slice") or name in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.keyword) and child.arg == "dim":
                    continue
                if isinstance(child, ast.AST):
                    visit(child, holder if isinstance(node, ast.keyword) else node)

    for statement in function.body:
        visit(statement, function)
    return found


def edits(node: ast.AST) -> Iterator[tuple[Kind, Callable[[Any], ast.AST]]]:
    """How a node may be changed."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        minus = isinstance(node.op, ast.Sub)
        yield "sign", lambda n: ast.BinOp(n.left, ast.Add() if minus else ast.Sub(), n.right)
        yield "dropped", lambda n: n.left
        yield "dropped", lambda n: ast.UnaryOp(ast.USub(), n.right) if minus else n.right
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        other = ast.Add() if isinstance(node.op, ast.Sub) else ast.Sub()
        yield "sign", lambda n: ast.AugAssign(n.target, other, n.value)
        yield "dropped", lambda n: ast.Pass()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", lambda n: n.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value:
        yield "doubled", lambda n: ast.Constant(2 * n.value)


def exchanged(function: ast.FunctionDef, old: ast.AST, new: ast.AST) -> ast.AST:
    class Exchange(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return new if node is old else self.generic_visit(node)

    return ast.fix_missing_locations(Exchange().visit(function))


def functions(tree: ast.Module) -> Iterator[tuple[tuple[str, ...], ast.FunctionDef]]:
    """Functions and methods of a file with their path; nested ones belong to the function around them."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield (node.name,), node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name != "__post_init__":
                    yield (node.name, inner.name), inner


def mutants_of(tree: ast.Module, path: tuple[str, ...], node: ast.FunctionDef, file: str) -> list[Mutant]:
    """Every mutant of one function of a file, compiled in its place."""
    found = []
    for kind, line, changed, told in changes(node):
        whole = copy.copy(tree)
        whole.body = [_with(part, path, node, changed) for part in tree.body]
        code = inside(compile(whole, file, "exec"), path)
        found.append(Mutant(kind, line, told, code))
    return found


def _with(part: ast.stmt, path: tuple[str, ...], node: ast.FunctionDef, changed: Any) -> ast.stmt:
    if part is node:
        return changed
    if isinstance(part, ast.ClassDef) and len(path) == 2 and part.name == path[0]:
        part = copy.copy(part)
        part.body = [changed if inner is node else inner for inner in part.body]
    return part


def inside(code: CodeType, path: Sequence[str]) -> CodeType:
    """The code object of a function by its path in a compiled file."""
    for name in path:
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return code
