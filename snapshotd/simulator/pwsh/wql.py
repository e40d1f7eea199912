r"""The filters of Get-CimInstance: the part of WQL that compares properties with constants. Knows no class.

    InstanceID = 'a\\b' AND JobState <> 7 OR ElementName LIKE 'web%'

Texts are compared without regard to case, and a backslash in a constant stands for the character after it
(documented).
Brackets around comparisons are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from snapshotd.simulator.hypervisor import HyperVError

CMDLETS: Final = "Microsoft.Management.Infrastructure.CimCmdlets"
"""Begins the names of the classes of the CIM cmdlets."""
_TERM: Final = re.compile(
    r"""\s*(?P<name>\w+)\s*(?P<operator>=|<>|!=|<=|>=|<|>|\blike\b)\s*
        (?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|true\b|false\b|null\b|-?\d+)
        \s*(?P<then>\band\b|\bor\b|$)""",
    re.IGNORECASE | re.VERBOSE,
)
_QUERY: Final = re.compile(
    r"\s*select\s+(?:\*|[\w\s,]+?)\s+from\s+(?P<of>\w+)(?:\s+where\s+(?P<where>.*))?\s*", re.IGNORECASE | re.DOTALL
)

Instance = Mapping[str, Any]
"""An object of WMI's, by the names of its properties."""


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
    alternatives = _parsed(where)
    return [
        instance for instance in instances if any(all(_holds(term, instance) for term in all_) for all_ in alternatives)
    ]


def _parsed(where: str) -> list[list[re.Match[str]]]:
    """Return the comparisons: one of the lists must hold as a whole."""
    alternatives: list[list[re.Match[str]]] = [[]]
    at = 0
    while True:
        term = _TERM.match(where, at)
        if term is None:
            raise _invalid(where)
        alternatives[-1].append(term)
        at = term.end()
        if term["then"].lower() == "or":
            alternatives.append([])
        if not term["then"]:
            return alternatives


def _holds(term: re.Match[str], instance: Instance) -> bool:
    has = next((value for name, value in instance.items() if name.lower() == term["name"].lower()), _MISSING)
    if has is _MISSING:
        raise _invalid(term.string)
    wanted, operator = _constant(term["value"]), term["operator"].lower()
    if operator == "like":
        return isinstance(has, str) and isinstance(wanted, str) and _like(wanted).fullmatch(has) is not None
    if isinstance(has, str) and isinstance(wanted, str):
        has, wanted = has.lower(), wanted.lower()
    if operator in ("=", "<>", "!="):
        return bool((has == wanted) == (operator == "="))
    if not isinstance(has, int) or not isinstance(wanted, int):
        return False
    return {"<": has < wanted, ">": has > wanted, "<=": has <= wanted, ">=": has >= wanted}[operator]


_MISSING: Final = object()


def _constant(text: str) -> str | int | bool | None:
    if text[0] in "'\"":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    known: dict[str, bool | None] = {"true": True, "false": False, "null": None}
    return known[text.lower()] if text.lower() in known else int(text)


def _like(pattern: str) -> re.Pattern[str]:
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(c) or re.escape(c) for c in pattern), re.IGNORECASE | re.DOTALL)


def _invalid(query: str) -> HyperVError:
    error_id = f"HRESULT 0x80041017,{CMDLETS}.GetCimInstanceCommand"
    return HyperVError(error_id, "Get-CimInstance", f"Invalid query {query}")
