"""What is recorded: arrays by key, `<group>/<case>/{cfg | in/<name> | out/<name> | out64/<name> | spec/<network>}`."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tools.golden.trees import Tree, device, spec

Cases = dict[str, dict[str, Any]]  # by name; "cfg" are the settings, all others input arrays


@dataclass
class Store:
    """What one of the two processes has recorded.

    parent:       in the child process, which computes in float64, all that its parent has recorded; else None
    arrays:       by key
    cross_check:  largest differences between replayed training steps and `ppo.train`, by case
    """

    parent: Mapping[str, np.ndarray] | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    cross_check: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def in_child(self) -> bool:
        """Whether inputs are given and outputs are float64."""
        return self.parent is not None

    def put(self, key: str, value: Any) -> None:
        """Records an array, or settings as JSON. Floating point is kept in float32, under out64 in float64."""
        assert key not in self.arrays, key
        if isinstance(value, dict | list):
            value = json.dumps(value, sort_keys=True)
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float64 if "/out64/" in key else np.float32)
        self.arrays[key] = array

    def put_all(self, prefix: str, values: Mapping[str, Any]) -> None:
        """Records each as `<prefix>/<name>`."""
        for name, value in values.items():
            self.put(f"{prefix}/{name}", value)

    def put_outputs(self, case: str, values: Mapping[str, Any]) -> None:
        """Records Brax's outputs for the case `<group>/<case>`, in the precision of this process."""
        self.put_all(f"{case}/{'out64' if self.in_child else 'out'}", values)

    def put_spec(self, case: str, **networks: Tree) -> None:
        """Records the order of the flat parameters of each network, once."""
        if not self.in_child:
            self.put_all(f"{case}/spec", {network: spec(parameters) for network, parameters in networks.items()})

    def group(self, name: str, inputs: Callable[[], Cases]) -> Cases:
        """All cases of a group, on the device: made by `inputs` and recorded; in the child, those of its parent."""
        if not self.in_child:
            for case, given in inputs().items():
                self.put(f"{name}/{case}/cfg", given.get("cfg", {}))
                self.put_all(f"{name}/{case}/in", {key: array for key, array in given.items() if key != "cfg"})
        cases: Cases = {}
        for key, array in (self.parent if self.in_child else self.arrays).items():
            if match := re.fullmatch(rf"{re.escape(name)}/([^/]+)/(?:cfg|in/(.+))", key):
                case = cases.setdefault(match[1], {})
                case[match[2] or "cfg"] = device(array) if match[2] else json.loads(str(array))
        return cases
