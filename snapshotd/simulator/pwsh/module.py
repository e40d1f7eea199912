"""Writes the stub module: every cmdlet of hyperv-cmdlets.json with its real parameters, sets, aliases and validation.

    Hyper-V.psm1 = errors.ps1, objects.ps1, acts.ps1, drives.ps1, machines.ps1, and a function for each cmdlet
    beside it: Types.dll (types.py), jobs.ps1, and the tables that are shown by default (tables.ps1xml)

What a cmdlet does stands in acts.ps1, drives.ps1 and machines.ps1; one that is in none refuses with NotSupported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from snapshotd.simulator.pwsh.types import NAMESPACE, enum_names, full_names, make_types

_PLAIN: Final = {
    *("string", "string[]", "guid[]", "switch", "bool", "int", "uint16", "uint32", "uint64", "psobject"),
    *("hashtable[]", "version", "Nullable[guid]", "Nullable[bool]", "Nullable[int]", "Nullable[uint64]"),
    *("Nullable[long]", "Nullable[int16]", "Nullable[timespan]", "pscredential", "pscredential[]"),
}
"""Types that every PowerShell has."""
_ALIASES: Final = {
    "Get-VMCheckpoint": "Get-VMSnapshot",
    "Remove-VMCheckpoint": "Remove-VMSnapshot",
    "Rename-VMCheckpoint": "Rename-VMSnapshot",
    "Restore-VMCheckpoint": "Restore-VMSnapshot",
    "Export-VMCheckpoint": "Export-VMSnapshot",
}
_KEPT: Final = ("Validate", "PSTypeName")
"""Begins what is taken over of a parameter's attributes."""
_SCRIPTS: Final = ("errors.ps1", "objects.ps1", "acts.ps1", "drives.ps1", "machines.ps1", "transfers.ps1")
_CIM: Final = ("Get-CimInstance", "Get-CimAssociatedInstance", "Invoke-CimMethod")


def write_modules(directory: Path, pwsh: Path) -> None:
    """Write the modules into a directory that stands on PSModulePath.

    Args:
        directory: made if missing.
        pwsh: the PowerShell that will load them; it makes the types.

    Raises ValueError if it cannot be run, or is none.
    """
    reflected = json.loads(_read("hyperv-cmdlets.json"))
    enums = frozenset(enum_names(reflected).values())
    text = [*map(_read, _SCRIPTS)]
    text += [_function(name, cmdlet, enums) for name, cmdlet in sorted(reflected["cmdlets"].items())]
    text += [f"Set-Alias -Name {alias} -Value {target}" for alias, target in _ALIASES.items()]
    hyperv = directory / "Hyper-V"
    exported = sorted(reflected["cmdlets"])
    text.append(f"Export-ModuleMember -Function {', '.join(exported)} -Alias {', '.join(_ALIASES)}")
    _write(hyperv, "2.0.0.0", "\n".join(text), exported, tuple(_ALIASES), _read("tables.ps1xml"))
    cim = _read("cim.ps1") + f"\nExport-ModuleMember -Function {', '.join(_CIM)}\n"
    (hyperv / "jobs.ps1").write_text(_read("jobs.ps1"), encoding="utf-8")
    # Put in its place at once: a PowerShell that a killed host has left behind may still have the former one open.
    (hyperv / "Types.new").write_bytes(make_types(pwsh, reflected))
    (hyperv / "Types.new").replace(hyperv / "Types.dll")
    _write(directory / "CimCmdlets", "1.0.0.0", cim, _CIM)


def _write(
    module: Path, version: str, text: str, functions: Iterable[str], aliases: Iterable[str] = (), views: str = ""
) -> None:
    name = module.name
    module.mkdir(parents=True, exist_ok=True)
    (module / f"{name}.psm1").write_text(text, encoding="utf-8")
    manifest = (
        f"@{{ RootModule = '{name}.psm1'; ModuleVersion = '{version}'; FunctionsToExport = @({_quoted(functions)}); "
        f"AliasesToExport = @({_quoted(aliases)}); CmdletsToExport = @(); VariablesToExport = @()"
    )
    if views:
        (module / f"{name}.Format.ps1xml").write_text(views, encoding="utf-8")
        manifest += f"; FormatsToProcess = @('{name}.Format.ps1xml')"
    (module / f"{name}.psd1").write_text(f"{manifest} }}\n", encoding="utf-8")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{n}'" for n in names)


def _read(name: str) -> str:
    return files("snapshotd.simulator.pwsh").joinpath(name).read_text(encoding="utf-8")


def _function(name: str, cmdlet: Mapping[str, Any], enums: frozenset[str]) -> str:
    impact = cmdlet.get("confirm_impact")
    binding = [f"DefaultParameterSetName = '{cmdlet['default_set']}'"] if cmdlet.get("default_set") else []
    binding += [f"SupportsShouldProcess = $true, ConfirmImpact = '{impact}'"] if impact else []
    parameters = [_parameter(p, of, enums) for p, of in sorted(cmdlet["parameters"].items())]
    return (
        f"function {name} {{\n    [CmdletBinding({', '.join(binding)})]\n    param(\n"
        + ",\n".join(parameters)
        + "\n    )\n    begin { . Use-Preference $PSBoundParameters $PSCmdlet }"
        + f"\n    process {{ Invoke-Stub '{name}' $PSBoundParameters $PSCmdlet }}\n}}"
    )


def _parameter(name: str, parameter: Mapping[str, Any], enums: frozenset[str]) -> str:
    attributes = [_attribute(s, of) for s, of in parameter.get("sets", {"*": {}}).items()]
    if aliases := parameter.get("aliases"):
        attributes.append(f"[Alias({_quoted(aliases)})]")
    validations = [v for v in parameter.get("validate", ()) if v.startswith(_KEPT)]
    attributes += [f"[{v}]" if "(" in v else f"[{v}()]" for v in validations]
    return "        " + " ".join([*attributes, *_type(parameter["type"], enums), f"${name}"])


def _attribute(parameter_set: str, of: Mapping[str, Any]) -> str:
    parts = [] if parameter_set == "*" else [f"ParameterSetName = '{parameter_set}'"]
    if of.get("mandatory"):
        parts.append("Mandatory = $true")
    if "position" in of:
        parts.append(f"Position = {of['position']}")
    pipeline = of.get("pipeline", "")
    if "value" in pipeline:
        parts.append("ValueFromPipeline = $true")
    if "property" in pipeline:
        parts.append("ValueFromPipelineByPropertyName = $true")
    return f"[Parameter({', '.join(parts)})]"


def _type(name: str, enums: frozenset[str]) -> list[str]:
    """Return the type of a parameter; one of a module that is not here takes any object."""
    if name in _PLAIN or name.startswith(f"{NAMESPACE}.") or not enums.isdisjoint(full_names(name)):
        return [f"[{name}]"]
    return ["[psobject[]]" if name.endswith("[]") else "[psobject]"]
