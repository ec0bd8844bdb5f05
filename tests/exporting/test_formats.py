"""Every format computes what the live policy computes, in its own runtime, and names nothing of the trainer's machine."""

import json
import os
import struct
import sys

import numpy as np
import pytest
import torch

from tests.helpers.agents import AGENTS, make_trained_agent
from torch_ppo.export import export_policy
from torch_ppo.exporting import onnx_file, pt2, safetensors_file, torchscript
from torch_ppo.exporting.contract import Known
from torch_ppo.exporting.errors import ExportError, optional_package
from torch_ppo.exporting.numpy_policy import NumpyPolicy
from torch_ppo.exporting.reading import FORMATS, contract_in, format_of, is_ours, read
from torch_ppo.formulas.networks import ACTIVATIONS
from torch_ppo.learning.agent import make_agent
from torch_ppo.settings.config import Config

each_format = pytest.mark.parametrize("format", FORMATS)
CONTROLS = {
    "actuators": ["lift", "wheel"],
    "offset": [0.1, -1.0],
    "scale": [0.5, 30.0],
    "lower": [-0.2, -10.0],
    "upper": [0.4, None],
}


@pytest.fixture(autouse=True)
def packages(request):
    """ONNX is optional."""
    if "onnx" in str(request.node.callspec.params if hasattr(request.node, "callspec") else ""):
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="ONNX is an optional extra")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Agents, their files, and the contents of these; each is made once, as ONNX takes its time."""
    cache = {}

    def make(format, name="tanh_normal", **options):
        key = (format, name, *options)
        if key not in cache:
            agent, folder = make_trained_agent(name), tmp_path_factory.mktemp(format)
            path = folder / f"policy{FORMATS[format].SUFFIX}"
            known = Known(controls=CONTROLS) if "as_controls" in options else None
            assert 0.0 <= export_policy(agent, path, known, format=format, **options) <= 1e-5
            cache[key] = agent, path
        return cache[key]

    return make


def observations(agent, *batch):
    size = agent.normalizer[agent.policy_obs_key].obs_dim
    return 3.0 * torch.rand(*batch, size, generator=torch.Generator().manual_seed(7))


@each_format
@pytest.mark.parametrize("name", AGENTS)
@torch.no_grad()
def test_same_actions_for_any_batch(made, format, name):
    agent, path = made(format, name)
    act, contract = read(path)
    for rows in (1, 2, 33):
        x = observations(agent, rows)
        torch.testing.assert_close(act(x), agent.mode({agent.policy_obs_key: x}), rtol=0.0, atol=1e-5)
    assert contract["observation"]["size"] == x.shape[1] and contract["action"]["deterministic"]
    others = {"policy.json"} if format == "safetensors" else set()
    assert {file.name for file in path.parent.iterdir()} == {path.name, *others}


@each_format
@torch.no_grad()
def test_stochastic_takes_noise(made, format):
    agent, path = made(format, stochastic=True)
    act, contract = read(path)
    x, noise = observations(agent, 9), torch.randn(9, 2)
    torch.testing.assert_close(act(x, noise), agent.sample({"state": x}, noise), rtol=0.0, atol=1e-5)
    assert (act(x, noise) - act(x, -noise)).abs().max() > 1e-3
    assert list(contract["inputs"]) == ["observation", "noise"] and not contract["action"]["deterministic"]


@each_format
@torch.no_grad()
def test_controls_against_numpy(made, format):
    agent, path = made(format, as_controls=True)
    act, contract = read(path)
    x = observations(agent, 200)
    action = agent.mode({"state": x}).numpy()
    expected = np.clip([0.1, -1.0] + np.array([0.5, 30.0]) * action, [-0.2, -10.0], [0.4, np.inf])
    np.testing.assert_allclose(act(x).numpy(), expected, atol=1e-4)
    assert (expected == 0.4).any() or (expected == -0.2).any() or (expected == -10.0).any()  # the range matters here
    assert contract["output"]["name"] == "controls"


@each_format
def test_not_a_number_stays_one(tmp_path, format):
    """A broken sensor must not look like a sound action, with clipping neither."""
    config = Config(num_timesteps=1, normalize_observations=True, normalizer_clip=2.0, policy_hidden_layer_sizes=(8,))
    agent, path = make_agent(config, {"state": 4}, 2), tmp_path / f"policy{FORMATS[format].SUFFIX}"
    export_policy(agent, path, Known(controls=CONTROLS), format=format, as_controls=True)
    act, _ = read(path)
    x = torch.zeros(3, 4)
    x[1, 2] = torch.nan
    found = act(x)
    assert found[1].isnan().all() and found[[0, 2]].isfinite().all()


@each_format
@pytest.mark.parametrize("size", [1, 4, 6])
def test_another_size_is_refused(made, format, size):
    """Also 1, which the normalizer would broadcast; by whoever runs the file, not by a check around it."""
    _, path = made(format)
    act, _ = read(path)
    refusals = {
        "torchscript": r"the observation must be \(\.\.\., 5\) for this policy, but is \[3, ",
        "pt2": r"Guard failed: observation\.size\(\)\[1\] == 5",
        "onnx": r"(?s)observation.*Expected: 5",
        "safetensors": r"the observation must be \(\.\.\., 5\) for this policy, but is \(3, ",
    }
    with pytest.raises(Exception, match=refusals[format]):
        act(torch.zeros(3, size))


@each_format
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.98])
def test_a_cut_off_file_is_one_line(made, tmp_path, format, keep):
    _, whole = made(format)
    content, path = whole.read_bytes(), tmp_path / whole.name
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ExportError, match=f"policy{path.suffix} is not"):
        read(path)
    assert not is_ours(path)


@pytest.mark.parametrize("offsets", [[-4, 16], [0, 16], [4, 24]])
def test_safetensors_whose_numbers_lie_elsewhere_are_damaged(made, tmp_path, offsets):
    _, whole = made("safetensors")
    content, path = whole.read_bytes(), tmp_path / whole.name
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["mean"]["data_offsets"] = offsets
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(ExportError, match="is not a whole exported policy"):
        read(path)


@each_format
def test_nothing_of_the_trainers_machine(made, format):
    """No folder of the code or of the run, in the file as it is or in what is compressed in it."""
    import zipfile

    _, path = made(format)
    contents = [path.read_bytes()]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            contents += [archive.read(name) for name in archive.namelist()]
    ours = os.path.dirname(os.path.dirname(torch.__file__)), os.path.dirname(os.path.abspath(torchscript.__file__))
    for content in contents:
        for folder in (*ours, str(path.parent), os.path.expanduser("~") + "/"):
            assert folder.encode() not in content


@each_format
def test_file_is_known_by_its_content(made, format):
    _, path = made(format)
    assert format_of(path) == format and is_ours(path)
    assert contract_in(path)["kind"] == "torch_ppo policy"


@each_format
def test_every_activation(tmp_path, format):
    """One network in which each activation follows a layer."""
    config = Config(num_timesteps=1, policy_hidden_layer_sizes=(8,) * len(ACTIVATIONS))
    agent = make_agent(config, {"state": 6}, 3, generator=torch.Generator().manual_seed(1))
    layers, names = agent.policy.trunk.layers, iter(ACTIVATIONS)
    for i, layer in enumerate(layers):
        if isinstance(layer, torch.nn.SiLU):
            layers[i] = ACTIVATIONS[next(names)]()
    assert next(names, None) is None
    path = tmp_path / f"policy{FORMATS[format].SUFFIX}"
    export_policy(agent, path, format=format)
    x = 4.0 * torch.randn(64, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(read(path)[0](x), agent.mode({"state": x}), rtol=0.0, atol=1e-5)


def test_safetensors_are_read_by_their_library(made):
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is only there for this test")
    agent, path = made("safetensors")
    arrays = numpy.load_file(path)
    np.testing.assert_array_equal(arrays["mean"], agent.normalizer["state"].mean.numpy())
    np.testing.assert_array_equal(arrays["trunk.0.weight"], agent.policy.trunk.layers[0].weight.detach().numpy())
    policy = NumpyPolicy(path)
    assert policy.contract == json.loads(path.with_suffix(".json").read_text())


def test_onnx_passes_its_checker(made):
    onnx = pytest.importorskip("onnx", reason="ONNX is an optional extra")
    _, path = made("onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert model.graph.output[0].name == "action"


def test_a_network_of_ones_own(tmp_path):
    """What is no network of ours goes into the formats that hold a graph; safetensors refuses it."""

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(5, 2)

        def forward(self, x):
            loc = torch.sin(self.linear(x))
            return loc, torch.ones_like(loc)

    agent = make_trained_agent("tanh_normal")
    agent.policy = Own()
    export_policy(agent, tmp_path / "policy.pt")
    export_policy(agent, tmp_path / "policy.pt2", format="pt2")
    with pytest.raises(ExportError, match="describes the networks of torch_ppo, not a Own; torchscript would work"):
        export_policy(agent, tmp_path / "policy.safetensors", format="safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"policy.pt", "policy.pt2"}


def test_no_onnx_names_the_install_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"--format onnx needs the package onnxscript: pip install '\.\[onnx\]'"):
        export_policy(make_trained_agent("tanh_normal"), tmp_path / "policy.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_that_cannot_be_imported_is_told_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "onnxscript.py").write_text('raise ImportError("no libonnx.so")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxscript", raising=False)
    with pytest.raises(ExportError, match=r"needs the package onnxscript, which is installed .*: no libonnx.so; inst"):
        optional_package("onnxscript", "--format onnx")


def test_all_formats_say_the_same():
    assert [module.SUFFIX for module in (torchscript, onnx_file, pt2, safetensors_file)] == [
        module.SUFFIX for module in FORMATS.values()
    ]
