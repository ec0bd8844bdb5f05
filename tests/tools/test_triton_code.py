"""What is compiled for a CUDA device: code, kernels for sm_90 and how many, without such a device.

pip install --no-deps --target site triton==3.7.1    (that of torch 2.13; 3.6.0 is that of 2.11)
PYTHONPATH=site pytest -m slow tests/tools/test_triton_code.py
"""

import pytest
import torch

from tools.count_launches import count, kernels, totals
from torch_ppo.running.accelerate import compiled

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def generated():
    """`triton_code`, with all that it has generated in `code`."""
    pytest.importorskip("triton", reason="Triton is not installed; how is said above")
    from tools.triton_code import triton_code  # imports torch's compiler, which warns

    def generate(call):
        found = triton_code(call)
        generate.code.extend(found)
        return found

    generate.code = []
    return generate


def check_cubins(code):
    from tools.triton_code import compile_kernels

    found = [compile_kernels(text) for text in code]
    assert all(found)
    assert all(cubin.startswith(b"\x7fELF") for cubins in found for cubin in cubins.values())


def test_a_function(generated):
    """A product between two kernels, computed on the CPU meanwhile."""
    x, w, results = torch.ones(64, 64), torch.eye(64), []
    function = compiled(lambda x, w: ((x.sin() * 2) @ w).relu() + 1)
    assert kernels(lambda: results.append(function(x, w)), generated) == {"fused": 2, "product": 1, "other": 0}
    torch.testing.assert_close(results[0], (x.sin() * 2).relu() + 1)
    check_cubins(generated.code)


def test_training(generated):
    """All that is compiled of cart-pole's training with the guide's settings; what an H100 would be asked for."""
    total = totals(count("cartpole", generate=generated))
    assert len(generated.code) == 6
    # With torch 2.13 and with 2.11 they are 25.9 and 75.2.
    assert total["policy_step_torch"] <= 26
    assert total["sgd_step"] <= 76
    check_cubins(generated.code)
