"""Which code decides a number, and a hash of it.

That is what a root module imports, directly or not, and inside functions, too. Of all these modules the definitions count: not
their docstrings, comments, order or import statements, nor the names of files and modules. So code that only moves leaves the hash
as it was, and no code can be forgotten: whoever imports a new module adds it to the hash.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dfmsd.hyper import METHODS
from dfmsd.study import paths
from dfmsd.study.spec import Run, RunSpec, StartSpec

ROOT = "dfmsd.study.run"
"""The module that makes runs."""

APART = frozenset(
    f"dfmsd.{name}"
    for name in (
        *(
            "errors",
            "study.code",
            "study.exports",
            "study.files",
            "study.machine",
            "study.params",
            "study.paths",
            "study.plan",
            "study.records",
        ),
        # This shows a run while it trains.
        "study.sight",
        # What these decide stands in a run's key, or in what a measured page asks for.
        *("stages", "study.pages", "study.rows", "study.scales", "study.spec", "study.zoo"),
        # What these find in files, or fill in, stands in the fingerprint of the data.
        *("study.fingerprints", "study.truth"),
        # These draw and write.
        *("report.canvas", "report.figures", "report.tables"),
    )
)
"""Modules that decide no number, with all below them."""


def digest(spec: Run) -> str:
    """Hash of the code that decides a run's numbers; code that this run does not use leaves it as it is."""
    if isinstance(spec, StartSpec):
        return digest_of("dfmsd.study.start:pretrain")
    unused = set() if _has_start(spec) else {"dfmsd.study.start"}
    stage = spec.stage
    if stage is None:
        return _digest_of_run((), frozenset({"dfmsd.distiller", "dfmsd.balance", "dfmsd.losses", "dfmsd.augment", *unused}))
    if stage.enhance is None and stage.adversarial is None:
        unused.add("dfmsd.augment")
    methods = {method.type for method in stage.methods}
    if stage.balance is not None:
        methods |= {METHODS[method.FACTORS_OF].__name__ for method in stage.methods if method.FACTORS_OF}
    return _digest_of_run(tuple(sorted(methods)), frozenset(unused))


def _has_start(spec: RunSpec) -> bool:
    """Whether any run that this one builds on was a start."""
    return any(isinstance(need, StartSpec) or _has_start(need) for need in spec.needs())


@cache
def _digest_of_run(methods: tuple[str, ...], unused: frozenset[str]) -> str:
    return _hash(modules(methods, unused), {"dfmsd.hyper": methods})


def modules(methods: Iterable[str], unused: frozenset[str] = frozenset()) -> frozenset[str]:
    """The modules that decide the numbers of a run with some methods, as ``MGD``; none that it imports but does not use."""
    return _closure([ROOT, *(f"dfmsd.losses.{name.lower()}" for name in methods)], {}, unused, by_method=True)


@cache
def digest_of(function: str) -> str:
    """Hash of the code that decides what a function, named as ``dfmsd.report.features:measure``, returns.

    In its own module only what it reaches by name counts. The weights of trained networks do not count here: their hashes stand
    beside the numbers.
    """
    module, _, name = function.partition(":")
    partly = {module: (name,)}
    return _hash(_closure([module], partly, frozenset({ROOT, "dfmsd.study.ensure"})), partly)


def forget() -> None:
    """Read the code anew: its files have changed in this process's lifetime."""
    for known in (_module, _digest_of_run, digest_of):
        known.cache_clear()


def _hash(found: Iterable[str], partly: Mapping[str, Iterable[str]]) -> str:
    texts = sorted(
        statement.text
        for name in found
        for statement in (_reached(name, partly[name]) if name in partly else _module(name).statements)
    )
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _closure(
    roots: Iterable[str], partly: Mapping[str, Iterable[str]], unused: frozenset[str], *, by_method: bool = False
) -> frozenset[str]:
    found: set[str] = set()
    roots = list(roots)
    todo = list(roots)
    while todo:
        name = todo.pop()
        apart = name not in roots and any(name == one or name.startswith(f"{one}.") for one in APART | unused)
        if name in found or apart:
            continue
        found.add(name)
        if by_method and name == "dfmsd.losses":
            continue  # It imports every method; a run has roots of its own for those that it uses.
        module = _module(name)
        statements = _reached(name, partly[name]) if name in partly else module.statements
        names = {used for one in statements for used in one.uses} if name in partly else module.imports.keys()
        targets = [module.imports[used] for used in names if used in module.imports]
        targets += [target for statement in statements for target in statement.imports]
        todo += [_home(target) for target in targets]
    return frozenset(found)


@dataclass(frozen=True)
class _Statement:
    """A statement of a module, outside of its imports."""

    binds: frozenset[str]
    uses: frozenset[str]
    imports: tuple[str, ...]
    """What is imported inside of it."""
    text: str
    """Its syntax tree without what does not count."""


@dataclass(frozen=True)
class _Module:
    imports: dict[str, str] = field(default_factory=dict)
    """What each imported name is called outside: ``dfmsd.study.build`` or ``dfmsd.errors.suggest``."""
    statements: tuple[_Statement, ...] = ()


def _reached(name: str, roots: Iterable[str]) -> list[_Statement]:
    """The statements of a module that some of its names need."""
    wanted, reached = set(roots), []
    left = list(_module(name).statements)
    while more := [statement for statement in left if statement.binds & wanted]:
        left = [statement for statement in left if statement not in more]
        reached += more
        wanted |= {used for statement in more for used in statement.uses}
    return reached


def _home(target: str) -> str:
    """The module that an import leads to: the one that defines the name, not the packages that pass it on."""
    if _file(target):
        return target
    place, _, name = target.rpartition(".")
    passed = _module(place).imports.get(name)
    return place if passed is None else _home(passed)


def _file(module: str) -> Path | None:
    """Where a module of this package lies; None if there is no such module."""
    place = paths.PACKAGE.joinpath(*module.split(".")[1:])
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.is_file():
            return file
    return None


@cache
def _module(name: str) -> _Module:
    file = _file(name)
    assert file is not None, name
    body = _without_text(ast.parse(file.read_text())).body
    imports: dict[str, str] = {}
    rest = []
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports |= _imported(node)
        elif not _is_for_types(node) and not _binds(node) & {"__all__"}:
            rest.append(node)
    return _Module(imports, tuple(_statement(node, imports) for node in rest))


def _imported(node: ast.stmt) -> dict[str, str]:
    """The names of this package that an import statement binds, and what each stands for."""
    if isinstance(node, ast.Import):
        found = {alias.asname or alias.name: alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports in this package are absolute"
        found = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return {name: target for name, target in found.items() if target.split(".")[0] == "dfmsd"}


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _binds(node: ast.stmt) -> set[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _statement(node: ast.stmt, imports: Mapping[str, str]) -> _Statement:
    inner = [_imported(one) for one in ast.walk(node) if isinstance(one, (ast.Import, ast.ImportFrom))]
    known = dict(imports) | {name: target for found in inner for name, target in found.items()}
    uses = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    # ``import dfmsd.study.hooks`` is used as ``dfmsd``.
    uses |= {name for name in known if name.partition(".")[0] in uses}
    binds = frozenset(_binds(node))
    text = ast.dump(_Plain(known).visit(node))
    return _Statement(binds, frozenset(uses), tuple(target for found in inner for target in found.values()), text)


class _Plain(ast.NodeTransformer):
    """Names as they are where they are defined: without import statements and the modules before them."""

    def __init__(self, imports: Mapping[str, str]) -> None:
        self.imports = imports

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_Name(self, node: ast.Name) -> ast.Name:
        target = self.imports.get(node.id, node.id)
        is_module = target != node.id and _file(target)
        return ast.Name("dfmsd" if is_module else target.rpartition(".")[2], node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        value = self.visit(node.value)
        of_module = isinstance(value, ast.Name) and value.id == "dfmsd"
        return ast.Name(node.attr, node.ctx) if of_module else ast.Attribute(value, node.attr, node.ctx)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        is_module = isinstance(node.value, str) and node.value.startswith("dfmsd.") and _file(node.value)
        return ast.Constant("dfmsd" if is_module else node.value)


def _without_text(tree: ast.Module) -> ast.Module:
    """A tree without the strings that stand alone: docstrings, and the texts below constants."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
    return tree
