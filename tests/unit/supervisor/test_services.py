"""What is run, with which addresses."""

from __future__ import annotations

import pytest
from servicekit.config import ConfigError
from supervisor.data_dir import claimed
from supervisor.services import Ports, plan
from supervisor.settings import load


def planned(tmp_path, **environ):
    settings = load(environ)
    with claimed(tmp_path / "data") as data:
        services, edge = plan(settings, data, "the-key", environ, Ports.choose())
    return {service.name: service for service in services}, edge, tmp_path / "data" / "edge" / "envoy.yaml"


def test_services_are_stopped_from_the_clients_side_inwards(tmp_path):
    services, edge, _ = planned(tmp_path)
    assert list(services) == ["router", "session", "runner", "llm-proxy"]
    assert edge.name == "edge"


def test_all_find_each_other_on_different_ports(tmp_path):
    services, _, configuration = planned(tmp_path)
    addresses = {
        name: value
        for name, value in services["router"].environ.items()
        if name.startswith("POINTSMAN_") and name.endswith("_ADDRESS")
    }
    assert len(set(addresses.values())) == 5
    for service in services.values():
        assert addresses.items() <= service.environ.items()
    for name in ("ROUTER", "SESSION", "LLM_PROXY", "LLM_PROXY_HTTP"):
        port = addresses[f"POINTSMAN_{name}_ADDRESS"].rpartition(":")[2]
        assert f"port_value: {port}" in configuration.read_text()


def test_metrics_are_five_in_a_row(tmp_path):
    services, _, configuration = planned(tmp_path, POINTSMAN_METRICS_ADDRESS="127.0.0.1:9001")
    given = {name: service.environ["POINTSMAN_METRICS_ADDRESS"] for name, service in services.items()}
    assert given == {
        "router": "127.0.0.1:9001",
        "session": "127.0.0.1:9002",
        "runner": "127.0.0.1:9003",
        "llm-proxy": "127.0.0.1:9004",
    }
    assert '{"address": "127.0.0.1", "port_value": 9005}' in configuration.read_text()


def test_without_an_address_nobody_serves_metrics(tmp_path):
    services, _, _ = planned(tmp_path)
    assert all("POINTSMAN_METRICS_ADDRESS" not in service.environ for service in services.values())
    with pytest.raises(ConfigError, match="POINTSMAN_METRICS_ADDRESS"):
        load({"POINTSMAN_METRICS_ADDRESS": "9001"})
