"""What docs/deploy.md shows in Python runs as it stands, and is the same policy each time."""

import re
import runpy
import shutil
import warnings

import numpy as np
import pytest
import torch

from tests.helpers.agents import make_trained_agent
from tests.helpers.pages import DOCS
from torch_ppo.export import export_policy
from torch_ppo.exporting import numpy_policy
from torch_ppo.exporting.reading import FORMATS


def test_the_snippets(tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX is an optional extra")
    agent = make_trained_agent("tanh_normal")  # 5 numbers, as in the page
    for name, module in FORMATS.items():
        export_policy(agent, tmp_path / f"policy{module.SUFFIX}", format=name)
    shutil.copy(numpy_policy.__file__, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (DOCS / "deploy.md").read_text(), re.DOTALL)
    assert len(snippets) == 3
    expected = agent.mode({"state": torch.zeros(1, 5)}).detach().numpy()
    for snippet in snippets:
        (tmp_path / "snippet.py").write_text(snippet)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its own
            names = runpy.run_path("snippet.py")
        np.testing.assert_allclose(np.asarray(names["action"]), expected, atol=1e-5)
        if "contract" in names:
            assert names["contract"]["observation"]["size"] == 5
