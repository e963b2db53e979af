"""Training that is killed at random moments ends with the bits of an undisturbed run."""

import importlib.util
import json
import sys

import pytest
from helpers import ROOT


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(ROOT / "benchmarks"))  # where a script finds the modules next to it
    spec = importlib.util.spec_from_file_location("benchmark_stress", ROOT / "benchmarks" / "stress.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_training_ends_with_the_same_weights_and_log(benchmark, tmp_path):
    result = benchmark.stress(tmp_path, kills=4, epochs=20, seed=1)
    assert result["sound"], result["problems"]
    assert result["kills"] == 4
    json.dumps(result)


def test_published_result_is_sound():
    path = ROOT / "benchmarks" / "results" / "stress.json"
    if not path.exists():
        pytest.skip("not measured yet")
    result = json.loads(path.read_text())
    assert result["sound"] is True
    assert result["kills"] >= 30
