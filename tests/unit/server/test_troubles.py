"""The troubles of parts: what is new is logged once, since when is kept, and what has ended is gone."""

from snapshotd.domain.storage_errors import LogUnavailable
from snapshotd.server.troubles import Troubles


def test_a_trouble_is_new_once_keeps_its_beginning_and_ends() -> None:
    troubles = Troubles()
    assert troubles.failed("core", KeyError("x"))
    assert not troubles.failed("core", KeyError("x"))
    ((subject, first),) = troubles.all()
    assert (subject, first.reason) == ("core", "INTERNAL")
    assert "KeyError: 'x'" in first.message
    assert troubles.failed("core", KeyError("y"))
    assert troubles.all()[0][1].since == first.since
    assert troubles.failed("a host", LogUnavailable("it is full"))
    assert [(subject, t.reason) for subject, t in troubles.all()] == [
        ("a host", "LOG_UNAVAILABLE"),
        ("core", "INTERNAL"),
    ]
    troubles.ended("core")
    troubles.ended("nothing")
    assert [subject for subject, _ in troubles.all()] == ["a host"]


def test_only_some_concern_the_service_as_a_whole() -> None:
    troubles = Troubles()
    troubles.failed("sync of host hv01", KeyError("x"))
    assert not troubles.concern_all()
    troubles.failed("core", KeyError("x"), concerns_all=True)
    assert troubles.concern_all()
    troubles.ended("core")
    assert not troubles.concern_all()
