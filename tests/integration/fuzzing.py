"""Calls by chance: of every method and of none, with messages that are right, nearly right, or no messages at all."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

from google.longrunning import operations_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from snapshotd.api.v1 import (
    admin_pb2,
    audit_pb2,
    executor_pb2,
    host_pb2,
    operation_pb2,
    snapshot_pb2,
    virtual_machine_pb2,
)
from snapshotd.server.listing import write_token
from tests.fakes import VM_ID

_MODULES: Final[Sequence[Any]] = (
    *(host_pb2, virtual_machine_pb2, snapshot_pb2, audit_pb2, admin_pb2, executor_pb2),
    *(operation_pb2, operations_pb2, health_pb2, reflection_pb2),
)
METHODS: Final[Sequence[MethodDescriptor]] = [
    method
    for module in _MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
_UNKNOWN: Final = (
    "/",
    "/a",
    "/a/b",
    "/snapshotd.api.v1.HostService/",
    "/snapshotd.api.v1.HostService/Nothing",
    "//",
    "/é/ü",
)
_BUILT: Final = [
    method
    for method in METHODS
    if method.name.startswith(
        (
            "Get",
            "List",
            "Register",
            "Remove",
            "Sync",
            "Start",
            "Stop",
            "Create",
            "Revert",
            "Delete",
            "Watch",
            "Hold",
            "Release",
        )
    )
]
"""Most of those that are built: they get more of the calls."""
_AIMED: Final = [
    method for method in METHODS if method.containing_service.full_name.startswith(("snapshotd.", "google."))
]
_SNAPSHOT: Final = "aaaaaaaa-0000-4000-8000-000000000001"
_TEXTS: Final = (
    *("", " ", "a", "-", "*", "x" * 300, "y" * 70_000, "\0", "\u202e", "ä\U0001f680", "%s {0} %n", "' OR 1=1 --"),
    *("hosts/hv01", "hosts/HV01", "hosts/-", "hv01", "hv02", "10.0.0.1", "hosts/", "hosts/hv01/x"),
    *(f"virtualMachines/{VM_ID}", f"virtualMachines/{VM_ID}".upper(), "virtualMachines/-", "virtualMachines/x", VM_ID),
    *(f"virtualMachines/{VM_ID}/snapshots/{_SNAPSHOT}", f"virtualMachines/{VM_ID}/snapshots/x", _SNAPSHOT),
    *(
        f"operations/{VM_ID}.1-00000002",
        f"operations/{VM_ID}.1",
        f"operations/{VM_ID}.999999999999999999999",
        "operations",
        f"operations/{VM_ID}.-1",
    ),
    *(
        'name = "a"',
        'state = "READY" AND create_time > "x"',
        "create_time < 2026-01-01T00:00:00Z",
        "done = false",
        "a AND",
    ),
    *("name", "name desc", "position desc", "create_time,display_name desc", "SnapshotCreated", "ann", "tree"),
    *(write_token("1", "hosts", "", ""), write_token('["a", "b"]', "vms", "", ""), "W10=", "\u00ff", "=" * 50),
)
_FITTING: Final = {
    "name": ("virtualMachines/", "operations/", "hosts/"),
    "parent": ("virtualMachines/",),
    "virtual_machine": ("virtualMachines/",),
    "snapshot": ("virtualMachines/",),
    "operation": ("operations/",),
    "host": ("hosts/",),
    "host_id": ("hv",),
    "credential": ("hv",),
    "address": ("10.",),
    "display_name": ("a", "ä"),
    "order_by": ("name", "create", "position"),
    "filter": ("done", "name ="),
}
"""How texts begin that fit into a field."""
_FITS: Final = 0.8
_FIT: Final[Mapping[str, Mapping[str, object]]] = {
    "CreateSnapshot": {"snapshot.kind": snapshot_pb2.Snapshot.DISK, "snapshot.display_name": "before"},
    "AdoptCheckpoint": {"checkpoint_id": _SNAPSHOT},
    "IgnoreCheckpoint": {"checkpoint_id": _SNAPSHOT},
    "AttachVolume": {"location": "SCSI:0:5", "path": "D:\\a.vhdx"},
    "DetachVolume": {"location": "SCSI:0:0"},
    "ResizeVolume": {"location": "SCSI:0:0", "size_bytes": 1 << 40},
    "TakeVolumeSnapshot": {"volume_snapshot.location": "SCSI:0:0"},
    "ChangeServiceOffering": {"service_offering.cpu_count": 2},
    "RegisterHost": {"host.address": "10.77.0.3", "host.credential": "hv"},
    "ListSnapshots": {"parent": "virtualMachines/-"},
    "ListVolumeSnapshots": {"parent": "virtualMachines/-"},
    "ListOperations": {"name": ""},
}
"""What else requests need."""
_EMPTY: Final = frozenset(
    {"page_token", "filter", "order_by", "request_id", "as_of_version", "ca_file", "journal_directory"}
)
"""Fields that are often better left empty."""
_NUMBERS: Final = (0, 1, 2, 7, 50, 1000, 5985, -1, 2**31 - 1, -(2**31))
_LARGE: Final = (*_NUMBERS, 2**62, -(2**63), 2**63 - 1)
_ACTORS: Final = ("ann", "", "snapshotd", "x" * 101, "bob@example.com", " ")
_DEEPEST: Final = 4


@dataclass(frozen=True, slots=True)
class FuzzedCall:
    """One call."""

    path: str
    message: bytes | None
    """None: the caller sends none."""
    metadata: Sequence[tuple[str, str | bytes]]
    endless: bool
    """It may go on for as long as the caller waits."""


def fuzzed_call(chance: random.Random) -> FuzzedCall:
    """Return a call."""
    method = chance.choice(METHODS if chance.random() < 0.3 else _BUILT)
    path = f"/{method.containing_service.full_name}/{method.name}"
    if chance.random() < 0.03:
        path = chance.choice(_UNKNOWN)
    kind = chance.choices(("right", "spoilt", "noise", ""), (10, 6, 2, 1))[0]
    metadata: list[tuple[str, str | bytes]] = []
    if chance.random() < 0.5:
        metadata.append(("x-snapshotd-actor", chance.choice(_ACTORS)))
    if chance.random() < 0.1:
        metadata.append(("x-trace-bin", chance.randbytes(20)))
    message = _message(method, kind, chance) if kind else None
    return FuzzedCall(path, message, metadata, method.name.startswith(("Wait", "Watch")))


def aimed_call(chance: random.Random) -> FuzzedCall:
    """Return a call of one of our methods that names what it is about as it should, and is by chance otherwise."""
    method = chance.choice(_AIMED)
    message: Any = GetMessageClass(method.input_type)()
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.12 and field.message_type is None and not field.is_repeated:
            setattr(message, field.name, _value(field, chance))
    for field, value in {**_names(method), **_FIT.get(method.name, {})}.items():
        if method.name != "ListEvents" or chance.random() < 0.4:
            *into, last = field.split(".")
            setattr(reduce(getattr, into, message), last, value)
    if hasattr(message, "request_id"):
        message.request_id = ""
    path = f"/{method.containing_service.full_name}/{method.name}"
    return FuzzedCall(path, message.SerializeToString(), (), method.name.startswith(("Wait", "Watch")))


def _names(method: MethodDescriptor) -> dict[str, str]:
    """Return what a request names, by the paths of its fields."""
    vm, host = f"virtualMachines/{VM_ID}", "hosts/hv01"
    snapshot, operation = f"{vm}/snapshots/{_SNAPSHOT}", f"operations/{VM_ID}.1-00000002"
    fields = {field.name for field in method.input_type.fields}
    every = {"parent": vm, "host": host, "host_id": "hv01", "virtual_machine": vm, "operation": operation}
    every["snapshot"] = snapshot
    service, about = method.containing_service.name, method.name
    if "Operation" in service or about == "SettleOperation":
        every["name"] = operation
    elif "Host" in service:
        every["name"] = host
    elif "VolumeSnapshot" in about:
        every["name"] = snapshot.replace("snapshots", "volumeSnapshots")
    else:
        every["name"] = vm if service != "SnapshotService" or "Tree" in about else snapshot
    if about.startswith("Update"):
        kind = {"SnapshotService": "snapshot", "HostService": "host"}.get(service, "virtual_machine")
        return {f"{kind}.name": every[kind]}
    if about in ("CreateSnapshot", "RegisterHost", "AdoptCheckpoint"):
        fields -= {"snapshot", "host"}
    if about == "StartVirtualMachine":
        fields -= {"host"}
    return {field: name for field, name in every.items() if field in fields}


def _message(method: MethodDescriptor, kind: str, chance: random.Random) -> bytes:
    if kind == "noise":
        return chance.randbytes(chance.randrange(1, 60))
    message = GetMessageClass(method.input_type)()
    _fill(message, chance, 0)
    data = bytearray(message.SerializeToString())
    if kind == "spoilt":
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(data) + 1)
            spoil = chance.randrange(4)
            if spoil == 0:
                data[at:at] = chance.choice((b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7f", b"\x0b", b"\xff" * 11))
            elif spoil == 1:
                del data[at:]
            elif spoil == 2:
                del data[at : at + 1]
            elif at < len(data):
                data[at] = chance.randrange(256)
    return bytes(data)


def _fill(message: Message, chance: random.Random, depth: int) -> None:
    """Set some fields of a message."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < (0.8 if field.name in _EMPTY else 0.3):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue  # labels: refused before anything else is looked at
        if field.is_repeated:
            values: Any = getattr(message, field.name)
            for _ in range(chance.randrange(3)):
                if field.message_type is None:
                    values.append(_value(field, chance))
                elif depth < _DEEPEST:
                    _fill(values.add(), chance, depth + 1)
        elif field.message_type is None:
            setattr(message, field.name, _value(field, chance))
        elif depth < _DEEPEST:
            part = getattr(message, field.name)
            part.SetInParent()
            _fill(part, chance, depth + 1)


def _value(field: Any, chance: random.Random) -> object:  # noqa: ANN401  (see below)
    """Return a value for a field (of one of two types of descriptors, with the same attributes)."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            begins = _FITTING.get(field.name, ("",)) if chance.random() < _FITS else ("",)
            text = chance.choice([text for text in _TEXTS if text.startswith(begins)])
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return chance.choice((0.0, -1.5, 1e300))
        case FieldDescriptor.CPPTYPE_INT64:
            return chance.choice(_LARGE)
        case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
            return abs(chance.choice(_NUMBERS))
        case _:
            return chance.choice(_NUMBERS)
