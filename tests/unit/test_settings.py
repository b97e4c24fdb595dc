"""Settings: where they are read from, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from reyna.errors import SetupError
from reyna.settings import Settings, load


def test_nothing_has_to_be_set(tmp_path: Path) -> None:
    """Without any variable, and without the file, the defaults hold."""
    assert load({}, tmp_path / ".env") == load({}, None) == Settings()


def test_every_setting_is_read() -> None:
    """Each variable ends up in its own field, as its own type."""
    assert load(
        {
            "REYNA_NATS_URL": "nats://a:4222,nats://b:4222",
            "REYNA_NATS_TOKEN": "t",
            "REYNA_DATABASE_URL": "postgresql://host/db",
            "REYNA_SECRET_KEY": "s" * 32,
            "REYNA_SYNC": "interval",
            "REYNA_WAIT_TIMEOUT": "0.5",
            "REYNA_MAX_DEPTH": "7",
            "REYNA_MAX_BLOB_BYTES": "2048",
            "REYNA_MAX_MEDIA_BYTES": "4096",
            "REYNA_ALLOWED_ORIGINS": "https://a.example, http://localhost:5173/",
            "REYNA_TEXT_BASE_URL": "http://127.0.0.1:1/v1",
            "REYNA_TEXT_MODEL": "m",
            "REYNA_TEXT_WINDOW": "8192",
            "REYNA_TEXT_PRICE": "0.15/.6",
            "OPENAI_API_KEY": "k",
        },
        None,
    ) == Settings(
        nats_url="nats://a:4222,nats://b:4222",
        nats_token="t",
        database_url="postgresql://host/db",
        secret_key="s" * 32,
        sync="interval",
        wait_timeout=0.5,
        max_depth=7,
        max_blob_bytes=2048,
        max_media_bytes=4096,
        allowed_origins=("https://a.example", "http://localhost:5173"),
        text_base_url="http://127.0.0.1:1/v1",
        text_model="m",
        text_window=8192,
        text_price=(0.15, 0.6),
        openai_api_key="k",
    )


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """What the environment does not say is read from the file; what both say, from the first."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("REYNA_MAX_DEPTH=5\nREYNA_SYNC=interval\nOTHER=x\n# REYNA_TEXT_MODEL=m\n")
    assert load({"REYNA_MAX_DEPTH": "9"}, dotenv) == Settings(max_depth=9, sync="interval")


def test_an_empty_variable_is_not_set() -> None:
    """An empty or blank value is the same as none."""
    assert load({"REYNA_MAX_DEPTH": "", "REYNA_TEXT_MODEL": "  "}, None) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REYNA_NATS_URL", "localhost:4222"),
        ("REYNA_DATABASE_URL", "mysql://host/db"),
        ("REYNA_SECRET_KEY", "short"),
        ("REYNA_SYNC", "never"),
        ("REYNA_WAIT_TIMEOUT", "0"),
        ("REYNA_WAIT_TIMEOUT", "-1"),
        ("REYNA_WAIT_TIMEOUT", "301"),
        ("REYNA_WAIT_TIMEOUT", "nan"),
        ("REYNA_WAIT_TIMEOUT", "inf"),
        ("REYNA_WAIT_TIMEOUT", "soon"),
        ("REYNA_MAX_DEPTH", "0"),
        ("REYNA_MAX_DEPTH", "1001"),
        ("REYNA_MAX_DEPTH", "-1"),
        ("REYNA_MAX_DEPTH", "1.5"),
        ("REYNA_MAX_DEPTH", "\u0663"),
        ("REYNA_MAX_DEPTH", "9" * 5000),
        ("REYNA_MAX_BLOB_BYTES", "1023"),
        ("REYNA_MAX_BLOB_BYTES", "1 MiB"),
        ("REYNA_MAX_MEDIA_BYTES", "0"),
        ("REYNA_MAX_MEDIA_BYTES", "1 GB"),
        ("REYNA_ALLOWED_ORIGINS", "*"),
        ("REYNA_ALLOWED_ORIGINS", "https://a.example/path"),
        ("REYNA_ALLOWED_ORIGINS", "https://a.example, b.example"),
        ("REYNA_TEXT_BASE_URL", "ftp://host"),
        ("REYNA_TEXT_WINDOW", "1023"),
        ("REYNA_TEXT_WINDOW", "8k"),
        ("REYNA_TEXT_PRICE", "0.15"),
        ("REYNA_TEXT_PRICE", "0.15/-1"),
        ("REYNA_TEXT_PRICE", "0.15/nan"),
        ("REYNA_TEXT_PRICE", "1/2/3"),
    ],
)
def test_a_wrong_value_names_its_variable(tmp_path: Path, variable: str, value: str) -> None:
    """A value out of range or of a wrong form is an error in one line that begins with its name."""
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"{variable}='{value}'\n")
    for environment in ({variable: value}, {}):
        with pytest.raises(SetupError, match=rf"\A{variable} is wrong: .*\.\Z"):
            load(environment, dotenv)


def test_a_secret_is_never_repeated() -> None:
    """The error about a secret that is too short does not say what it is."""
    with pytest.raises(SetupError) as wrong:
        load({"REYNA_SECRET_KEY": "hunter2"}, None)
    assert "hunter2" not in str(wrong.value)
