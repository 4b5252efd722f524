"""No regular expression takes more than linear time: every one in the code is found, and measured on repeated input."""

import ast
import re
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import from_regex

from service.rest.routes import Routes
from tests.methods import SERVICE

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("service", "clients/python/src")
METHODS = frozenset({"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"})
ROUTES = "service/rest/routes.py"
"""Its literals read the annotations of the proto. What it computes of those meets input, and is measured too."""

SEPARATORS = frozenset(' ;,.=/-_:"%({[')

SHORT = (8, 12, 16, 20, 24)
LONG = 1024
SUSPECT = 0.001
"""CPU time (s) that is too much for a short input, and for a long one if twice the length takes three times as much.
Linear time is a tenth of it at most."""


@dataclass
class Expression:
    """A regular expression in the code, and the methods that are called with it."""

    where: str
    pattern: Any
    flags: int
    methods: Set[str]


def expressions() -> Iterator[Expression]:
    """The expressions of all modules. Fails for a computed one."""
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if name != ROUTES:
                yield from in_module(name, ast.parse(path.read_text()))
    for route in Routes(SERVICE)._routes:
        yield Expression(
            f"{ROUTES}: {route.pattern.pattern}", route.pattern.pattern, route.pattern.flags, {"fullmatch"}
        )


def in_module(name: str, tree: ast.Module) -> Iterator[Expression]:
    methods_of: dict[str, set[str]] = {}
    names_of: dict[ast.AST, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=assigned)]) | ast.AnnAssign(target=ast.Name(id=assigned)) if (
                node.value
            ):
                names_of[node.value] = assigned
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=method)) if method in METHODS:
                methods_of.setdefault(owner, set()).add(method)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        for pattern, own_methods in patterns_of(call):
            where = f"{name}:{call.lineno}"
            assert isinstance(pattern, ast.Constant), (
                f"{where}: a pattern must be a literal, so that it can be measured"
            )
            methods = own_methods or methods_of.get(names_of.get(call, ""), METHODS)
            yield Expression(where, pattern.value, flags_of(call), methods)


def patterns_of(call: ast.Call) -> Iterator[tuple[ast.expr, Set[str]]]:
    """The patterns in a call: that of a function of `re`, and pydantic's `pattern=`, which is searched for."""
    yield from ((keyword.value, {"search"}) for keyword in call.keywords if keyword.arg == "pattern")
    match call:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=name), args=[pattern, *_]) if (
            name == "compile" or name in METHODS
        ):
            yield pattern, {name} & METHODS


def flags_of(call: ast.Call) -> int:
    flags = 0
    for node in ast.walk(call):
        if isinstance(node, ast.Attribute) and node.attr in re.RegexFlag.__members__:
            flags |= re.RegexFlag[node.attr]
    return flags


def samples(pattern: "re.Pattern[Any]") -> list[Any]:
    """Some texts that match, the same in every run."""
    found: set[Any] = set()

    @settings(
        max_examples=10,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(from_regex(pattern, fullmatch=True))
    def collect(text: Any) -> None:
        found.add(text)

    collect()
    return sorted((text for text in found if len(text) <= 40), key=lambda text: (len(text), text))[:12]


def attacks(pattern: Any, matching: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
    """What stands before, what is repeated, and an end with which it may or may not match."""
    empty = pattern[:0]
    special = sorted({"a", "0", *SEPARATORS.intersection(map(chr, pattern) if isinstance(pattern, bytes) else pattern)})
    units: list[Any] = [*special, *map("".join, product(special, repeat=2))]
    if isinstance(pattern, bytes):
        units = [unit.encode() for unit in units]
    ends = [empty, *(end.encode() if isinstance(pattern, bytes) else end for end in ("\0", '"'))]
    found: set[tuple[Any, ...]] = set(product((empty, *matching[:3]), units, ends))
    for text in matching:
        for start in range(len(text)):
            for size in (1, 2, 3):
                found |= {(text[:start], text[start : start + size], end) for end in ends}
    return sorted(found)


def cost(run: Callable[[Any], object], text: Any) -> float:
    """CPU time of one run (s): the least of three, unless the first is short enough."""
    least = float("inf")
    for _ in range(3):
        before = time.thread_time()
        run(text)
        least = min(least, time.thread_time() - before)
        if least < SUSPECT:
            break
    return least


def super_linear(expression: Expression) -> str:
    """An input on which the time grows faster than its length; empty if there is none."""
    pattern = re.compile(expression.pattern, expression.flags)
    for method in sorted(expression.methods):
        run = getattr(pattern, method)
        if method in {"sub", "subn"}:
            run = partial(run, expression.pattern[:0])
        for before, unit, end in attacks(expression.pattern, samples(pattern)):
            found = f"{method} of {before!r} + n * {unit!r} + {end!r}"
            if any(cost(run, before + size * unit + end) > SUSPECT for size in SHORT):
                return found
            once = cost(run, before + LONG * unit + end)
            if once > SUSPECT and cost(run, before + 2 * LONG * unit + end) > 3 * once:
                return found
    return ""


ALL = list(expressions())


@pytest.mark.parametrize("expression", ALL, ids=lambda each: each.where)
def test_a_regular_expression_takes_linear_time(expression: Expression) -> None:
    assert not (found := super_linear(expression)), f"{expression.where}: {found}"


PARAMETER = rb"""charset="?utf-8"?|(?!charset)[!#$%&'*+.^_`|~\w-]+=(?:[!#$%&'*+.^_`|~\w-]+|"[^"\\]*")"""


@pytest.mark.parametrize(
    "pattern",
    [
        rb"application/json(?:[ \t]*;[ \t]*(?:%b)?)*" % PARAMETER,  # exponential; it stopped the process once
        r"(a+)+b",
        r"\s*\s*x",
        r"\w*\.?\w*@",
    ],
)
def test_a_regular_expression_of_more_than_linear_time_is_found(pattern: Any) -> None:
    assert super_linear(Expression("here", pattern, 0, {"fullmatch"}))
