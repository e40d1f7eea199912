"""`host update` and `host remove --unregister`: what is asked of the service, and what is said."""

from __future__ import annotations

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from snapshotd.api.v1.host_pb2 import Host, RegisterHostRequest, RemoveHostRequest, UpdateHostRequest
from snapshotd.client.host_parser import _TRANSPORTS
from tests.unit.client.fake_service import Ctl, FakeService


@pytest.fixture(autouse=True)
def changed(service: FakeService) -> None:
    def updated(request: UpdateHostRequest) -> Message:
        return request.host

    service.answers |= {"UpdateHost": updated, "RemoveHost": lambda _: Empty()}
    service.answers["RegisterHost"] = lambda request: request.host


def test_only_what_is_given_is_changed(ctl: Ctl, service: FakeService) -> None:
    said = ctl("host", "update", "hv01", "--address", "hv01.example.com", "--credential", "new")
    assert (said.code, "hv01.example.com" in said.out) == (0, True)
    (request,) = service.of(UpdateHostRequest)
    assert (request.host.name, request.host.credential, list(request.update_mask.paths)) == (
        "hosts/hv01",
        "new",
        ["address", "credential"],
    )
    assert request.request_id


def test_a_host_is_added_with_its_transport_and_what_its_certificate_is_checked_by(
    ctl: Ctl, service: FakeService
) -> None:
    flags = ("--credential", "hv", "--transport", "KERBEROS_HTTPS", "--ca-file", "/etc/snapshotd/ca.pem")
    assert ctl("host", "add", "hv01", "hv01.example.com", *flags).code == 0
    (request,) = service.of(RegisterHostRequest)
    assert (request.host.transport, request.host.ca_file) == (Host.KERBEROS_HTTPS, "/etc/snapshotd/ca.pem")


def test_the_cas_file_can_be_taken_away(ctl: Ctl, service: FakeService) -> None:
    flags = ("--ca-file", "", "--port", "5986", "--transport", "NTLM_HTTPS")
    assert ctl("host", "update", "hv01", *flags).code == 0
    (request,) = service.of(UpdateHostRequest)
    assert (list(request.update_mask.paths), request.host.transport) == (
        ["port", "transport", "ca_file"],
        Host.NTLM_HTTPS,
    )


def test_an_update_of_nothing_makes_no_sense(ctl: Ctl, service: FakeService) -> None:
    said = ctl("host", "update", "hv01")
    assert (said.code, service.asked) == (2, [])
    assert "--address, --port, --transport, --credential or --ca-file" in said.err


def test_the_transports_are_those_of_the_api() -> None:
    assert list(_TRANSPORTS) == list(Host.Transport.keys())[1:]


@pytest.mark.parametrize(
    ("flags", "text"), [((), "registered. "), (("--unregister",), "registered, nor are its VMs. ")]
)
def test_a_host_is_removed_with_its_vms_only_if_that_is_asked_for(
    ctl: Ctl, service: FakeService, flags: tuple[str, ...], text: str
) -> None:
    assert text in ctl("host", "remove", "hv01", *flags).out
    (request,) = service.of(RemoveHostRequest)
    assert request.unregister == bool(flags)
