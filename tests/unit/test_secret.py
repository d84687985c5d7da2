"""Secrets never show their value."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from dspex.runtime.errors import ConfigError, UsageError
from dspex.runtime.secret import MASK, LostSecret, Secret, SecretRef, SecretVault

VALUE = "sk-very-secret-value"


def test_no_text_of_a_secret_shows_its_value() -> None:
    """repr, str, format, JSON by default=str and a container's repr all show the mask."""
    secret = Secret(VALUE)
    texts = [repr(secret), str(secret), f"{secret}", f"{secret:>40}", f"{secret!r}", "%s" % secret]  # noqa: UP031
    texts += [repr({"k": [secret]}), json.dumps({"k": secret}, default=str)]
    assert all(VALUE not in text and MASK in text for text in texts)


def test_resolve_gives_the_value_without_white_space() -> None:
    """A key read from a file ends with a newline, which must not reach a header."""
    assert Secret(f" {VALUE}\n").resolve() == VALUE


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_a_secret_raises_and_says_what_to_do(protocol: int) -> None:
    """A literal secret does not leave the process, whatever it is wrapped in."""
    for value in (Secret(VALUE), {"a": [Secret(VALUE)]}, SecretVault()):
        with pytest.raises(UsageError) as caught:
            pickle.dumps(value, protocol)
        assert VALUE not in str(caught.value)


def test_a_secret_compares_and_copies_like_a_value() -> None:
    """Equal values are equal secrets; copies need no pickle."""
    secret = Secret(VALUE)
    assert secret == Secret(VALUE)
    assert secret != Secret("other")
    assert secret != VALUE
    assert len({secret, Secret(VALUE)}) == 1
    assert copy.deepcopy({"k": secret})["k"] is secret
    assert copy.copy(secret) is secret
    # Bytes of the environment that are no text: an encoding error would carry the value in its repr.
    assert Secret("a\udcff") != Secret("b\udcff")


def test_an_empty_secret_is_refused() -> None:
    """White space alone is no secret."""
    with pytest.raises(ConfigError, match="got an empty text"):
        Secret("  ")


def test_a_reference_is_resolved_at_use() -> None:
    """The variable is read when asked, so a rotated key is seen; the reference itself pickles."""
    environ = {"KEY": "first\n"}
    reference = pickle.loads(pickle.dumps(SecretRef("KEY")))
    assert reference.resolve(environ) == "first"
    environ["KEY"] = "second"
    assert reference.resolve(environ) == "second"


def test_a_reference_reads_the_process_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the process's environment is read."""
    monkeypatch.setenv("DSPEX_TEST_SECRET", VALUE)
    assert SecretRef("DSPEX_TEST_SECRET").resolve() == VALUE


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}, {"KEY": " \n"}])
def test_a_missing_variable_is_named(environ: dict[str, str]) -> None:
    """Unset and empty are both missing; the error names the variable."""
    with pytest.raises(ConfigError, match="KEY") as caught:
        SecretRef("KEY").resolve(environ)
    assert caught.value.path == "KEY"


def test_the_vault_keeps_finds_and_forgets() -> None:
    """A secret keeps its first handle; a forgotten or unknown handle answers a lost secret."""
    vault = SecretVault()
    assert vault.put(Secret(VALUE), "h1") == "h1"
    assert vault.put(Secret(VALUE), "h2") == "h1"
    assert vault.get("h1") == Secret(VALUE)
    assert vault.get("h2") == LostSecret("h2")
    assert vault.count == 1
    vault.forget(Secret(VALUE))
    vault.forget(Secret("never seen"))
    assert vault.get("h1") == LostSecret("h1")
    assert VALUE not in repr(vault)


def test_vaults_differ_unless_told_otherwise() -> None:
    """Each application's vault has an id of its own, never used before; a given id may have been."""
    assert SecretVault().id != SecretVault().id
    assert not SecretVault().in_use
    assert SecretVault("mine").id == "mine"
    assert SecretVault("mine").in_use


def test_a_lost_secret_says_that_it_must_be_given_again() -> None:
    """A secret of an earlier process is a clear error, not a wrong key."""
    with pytest.raises(ConfigError, match="give it again"):
        LostSecret("h1").resolve()
