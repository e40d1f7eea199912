"""The events' names in the log: explicit and versioned, so that a class may move without orphaning what is written.

A name, once released, never changes its meaning. A changed event gets the next version, and an upcast from the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snapshotd.domain import events as e
from snapshotd.store.upcasts import described_2, details_changed_2, snapshot_created_2

TOPICS: dict[type[e.Event], str] = {
    e.CallRefused: "snapshotd.access.call_refused:1",
    e.VmRegistered: "snapshotd.vm.registered:1",
    e.VmUnregistered: "snapshotd.vm.unregistered:1",
    e.VmActivityChanged: "snapshotd.vm.activity_changed:1",
    e.VmPowerChanged: "snapshotd.vm.power_changed:1",
    e.VmDescribed: "snapshotd.vm.described:2",
    e.VmMoved: "snapshotd.vm.moved:1",
    e.VmClaimed: "snapshotd.vm.claimed:1",
    e.VmClaimEnded: "snapshotd.vm.claim_ended:1",
    e.VmDetailsChanged: "snapshotd.vm.details_changed:2",
    e.JournalIdentified: "snapshotd.vm.journal_identified:1",
    e.LogFoundRolledBack: "snapshotd.vm.log_found_rolled_back:1",
    e.LogRollbackDisproved: "snapshotd.vm.log_rollback_disproved:1",
    e.VmTakenOver: "snapshotd.vm.taken_over:1",
    e.CurrentMoved: "snapshotd.vm.current_moved:1",
    e.CheckpointIgnored: "snapshotd.vm.checkpoint_ignored:1",
    e.CheckpointNotIgnored: "snapshotd.vm.checkpoint_not_ignored:1",
    e.DriftDetected: "snapshotd.vm.drift_detected:1",
    e.VmExported: "snapshotd.vm.exported:1",
    e.ExportRemoved: "snapshotd.vm.export_removed:1",
    e.VmReleased: "snapshotd.vm.released:1",
    e.VmReleaseEnded: "snapshotd.vm.release_ended:1",
    e.RequestJoined: "snapshotd.operation.request_joined:1",
    e.SnapshotRequested: "snapshotd.snapshot.requested:1",
    e.SnapshotCreationStarted: "snapshotd.snapshot.creation_started:1",
    e.SnapshotCreated: "snapshotd.snapshot.created:2",
    e.SnapshotCreationFailed: "snapshotd.snapshot.creation_failed:1",
    e.SnapshotRequestCancelled: "snapshotd.snapshot.request_cancelled:1",
    e.SnapshotCreationCancelled: "snapshotd.snapshot.creation_cancelled:1",
    e.SnapshotUnwanted: "snapshotd.snapshot.unwanted:1",
    e.SnapshotRevertStarted: "snapshotd.snapshot.revert_started:1",
    e.SnapshotRevertEnded: "snapshotd.snapshot.revert_ended:1",
    e.SnapshotExpungeStarted: "snapshotd.snapshot.expunge_started:1",
    e.SnapshotRemoved: "snapshotd.snapshot.removed:1",
    e.SnapshotExpungeFailed: "snapshotd.snapshot.expunge_failed:1",
    e.SnapshotGivenUp: "snapshotd.snapshot.given_up:1",
    e.SnapshotCheckpointMissing: "snapshotd.snapshot.checkpoint_missing:1",
    e.SnapshotCheckpointFound: "snapshotd.snapshot.checkpoint_found:1",
    e.SnapshotCheckpointIdentified: "snapshotd.snapshot.checkpoint_identified:1",
    e.SnapshotAdopted: "snapshotd.snapshot.adopted:1",
    e.SnapshotForgotten: "snapshotd.snapshot.forgotten:1",
    e.SnapshotReparented: "snapshotd.snapshot.reparented:1",
    e.SnapshotHeld: "snapshotd.snapshot.held:1",
    e.SnapshotReleased: "snapshotd.snapshot.released:1",
    e.SnapshotDetailsChanged: "snapshotd.snapshot.details_changed:1",
    e.VolumeSnapshotRequested: "snapshotd.volume_snapshot.requested:1",
    e.VolumeSnapshotTaken: "snapshotd.volume_snapshot.taken:1",
    e.VolumeSnapshotFailed: "snapshotd.volume_snapshot.failed:1",
    e.VolumeSnapshotCancelled: "snapshotd.volume_snapshot.cancelled:1",
    e.VolumeSnapshotDeletionStarted: "snapshotd.volume_snapshot.deletion_started:1",
    e.VolumeSnapshotDeletionFailed: "snapshotd.volume_snapshot.deletion_failed:1",
    e.VolumeSnapshotRemoved: "snapshotd.volume_snapshot.removed:1",
    e.VolumeSnapshotGivenUp: "snapshotd.volume_snapshot.given_up:1",
    e.TemporaryCheckpointExpected: "snapshotd.volume_snapshot.temporary_checkpoint_expected:1",
    e.TemporaryCheckpointTaken: "snapshotd.volume_snapshot.temporary_checkpoint_taken:1",
    e.TemporaryCheckpointGone: "snapshotd.volume_snapshot.temporary_checkpoint_gone:1",
    e.OperationRequested: "snapshotd.operation.requested:1",
    e.OperationStarted: "snapshotd.operation.started:1",
    e.OperationSucceeded: "snapshotd.operation.succeeded:1",
    e.OperationFailed: "snapshotd.operation.failed:1",
    e.OperationCancelled: "snapshotd.operation.cancelled:1",
    e.CancelRequested: "snapshotd.operation.cancel_requested:1",
    e.UndoPlanned: "snapshotd.operation.undo_planned:1",
    e.PlanRepeated: "snapshotd.operation.plan_repeated:1",
    e.FollowUpRefused: "snapshotd.operation.follow_up_refused:1",
    e.MemoryLost: "snapshotd.operation.memory_lost:1",
    e.OperationSettled: "snapshotd.operation.settled:1",
    e.StepIssued: "snapshotd.step.issued:1",
    e.StepWaitStarted: "snapshotd.step.wait_started:1",
    e.StepDone: "snapshotd.step.done:1",
    e.StepFailed: "snapshotd.step.failed:1",
    e.StepDueAgain: "snapshotd.step.due_again:1",
    e.StepNotSent: "snapshotd.step.not_sent:1",
    e.StepOutcomeUnknown: "snapshotd.step.outcome_unknown:1",
    e.ObservationIssued: "snapshotd.step.observation_issued:1",
    e.ObservationAnswered: "snapshotd.step.observation_answered:1",
    e.StepUndetermined: "snapshotd.step.undetermined:1",
    e.StepSkipped: "snapshotd.step.skipped:1",
    e.HostRegistered: "snapshotd.host.registered:1",
    e.HostUpdated: "snapshotd.host.updated:1",
    e.HostRemoved: "snapshotd.host.removed:1",
    e.HostTakenOver: "snapshotd.host.taken_over:1",
    e.HostSynced: "snapshotd.host.synced:1",
    e.VolumeClaimed: "snapshotd.volume.claimed:1",
    e.VolumeReleased: "snapshotd.volume.released:1",
}
"""The name that each event is written under."""

CLASSES: dict[str, type[e.Event]] = {topic: cls for cls, topic in TOPICS.items()}
"""By name, for reading."""

UPCASTS: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "snapshotd.vm.described:1": ("snapshotd.vm.described:2", described_2),
    "snapshotd.snapshot.created:1": ("snapshotd.snapshot.created:2", snapshot_created_2),
    "snapshotd.vm.details_changed:1": ("snapshotd.vm.details_changed:2", details_changed_2),
}
"""Older name -> (next name, what turns the older data into the next version's). Chains are followed to the end."""
