"""Write docs/fields.md, the reference of every field of a study, from the tables in jaxlab.study.

    python scripts/write_fields.py

Run it after a field is added or changed. It takes a few seconds on any machine.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxlab.optax_functions import PATTERN
from jaxlab.study import CONFIGURATION, HYPERPARAMETERS, STUDY, TABLES, Field
from jaxlab.study.fields import written

PAGE = Path(__file__).parent.parent / "docs" / "fields.md"


def page() -> str:
    """Generate the page as Markdown."""
    return f"""# The fields of a study

Written by `scripts/write_fields.py` from the tables that jaxlab itself reads. A field has an effect only under the
configuration in the last column. To give a field that has no effect is an error.

## The study

The first keys of a study file, and arguments of `jaxlab.Study`.

{_table(_COLUMNS[:3], (_row(field)[:3] for field in STUDY.values()))}

The tables of a study file:

{_table(("table", "meaning"), ((f"`[{name}]`", meaning) for name, meaning in TABLES.items()))}

## Configuration

Static: a new value compiles one more program. A custom function is `"file.py:function"` in a study file.

{_table(_COLUMNS, map(_row, CONFIGURATION.values()))}

## Hyperparameters

Traced: any value runs in the same compiled program.

{_table(_COLUMNS, map(_row, HYPERPARAMETERS.values()))}
"""


_COLUMNS = ("name", "default", "meaning", "has an effect if")


def _table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _row(field: Field) -> tuple[str, str, str, str]:
    default = "" if field.default is None else f"`{_toml(field.default)}`"
    settings = [f"`{name}` is {' or '.join(map(_toml, values))}" for name, values in field.settings.items()]
    some = [
        f"the {name} {'has a name' if PATTERN in values else 'is built in'}"
        for name, values in field.needs.items()
        if not settings
    ]
    return f"`{field.name}`", default, field.help, " and ".join(settings or some) or "always"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else written(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
