r"""The filters of Get-CimInstance: the part of WQL that compares properties with constants. Knows no class.

    (InstanceID = 'a\\b' OR ElementName LIKE 'web%') AND NOT JobState = 7 AND Parent IS NOT NULL

Texts are compared without regard to case, and a backslash in a constant stands for the character after it
(documented).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from snapshotd.simulator.hypervisor import HyperVError

CMDLETS: Final = "Microsoft.Management.Infrastructure.CimCmdlets"
"""Begins the names of the classes of the CIM cmdlets."""
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<bracket>[()])|(?P<operator><=|>=|<>|!=|=|<|>)|(?P<word>[A-Za-z_]\w*)
        |(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+))\s*""",
    re.VERBOSE | re.DOTALL,
)
_CONSTANTS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "null": None}
_QUERY: Final = re.compile(
    r"\s*select\s+(?:\*|[\w\s,]+?)\s+from\s+(?P<of>\w+)(?:\s+where\s+(?P<where>.*))?\s*", re.IGNORECASE | re.DOTALL
)

Instance = Mapping[str, Any]
"""An object of WMI's, by the names of its properties."""
Constant = str | int | bool
_Test = Callable[[Instance], bool]


def parse_query(query: str) -> tuple[str, str]:
    """Return the class and the filter of a query. Raises HyperVError."""
    found = _QUERY.fullmatch(query)
    if found is None:
        raise _invalid(query)
    return found["of"], found["where"] or ""


def select(instances: Sequence[Instance], where: str) -> list[Instance]:
    """Return the instances that a filter lets through; all, if it is empty. Raises HyperVError for one that is none."""
    if not where.strip():
        return list(instances)
    holds = _Filter(where).read()
    return [instance for instance in instances if holds(instance)]


class _Filter:
    """Reads a filter: OR binds weakest, then AND, then NOT."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(where):
            token = _TOKEN.match(where, at)
            if token is None:
                raise _invalid(where)
            self._tokens.append((str(token.lastgroup), str(token[str(token.lastgroup)])))
            at = token.end()

    def read(self) -> _Test:
        """Return what it lets through. Raises HyperVError."""
        test = self._any()
        if self._tokens:
            raise _invalid(self._where)
        return test

    def _any(self) -> _Test:
        tests = [self._all()]
        while self._takes("or"):
            tests.append(self._all())
        return lambda instance: any(test(instance) for test in tests)

    def _all(self) -> _Test:
        tests = [self._one()]
        while self._takes("and"):
            tests.append(self._one())
        return lambda instance: all(test(instance) for test in tests)

    def _one(self) -> _Test:
        if self._takes("not"):
            negated = self._one()
            return lambda instance: not negated(instance)
        if self._takes("("):
            within = self._any()
            if not self._takes(")"):
                raise _invalid(self._where)
            return within
        return self._comparison()

    def _comparison(self) -> _Test:
        name = self._next("word")
        if self._takes("is"):
            negated = self._takes("not")
            if not self._takes("null"):
                raise _invalid(self._where)
            return lambda instance: (self._value(instance, name) is None) != negated
        operator = "like" if self._takes("like") else self._next("operator")
        wanted = self._constant()
        return lambda instance: _holds(self._value(instance, name), operator, wanted)

    def _constant(self) -> Constant | None:
        if self._tokens and self._tokens[0][0] == "word" and self._tokens[0][1].lower() in _CONSTANTS:
            return _CONSTANTS[self._next("word").lower()]
        text = self._next("value")
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text[0] in "'\"" else int(text)

    def _value(self, instance: Instance, name: str) -> Any:  # noqa: ANN401  (of a property)
        for own, value in instance.items():
            if own.lower() == name.lower():
                return value
        raise _invalid(self._where)

    def _takes(self, word: str) -> bool:
        """Go past a word or a bracket, if it is next."""
        if not self._tokens or self._tokens[0][0] not in ("word", "bracket") or self._tokens[0][1].lower() != word:
            return False
        del self._tokens[0]
        return True

    def _next(self, kind: str) -> str:
        if not self._tokens or self._tokens[0][0] != kind:
            raise _invalid(self._where)
        return self._tokens.pop(0)[1]


def _holds(has: Any, operator: str, wanted: Constant | None) -> bool:  # noqa: ANN401  (of a property)
    if operator == "like":
        return isinstance(has, str) and isinstance(wanted, str) and _like(wanted).fullmatch(has) is not None
    if isinstance(has, str) and isinstance(wanted, str):
        has, wanted = has.lower(), wanted.lower()
    if operator in ("=", "<>", "!="):
        return bool((has == wanted) == (operator == "="))
    if not isinstance(has, int) or not isinstance(wanted, int):
        return False
    return {"<": has < wanted, ">": has > wanted, "<=": has <= wanted, ">=": has >= wanted}[operator]


def _like(pattern: str) -> re.Pattern[str]:
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(c) or re.escape(c) for c in pattern), re.IGNORECASE | re.DOTALL)


def _invalid(query: str) -> HyperVError:
    error_id = f"HRESULT 0x80041017,{CMDLETS}.GetCimInstanceCommand"
    return HyperVError(error_id, "Get-CimInstance", f"Invalid query {query}")
