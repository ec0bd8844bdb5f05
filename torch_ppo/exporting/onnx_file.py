"""ONNX: for ONNX Runtime, TensorRT, OpenVINO and others. Writing needs onnx and onnxscript, reading onnxruntime."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torch_ppo.exporting.contract import CONTRACT_KEY, Contract
from torch_ppo.exporting.deployed import DeployedPolicy
from torch_ppo.exporting.errors import damaged, optional_package

SUFFIX = ".onnx"
_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without torch's remarks about packages that have nothing to do with it."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def to_bytes(policy: DeployedPolicy, contract: Contract) -> bytes:
    """The content of an ONNX file, inputs and output `(batch, size)` of any batch, without the trainer's paths."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        optional_package(package, "--format onnx")
    batch = torch.export.Dim("batch", min=0)
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            policy,
            policy.example(),
            dynamo=True,
            verbose=False,
            input_names=list(policy.input_names),
            output_names=[policy.output_name],
            dynamic_shapes=policy.dynamic_shapes(batch),
        )
    model = program.model_proto
    for told in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        told.ClearField("metadata_props")
        told.ClearField("doc_string")
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = CONTRACT_KEY, json.dumps(contract)
    return model.SerializeToString()


def read(path: Path, device: torch.device | str = "cpu") -> tuple[Callable[..., Tensor], Contract | None]:
    """The policy in a file, and its contract, if it has one; computes on the CPU. ExportError if damaged."""
    runtime = optional_package("onnxruntime", f"{path}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # a policy is too small for more
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - of a class of its own for each kind of damage
        raise damaged(path) from None
    asked = session.get_inputs()

    def act(*inputs: Tensor) -> Tensor:
        rows = {}
        for given, x in zip(asked, inputs, strict=True):
            array = np.ascontiguousarray(x.detach().cpu().numpy(), dtype=_TYPES[given.type])
            rows[given.name] = array.reshape(-1, *array.shape[array.ndim - len(given.shape) + 1 :])
        (result,) = session.run(None, rows)
        leading = inputs[0].shape[: inputs[0].dim() - len(asked[0].shape) + 1]
        return torch.from_numpy(result.reshape(*leading, result.shape[-1])).to(inputs[0].device)

    contract = session.get_modelmeta().custom_metadata_map.get(CONTRACT_KEY)
    return act, json.loads(contract) if contract else None
