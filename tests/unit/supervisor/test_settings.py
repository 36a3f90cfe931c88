"""What the supervisor reads, and what it says about a bad value."""

from __future__ import annotations

import pytest
from servicekit.config import ConfigError
from supervisor.settings import load, read_environment


def test_nothing_set_is_enough():
    settings = load({})
    assert (settings.port, settings.host, settings.sandbox) == (8080, "127.0.0.1", "auto")


def test_the_environment_goes_over_the_file_and_empty_is_not_set(tmp_path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("PORT=9000\nMODEL='demo/offline'\nAPI_KEY=\n")
    environ = read_environment({"PORT": "9001", "SANDBOX": ""}, dotenv)
    assert environ == {"PORT": "9001", "MODEL": "demo/offline"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("SANDBOX", "chroot"),
        ("API_KEY", "short"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://a.example/path"),
    ],
)
def test_a_bad_variable_is_one_line_that_names_it_and_never_shows_it(variable, value):
    with pytest.raises(ConfigError) as raised:
        load({variable: value})
    line = str(raised.value)
    assert line.startswith(f"{variable}: ")
    assert "\n" not in line
    assert variable != "API_KEY" or value not in line


def test_a_certificate_and_its_key_go_together(tmp_path):
    file = tmp_path / "server.pem"
    file.touch()
    both = {"POINTSMAN_TLS_CERT": str(file), "POINTSMAN_TLS_KEY": str(file)}
    assert load(both).tls_cert == file
    for missing in both:
        with pytest.raises(ConfigError, match="POINTSMAN_TLS_KEY: "):
            load({name: value for name, value in both.items() if name != missing})
    with pytest.raises(ConfigError, match="POINTSMAN_TLS_CERT: "):
        load({**both, "POINTSMAN_TLS_CERT": str(tmp_path / "none.pem")})


def test_origins_are_a_list_with_commas():
    settings = load({"CORS_ORIGINS": "https://a.example, http://localhost:5173"})
    assert settings.cors_origins == ("https://a.example", "http://localhost:5173")
