from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from stream_app.config import (
    DEVELOPMENT_ID_KEY,
    Settings,
    describe,
    environ_from,
    load_settings,
    setting_docs,
)
from stream_app.errors import ConfigError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(environ: dict[str, str], file: Path | None = None, services: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, file, services)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]


def services_file(folder: Path, kind: str = "real") -> Path:
    path = folder / "services.json"
    state = {"kafka": {"bootstrap": "127.0.0.1:20001"}, "redis": {"url": "redis://127.0.0.1:20002/0"}, "kind": kind}
    path.write_text(json.dumps(state))
    return path


def test_without_any_source_every_setting_has_its_default() -> None:
    assert load_settings({}) == Settings()


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text("[kafka]\npartitions = 4\ngroup = 'from-file'\n[model]\nfraud_threshold = 1\n")
    settings = load_settings({"MILLRACE_KAFKA_PARTITIONS": "16"}, file)
    assert (settings.kafka.partitions, settings.kafka.group) == (16, "from-file")
    assert settings.model.fraud_threshold == 1.0
    assert settings.kafka.session_timeout_ms == 10_000


def test_the_file_is_the_one_that_the_variable_names_else_the_one_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "millrace.toml").write_text("[redis]\nprefix = 'here'\n")
    (tmp_path / "other.toml").write_text("[redis]\nprefix = 'there'\n")
    assert load_settings({}).redis.prefix == "here"
    assert load_settings({"MILLRACE_CONFIG": "other.toml"}).redis.prefix == "there"


def test_all_problems_are_reported_at_once_with_the_fix(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(
        "top = 1\n[kafka]\npartitions = '8'\nboot = 'x'\nreplication = true\n[kafak]\na = 1\n[worker]\nbatch_events = 0\n"
    )
    found = problems({"MILLRACE_KAFKA_BOOTSTRAPS": "x", "MILLRACE_MODEL_ENGINE": "cuda", "MILLRACE_REDIS_URL": "6379"}, file)
    assert found == [
        f"{file}: [top]: no such section; remove it, or see `millrace --settings`",
        f"{file}: kafka.partitions = '8': must be a whole number; set it to such a value or remove it",
        f"{file}: kafka.boot: no such setting; did you mean bootstrap?",
        f"{file}: kafka.replication = True: must be a whole number; set it to such a value or remove it",
        f"{file}: [kafak]: no such section; did you mean kafka?",
        f"{file}: worker.batch_events = 0: must be between 1 and 8192; set it to such a value or remove it",
        "MILLRACE_KAFKA_BOOTSTRAPS: no such setting; did you mean MILLRACE_KAFKA_BOOTSTRAP?",
        "MILLRACE_MODEL_ENGINE = 'cuda': must be one of auto, onnxruntime, onnxruntime-cuda, tensorrt, none; "
        "set it to such a value or remove it",
        "MILLRACE_REDIS_URL = '6379': must be redis://user:password@host:port/database, rediss:// for TLS, or unix:///path?db=0; "
        "inside user and password write @ as %40, # as %23, / as %2F, ? as %3F, : as %3A, % as %25",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MILLRACE_KAFKA_PARTITIONS", "8.0"),
        ("MILLRACE_KAFKA_PARTITIONS", ""),
        ("MILLRACE_KAFKA_PARTITIONS", "1025"),
        ("MILLRACE_KAFKA_BOOTSTRAP", "localhost"),
        ("MILLRACE_KAFKA_BOOTSTRAP", "a:1,,b:2"),
        ("MILLRACE_KAFKA_TOPIC_PREFIX", "spaces are odd"),
        ("MILLRACE_KAFKA_CLIENT_API_VERSION", "newest"),
        ("MILLRACE_MODEL_FRAUD_THRESHOLD", "nan"),
        ("MILLRACE_MODEL_FRAUD_THRESHOLD", "1.01"),
        ("MILLRACE_FEATURES_ALLOWED_LATENESS_MS", "-1"),
        ("MILLRACE_REDIS_PREFIX", "a{b}"),
    ],
)
def test_a_value_out_of_bounds_is_refused_and_named(name: str, value: str) -> None:
    assert problems({name: value})[0].startswith(f"{name} = {value!r}: must be ")


def test_a_file_that_is_named_must_exist_and_be_toml(tmp_path: Path) -> None:
    assert "there is no such file" in problems({"MILLRACE_CONFIG": "missing.toml"})[0]
    broken = tmp_path / "broken.toml"
    broken.write_text("[kafka\n")
    assert "cannot be read as TOML" in problems({}, broken)[0]


def test_a_secret_never_prints() -> None:
    key = "correct-horse-battery"
    settings = load_settings({"MILLRACE_PRIVACY_ID_KEY": key})
    assert settings.privacy.id_key.get_secret_value() == key
    assert key not in repr(settings) + str(settings.privacy.id_key) + describe(settings)
    assert settings.privacy.id_key == SecretStr(key) != SecretStr(DEVELOPMENT_ID_KEY)


@pytest.mark.parametrize("line", ["'hunter2'", "['hunter2']", "{hunter2 = 'hunter2'}"])
def test_a_secret_that_is_refused_is_not_shown(tmp_path: Path, line: str) -> None:
    file, environ = tmp_path / "secret.toml", {"MILLRACE_PRIVACY_ID_KEY": "hunter2"}
    file.write_text(f"[privacy]\nid_key = {line}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, file)
    assert str(caught.value).count("at least 16 characters") == 2
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.case("secrets in addresses")
def test_a_password_in_the_redis_url_is_not_shown() -> None:
    url = "redis://worker:hunter2@redis.internal:6379/0"
    settings = load_settings({"MILLRACE_REDIS_URL": url})
    assert settings.redis.url == url
    assert "hunter2" not in repr(settings) + describe(settings)
    assert "redis://worker:********@redis.internal:6379/0" in describe(settings)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:SEC@RET@127.0.0.1:6379/0",
        "redis://us@er:SEC:RET@redis.internal:6379/0",
        "unix:///run/redis.sock?db=1&password=SEC&RET=1",
        "rediss://127.0.0.1:6380/0?password=SEC@RET",
        "redis://first:7000,second:7001?PassWord=SECRET",
        "unix://:SECRET@/run/a@b.sock",
        "redis://worker:%53SECRET@[::1]:6379/0",
    ],
)
def test_no_part_of_a_password_is_shown_wherever_the_url_has_it(url: str) -> None:
    line = describe(load_settings({"MILLRACE_REDIS_URL": url}))
    assert "SEC" not in line
    assert "RET" not in line
    assert "********" in line


@pytest.mark.parametrize("password", ["SEC@#RET", "SEC/RET", "SEC?RET", "SEC RET", "SEC[RET", "SEC\nRET"])
@pytest.mark.parametrize("form", ["redis://:{}@127.0.0.1:6379/0", "rediss://u:{}@h", "unix://:{}@/run/redis.sock", "redis://:{}"])
def test_a_password_that_would_end_in_the_middle_is_refused_unseen_with_how_to_write_it(form: str, password: str) -> None:
    [problem] = problems({"MILLRACE_REDIS_URL": form.format(password)})
    assert "SEC" not in problem
    assert "RET" not in problem
    assert "write @ as %40, # as %23, / as %2F" in problem


def test_the_start_up_line_says_what_was_chosen_and_from_where() -> None:
    line = describe(load_settings({"MILLRACE_KAFKA_PARTITIONS": "4", "MILLRACE_PRIVACY_ID_KEY": "k" * 16}))
    assert "kafka.partitions=4 (MILLRACE_KAFKA_PARTITIONS)" in line
    assert "kafka.bootstrap=127.0.0.1:9092 (default)" in line
    assert "\n" not in line


def test_the_development_key_announces_itself() -> None:
    assert "NOT FOR PRODUCTION" in describe(load_settings({}))


def test_local_services_are_used_when_no_address_is_named(tmp_path: Path) -> None:
    file = services_file(tmp_path)
    settings = load_settings({}, services_file=file)
    assert (settings.kafka.bootstrap, settings.redis.url) == ("127.0.0.1:20001", "redis://127.0.0.1:20002/0")
    assert settings.kafka.client_api_version == ""
    assert f"kafka.bootstrap=127.0.0.1:20001 ({file})" in describe(settings)


def test_the_embedded_broker_is_spoken_to_in_its_own_version(tmp_path: Path) -> None:
    assert load_settings({}, services_file=services_file(tmp_path, "embedded")).kafka.client_api_version == "2.3"


@pytest.mark.parametrize("name", ["MILLRACE_KAFKA_BOOTSTRAP", "MILLRACE_REDIS_URL"])
def test_naming_either_address_means_services_of_ones_own(tmp_path: Path, name: str) -> None:
    value = {"MILLRACE_KAFKA_BOOTSTRAP": "kafka:9092", "MILLRACE_REDIS_URL": "redis://redis:6379/0"}[name]
    settings = load_settings({name: value}, services_file=services_file(tmp_path))
    named = {"MILLRACE_KAFKA_BOOTSTRAP": settings.kafka.bootstrap, "MILLRACE_REDIS_URL": settings.redis.url}
    defaults = {"MILLRACE_KAFKA_BOOTSTRAP": "127.0.0.1:9092", "MILLRACE_REDIS_URL": "redis://127.0.0.1:6379/0"}
    assert named == {**defaults, name: value}


def test_services_that_are_not_there_are_no_problem_but_a_broken_state_file_is(tmp_path: Path) -> None:
    assert load_settings({}, services_file=tmp_path / "none.json") == Settings()
    broken = tmp_path / "services.json"
    broken.write_text("{}")
    assert "is no state of local services" in problems({}, services=broken)[0]


def test_a_child_process_gets_the_very_same_settings() -> None:
    settings = load_settings(
        {
            "MILLRACE_PRIVACY_ID_KEY": "a key with spaces",
            "MILLRACE_MODEL_FRAUD_THRESHOLD": "0.1",
            "MILLRACE_KAFKA_TOPIC_PREFIX": "t1.",
        }
    )
    assert load_settings(environ_from(settings)) == settings


@given(threshold=st.floats(-1, 1), partitions=st.integers(1, 1024))
def test_numbers_survive_the_way_through_the_environment(threshold: float, partitions: int) -> None:
    environ = {"MILLRACE_MODEL_FRAUD_THRESHOLD": str(threshold), "MILLRACE_KAFKA_PARTITIONS": str(partitions)}
    settings = load_settings(environ)
    assert load_settings(environ_from(settings)) == settings
    assert settings.model.fraud_threshold == threshold


def test_the_topic_prefix_stands_before_a_topics_name() -> None:
    assert load_settings({"MILLRACE_KAFKA_TOPIC_PREFIX": "staging."}).topic("clicks") == "staging.clicks"


def test_the_environment_of_the_process_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_REDIS_PREFIX", "from-process")
    assert load_settings().redis.prefix == "from-process"


def test_every_setting_is_documented_with_its_variable() -> None:
    docs = setting_docs()
    assert {doc.env for doc in docs} == environ_from(Settings()).keys()
    assert all(doc.doc.endswith(".") for doc in docs)
    assert {doc.key for doc in docs} >= {"kafka.bootstrap", "redis.url", "privacy.id_key"}
