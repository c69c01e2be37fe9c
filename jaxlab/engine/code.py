"""Digests of Python functions that are not traced: user-defined rules, and callbacks of a program."""

from __future__ import annotations

import ast
import copyreg
import functools
import hashlib
import inspect
import os
import sys
import sysconfig
import textwrap
import tokenize
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import jax
import numpy as np

from jaxlab.errors import name_of

_ROOTS = tuple(
    {os.path.join(sysconfig.get_paths()[name], "") for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
#: Packages whose versions a run records and compares separately.
_VERSIONED_BY_RUN = {"jaxlab", "jax", "jaxlib", "flax", "optax", "numpy"}
_METADATA = {"__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__qualname__"}
_METADATA |= {"__static_attributes__", "__weakref__"}
_METADATA |= {"__annotate__", "__annotations_cache__", "__slotnames__"}
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BINDING = (ast.Store, ast.Del)
#: Fields whose string is not a local name: a keyword argument, a module, an attribute, or a literal.
_NOT_LOCAL = {(ast.keyword, "arg"), (ast.alias, "name"), (ast.Attribute, "attr"), (ast.Constant, "value")}


def code_digest(function: Callable) -> str:
    """Short hash of a callable's code and of all values that it reads: defaults, closures, globals, attributes.

    The hash covers functions, methods, base classes and constants of every module. Those of installed packages enter
    only by name and package version. Comments, docstrings, formatting, annotations and the names of local variables,
    functions and modules do not count.
    """
    return hashlib.sha256(repr(_Encoder().value(function)).encode()).hexdigest()[:16]


def is_installed(module: str | None) -> bool:
    """Whether a module belongs to Python, jaxlab or another installed package."""
    if module is None or module.partition(".")[0] in ("builtins", "jaxlab"):
        return True
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    if found is None:  # run from a file, not imported by name
        return False
    return module != "__main__" if file is None else file.startswith(_ROOTS)


def _identify_by_name(name: str, module: str | None) -> list[str]:
    """Identify an object of an installed module by its name and the version of the package."""
    package = (module or "").partition(".")[0]
    compared = package in _VERSIONED_BY_RUN or package in sys.stdlib_module_names
    return [name, _version(package)] if package and is_installed(module) and not compared else [name]


def _version(package: str) -> str:
    version = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # the distribution is named differently
        names = sorted(set(_distributions().get(package, [])))
        return " ".join(f"{name} {metadata.version(name)}" for name in names)


# Cached, since it reads the file list of every distribution.
_distributions = functools.cache(metadata.packages_distributions)


class _Encoder:
    """Encoder of values as nested lists of strings; a repeated value is encoded as its number."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}
        self.alive: list[Any] = []

    def value(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.dtype)):
            return repr(value)
        if isinstance(value, np.generic):
            return [str(value.dtype), repr(value.item())]
        if id(value) in self.seen:
            return ["seen", self.seen[id(value)]]
        self.seen[id(value)] = len(self.seen)
        self.alive.append(value)  # keeps its id from being reused
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *map(self.value, value)]
        if isinstance(value, (set, frozenset)):
            return ["set", *sorted(repr(_Encoder().value(each)) for each in value)]
        if isinstance(value, dict):
            return ["dict", *([self.value(key), self.value(each)] for key, each in value.items())]
        if isinstance(value, (np.ndarray, jax.Array)):
            return _array(value)
        return self.callable(value) if callable(value) else self.object(value)

    def callable(self, value: Any) -> Any:
        if isinstance(value, functools.partial):
            return ["partial", *map(self.value, (value.func, value.args, value.keywords))]
        if isinstance(value, types.MethodType):
            return ["method", self.value(value.__func__), self.value(value.__self__)]
        function = value  # unwrap, except a Python function, whose code matters too
        while not isinstance(function, types.FunctionType) and hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        if isinstance(function, types.FunctionType):
            return self.function(function)
        if inspect.isclass(function):
            if not is_installed(function.__module__):
                return self.klass(function)
            return _identify_by_name(name_of(function), function.__module__)
        if hasattr(function, "__qualname__"):  # written in C, or of NumPy or JAX
            return _identify_by_name(name_of(function), getattr(function, "__module__", None))
        return self.object(function)

    def object(self, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            return ["module", *_identify_by_name(value.__name__, value.__name__)]
        if isinstance(value, property):
            return ["property", *map(self.value, (value.fget, value.fset, value.fdel))]
        if isinstance(value, (staticmethod, classmethod)):
            return [type(value).__name__, self.value(value.__func__)]
        return ["object", self.value(type(value)), self.value(_state(value))]

    def klass(self, value: type) -> Any:
        bases = [self.value(base) for base in value.__bases__]
        members = {name: each for name, each in vars(value).items() if name not in _METADATA}
        return ["class", bases, [[name, self.value(each)] for name, each in sorted(members.items())]]

    def function(self, function: types.FunctionType) -> Any:
        cells = [_cell_contents(cell) for cell in function.__closure__ or ()]
        bound = [self.value(each) for each in (function.__defaults__, function.__kwdefaults__)]
        if is_installed(function.__module__):
            by_name = _identify_by_name(name_of(function), function.__module__)
            return [*by_name, bound, [self.value(each) for each in cells]]
        free = dict(zip(function.__code__.co_freevars, cells, strict=True))
        tree = _parse(function)
        if tree is None:
            code = function.__code__
            names = [self.value(function.__globals__.get(name)) for name in code.co_names]
            return [_bytecode(code), list(code.co_names), names, bound, [self.value(each) for each in cells]]
        text = _SyntaxEncoder(self, function.__globals__ | free, tree)
        # The outer function may read a global whose name an inner function binds.
        hidden = sorted(text.local.keys() & _names_of(function.__code__) & function.__globals__.keys())
        return [text.text(tree), bound, [self.value(function.__globals__[name]) for name in hidden]]


class _SyntaxEncoder:
    """Encoder of a function's syntax tree as nested lists: local names as numbers, global names as their values."""

    def __init__(self, code: _Encoder, names: dict[str, Any], tree: ast.AST):
        self.code, self.names = code, names
        self.local: dict[str, int] = {}
        global_names = {
            name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names
        }
        for name in _bound_names(tree):
            if name not in global_names:
                self.local.setdefault(name, len(self.local))

    def text(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.text(each) for each in node]
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, (ast.Name, ast.Attribute)) and (known := self.known(node)) is not None:
            return known
        found = [type(node).__name__]
        for name, each in ast.iter_fields(node):
            if name in ("ctx", "type_comment", "returns", "annotation", "kind", "type_params"):
                continue
            if name == "body" and isinstance(each, list):
                each = _without_docstring(each)
            if isinstance(each, str) and (type(node), name) not in _NOT_LOCAL and each in self.local:
                each = self.local[each]
            if each not in (None, []):
                found.append([name, self.text(each)])
        return found

    def known(self, node: ast.Name | ast.Attribute) -> Any:
        """Encode a global name, or an attribute of a module with a global name; None for anything else."""
        path, root = [], node
        while isinstance(root, ast.Attribute):
            path.append(root.attr)
            root = root.value
        if not isinstance(root, ast.Name) or root.id in self.local:
            return None
        if root.id not in self.names:
            return ["builtin", root.id, *reversed(path)]
        value = self.names[root.id]
        while path and isinstance(value, types.ModuleType) and hasattr(value, path[-1]):
            if is_installed(value.__name__):  # identified by name, whatever its current value
                break
            value = getattr(value, path.pop())
        return ["value", self.code.value(value), *reversed(path)]


def _bound_names(tree: ast.AST) -> Iterator[str]:
    """Names that a function, or a function inside it, binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, _BINDING):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (*_SCOPES, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]


def _parse(function: types.FunctionType) -> ast.AST | None:
    """Parse a function's definition; None if the source is unavailable or contains several lambdas."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function.__code__)))
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):  # or the file has changed since
        return None
    kind = ast.Lambda if function.__code__.co_name == "<lambda>" else _SCOPES
    found = [node for node in ast.walk(tree) if isinstance(node, kind)]
    if kind is ast.Lambda:
        return found[0] if len(found) == 1 else None
    return found[0] if found and found[0].name == function.__code__.co_name else None


def _state(value: Any) -> Any:
    """State from which an object can be copied: attributes, slots, and state that its class stores elsewhere."""
    reduce = copyreg.dispatch_table.get(type(value))
    try:
        made = reduce(value) if reduce else value.__reduce_ex__(4)
    except TypeError:  # it cannot be copied
        return dict(getattr(value, "__dict__", {}))
    if isinstance(made, str):
        return made
    return [list(each) if isinstance(each, Iterator) else each for each in made[1:]]


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if text and isinstance(first.value.value, str) else body


def _bytecode(code: types.CodeType) -> list:
    constants = [
        _bytecode(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts
    ]
    return [code.co_code.hex(), constants]


def _names_of(code: types.CodeType) -> set[str]:
    """Global and attribute names that a code object and the functions inside it use."""
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return set(code.co_names).union(*map(_names_of, inner))


def _cell_contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _array(value: Any) -> Any:
    if isinstance(value, jax.core.Tracer):
        return str(value.aval)
    value = np.asarray(value)
    return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
