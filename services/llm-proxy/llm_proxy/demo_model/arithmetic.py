"""Arithmetic in prompts: finding it, and working it out with bounds."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Final

Number = int | float

_EXPONENT_LIMIT: Final = 10_000
_DIGITS_LIMIT: Final = 1_000
_TEXT_LIMIT: Final = 500

_BINARY: Final[Mapping[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Final[Mapping[str, Callable[[Number], Number]]] = {
    "sqrt": math.sqrt,
    "abs": abs,
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
    "sin": math.sin,
    "cos": math.cos,
    "log": math.log,
    "exp": math.exp,
}

_QUESTION: Final = re.compile(
    r"^(please\s+)?((can|could)\s+you\s+)?(tell\s+me\s+)?"
    r"(what('s|\s+is|\s+are|\s+does)?|how\s+much\s+is|calculate|compute|evaluate|work\s+out|solve)\s+(the\s+result\s+of\s+)?",
    re.IGNORECASE,
)
_ENDING: Final = re.compile(r"(\s+(equal|equals|please))?\s*[=?.!]*\s*$", re.IGNORECASE)
_ONLY: Final = re.compile(
    r"[?.!]\s*(please\s+)?(answer|reply|respond)\s+(with\s+)?(only|just)?\b.*$", re.IGNORECASE | re.DOTALL
)
_WORDS: Final = (
    (re.compile(r"\bplus\b", re.IGNORECASE), "+"),
    (re.compile(r"\bminus\b", re.IGNORECASE), "-"),
    (re.compile(r"\b(times|multiplied\s+by)\b|×|·", re.IGNORECASE), "*"),
    (re.compile(r"\b(divided\s+by|over)\b|÷", re.IGNORECASE), "/"),
    (re.compile(r"\b(to\s+the\s+power\s+of)\b|\^", re.IGNORECASE), "**"),
    (re.compile(r"\bsquared\b", re.IGNORECASE), "**2"),
    (re.compile(r"\bcubed\b", re.IGNORECASE), "**3"),
    (re.compile(r"\bmod(ulo)?\b", re.IGNORECASE), "%"),
    (re.compile(r"(\d+(?:\.\d+)?)\s*%\s+of\b", re.IGNORECASE), r"\1/100*"),
    (re.compile(r"\bthe\s+square\s+root\s+of\s+([\d.]+)", re.IGNORECASE), r"sqrt(\1)"),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
)


class CannotEvaluateError(Exception):
    """It is arithmetic, but has no answer here; the text says why."""


def find_expression(prompt: str) -> str | None:
    """Return the expression that a prompt asks for, None when it asks for something else."""
    if len(prompt) > _TEXT_LIMIT:
        return None
    text = _ONLY.sub("?", prompt.strip())
    text = _ENDING.sub("", _QUESTION.sub("", text))
    for pattern, symbol in _WORDS:
        text = pattern.sub(symbol, text)
    text = text.strip()
    if len(text) > _TEXT_LIMIT or not re.search(r"\d", text) or not re.search(r"[-+*/%(]", text.lstrip("-+")):
        return None
    return text if _parse(text) is not None else None


def evaluate(expression: str) -> str:
    """Work out an expression that `find_expression` returned. Raises CannotEvaluateError."""
    tree = _parse(expression)
    try:
        value = _value(tree.body) if tree is not None else math.nan
        return _format(value)
    except ZeroDivisionError:
        raise CannotEvaluateError("that divides by zero") from None
    except (ValueError, OverflowError):
        raise CannotEvaluateError("the result is not a number, or too large") from None


def _parse(text: str) -> ast.Expression | None:
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return tree if all(_allowed(node) for node in ast.walk(tree)) else None


def _allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or node.id in ("pi", "e")
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords
    allowed = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Load)
    return isinstance(node, allowed)


def _value(node: ast.expr) -> Number:  # noqa: PLR0911 - one for each kind of node
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id="pi"):
            return math.pi
        case ast.Name(id="e"):
            return math.e
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _bounded(_power(_value(left), _value(right)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(_BINARY[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](_value(argument))
    raise CannotEvaluateError("I do not know that operation")


def _power(base: Number, exponent: Number) -> Number:
    size = abs(exponent) * max(1.0, math.log2(abs(base)) if abs(base) > 1 else 1.0)
    if abs(exponent) > _EXPONENT_LIMIT or (isinstance(base, int) and size > _DIGITS_LIMIT * 3.4):
        raise CannotEvaluateError("the result is too large")
    result = base**exponent
    if isinstance(result, complex):
        raise CannotEvaluateError("the result is not a real number")
    return result


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > _DIGITS_LIMIT * 4:
        raise CannotEvaluateError("the result is too large")
    return value


def _format(value: Number) -> str:
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise CannotEvaluateError("the result is not a number, or too large")
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.12g}"
