"""What a caller signed in by is looked at again while its call goes on."""

from __future__ import annotations

import pytest

from snapshotd.access.bindings import WHOLE, Granted
from snapshotd.access.errors import KeysNotFetched, SignInRefused, SignInUnavailable, TokenRevoked
from snapshotd.server.sign_in import Again


class Proof:
    """What a caller signed in by."""

    def __init__(self) -> None:
        self.looks = 0
        self.error: SignInRefused | SignInUnavailable | None = None

    async def sign_in(self) -> None:
        """Sign in."""
        self.looks += 1
        if self.error is not None:
            raise self.error


async def test_it_is_looked_at_once_a_second_at_most_and_what_is_false_by_then_is_refused() -> None:
    proof, times = Proof(), iter([10.0, 10.5, 10.9, 11.0, 11.5, 12.0])
    again = Again(proof.sign_in, lambda: WHOLE, lambda: next(times))
    assert [await again(), await again(), proof.looks] == [WHOLE, WHOLE, 0]
    assert [await again(), proof.looks] == [WHOLE, 1]
    proof.error = TokenRevoked("id", "ann", "now")
    assert await again() == WHOLE
    with pytest.raises(SignInRefused):
        await again()


async def test_while_nobody_can_tell_what_was_found_out_before_counts() -> None:
    proof, times = Proof(), iter([10.0, 20.0])
    proof.error = KeysNotFetched("https://idp", "no answer")
    again = Again(proof.sign_in, lambda: WHOLE, lambda: next(times))
    assert [await again(), proof.looks] == [WHOLE, 1]


async def test_roles_are_those_of_now_and_some_proofs_have_no_end() -> None:
    granted = [Granted(), WHOLE]
    again = Again(None, granted.pop)
    assert [await again(), await again()] == [WHOLE, Granted()]
