"""The clauses of a bar in claims.yml, such as `loss_recovered >= 0.70`: parsed, never executed.

A clause that begins with `given` is a condition of measuring well, such as `given seeds >= 3`. A bar needs it, but
where it alone holds nothing was shown.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping, Sequence

ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
SIGNS = {ast.USub: operator.neg, ast.UAdd: operator.pos}
FUNCTIONS = {"abs": abs, "min": min, "max": max}
COMPARISONS = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
}


GIVEN = "given "


class ClauseError(ValueError):
    """One line about what a clause must not contain."""


def parse(clause: str) -> ast.Compare:
    """The tree of a comparison of names and numbers, with + - * /, abs, min and max.

    Raises ClauseError for anything else, such as attributes, other calls, strings, powers, boolean operators.
    """
    try:
        tree = ast.parse(clause.removeprefix(GIVEN), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ClauseError(f"{clause!r} is not an expression") from None
    if not isinstance(tree, ast.Compare) or not all(type(op) in COMPARISONS for op in tree.ops):
        raise ClauseError(f"{clause!r} is not a comparison with <, <=, >, >= or ==")
    for operand in (tree.left, *tree.comparators):
        _check(operand, clause)
    return tree


def _check(node: ast.expr, clause: str) -> None:
    match node:
        case ast.Name():
            allowed, parts = node.id not in FUNCTIONS, []
        case ast.Constant():
            allowed, parts = type(node.value) in (int, float), []
        case ast.UnaryOp():
            allowed, parts = type(node.op) in SIGNS, [node.operand]
        case ast.BinOp():
            allowed, parts = type(node.op) in ARITHMETIC, [node.left, node.right]
        case ast.Call(func=ast.Name(id=function)):
            allowed, parts = function in FUNCTIONS and bool(node.args) and not node.keywords, node.args
        case _:
            allowed, parts = False, []
    if not allowed:
        raise ClauseError(f"{clause!r} may not contain {ast.unparse(node)!r}")
    for part in parts:
        _check(part, clause)


def names(clause: str) -> list[str]:
    """The names of measured numbers in a clause, in order and once each."""
    found = [node for node in ast.walk(parse(clause)) if isinstance(node, ast.Name)]
    ordered = [node.id for node in sorted(found, key=lambda node: node.col_offset)]
    return list(dict.fromkeys(name for name in ordered if name not in FUNCTIONS))


def holds(clause: str, measured: Mapping[str, float]) -> bool | None:
    """Whether a clause is true of the numbers; None if one of its names was not measured.

    A clause that divides by zero does not hold.
    """
    tree = parse(clause)
    if not all(name in measured for name in names(clause)):
        return None
    try:
        values = [_value(operand, measured) for operand in (tree.left, *tree.comparators)]
    except ZeroDivisionError:
        return False
    compared = zip(tree.ops, values, values[1:], strict=False)
    return all(COMPARISONS[type(comparison)](left, right) for comparison, left, right in compared)


def _value(node: ast.expr, measured: Mapping[str, float]) -> float:
    match node:
        case ast.Name():
            return measured[node.id]
        case ast.Constant():
            return node.value
        case ast.UnaryOp():
            return SIGNS[type(node.op)](_value(node.operand, measured))
        case ast.Call():
            return FUNCTIONS[node.func.id](*[_value(argument, measured) for argument in node.args])
        case ast.BinOp():
            return ARITHMETIC[type(node.op)](_value(node.left, measured), _value(node.right, measured))
    raise AssertionError(f"parse let {ast.dump(node)} through")


def decide(bar: Sequence[str], measured: Mapping[str, float]) -> str:
    """The outcome that follows from the numbers. A clause over a name that was not measured does not hold."""
    results = [holds(clause, measured) for clause in bar]
    if all(result is None for result in results):
        return "not attempted"
    if all(results):
        return "replicated"
    shown = any(result for clause, result in zip(bar, results, strict=True) if not clause.startswith(GIVEN))
    return "partly" if shown else "contradicted"
