"""Embedded instances: the text in which a method of WMI's takes settings (CIM DTD 2.0, documented).

    <INSTANCE CLASSNAME="Msvm_VirtualHardDiskSettingData">
        <PROPERTY NAME="Type" TYPE="uint16"><VALUE>3</VALUE></PROPERTY> ...

What is not said has no value. A class, property or type that is not the class's own is refused (inferred).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.etree import ElementTree as ET

Value = str | int | bool | tuple[str, ...]

_EXPORT: Final[Mapping[str, str]] = {
    "CaptureLiveState": "uint8",
    "InstanceID": "string",
    "Caption": "string",
    "Description": "string",
    "ElementName": "string",
    "CopySnapshotConfiguration": "uint8",
    "CopyVmRuntimeInformation": "boolean",
    "CopyVmStorage": "boolean",
    "CreateVmExportSubdirectory": "boolean",
    "SnapshotVirtualSystem": "string",
    "BackupIntent": "uint8",
    "ExportForLiveMigration": "boolean",
    "DisableDifferentialOfIgnoredStorage": "boolean",
    "ExcludedVirtualHardDisks": "string[]",
    "DifferentialBackupBase": "string",
}
_DISK: Final[Mapping[str, str]] = {
    "InstanceID": "string",
    "Caption": "string",
    "Description": "string",
    "ElementName": "string",
    "Type": "uint16",
    "Format": "uint16",
    "Path": "string",
    "ParentPath": "string",
    "ParentTimestamp": "datetime",
    "ParentIdentifier": "string",
    "MaxInternalSize": "uint64",
    "BlockSize": "uint32",
    "LogicalSectorSize": "uint32",
    "PhysicalSectorSize": "uint32",
    "VirtualDiskId": "string",
    "DataAlignment": "uint64",
    "PmemAddressAbstractionType": "uint16",
    "IsPmemCompatible": "boolean",
}
_CLASSES: Final[Mapping[str, Mapping[str, str]]] = {
    "Msvm_VirtualSystemExportSettingData": _EXPORT,
    "Msvm_VirtualHardDiskSettingData": _DISK,
}
"""The types of each class's properties (documented)."""


def read_embedded(text: str, class_name: str) -> dict[str, Value]:
    """Return the values in the text of an instance of a class, by property. Raises ValueError for any other text."""
    try:
        instance = ET.fromstring(text)  # noqa: S314  (of the script that is simulated, which may do anything)
    except ET.ParseError as error:
        raise ValueError(f"it is no XML: {error}") from error
    if instance.tag != "INSTANCE" or instance.get("CLASSNAME", "").lower() != class_name.lower():
        raise ValueError(f"it is no INSTANCE of {class_name}: <{instance.tag} {instance.attrib}>")
    values: dict[str, Value] = {}
    for element in instance:
        name, of = element.get("NAME", ""), element.get("TYPE", "")
        if element.tag == "PROPERTY.ARRAY":
            of += "[]"
        elif element.tag != "PROPERTY":
            continue
        if _CLASSES[class_name].get(name) != of:
            raise ValueError(f"{class_name} has no property {name!r} of type {of!r}")
        value = _value(element, of)
        if value is not None:
            values[name] = value
    return values


def _value(element: ET.Element, of: str) -> Value | None:
    if of.endswith("[]"):
        array = element.find("VALUE.ARRAY")
        return None if array is None else tuple(value.text or "" for value in array.findall("VALUE"))
    value = element.find("VALUE")
    if value is None:
        return None
    text = value.text or ""
    if of == "boolean":
        if text.upper() not in ("TRUE", "FALSE"):
            raise ValueError(f"{element.get('NAME')} is no boolean: {text!r}")
        return text.upper() == "TRUE"
    if not of.startswith("uint"):
        return text
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << int(of.removeprefix("uint")):
        raise ValueError(f"{element.get('NAME')} is no {of}: {text!r}")
    return int(text)
