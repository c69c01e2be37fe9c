"""What a Python function that is never traced does, as a digest: of a user's rule, or of a callback of a program."""

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
#: Packages whose versions a run records and compares by itself.
_COMPARED = {"jaxlab", "jax", "jaxlib", "flax", "optax", "numpy"}
_METADATA = {"__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__qualname__"}
_METADATA |= {
    "__static_attributes__",
    "__weakref__",
    "__annotate__",
    "__annotations_cache__",
    "__slotnames__",
}
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BINDING = (ast.Store, ast.Del)
#: Fields that hold the name of something else: of a function's argument, a module, an attribute; or a text.
_NOT_LOCAL = {(ast.keyword, "arg"), (ast.alias, "name"), (ast.Attribute, "attr"), (ast.Constant, "value")}


def code_digest(function: Callable) -> str:
    """A short hash of a callable's code and of all values that it reads: defaults, closures, globals, attributes.

    Functions, methods, base classes and constants of any module are followed, except those of installed packages, which
    are known by name and the package's version. Comments, docstrings, formatting, annotations and the names of local
    variables, functions and modules are no part of it.
    """
    return hashlib.sha256(repr(_Code().value(function)).encode()).hexdigest()[:16]


def installed(module: str | None) -> bool:
    """Whether a module belongs to Python, to jaxlab or to an installed package."""
    if module is None or module.partition(".")[0] in ("builtins", "jaxlab"):
        return True
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    if found is None:  # run from a file that is not imported by name
        return False
    return module != "__main__" if file is None else file.startswith(_ROOTS)


def _by_name(name: str, module: str | None) -> list[str]:
    """What stands for something of an installed module: its name, and the package's version."""
    package = (module or "").partition(".")[0]
    compared = package in _COMPARED or package in sys.stdlib_module_names
    return [name, _version(package)] if package and installed(module) and not compared else [name]


def _version(package: str) -> str:
    version = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # the distribution has another name
        names = sorted(set(_distributions().get(package, [])))
        return " ".join(f"{name} {metadata.version(name)}" for name in names)


_distributions = functools.cache(metadata.packages_distributions)  # slow: it reads what each has installed


class _Code:
    """Values as nested lists of text; what is seen again is its number."""

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
        self.alive.append(value)  # an address is not given to another value meanwhile
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *map(self.value, value)]
        if isinstance(value, (set, frozenset)):
            return ["set", *sorted(repr(_Code().value(each)) for each in value)]
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
        function = value  # a Python function that wraps another is part of what is called
        while not isinstance(function, types.FunctionType) and hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        if isinstance(function, types.FunctionType):
            return self.function(function)
        if inspect.isclass(function):
            if not installed(function.__module__):
                return self.klass(function)
            return _by_name(name_of(function), function.__module__)
        if hasattr(function, "__qualname__"):  # of C, or of NumPy or JAX
            return _by_name(name_of(function), getattr(function, "__module__", None))
        return self.object(function)

    def object(self, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            return ["module", *_by_name(value.__name__, value.__name__)]
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
        cells = [_content(cell) for cell in function.__closure__ or ()]
        bound = [self.value(each) for each in (function.__defaults__, function.__kwdefaults__)]
        if installed(function.__module__):
            by_name = _by_name(name_of(function), function.__module__)
            return [*by_name, bound, [self.value(each) for each in cells]]
        free = dict(zip(function.__code__.co_freevars, cells, strict=True))
        tree = _tree(function)
        if tree is None:
            code = function.__code__
            names = [self.value(function.__globals__.get(name)) for name in code.co_names]
            return [_bytecode(code), list(code.co_names), names, bound, [self.value(each) for each in cells]]
        text = _Text(self, function.__globals__ | free, tree)
        # A name that a function inside binds may be read from the module outside it.
        hidden = sorted(text.local.keys() & _names_of(function.__code__) & function.__globals__.keys())
        return [text.text(tree), bound, [self.value(function.__globals__[name]) for name in hidden]]


class _Text:
    """A function's syntax tree as nested lists: local names as numbers, global ones as what they stand for."""

    def __init__(self, code: _Code, names: dict[str, Any], tree: ast.AST):
        self.code, self.names = code, names
        self.local: dict[str, int] = {}
        outer = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
        for name in _bound(tree):
            if name not in outer:
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
        """What a name that is not local stands for, and an attribute of a module by such a name; else None."""
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
            if installed(value.__name__):  # known by its name, whatever it is at the moment
                break
            value = getattr(value, path.pop())
        return ["value", self.code.value(value), *reversed(path)]


def _bound(tree: ast.AST) -> Iterator[str]:
    """Names that the function or a function inside it binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, _BINDING):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (*_SCOPES, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]


def _tree(function: types.FunctionType) -> ast.AST | None:
    """The function's definition; None where its source is not to be had, or holds several lambdas."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function.__code__)))
    except (OSError, TypeError, SyntaxError):
        return None
    kind = ast.Lambda if function.__code__.co_name == "<lambda>" else _SCOPES
    found = [node for node in ast.walk(tree) if isinstance(node, kind)]
    if kind is ast.Lambda:
        return found[0] if len(found) == 1 else None
    return found[0] if found and found[0].name == function.__code__.co_name else None


def _state(value: Any) -> Any:
    """What a copy of an object is made from: attributes, slots, and what its class keeps elsewhere."""
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
    """Global and attribute names that a function's code and the functions in it use."""
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return set(code.co_names).union(*map(_names_of, inner))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _array(value: Any) -> Any:
    if isinstance(value, jax.core.Tracer):
        return str(value.aval)
    value = np.asarray(value)
    return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
