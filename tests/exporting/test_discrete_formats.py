"""Discrete actions in every format: the index of the most likely choice, or with noise of a sampled one, from 0."""

import numpy as np
import pytest
import torch

from torch_ppo.export import check_file, export_policy
from torch_ppo.exporting.checking import largest_regret
from torch_ppo.exporting.contract import Known
from torch_ppo.exporting.deployed import deployed
from torch_ppo.exporting.errors import ExportError
from torch_ppo.exporting.numpy_policy import NumpyPolicy
from torch_ppo.exporting.reading import FORMATS, read
from torch_ppo.learning.agent import make_agent
from torch_ppo.running.saved_policy import load_policy
from torch_ppo.settings.config import Config

# (3, 2): other numbers of choices beside each other. What an env with starts of -1 and 7 says of them.
CONTROLS = {
    "actuators": ["action 0", "action 1"], "offset": [-1.0, 7.0], "scale": [1.0, 1.0], "lower": [-1.0, 7.0],
    "upper": [1.0, 8.0],
}  # fmt: skip


def make_choosing_agent(choices=(3, 2), seed=0):
    config = Config(
        num_timesteps=1, distribution_type="categorical", policy_hidden_layer_sizes=(16, 16),
        value_hidden_layer_sizes=(8,), normalize_observations=True, layer_norm=True,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    agent = make_agent(config, {"state": 4}, len(choices), choices=choices, generator=generator)
    agent.update_normalizer({"state": 3.0 * torch.randn(500, 4, generator=generator) + 1.0})
    return agent.eval()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("choices", "stochastic", "as_controls"),
    [((2,), False, False), ((2,), True, False), ((3, 2), False, True), ((3, 2), True, False), ((1, 4, 4), True, False)],
)
@torch.no_grad()
def test_the_same_choices(tmp_path, format, choices, stochastic, as_controls):
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="ONNX is an optional extra")
    agent, path = make_choosing_agent(choices), tmp_path / f"policy{FORMATS[format].SUFFIX}"
    known = Known(controls=CONTROLS) if as_controls else None
    options = {"format": format, "stochastic": stochastic, "as_controls": as_controls}
    assert export_policy(agent, path, known, **options) <= 1e-5
    act, contract = read(path)
    generator = torch.Generator().manual_seed(3)
    observation = 3.0 * torch.randn(2000, 4, generator=generator) + 1.0
    noise = (torch.rand(2000, sum(choices), generator=generator),) if stochastic else ()
    found = act(observation, *noise)
    seen = {"state": observation}
    expected = agent.sample(seen, *noise) if stochastic else agent.mode(seen)
    if as_controls:
        expected = expected + torch.tensor([-1, 7])
    assert found.dtype == torch.int64 and found.shape == (2000, len(choices))
    assert found.ne(expected).any(1).sum() <= 2  # where rounding decides
    start = [-1, 7] if as_controls else None
    assert contract["action"]["discrete"] == {"choices": list(choices), "start": start}
    assert contract["action"]["noise"] == ("uniform in [0, 1)" if stochastic else None)
    assert contract["output"]["type"] == "int64"
    if not stochastic and not as_controls:
        policy = load_policy(path)
        assert policy.choices == choices and torch.equal(policy(observation), found)
    if format == "safetensors" and not stochastic:
        assert NumpyPolicy(path)(np.ones(4, np.float32)).shape == (len(choices),)


def test_a_file_that_chooses_otherwise_is_found(tmp_path):
    path = tmp_path / "policy.pt"
    export_policy(make_choosing_agent(seed=0), path)
    other = make_choosing_agent(seed=1)
    with pytest.raises(ExportError, match="actions differ from the live policy by"):
        check_file(path, other, deployed(other))


def test_regret():
    scores = torch.tensor([[[1.0, 3.0, -1e30], [0.0, 0.0, 0.5]], [[50.0, 40.0, -1e30], [torch.nan, 0.0, 0.0]]])
    assert largest_regret(torch.tensor([[1, 2], [0, 0]]), scores, (2, 3)) == 0.0
    assert largest_regret(torch.tensor([[1, 0], [0, 2]]), scores, (2, 3)) == 0.5
    assert largest_regret(torch.tensor([[0, 2], [0, 1]]), scores, (2, 3)) == pytest.approx(2 / 3)
    assert largest_regret(torch.tensor([[1, 2], [1, 1]]), scores, (2, 3)) == pytest.approx(10 / 50)
    assert largest_regret(torch.tensor([[2, 2], [0, 0]]), scores, (2, 3)) == torch.inf  # there is no such choice
    for found, words in (
        (torch.zeros(2, 1, dtype=torch.int64), "shape"),
        (torch.zeros(2, 2), "float32, expected int64"),
    ):
        with pytest.raises(ExportError, match=words):
            largest_regret(found, scores, (2, 3))
