"""What an edit's fields are: their types, defaults and meaning, read off the class."""

import ast
import inspect
import re
import textwrap
from dataclasses import MISSING, dataclass, fields
from typing import Any

from ..world_object import ObjectKind
from . import EDITS
from .rows import Rows
from .target import Box, Polygon, Sphere, Target


@dataclass(frozen=True)
class Described:
    """One field, for people."""

    name: str
    kind: str
    """Its type, as one writes it in Python."""
    default: str
    """As JSON would have it; empty where the field must be given."""
    meaning: str


#: What the fields of edits are made of.
PARTS: dict[str, type] = {"target": Target, "box": Box, "sphere": Sphere, "polygon": Polygon}


def summary(kind: type) -> str:
    """The first sentence about an edit."""
    return (inspect.getdoc(kind) or "").splitlines()[0]


def described(kind: type) -> list[Described]:
    """The fields of an edit, or of a part of one, in their order."""
    meanings = _meanings(kind)
    return [
        Described(field.name, _kind(field.type), _default(field), meanings.get(field.name, ""))
        for field in fields(kind)
    ]


def named(name: str) -> type:
    """The edit, or part of one, of a name.

    Raises:
        ValueError: there is none.
    """
    known: dict[str, Any] = EDITS | PARTS
    if name not in known:
        raise ValueError(f"expected an edit among {', '.join(sorted(known))}, got {name!r:.80}")
    return known[name]


def _meanings(kind: type) -> dict[str, str]:
    """The string below each field, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:]):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _kind(kind: Any) -> str:
    text = re.sub(r"\b[a-z_]+(\.[a-z_]+)*\.", "", inspect.formatannotation(kind))
    for python, people in _WORDS:
        text = re.sub(python, people, text)
    return text


#: How Python spells a type, and how people do; in this order.
_WORDS = (
    (r"tuple\[int, \.\.\.\]", "list of objects"),
    (r"tuple\[tuple\[float, float\], \.\.\.\]", "list of 2 numbers"),
    (r"tuple\[(float(?:, float)*)\]", lambda found: f"{found[1].count('float')} numbers"),
    (r"Mapping\[str, float\]", "object of numbers"),
    (r"ObjectKind", " | ".join(kind.value for kind in ObjectKind)),
    (r"Gaussians", "path of a splat file"),
    (r"Shape", "path of a mesh file"),
    (r"Literal\[(.*)\]|^\[(.*)\]$", lambda found: (found[1] or found[2]).replace("'", "").replace(",", " |")),
    (r"\bfloat\b", "number"),
    (r"\bstr\b", "text"),
    (r"\bbool\b", "true | false"),
    (r"\bNone(Type)?\b", "null"),
)


def _default(field: Any) -> str:
    if field.default_factory is not MISSING:
        return "none" if field.default_factory is Rows else "{}"
    if field.default is MISSING:
        return ""
    value = getattr(field.default, "value", field.default)
    return str(list(value) if isinstance(value, tuple) else value).replace("None", "null")
