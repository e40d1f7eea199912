"""Hyper-V's types for the stub module: enums and classes of hyperv-cmdlets.json, as a library that PowerShell loads.

The PowerShell that runs the scripts makes the library (types.ps1), once in a process of ours.
"""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

_NAME: Final = re.compile(r"(?:\w+\.)+\w+")
"""A type's full name."""
NAMESPACE: Final = "Microsoft.HyperV.PowerShell"
"""Of most of its types."""
_BASE: Final = f"{NAMESPACE}.VirtualMachineBase"
_DERIVED: Final = ("VirtualMachine", "VMSnapshot")
"""Classes that have the fields of VirtualMachineBase by inheritance."""
_ALIAS_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "VirtualMachineBase": {"ParentCheckpointId": "Nullable<System.Guid>", "ParentCheckpointName": "System.String"},
    "VirtualMachine": {"VMId": "System.Guid", "VMName": "System.String", "CheckpointFileLocation": "System.String"},
}
"""The module's alias properties, which reflection does not show (documented); not verified that these are all."""
_OTHER_ENUMS: Final[Mapping[str, Mapping[str, int]]] = {
    "Microsoft.Vhd.PowerShell.VhdFormat": {"Unknown": 0, "VHD": 2, "VHDX": 3, "VHDSet": 4},
}
"""Enums of properties of a VHD, of which no parameter is, so that reflection does not show them (source read)."""
_TRIAL_S: Final = 60


def make_types(pwsh: Path, reflected: Mapping[str, Any]) -> bytes:
    """Return the library. Raises ValueError if the program cannot be run, or does not make one."""
    enums = enum_names(reflected)
    named = _names_in(reflected)
    data = [_enum_members(reflected["enums"], enums), _class_fields(reflected["classes"], enums, named)]
    script = files("snapshotd.simulator.pwsh").joinpath("types.ps1").read_text(encoding="utf-8")
    return _made(pwsh, "\n".join([*data, script]))


@functools.cache
def _made(pwsh: Path, script: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="snapshotd-") as directory:
        source, library = Path(directory) / "types.ps1", Path(directory) / "Types.dll"
        source.write_text(script, encoding="utf-8")
        command = [str(pwsh), "-NoProfile", "-NonInteractive", "-File", str(source), str(library)]
        try:
            ended = subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TRIAL_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"{pwsh} did not answer within {_TRIAL_S} s") from error
        except OSError as error:
            raise ValueError(f"{pwsh} cannot be run: {error.strerror}") from error
        if ended.returncode or not library.exists():
            said = ended.stderr.decode(errors="replace").strip()[:300] or f"exit code {ended.returncode}"
            raise ValueError(f"{pwsh} is no PowerShell that can be used here: {said}")
        return library.read_bytes()


def full_names(of: str) -> list[str]:
    """Return the full names of types in a type's name."""
    return _NAME.findall(of)


def enum_names(reflected: Mapping[str, Any]) -> dict[str, str]:
    """Return the full names of the enums, by their own."""
    named = _names_in(reflected)
    return {name: _full_name(name, named) for name in reflected["enums"]}


def _names_in(reflected: Mapping[str, Any]) -> set[str]:
    """Return the full names of all types that parameters and properties are of."""
    types = [p["type"] for cmdlet in reflected["cmdlets"].values() for p in cmdlet["parameters"].values()]
    types += [of for fields in reflected["classes"].values() for of in fields.values()]
    return {name for of in types for name in _NAME.findall(of)}


def _full_name(name: str, named: Collection[str]) -> str:
    """Return an enum's name with its namespace: the one that it is used by."""
    return next((full for full in named if full.endswith(f".{name}")), f"{NAMESPACE}.{name}")


def _enum_members(enums: Mapping[str, Mapping[str, int]], full: Mapping[str, str]) -> str:
    by_full_name = {**{full[name]: members for name, members in enums.items()}, **_OTHER_ENUMS}
    lines = [f"    '{name}' = '{_pairs(members)}'" for name, members in sorted(by_full_name.items())]
    return "$script:EnumMembers = @{\n" + "\n".join(lines) + "\n}"


def _class_fields(classes: Mapping[str, Mapping[str, str]], enums: Mapping[str, str], named: Collection[str]) -> str:
    """Write each class's base and its own fields, bases first. Classes that are only named have no fields."""
    lines = []
    for name, reflected in sorted(classes.items(), key=lambda c: (c[0] != "VirtualMachineBase", c[0])):
        inherited = classes["VirtualMachineBase"] if name in _DERIVED else {}
        fields = {**reflected, **_ALIAS_FIELDS.get(name, {})}
        own = {f: _field_type(of, enums) for f, of in sorted(fields.items()) if f not in inherited}
        base = _BASE if name in _DERIVED else ""
        lines.append(f"    '{NAMESPACE}.{name}' = '{base}', '{_pairs(own)}'")
    known = {*(f"{NAMESPACE}.{name}" for name in classes), *enums.values()}
    empty = sorted(name for name in named if name.startswith(f"{NAMESPACE}.") and name not in known)
    lines += [f"    '{name}' = '', ''" for name in empty]
    return "$script:ClassFields = [ordered]@{\n" + "\n".join(lines) + "\n}"


def _pairs(of: Mapping[str, object]) -> str:
    return ";".join(f"{name}={value}" for name, value in of.items())


def _field_type(name: str, enums: Mapping[str, str]) -> str:
    """Return a property's type as PowerShell writes it: a list or a class by what both are, an array or an object."""
    if name.startswith("System.Collections.") or name.endswith("[]"):
        return "System.Object[]"
    inner = name.removeprefix("Nullable<").removesuffix(">")
    if inner not in enums.values() and not inner.startswith("System."):
        return "System.Object"
    return inner if inner == name else f"System.Nullable[{inner}]"
