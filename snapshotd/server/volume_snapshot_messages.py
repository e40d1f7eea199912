"""Builds the API's messages of volume snapshots from the domain's values."""

from __future__ import annotations

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.volume_snapshot import VolumeSnapshot
from snapshotd.server.operation_messages import failure_message, host_name, volume_snapshot_name
from snapshotd.server.wire_values import timestamp


def volume_snapshot_message(copy: VolumeSnapshot) -> pb.VolumeSnapshot:
    """Return a volume snapshot."""
    return pb.VolumeSnapshot(
        name=volume_snapshot_name(copy.vm_id, copy.volume_snapshot_id),
        uid=copy.volume_snapshot_id,
        display_name=copy.name,
        location=copy.location,
        path=copy.path,
        size_bytes=copy.size_bytes,
        disk_identifier=copy.identifier,
        consistency=_consistency(copy),
        state=pb.VolumeSnapshot.State.Value(copy.state.name),
        failure=failure_message(copy.failure, copy.updated_at),
        create_time=timestamp(copy.requested_at),
        update_time=timestamp(copy.updated_at),
        actor=copy.actor,
        host=host_name(copy.host_id) if copy.host_id else "",
    )


def _consistency(copy: VolumeSnapshot) -> pb.VolumeSnapshot.Consistency.ValueType:
    """Return what the guest knew of the moment; unspecified for a copy that is not there."""
    match copy.power:
        case "":
            return pb.VolumeSnapshot.CONSISTENCY_UNSPECIFIED
        case Power.STOPPED.name:
            return pb.VolumeSnapshot.OFF
        case Power.RUNNING.name if not copy.has_memory:
            return pb.VolumeSnapshot.APPLICATION
        case _:
            return pb.VolumeSnapshot.CRASH
