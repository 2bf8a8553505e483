"""Types as JSON schemas in the form that providers take. Pure."""

from functools import lru_cache
from typing import Any, cast

import msgspec


def answer_type(returns: Any) -> type[msgspec.Struct]:
    """An object around the value: a schema's root must be an object, and a list or a bool is none."""
    return _answer_type(returns)


def object_schema(of: type[msgspec.Struct]) -> dict[str, Any]:
    """Its schema, an object at the root, every field required and none beside them."""
    (root,), definitions = msgspec.json.schema_components([of])
    schemas = {name: _closed(schema) for name, schema in definitions.items()}
    schema: dict[str, Any] = schemas.pop(cast(str, root["$ref"]).rsplit("/", 1)[-1])
    if schemas:
        schema["$defs"] = schemas
    return schema


def may_be_strict(schema: Any) -> bool:
    """Whether a server can decode by it: there is no free-form map and no tuple of a fixed length."""
    if isinstance(schema, list):
        items = cast(list[Any], schema)  # type: ignore[redundant-cast]  # pyright needs it
        return all(may_be_strict(item) for item in items)
    if not isinstance(schema, dict):
        return True
    fields = cast(dict[str, Any], schema)
    free = fields.get("type") == "object" and fields.get("additionalProperties") is not False
    return not free and "prefixItems" not in fields and all(may_be_strict(value) for value in fields.values())


def _closed(schema: Any) -> Any:
    """The schema with every field required, none beside them, and no default: what strict decoding wants."""
    if isinstance(schema, list):
        items = cast(list[Any], schema)  # type: ignore[redundant-cast]  # pyright needs it
        return [_closed(item) for item in items]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in cast(dict[str, Any], schema).items() if key != "default"}
    properties = closed.get("properties")
    if isinstance(properties, dict):
        # `properties` maps names to schemas; a field may well be named "default".
        original = cast(dict[str, Any], schema["properties"])
        closed["properties"] = {name: _closed(value) for name, value in original.items()}
        closed["required"] = list(original)
        closed["additionalProperties"] = False
    return closed


@lru_cache(maxsize=256)  # a class is slow to make
def _answer_type(returns: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct("Answer", [("value", returns)], forbid_unknown_fields=True)
