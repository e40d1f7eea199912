"""A plugin of mypy: `replace` (snapshotd/domain/state.py) takes what the class of its first argument is built from.

mypy knows that of `dataclasses.replace` only. Without this, a change of a wrong name or type would pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mypy.meet import meet_types
from mypy.nodes import ARG_NAMED_OPT, ARG_POS
from mypy.plugin import FunctionSigContext, Plugin
from mypy.typeops import map_type_from_supertype
from mypy.types import CallableType, FunctionLike, Instance, Type, TypeVarType, UnionType, get_proper_type

_REPLACE = "snapshotd.domain.state.replace"


class ReplacePlugin(Plugin):
    """Gives each call of `replace` a signature of its own."""

    def get_function_signature_hook(self, fullname: str) -> Callable[[FunctionSigContext], FunctionLike] | None:
        """Return what tells the signature of a call, if the function is `replace`."""
        return _signature if fullname == _REPLACE else None


def plugin(_version: str) -> type[Plugin]:
    """Return the plugin: mypy looks for a function of this name."""
    return ReplacePlugin


def _signature(ctx: FunctionSigContext) -> FunctionLike:
    """Return the signature of one call: the value, and each field of its class by name. It gives back a like value."""
    if not ctx.args or len(ctx.args[0]) != 1:
        return ctx.default_signature
    value = ctx.api.get_expression_type(ctx.args[0][0])
    kinds = [_fields(instance) for instance in _instances(value)]
    if not all(kinds) or not kinds:
        return ctx.default_signature
    # Of a union, only the fields that all its classes have can be changed, to what fits all of them.
    shared = {name: kinds[0][name] for name in kinds[0] if all(name in fields for fields in kinds)}
    for fields in kinds[1:]:
        shared = {
            name: meet_types(get_proper_type(kind), get_proper_type(fields[name])) for name, kind in shared.items()
        }
    return ctx.default_signature.copy_modified(
        arg_types=[value, *shared.values()],
        arg_kinds=[ARG_POS, *(ARG_NAMED_OPT for _ in shared)],
        arg_names=[None, *shared],
        ret_type=value,
        variables=[],
    )


def _both(one: Type, other: Type) -> Type:
    return meet_types(get_proper_type(one), get_proper_type(other))


def _instances(value: Type) -> Iterator[Instance]:
    """Yield the classes that a value may be of."""
    match get_proper_type(value):
        case Instance() as instance:
            yield instance
        case TypeVarType(upper_bound=bound):
            yield from _instances(bound)
        case UnionType(items=items):
            for item in items:
                yield from _instances(item)
        case _:
            pass


def _fields(instance: Instance) -> dict[str, Type]:
    """Return what a class is built from, by name; nothing if it is no dataclass and no Struct."""
    info = instance.type
    init = info.get_method("__init__")
    signature = init.type if init is not None else None
    if init is None or not isinstance(signature, CallableType) or "dataclass" not in init.info.metadata:
        return {}
    types = zip(signature.arg_names[1:], signature.arg_types[1:], strict=True)
    return {name: map_type_from_supertype(kind, info, init.info) for name, kind in types if name is not None}
