"""`torch.export`: a graph of torch's core operators, for `torch.export.load` and AOTInductor."""

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from torch_ppo.exporting.contract import CONTRACT_FILE, Contract
from torch_ppo.exporting.deployed import DeployedPolicy
from torch_ppo.exporting.errors import check_zip, damaged

SUFFIX = ".pt2"


def exported_program(policy: DeployedPolicy) -> torch.export.ExportedProgram:
    """The graph for inputs `(batch, size)` of any batch, without the trainer's paths."""
    batch = torch.export.Dim("batch", min=0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own, about its own
        program = torch.export.export(policy, policy.example(), dynamic_shapes=policy.dynamic_shapes(batch))
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            for told in ("stack_trace", "source_fn_stack", "from_node"):
                node.meta.pop(told, None)
    return program


def to_bytes(policy: DeployedPolicy, contract: Contract) -> bytes:
    """The content of a file for `torch.export.load`."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(exported_program(policy), buffer, extra_files={CONTRACT_FILE: json.dumps(contract)})
    return buffer.getvalue()


def read(path: Path, device: torch.device | str = "cpu") -> tuple[Callable[..., Tensor], Contract | None]:
    """The policy in a file, and its contract, if it has one. ExportError if it is cut off or damaged."""
    check_zip(path)
    extra = {CONTRACT_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra)
            module = program.module().to(device)
    except Exception:  # noqa: BLE001 - whatever a file of another kind leads torch to
        raise damaged(path) from None
    return module, json.loads(extra[CONTRACT_FILE]) if extra[CONTRACT_FILE] else None
