"""Writes the stub module: every cmdlet of hyperv-cmdlets.json with its real parameters, sets, aliases and validation.

What a cmdlet does stands in stubs.ps1; one that has nothing there refuses with NotSupported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

_PLAIN: Final = {
    *("string", "string[]", "guid[]", "Nullable[guid]", "switch", "bool", "uint32", "uint64", "psobject"),
    *("Nullable[bool]", "Nullable[int]", "Nullable[uint64]"),
    *("Nullable[long]", "Nullable[int16]", "Nullable[timespan]", "hashtable[]", "version"),
}
"""Types that every PowerShell has."""
_ALIASES: Final = {
    "Get-VMCheckpoint": "Get-VMSnapshot",
    "Remove-VMCheckpoint": "Remove-VMSnapshot",
    "Rename-VMCheckpoint": "Rename-VMSnapshot",
    "Restore-VMCheckpoint": "Restore-VMSnapshot",
    "Export-VMCheckpoint": "Export-VMSnapshot",
}
_CIM: Final = ("Get-CimInstance", "Get-CimAssociatedInstance")


def write_modules(directory: Path) -> None:
    """Write the modules into a directory that stands on PSModulePath."""
    reflected = json.loads(_read("hyperv-cmdlets.json"))
    enums: Mapping[str, Mapping[str, int]] = reflected["enums"]
    text = [_enum(name, values) for name, values in sorted(enums.items())]
    text.append(_properties(reflected["classes"]))
    text.append(_read("stubs.ps1"))
    text += [_function(name, cmdlet, set(enums)) for name, cmdlet in sorted(reflected["cmdlets"].items())]
    text += [f"Set-Alias -Name {alias} -Value {target}" for alias, target in _ALIASES.items()]
    exported = sorted(reflected["cmdlets"])
    text.append(f"Export-ModuleMember -Function {', '.join(exported)} -Alias {', '.join(_ALIASES)}")
    _write(directory, "Hyper-V", "2.0.0.0", "\n".join(text), exported, tuple(_ALIASES))
    cim = _read("cim.ps1") + f"\nExport-ModuleMember -Function {', '.join(_CIM)}\n"
    _write(directory, "CimCmdlets", "1.0.0.0", cim, _CIM, ())


def _write(
    directory: Path, name: str, version: str, text: str, functions: Iterable[str], aliases: Iterable[str]
) -> None:
    module = directory / name
    module.mkdir(parents=True, exist_ok=True)
    (module / f"{name}.psm1").write_text(text, encoding="utf-8")
    (module / f"{name}.psd1").write_text(
        f"@{{ RootModule = '{name}.psm1'; ModuleVersion = '{version}'; FunctionsToExport = @({_quoted(functions)}); "
        f"AliasesToExport = @({_quoted(aliases)}); CmdletsToExport = @(); VariablesToExport = @() }}\n",
        encoding="utf-8",
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{n}'" for n in names)


def _read(name: str) -> str:
    return files("snapshotd.simulator.pwsh").joinpath(name).read_text(encoding="utf-8")


def _enum(name: str, values: Mapping[str, int]) -> str:
    members = " ".join(f"{member} = {value};" for member, value in values.items())
    return f"enum {name} {{ {members} }}"


def _properties(classes: Mapping[str, Mapping[str, str]]) -> str:
    """Write the names of each class's properties, so that an object has all of them."""
    lines = [f"    {name} = @({_quoted(sorted(of))})" for name, of in sorted(classes.items())]
    return "$script:Properties = @{\n" + "\n".join(lines) + "\n}"


def _function(name: str, cmdlet: Mapping[str, Any], enums: set[str]) -> str:
    impact = cmdlet.get("confirm_impact")
    binding = [f"DefaultParameterSetName = '{cmdlet['default_set']}'"] if cmdlet.get("default_set") else []
    binding += [f"SupportsShouldProcess = $true, ConfirmImpact = '{impact}'"] if impact else []
    parameters = [_parameter(p, of, enums) for p, of in sorted(cmdlet["parameters"].items())]
    return (
        f"function {name} {{\n    [CmdletBinding({', '.join(binding)})]\n    param(\n"
        + ",\n".join(parameters)
        + f"\n    )\n    process {{ Invoke-Stub '{name}' $PSBoundParameters $PSCmdlet }}\n}}"
    )


def _parameter(name: str, parameter: Mapping[str, Any], enums: set[str]) -> str:
    attributes = [_attribute(s, of) for s, of in parameter.get("sets", {"*": {}}).items()]
    if aliases := parameter.get("aliases"):
        attributes.append(f"[Alias({_quoted(aliases)})]")
    validations = [v for v in parameter.get("validate", ()) if v.startswith("Validate")]
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


def _type(name: str, enums: set[str]) -> list[str]:
    """Return the type of a parameter: an object of Hyper-V's by its type name, an enum by ours of that name."""
    if name in _PLAIN:
        return [f"[{name}]"]
    short = name.rpartition(".")[2].removesuffix("]")
    if short in enums:
        return [f"[Nullable[{short}]]" if name.startswith("Nullable[") else f"[{short}]"]
    many = "[]" if name.endswith("[]") else ""
    if name.startswith("Microsoft.HyperV.PowerShell."):
        return [f"[PSTypeName('{name.removesuffix('[]')}')]", f"[psobject{many}]"]
    return [f"[psobject{many}]"]
