"""What is registered of a host can be connected to, and cannot change the URL or path that it goes into."""

import pytest

from snapshotd.application.hosts import TRANSPORTS, checked
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.host import Host
from snapshotd.domain.host_address import WINRM_HTTP_PORT
from snapshotd.domain.ids import HostId
from snapshotd.domain.state import replace
from snapshotd.server.status import to_status


def host(address: str = "hv01.example.org", port: int = 0, credential: str = "hv") -> Host:
    return Host(host_id=HostId("hv01"), address=address, port=port, transport="NTLM_HTTP", credential=credential)


@pytest.mark.parametrize(
    "address",
    ["h", "HV_01", "hv01.example.org", "10.0.0.1", "fe80::1", "1.example", "0xy", "a" * 63, ".".join(["a" * 49] * 5)],
)
def test_a_name_as_windows_gives_it_and_an_ip_address_are_taken(address: str) -> None:
    assert checked(host(address)).address == address


@pytest.mark.parametrize(
    "address",
    [
        *["", "-a", "a-", "a/b", "user@host", "host:1", "[::1]", "fe80::1%eth0", "fe80::1%]:1@evil"],
        *["a" * 64, "hv01." + "a" * 64 + ".org", ".".join(["a" * 50] * 5), ".x", "x.", "x..y", "..", "a-.b", "a.-b"],
        *["999.1.1.1", "1.2.3.4.5", "1.2.3", "127.1", "0", "010.0.0.1", "hv01.1", "0x7f.1", "0x7F000001", "hv01.0x"],
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        checked(host(address))
    assert refused.value.field == "host.address"


def test_the_port_is_that_of_the_transport_unless_one_is_named() -> None:
    assert checked(host()).port == WINRM_HTTP_PORT
    assert checked(host(port=65535)).port == 65535
    for port in (-1, 65536):
        with pytest.raises(InvalidArgument):
            checked(host(port=port))


@pytest.mark.parametrize("name", ["", ".hidden", "../hv", "a/b", "a:b", "a" * 64])
def test_what_names_no_credential_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        checked(host(credential=name))
    assert refused.value.field == "host.credential"


@pytest.mark.parametrize(
    "fields",
    [
        {"credential": "DOM\\snap:Geheim"},
        {"credential": "Geheim!"},
        {"credential": "Geheim" * 20},
        {"address": "snap:Geheim@hv01"},
        {"address": "http://snap:Geheim@hv01:5985/wsman"},
    ],
)
def test_a_secret_in_a_wrong_place_comes_back_in_no_part_of_the_refusal(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        checked(replace(host(), **fields))  # type: ignore[arg-type]  # texts, all of them
    status = to_status(refused.value)
    assert b"Geheim" not in status.SerializeToString()
    assert status.message.startswith(f"Cannot accept host.{next(iter(fields))}")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_transport_has_its_port_and_only_https_takes_what_checks_a_certificate(transport: str) -> None:
    over_https = transport.endswith("_HTTPS")
    wanted = replace(host(), transport=transport)
    assert checked(wanted).port == (5986 if over_https else 5985)
    for ca_file in ("/etc/snapshotd/ca.pem", "sha256:" + "0F" * 32, "sha256:" + ":".join(["0f"] * 32)):
        if over_https:
            assert checked(replace(wanted, ca_file=ca_file)).ca_file == ca_file
        else:
            with pytest.raises(InvalidArgument, match="over http"):
                checked(replace(wanted, ca_file=ca_file))


@pytest.mark.parametrize(
    "ca_file", ["none", "ignore", "false", "ca.pem", "sha256:", "sha256:ab", "sha1:" + "a" * 40, "/a\nb"]
)
def test_nothing_leaves_the_check_of_a_certificate_out(ca_file: str) -> None:
    with pytest.raises(InvalidArgument, match="always checked") as refused:
        checked(replace(host(), transport="NTLM_HTTPS", ca_file=ca_file))
    assert refused.value.field == "host.ca_file"


def test_kerberos_wants_a_name() -> None:
    with pytest.raises(InvalidArgument, match="DNS name"):
        checked(replace(host("10.0.0.1"), transport="KERBEROS_HTTP"))


@pytest.mark.parametrize(
    "folder",
    ["", r"D:\snapshotd", r"C:\ProgramData\snapshotd", r"\\srv\share\journals", r"C:\ClusterStorage\Volume1", "/srv/j"],
)
def test_journals_may_be_in_a_folder_of_their_own(folder: str) -> None:
    assert checked(replace(host(), journal_directory=folder)).journal_directory == folder


@pytest.mark.parametrize(
    "folder",
    [
        *[r"C:\Windows", r"c:/windows/System32"],
        *[r"C:\ProgramData\..\Windows\x", r"\\?\C:\WINDOWS.\x", r"D:\Windows"],
        *[r"C:\Program Files\x", r"C:\Program Files (x86)", r"C:\PROGRA~1\x", r"\\.\C:\Windows"],
        *["snapshotd", r"..\x", "C:\\a\nb", "C:\\a|b"],
        *[r"\\localhost\C$\Windows", r"\\hv01\admin$\x", r"\\?\UNC\hv01\c$\x"],
        *[r"\\?\Volume{0}\Windows\x", r"%TEMP%\x"],
    ],
)
def test_journals_are_in_no_folder_of_the_system(folder: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        checked(replace(host(), journal_directory=folder))
    assert refused.value.field == "host.journal_directory"
