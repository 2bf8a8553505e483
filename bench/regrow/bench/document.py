"""What a measuring script prints: one JSON document, or lines for people."""

import argparse
from typing import Any, cast

import msgspec


def options(text: str | None) -> argparse.ArgumentParser:
    """A parser that knows ``--json``, described by the first line of a module's text."""
    parser = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def printed(document: msgspec.Struct, *, as_json: bool) -> str:
    """The whole document as one line of JSON, or its fields, one a line."""
    if as_json:
        return msgspec.json.encode(document).decode()
    fields = cast(dict[str, Any], msgspec.to_builtins(document))
    return "\n".join(f"{name.replace('_', ' ')}: {_said(value)}" for name, value in fields.items() if name != "v")


def _said(value: Any) -> str:
    match value:
        case {"ours": ours, "floor": floor, "ratio": ratio, "repeat": repeat, "spread": spread}:
            return f"{ours:,} (floor {floor:,}, ratio {ratio:.2f}, median of {repeat}, spread {spread:.0%})"
        case {"p50": p50, "p95": p95, "p99": p99, "max": largest, "count": number}:
            return f"p50 {p50:,}, p95 {p95:,}, p99 {p99:,}, max {largest:,} of {number:,}"
        case [*items]:
            return "; ".join(_said(each) for each in items)
        case int() | float():
            return f"{value:,}"
        case _:
            return str(value)
