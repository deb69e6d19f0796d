"""What is stored encrypted comes back with the right key only."""

import pytest

from jobs.secrets import NoSecretKey, Unreadable, Vault, new_key


def test_what_was_sealed_can_be_opened() -> None:
    vault = Vault(new_key())
    sealed = vault.seal("whsec_abc ü", "signing_secret")
    assert vault.open(sealed) == "whsec_abc ü"
    assert b"whsec" not in sealed


def test_keys_change_without_an_interruption() -> None:
    old, new = new_key(), new_key()
    sealed = Vault(old).seal("text", "x")
    both = Vault(f"{new}, {old}")
    assert both.open(sealed) == "text"
    assert Vault(new).open(both.seal("text", "x")) == "text"


def test_another_key_opens_nothing() -> None:
    with pytest.raises(Unreadable, match="not what they were stored with"):
        Vault(new_key()).open(Vault(new_key()).seal("text", "x"))


def test_without_a_key_what_needs_one_is_refused_by_name() -> None:
    with pytest.raises(NoSecretKey, match=r"'webhook' .* LONGHAUL_SECRET_KEY") as refused:
        Vault("").seal("text", "webhook")
    assert (refused.value.param, refused.value.code) == ("webhook", "secret_key_missing")
    with pytest.raises(Unreadable, match="is not set"):
        Vault("").open(b"sealed")


def test_what_is_no_key_is_none() -> None:
    with pytest.raises(ValueError):
        Vault("abc")
