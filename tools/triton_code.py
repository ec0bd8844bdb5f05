"""What torch.compile makes for a CUDA device, where there is none: Inductor's Triton code, and its kernels compiled.

Functions are compiled here on the CPU as far as the operators that Inductor is given. These are then put on a pretended
H100, and its code for that is generated. Needs Triton (`pip install --no-deps triton`), but no driver; nothing is run. What
Inductor would decide by measuring, such as the padding of products, stays as it is.
"""

import contextlib
import copy
import re
import types
from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch._inductor.compile_fx
import torch._inductor.scheduler
import torch.utils._triton
from torch._dynamo import device_interface
from torch._functorch.aot_autograd import make_boxed_func
from torch._guards import TracingContext, tracing
from torch._inductor.codecache import PyCodeCache
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime import triton_helpers
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

CUDA = torch.device("cuda", 0)
H100 = types.SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    gcnArchName="",
    total_memory=80 << 30,
    multi_processor_count=132,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    regs_per_multiprocessor=65536,
    warp_size=32,
    L2_cache_size=50 << 20,
    shared_memory_per_block=48 << 10,
    shared_memory_per_block_optin=227 << 10,
    shared_memory_per_multiprocessor=228 << 10,
)
KERNEL = re.compile(r"async_compile\.triton\('(\w+)', '''(.*?)''', device_str='cuda'\)", re.DOTALL)


class _Generated(BaseException):
    """Leaves Inductor once there is code: what follows would load it onto the device."""


class _Interface(device_interface.CudaInterface):
    """What Inductor asks a device."""

    class Worker:
        set_device = staticmethod(lambda device: None)
        current_device = staticmethod(lambda: 0)
        get_device_properties = staticmethod(lambda device=None: H100)

    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    synchronize = staticmethod(lambda device=None: None)
    get_device_properties = staticmethod(lambda device=None: H100)
    get_compute_capability = staticmethod(lambda device=None: 90)
    is_triton_capable = staticmethod(lambda device=None: True)
    is_bf16_supported = staticmethod(lambda including_emulation=True: True)


@contextlib.contextmanager
def _pretended_device() -> Iterator[None]:
    device_interface.get_registered_device_interfaces()  # they are registered when first asked for
    pretended = {
        (torch.cuda, "get_device_properties"): lambda device=None: H100,
        (torch.cuda, "get_device_capability"): lambda device=None: (9, 0),
        (torch.cuda, "get_device_name"): lambda device=None: H100.name,
        (torch.cuda, "current_device"): lambda: 0,
        (torch.cuda, "device_count"): lambda: 1,
        (torch._inductor.scheduler, "has_triton"): lambda: True,
        (torch.utils._triton, "triton_hash_with_backend"): lambda: "none",
        (triton_helpers, "set_driver_to_gpu"): lambda: None,
        (FakeTensor, "copy_"): lambda self, *args, **kwargs: self,  # a build without CUDA has no guard for it
    }
    with contextlib.ExitStack() as stack:
        for (owner, name), function in pretended.items():
            stack.enter_context(mock.patch.object(owner, name, function, create=True))
        stack.enter_context(
            mock.patch.dict(device_interface.device_interfaces, {"cuda": _Interface, "cuda:0": _Interface})
        )
        yield


def _on_cuda(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """A copy whose operators make their tensors on the device."""
    graph = copy.deepcopy(graph)
    for module in graph.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                if "device" in node.kwargs:
                    node.kwargs = {**node.kwargs, "device": CUDA}
                node.args = torch.fx.node.map_aggregate(node.args, lambda x: CUDA if isinstance(x, torch.device) else x)
                node.meta = {}
            module.recompile()
    return graph


def _code(graph: torch.fx.GraphModule, inputs: list[object], options: dict[str, object]) -> str:
    """Inductor's code for the operators of a graph."""
    found = []
    original = GraphLowering.codegen

    def codegen(lowering: GraphLowering) -> None:
        found.append(original(lowering)[0].value)
        raise _Generated

    graph, fake_mode = _on_cuda(graph), FakeTensorMode(allow_non_fake_inputs=True)
    with fake_mode:
        fake = [
            torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device=CUDA) if isinstance(x, torch.Tensor) else x
            for x in inputs
        ]
    settings = torch._inductor.config.patch(force_disable_caches=True, compile_threads=1, shape_padding=False)
    patched = mock.patch.object(GraphLowering, "codegen", codegen)
    with _pretended_device(), patched, settings, torch.no_grad(), tracing(TracingContext(fake_mode)):
        FakeTensorProp(graph, fake_mode).propagate_dont_convert_inputs(*fake)
        with contextlib.suppress(_Generated):
            torch._inductor.compile_fx.compile_fx_inner(graph, fake, **options)
    return found[0]


def triton_code(function: Callable[[], object]) -> list[str]:
    """Inductor's code for CUDA of what is compiled for the first time while `function` runs, which it does on the CPU."""
    code = []
    original = torch._inductor.compile_fx.compile_fx

    def inner_compile(graph: torch.fx.GraphModule, inputs: list[object], **options: object) -> Callable:
        code.append(_code(graph, inputs, options))
        return make_boxed_func(graph.forward)

    def compile_fx(model: torch.fx.GraphModule, inputs: list[object], **options: object) -> Callable:
        return original(model, inputs, **{"inner_compile": inner_compile, **options})

    with mock.patch.object(torch._inductor.compile_fx, "compile_fx", compile_fx):
        function()
    return code


def compile_kernels(code: str) -> dict[str, bytes]:
    """The Triton kernels of Inductor's code, compiled for the device by Triton and ptxas: cubins by name."""
    cubins = {}
    whole = torch._inductor.config.patch(use_static_cuda_launcher=False)  # which would keep no more than a file's name
    with _pretended_device(), whole:
        for name, source in KERNEL.findall(code):
            tuner = getattr(PyCodeCache.load(source), name)
            for config in tuner.configs:
                cubins[name] = tuner._precompile_config(config).kernel.asm["cubin"]
    return cubins
