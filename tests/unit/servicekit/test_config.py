from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError
from servicekit.config import ConfigError, ServiceConfig, load


class DemoConfig(ServiceConfig):
    address: str = Field(
        default="127.0.0.1:7000",
        validation_alias="POINTSMAN_DEMO_ADDRESS",
        description="host:port to listen on",
    )
    workers: int = Field(
        default=2, ge=1, validation_alias="DEMO_WORKERS", description="a whole number from 1"
    )
    origins: list[str] = Field(
        default=[], validation_alias="DEMO_ORIGINS", description="a JSON list of origins"
    )
    api_key: SecretStr = Field(default=SecretStr(""), validation_alias="API_KEY", description="any text")


KEYS = {"POINTSMAN_PASSPORT_KEYS": "/k/jwks.json", "POINTSMAN_PASSPORT_KEY": "/k"}


def test_values_come_from_the_mapping_and_defaults_from_the_class() -> None:
    config = load(DemoConfig, {**KEYS, "DEMO_WORKERS": "5", "DEMO_ORIGINS": '["https://a.example"]'})
    assert (config.workers, config.origins) == (5, ["https://a.example"])
    assert (config.address, config.passport_keys) == ("127.0.0.1:7000", Path("/k/jwks.json"))


def test_the_environment_of_the_process_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_WORKERS", "9")
    assert load(DemoConfig, KEYS).workers == 2
    assert DemoConfig(passport_keys=Path("a"), passport_key=Path("b")).workers == 2


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert load(DemoConfig, {**KEYS, "DEMO_WORKERS": ""}).workers == 2


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"DEMO_WORKERS": "many"}, "DEMO_WORKERS: input should be a valid integer"),
        ({"DEMO_WORKERS": "0"}, "DEMO_WORKERS: input should be greater than or equal to 1"),
        ({"DEMO_ORIGINS": "a,b"}, "DEMO_ORIGINS: is not the JSON it should be; a JSON list of origins"),
        ({"POINTSMAN_PASSPORT_KEYS": ""}, "POINTSMAN_PASSPORT_KEYS: is not set; path of jwks.json"),
        ({"POINTSMAN_LOG_LEVEL": "loud"}, "POINTSMAN_LOG_LEVEL: input should be 'debug', 'info'"),
        ({"POINTSMAN_METRICS_ADDRESS": "here"}, "POINTSMAN_METRICS_ADDRESS: "),
    ],
)
def test_a_bad_value_names_the_variable_and_what_it_may_be(environ: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(DemoConfig, {**KEYS, **environ})
    assert str(caught.value).startswith(line)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_bad_variable_has_its_line_and_no_line_has_the_value() -> None:
    with pytest.raises(ConfigError) as caught:
        load(DemoConfig, {"DEMO_WORKERS": "hunter2"})
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "POINTSMAN_PASSPORT_KEYS",
        "POINTSMAN_PASSPORT_KEY",
        "DEMO_WORKERS",
    ]
    assert "hunter2" not in str(caught.value)


def test_a_configuration_cannot_be_changed() -> None:
    config = load(DemoConfig, KEYS)
    with pytest.raises(ValidationError):
        config.workers = 3


def test_secrets_do_not_show() -> None:
    assert "hunter2" not in repr(load(DemoConfig, {**KEYS, "API_KEY": "hunter2"}))
