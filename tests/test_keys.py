"""Keys of callers, and tokens of card numbers."""

import stat
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from aegis_app import keys
from aegis_app.card_numbers import CardNumberError, CardNumbers
from aegis_app.cli import main
from aegis_app.keys import Keyring, KeysError, Scope, bears, create, read, revoke
from aegis_app.settings import SettingsError, settings
from aegis_app.settings import read as read_settings

SECRET = "s" * 32


def test_a_key_is_found_and_kept_only_as_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "below" / "keys.json"
    made = create(path, "checkout", [Scope.SCORE], 50)

    found = Keyring(path).find(made.secret)

    assert found == made.key == read(path)[0]
    assert made.secret.split("_", 2)[2] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_key_but_the_whole_one_is_found(tmp_path: Path) -> None:
    made = create(tmp_path / "keys.json", "checkout", [Scope.SCORE], 50)
    ring = Keyring(tmp_path / "keys.json")
    other = create(tmp_path / "others.json", "checkout", [Scope.SCORE], 50)

    wrong = ["", made.key.id, made.secret[:-1], f"{made.secret}x", made.secret.upper(), other.secret, made.key.sha256, "\udcff"]

    assert [ring.find(each) for each in wrong] == [None] * len(wrong)
    assert Keyring(tmp_path / "nothing.json").find(made.secret) is None


def test_what_changes_in_the_file_is_known_a_moment_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was made or revoked; a file that cannot be read changes nothing."""
    monkeypatch.setattr(keys, "LOOK_SECONDS", 0.0)
    path = tmp_path / "keys.json"
    ring = Keyring(path)
    made = create(path, "checkout", [Scope.SCORE], 50)
    assert ring.find(made.secret) is not None

    text = path.read_bytes()
    path.write_bytes(b"{")
    assert ring.find(made.secret) is not None

    path.write_bytes(text)
    assert revoke(path, made.key.id).revoked_at is not None
    assert ring.find(made.secret) is None
    assert len(read(path)) == 1


def test_what_is_wrong_with_keys_is_said(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"keys": [{}]}')

    with pytest.raises(KeysError, match="AEGIS_KEYS"):
        read(tmp_path / "keys.json")
    with pytest.raises(KeysError, match="no key 12345678"):
        revoke(tmp_path / "none.json", "12345678")
    with pytest.raises(KeysError, match="this is no key"):
        create(tmp_path / "none.json", "", [Scope.SCORE], 50)


def test_the_commands_make_list_and_revoke(tmp_path: Path) -> None:
    settings.cache_clear()
    environment = {"AEGIS_KEYS": str(tmp_path / "keys.json")}
    run = CliRunner()

    made = run.invoke(main, ["keys", "create", "--name", "checkout", "--scope", "score", "--scope", "read", "--json"], env=environment)
    fields = msgspec.json.decode(made.stdout)
    listed = run.invoke(main, ["keys", "list"], env=environment)
    revoked = run.invoke(main, ["keys", "revoke", fields["id"]], env=environment)
    after = run.invoke(main, ["keys", "list"], env=environment)
    settings.cache_clear()

    assert Keyring(tmp_path / "keys.json").find(fields["key"]) is None
    assert f"{fields['id']}  checkout  read,score  2,000/s" in listed.stdout
    assert revoked.stdout == f"{fields['id']} of checkout is revoked\n"
    assert "revoked" in after.stdout
    assert fields["key"] not in listed.stdout + after.stdout


def test_a_card_number_has_one_token_under_each_key() -> None:
    numbers = CardNumbers({"k2": b"2" * 32, "k1": b"1" * 32})

    token = numbers.token("4111 1111-11111111")

    assert token == numbers.token("4111111111111111") == numbers.token("4111111111111111", "k2")
    assert token.startswith("k2.")
    assert len(token) <= 64
    assert numbers.token("4111111111111111", "k1") not in {token, numbers.token("4111111111111112", "k1")}


@pytest.mark.parametrize(("number", "key"), [("4111", None), ("", None), ("x" * 16, None), ("4111111111111111", "k9")])
def test_what_is_no_card_number_is_refused_without_repeating_it(number: str, key: str | None) -> None:
    with pytest.raises(CardNumberError) as refused:
        CardNumbers({"k1": SECRET.encode()}).token(number, key)

    assert not number or number not in str(refused.value)
    with pytest.raises(CardNumberError, match="AEGIS_CARD_KEY"):
        CardNumbers({}).token("4111111111111111")


@pytest.mark.parametrize("value", ["", "k1", f"k1{SECRET}", "k1:short", f"k-1:{SECRET}", f"k1:{SECRET},k1:{SECRET}", f"k1:{SECRET},"])
def test_a_bad_card_key_stops_the_start_and_is_not_shown(value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        CardNumbers.of(read_settings({"AEGIS_CARD_KEY": value}))

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "is_it"),
    [
        ("Bearer token-1", True),
        ("bearer token-1", False),
        ("Bearer token-2", False),
        ("token-1", False),
        ("Bearer \udcff", False),
        ("", False),
        (None, False),
    ],
)
def test_a_token_is_borne_as_a_whole(given: str | None, is_it: bool) -> None:
    assert bears(given, "token-1") is is_it
