"""Policies that see pixels, as files: what they compute, what they are told, and what their contract says."""

import json

import pytest
import torch

from tests.helpers.agents import VISION_AGENTS, make_trained_agent
from tests.learning.test_vision import random_pictures
from torch_ppo.export import export_policy
from torch_ppo.exporting.errors import ExportError
from torch_ppo.exporting.reading import FORMATS, contract_in, read

each_format = pytest.mark.parametrize("format", ["torchscript", "pt2", "onnx"])


def file_of(agent, format, folder, **options):
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="ONNX is an optional extra")
    path = folder / f"policy{FORMATS[format].SUFFIX}"
    assert 0.0 <= export_policy(agent, path, format=format, **options) <= 1e-5
    return path


def inputs_for(agent, *leading):
    generator = torch.Generator().manual_seed(4)
    return random_pictures(agent.observation_sizes, *leading, generator=generator)


@each_format
@pytest.mark.parametrize("name", ["views_and_state", "one_view", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_files_compute_what_the_live_policy_does(name, format, tmp_path):
    agent = make_trained_agent(name)
    act, _ = read(file_of(agent, format, tmp_path))
    for leading in ((7,), (1,), (2, 3), ()) if format == "torchscript" else ((7,), (1,)):
        observation = inputs_for(agent, *leading)
        with torch.no_grad():
            expected = agent.mode(observation)
            found = act(*(observation[key] for key in agent.policy_obs_keys))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(VISION_AGENTS.keys() - {"views_and_state", "one_view", "resnet18"}))
@each_format
def test_every_pooling_can_be_exported(name, format, tmp_path):
    file_of(make_trained_agent(name), format, tmp_path)


@each_format
def test_a_stochastic_policy_takes_noise_last(format, tmp_path):
    agent = make_trained_agent("views_and_state")
    act, contract = read(file_of(agent, format, tmp_path, stochastic=True))
    assert list(contract["inputs"]) == ["pixels_front", "pixels_wrist", "state", "noise"]
    observation, noise = inputs_for(agent, 3), torch.randn(3, 2)
    with torch.no_grad():
        found = act(*(observation[key] for key in agent.policy_obs_keys), noise)
        torch.testing.assert_close(found, agent.sample(observation, noise), rtol=0, atol=1e-5)


def test_the_contract_tells_each_input(tmp_path):
    agent = make_trained_agent("views_and_state")
    contract = contract_in(file_of(agent, "torchscript", tmp_path))
    assert contract["inputs"] == {
        "pixels_front": {"shape": ["batch", 14, 12, 3], "type": "uint8"},
        "pixels_wrist": {"shape": ["batch", 11, 10, 1], "type": "uint8"},
        "state": {"shape": ["batch", 5], "type": "float32"},
    }
    front = contract["pixels"][0]
    assert (front["key"], front["input"], front["height"], front["width"]) == ("pixels/front", "pixels_front", 14, 12)
    assert contract["observation"]["key"] == "state" and len(contract["observation"]["mean"]) == 5
    alone = contract_in(file_of(make_trained_agent("one_view"), "torchscript", tmp_path))
    assert alone["observation"] == {
        "size": 0, "key": "", "history": 1, "parts": None, "normalizer": "none", "mean": [], "std": []
    }  # fmt: skip
    json.dumps(contract)


def test_a_torchscript_file_refuses_another_size_in_words(tmp_path):
    agent = make_trained_agent("one_view")
    act, _ = read(file_of(agent, "torchscript", tmp_path))
    with pytest.raises(torch.jit.Error, match=r"pixels_front must be \(..., \[14, 12, 3\]\) for this policy"):
        act(torch.zeros(2, 12, 14, 3, dtype=torch.uint8))


def test_safetensors_has_no_convolutions(tmp_path):
    with pytest.raises(ExportError, match=r"safetensors has no convolutions.*torchscript would work"):
        export_policy(make_trained_agent("one_view"), tmp_path / "policy.safetensors", format="safetensors")
    assert not list(tmp_path.iterdir())
