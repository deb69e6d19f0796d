"""Finding an engine by name, its endpoints' schemas, and the processes that a killed worker's engine leaves behind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.admission.forms import compile_form
from jobs.errors import BadRequest
from jobs.records import Json
from jobs.settings import Settings
from tests.engines.scripted import InstantEngine, ScriptedEngine
from worker.engines import EngineArgumentError, load, schemas, strays
from worker.engines.vllm import VllmEngine


def test_vllm_is_found_by_name_and_not_imported_yet() -> None:
    code = (
        "import sys; from jobs.settings import Settings; from worker.engines import load;"
        "load(Settings(), []); assert 'vllm' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert isinstance(load(Settings(engine="vllm"), []), VllmEngine)


@pytest.mark.parametrize(("name", "kind"), [("factory", ScriptedEngine), ("instant", InstantEngine)])
def test_an_engine_is_found_by_import_path(name: str, kind: type[ScriptedEngine]) -> None:
    engine = load(Settings(engine=f"tests.engines.scripted:{name}"), ["--whatever"])
    assert type(engine) is kind
    assert engine.alive()


@pytest.mark.parametrize("name", ["vlm", "tests.nowhere:factory", "tests.engines.scripted:nothing"])
def test_an_engine_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(EngineArgumentError, match=name):
        load(Settings(engine=name), [])


def openapi(**paths: Json) -> Json:
    content = {
        f"/{path}": {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}
        for path, schema in paths.items()
    }
    parts = {
        "Request": {
            "type": "object",
            "properties": {"items": {"$ref": "#/components/schemas/Item"}, "service_tier": {"type": "string"}},
        },
        "Item": {
            "anyOf": [{"$ref": "#/components/schemas/Item"}, {"type": "null"}],
            "discriminator": {"mapping": {"leaf": "#/components/schemas/Leaf"}},
        },
        "Leaf": {"type": "integer"},
        "Stranger": {"type": "string"},
    }
    return {"paths": content, "components": {"schemas": parts}}


def test_a_schema_carries_what_it_refers_to_and_no_more() -> None:
    schema = schemas.of_endpoints(openapi(x={"$ref": "#/components/schemas/Request"}), ["/x"])["/x"]
    assert schema["properties"]["items"] == {"$ref": "#/$defs/Item"}
    assert set(schema["$defs"]) == {"Item", "Leaf"}
    assert schema["$defs"]["Item"]["discriminator"]["mapping"] == {"leaf": "#/$defs/Leaf"}
    assert "components" not in json.dumps(schema)


def test_a_choice_of_requests_stays_a_choice() -> None:
    choice = {"anyOf": [{"$ref": "#/components/schemas/Leaf"}, {"$ref": "#/components/schemas/Stranger"}]}
    schema = schemas.of_endpoints(openapi(x=choice), ["/x"])["/x"]
    assert schema["anyOf"] == [{"$ref": "#/$defs/Leaf"}, {"$ref": "#/$defs/Stranger"}]
    assert set(schema["$defs"]) == {"Leaf", "Stranger"}


def test_a_type_that_is_not_wanted_is_the_fault_that_is_told() -> None:
    kinds = [
        {"type": "object", "properties": {"type": {"const": kind}}, "required": needed}
        for kind, needed in {"function": ["name"], "web_search": []}.items()
    ]
    form = compile_form("/x", {"properties": {"tool": schemas.of_types({"anyOf": kinds}, "function")}})
    form.check({"tool": {"type": "function", "name": "f"}}, 100)
    with pytest.raises(BadRequest, match=r"'web_search'.*'function'") as refused:
        form.check({"tool": {"type": "web_search"}}, 100)
    assert refused.value.param == "tool.type"


def test_only_paths_that_are_asked_for_and_served_have_a_schema() -> None:
    assert set(schemas.of_endpoints(openapi(x={"type": "object"}, admin={"type": "object"}), ["/x", "/y"])) == {"/x"}


def test_service_tiers_are_not_the_engines_to_say() -> None:
    schema = schemas.of_endpoints(openapi(x={"$ref": "#/components/schemas/Request"}), ["/x"])["/x"]
    assert set(schema["properties"]) == {"items"}


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def orphaned(folder: Path, pid: int) -> None:
    """Have a worker that is gone by now note this process as its engine's."""
    code = "import sys; from pathlib import Path; from worker.engines.strays import Ledger; "
    code += "Ledger(Path(sys.argv[1])).note([int(sys.argv[2])])"
    subprocess.run([sys.executable, "-c", code, str(folder), str(pid)], check=True, timeout=60)


def test_what_a_dead_worker_left_behind_is_killed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    orphaned(tmp_path, sleeper.pid)
    assert strays.kill(tmp_path) == [sleeper.pid]
    assert sleeper.wait(10) != 0
    assert list(tmp_path.iterdir()) == []


def test_the_engine_of_a_living_worker_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    ledger = strays.Ledger(tmp_path)
    ledger.note([sleeper.pid])
    assert strays.kill(tmp_path) == []
    assert sleeper.poll() is None
    ledger.close()
    assert list(tmp_path.iterdir()) == []


def test_a_stranger_with_a_pid_used_again_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    orphaned(tmp_path, sleeper.pid)
    (note,) = tmp_path.iterdir()
    content = json.loads(note.read_text())
    content["engine"] = dict.fromkeys(content["engine"], "some other boot 1")
    note.write_text(json.dumps(content))
    assert strays.kill(tmp_path) == []
    assert sleeper.poll() is None


def test_a_damaged_note_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "engine-1.json").write_text("{")
    assert strays.kill(tmp_path) == []
