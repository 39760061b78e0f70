"""docker-compose.yml without a Docker engine: its shape, and that all it points at exists and agrees with the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from devservices.kafka_broker import VERSION as KAFKA_VERSION
from stream_app.config import setting_docs

CHECKOUT = Path(__file__).resolve().parents[3]
DOCKERFILES = sorted((CHECKOUT / "deploy").glob("Dockerfile"))

TEXTS = {"type": "array", "items": {"type": "string"}}
ENVIRONMENT = {"type": "object", "additionalProperties": {"type": "string"}}  # a bare 8 or true is a trap of YAML
DURATION = {"type": "string", "pattern": r"^\d+(ms|s|m)$"}
# The part of the Compose specification that is used here; a key outside it is a typing error or needs a line here.
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {"type": "string"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile"],
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}},
        },
        "command": TEXTS,
        "env_file": TEXTS,
        "environment": ENVIRONMENT,
        "ports": TEXTS,
        "volumes": TEXTS,
        "init": {"type": "boolean"},
        "security_opt": TEXTS,
        "stop_grace_period": DURATION,
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["condition"],
                "properties": {"condition": {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}},
            },
        },
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test", "interval", "timeout", "retries"],
            "properties": {
                "test": {
                    "type": "array",
                    "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}],
                    "items": {"type": "string"},
                    "minItems": 2,
                },
                "interval": DURATION,
                "timeout": DURATION,
                "retries": {"type": "integer", "minimum": 1},
                "start_period": DURATION,
            },
        },
    },
}
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services", "volumes"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": "object"}},
    },
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    return tree


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    entry: dict[str, dict[str, Any]] = compose["services"]
    return entry


def variables_of(service: dict[str, Any]) -> dict[str, str]:
    """All variables of a container: env files first, then its own."""
    entry: dict[str, str] = {}
    for name in service.get("env_file", []):
        lines = [line for line in (CHECKOUT / name).read_text().splitlines() if line and not line.startswith("#")]
        entry |= dict(line.split("=", 1) for line in lines)
    own: dict[str, str] = service.get("environment", {})
    return entry | own


def test_it_is_a_compose_file(compose: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(COMPOSE)
    jsonschema.validate(compose, COMPOSE, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "broken",
    [{"imgae": "x:1"}, {"image": "x:1", "ports": "80:80"}, {"image": "x:1", "environment": {"A": 8}}],
)
def test_the_schema_refuses_what_compose_would_refuse_or_misread(broken: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "services": {"a": broken}, "volumes": {}}, COMPOSE)


def test_all_roles_are_there(services: dict[str, Any]) -> None:
    assert {"kafka", "redis", "topics", "worker", "simulator", "prometheus", "grafana"} <= services.keys()


def test_every_image_is_pinned_to_a_version(services: dict[str, Any]) -> None:
    for name, service in services.items():
        _, colon, tag = service["image"].rpartition(":")
        assert colon, f"{name}: {service['image']} has no tag"
        assert re.match(r"v?\d+\.\d+\.\d+", tag), f"{name}: {service['image']} is not pinned to a full version"


def test_kafka_is_the_version_of_the_local_services(services: dict[str, Any]) -> None:
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_every_build_context_and_dockerfile_exists(services: dict[str, Any]) -> None:
    built = [service["build"] for service in services.values() if "build" in service]
    assert built
    for build in built:
        context = CHECKOUT / build["context"]
        assert context.is_dir()
        assert (context / build["dockerfile"]).is_file()


def test_ports_are_unique_and_on_this_machine_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    published = [re.fullmatch(r"127\.0\.0\.1:(\d+):\d+", port) for port in ports]
    assert all(published), f"not all on 127.0.0.1: {ports}"
    numbers = [entry.group(1) for entry in published if entry]
    assert len(numbers) == len(set(numbers))


def test_every_millrace_variable_is_a_setting(services: dict[str, Any]) -> None:
    known = {item.env for item in setting_docs()} | {"MILLRACE_CONFIG"}
    used = {name for service in services.values() for name in variables_of(service) if name.startswith("MILLRACE_")}
    assert used, "no container has a setting"
    assert used <= known, f"unknown settings: {sorted(used - known)}"


def test_the_settings_of_every_container_are_valid_and_reach_the_other_containers(services: dict[str, Any]) -> None:
    from stream_app.config import load_settings

    for name in ("topics", "worker", "simulator"):
        variables = {key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in variables_of(services[name]).items()}
        settings = load_settings(variables)
        assert settings.kafka.bootstrap.partition(":")[0] in services
        assert f"INSIDE://{settings.kafka.bootstrap}" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert settings.redis.url.removeprefix("redis://").partition(":")[0] in services


def test_every_dependency_is_a_service_that_can_meet_its_condition(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}, which is not there"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for the health of {other}, which has no check"
            if how["condition"] == "service_completed_successfully":
                assert services[other].get("restart") != "unless-stopped", f"{other} never completes"


def test_every_server_has_a_health_check(services: dict[str, Any]) -> None:
    for name in ("kafka", "redis", "worker", "prometheus", "grafana"):
        assert "healthcheck" in services[name], name


def test_every_mounted_path_exists_and_every_volume_is_declared(compose: dict[str, Any]) -> None:
    named = set()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (CHECKOUT / source).exists(), source
                assert volume.endswith(":ro"), f"{volume}: a container must not write into the checkout"
            else:
                named.add(source)
    assert named == compose["volumes"].keys()


def test_kafka_and_redis_keep_their_data_in_a_volume(services: dict[str, Any]) -> None:
    log_dirs = services["kafka"]["environment"]["KAFKA_LOG_DIRS"]
    assert services["kafka"]["volumes"] == [f"kafka-data:{log_dirs}"]
    assert "--appendonly yes" in shlex.join(services["redis"]["command"])
    assert services["redis"]["volumes"] == ["redis-data:/data"]


def test_commands_of_our_image_are_sub_commands_with_options_that_exist(services: dict[str, Any]) -> None:
    from click import Context, Group

    from stream_app.__main__ import millrace

    for name, service in services.items():
        if "build" not in service:
            continue
        command, *rest = service["command"]
        entry = millrace.get_command(Context(millrace), command)
        assert entry is not None, f"{name}: `millrace {command}` does not exist"
        while isinstance(entry, Group):
            step, *rest = rest
            entry = entry.get_command(Context(entry), step)
            assert entry is not None, f"{name}: `millrace {shlex.join(service['command'])}` does not exist"
        entry.make_context(command, list(rest), resilient_parsing=False)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_copies_what_exists_from_pinned_images_and_does_not_run_as_root(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    stages = {line[3] for line in lines if line[0] == "FROM" and len(line) == 4}
    for line in lines:
        if line[0] == "FROM":
            assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", line[1]), line
        if line[0] == "COPY" and not line[1].startswith("--from="):
            for source in line[1:-1]:
                assert (CHECKOUT / source).exists(), f"{path.name} copies {source}, which is not there"
        if line[0] == "COPY" and line[1].startswith("--from="):
            assert line[1].removeprefix("--from=") in stages
    assert [line[1] for line in lines if line[0] == "USER"][-1] not in {"root", "0"}
    assert "--require-hashes" in text


def test_the_builder_is_sent_what_the_dockerfile_copies() -> None:
    # Without this file the environment and the services' data would be sent too.
    ignore = (CHECKOUT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignore if line.startswith("!")}
    [dockerfile] = DOCKERFILES
    copied = re.findall(r"^COPY (?!--from)(\S+)", dockerfile.read_text(), re.MULTILINE)
    assert "*" in ignore
    assert sent == set(copied)
