"""Stepping an environment in JAX from torch: a step is one compiled call, on little more than it needs."""

from typing import Any

import jax
import numpy as np
import torch
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from torch import Tensor

from torch_ppo.environments.contract import EnvironmentMisfit
from torch_ppo.environments.sources import Wanted

Carried = tuple[list[Any], list[Any]]  # of a state: what steps leave as it is, what they change


def jax_device(device: torch.device, name: str) -> jax.Device:
    """JAX's device for one of torch's; EnvironmentMisfit if JAX does not have it."""
    platform = "cpu" if device.type == "cpu" else "gpu"
    try:
        return jax.devices(platform)[device.index or 0]
    except (RuntimeError, IndexError):
        raise EnvironmentMisfit(
            f"{name} is in JAX, which has no {device} here, only {', '.join(map(str, jax.devices()))}; "
            "pip install 'jax[cuda13]' has CUDA, device = cpu would work"
        ) from None


class Stepping:
    """Reset and step of a wrapped environment, compiled, each told as an observation and one array of `rows`.

    JAX takes microseconds for each array that goes into a compiled function or comes out of it, and a state has hundreds.
    So of a state only what later steps depend on is carried, in two lists: what steps leave as it is, and what they change,
    whose arrays are gone after the step that they were given to.
    """

    def __init__(self, env: Any, name: str) -> None:
        self.env, self.name = env, name
        self.metrics: tuple[str, ...] = ()
        self.has_time_out = False
        self._structure: Any = None
        self._compiled_reset = jax.jit(self._reset)
        self._steps: dict[int, tuple[list[int], list[int], Any]] = {}

    def reset(self, keys: jax.Array) -> tuple[Carried, Any, jax.Array]:
        """The first state with a key per env, what is seen of it, and its rows."""
        leaves, observation, rows = self._compiled_reset(keys)
        if len(keys) not in self._steps:
            self._steps[len(keys)] = self._compiled_step(leaves, (len(keys), int(self.env.action_size)))
        kept, changed, _ = self._steps[len(keys)]
        return ([leaves[i] for i in kept], [leaves[i] for i in changed]), observation, rows

    def step(self, carried: Carried, action: Any) -> tuple[Carried, Any, jax.Array]:
        """The next state with `action` `(num_envs, action_dim)`, what is seen of it, and its rows."""
        kept, changed = carried
        changed, observation, rows = self._steps[len(action)][2](kept, changed, action)
        return (kept, changed), observation, rows

    def _told(self, state: Any) -> tuple[Any, jax.Array]:
        """Observation, and in one array what there is one of per env: reward, termination, truncation, time-out, metrics."""
        if "truncation" not in state.info:
            raise EnvironmentMisfit(
                f"{self.name}: state.info lacks truncation, which Brax's EpisodeWrapper writes; wrap_env = True would work"
            )
        # Brax's evaluation puts the reward in the place of a metric of that name.
        self.metrics = tuple(name for name in state.metrics if name != "reward")
        self.has_time_out = "time_out" in state.info
        truncation = state.info["truncation"]
        rows = [state.reward, state.done * (1 - truncation), truncation]
        if self.has_time_out:
            rows.append(state.info["time_out"])
        rows += [state.metrics[name] for name in self.metrics]
        return state.obs, jax.numpy.stack([row.astype(jax.numpy.float32) for row in rows])

    def _reset(self, keys: jax.Array) -> tuple[list[Any], Any, jax.Array]:
        state = self.env.reset(keys)
        leaves, self._structure = jax.tree.flatten(state)
        return _of_their_types(leaves), *self._told(state)

    def _step(self, leaves: list[Any], action: jax.Array) -> tuple[list[Any], Any, jax.Array]:
        state = self.env.step(jax.tree.unflatten(self._structure, leaves), action)
        leaves, structure = jax.tree.flatten(state)
        if structure != self._structure:
            raise EnvironmentMisfit(f"the state of {self.name} has other parts after a step than after a reset")
        return _of_their_types(leaves), *self._told(state)

    def _compiled_step(self, leaves: list[Any], action: tuple[int, int]) -> tuple[list[int], list[int], Any]:
        """Which leaves are carried and left, which are carried and changed, and the step from those to these."""
        closed, out = jax.make_jaxpr(self._step, return_shape=True)(leaves, jax.ShapeDtypeStruct(action, "float32"))
        told, told_tree = jax.tree.flatten(out[1:])
        jaxpr, n = closed.jaxpr, len(leaves)
        carried = needed_leaves(jaxpr, n)
        changed = [i for i in carried if jaxpr.outvars[i] is not jaxpr.invars[i]]
        kept = [i for i in carried if i not in set(changed)]
        smaller, used = dce_jaxpr(jaxpr, [i in set(changed) for i in range(n)] + [True] * len(told))
        function = jaxpr_as_fun(ClosedJaxpr(smaller, closed.consts))

        def step(kept_leaves: list[Any], changed_leaves: list[Any], action: jax.Array) -> tuple[list[Any], Any, Any]:
            given = dict(zip([*kept, *changed], [*kept_leaves, *changed_leaves], strict=True)) | {n: action}
            results = function(*(given[i] for i in range(n + 1) if used[i]))
            return results[: len(changed)], *jax.tree.unflatten(told_tree, results[len(changed) :])

        return kept, changed, jax.jit(step, donate_argnums=1)


def needed_leaves(jaxpr: Jaxpr, num_leaves: int) -> list[int]:
    """Of a step from so many leaves of a state, and more, to as many new ones, and more: the leaves on which the other
    results of this step or of a later one depend.
    """
    needed, others = [False] * num_leaves, [True] * (len(jaxpr.outvars) - num_leaves)
    while True:
        _, used = dce_jaxpr(jaxpr, needed + others)
        if not any(now and not before for now, before in zip(used, needed, strict=False)):
            return [i for i, each in enumerate(needed) if each]
        needed = [now or before for now, before in zip(used, needed, strict=False)]


def _of_their_types(leaves: list[Any]) -> list[Any]:
    """The same, none of them of a weak type, as what comes of Python's numbers is: after a reset there are others than after
    a step, for which the step would be compiled once more.
    """
    return [x if _is_key(x) else jax.lax.convert_element_type(x, x.dtype) for x in map(jax.numpy.asarray, leaves)]


def to_jax(x: Tensor) -> Any:
    """What a compiled function takes a tensor as. On the CPU a copy, which takes less time than DLPack."""
    return x.numpy().copy() if x.device.type == "cpu" else jax.dlpack.from_dlpack(x.contiguous())


def copy_to_torch(x: jax.Array, kept: Tensor) -> None:
    """Into a tensor that stays; on the CPU by way of NumPy, likewise."""
    if kept.device.type == "cpu":
        np.copyto(kept.numpy(), x)
    else:
        kept.copy_(torch.from_dlpack(x))


class Jax:
    """A wrapped environment in JAX with its state, see `contract.Steps`. Its tensors stay from one reset to the next."""

    def __init__(self, stepping: Stepping, episode_length: int, wanted: Wanted) -> None:
        self.name, self.num_envs = stepping.name, wanted.num_envs
        self.action_dim, self.episode_length = int(stepping.env.action_size), episode_length
        self.action_repeat, self.device = wanted.config.action_repeat, wanted.device
        self._jax_device, self._new_seed = jax_device(wanted.device, stepping.name), wanted.new_seed
        self._stepping = stepping
        self._carried: Carried = ([], [])

    def reset(self) -> None:
        """Starts a new episode in every env, with keys from a new seed."""
        with jax.default_device(self._jax_device):
            key = jax.random.PRNGKey(self._new_seed())
            # Put there, not only made there: else the step would be compiled for either.
            keys = jax.device_put(jax.random.split(key, self.num_envs), self._jax_device)
            self._carried, observation, rows = self._stepping.reset(keys)
        self.observation, self._rows = jax.tree.map(lambda x: torch.from_dlpack(x).clone(), (observation, rows))
        first = 3 + self._stepping.has_time_out
        self.reward, self._ends = self._rows[0], self._rows[1:first]
        self.metrics = dict(zip(self._stepping.metrics, self._rows[first:], strict=True))
        self._tell_ends()

    def step(self, action: Tensor) -> None:
        """One step with `action` `(num_envs, action_dim)`."""
        self._carried, observation, rows = self._stepping.step(self._carried, to_jax(action))
        copy_to_torch(rows, self._rows)
        self._tell_ends()
        if isinstance(observation, dict):
            for key, x in observation.items():
                copy_to_torch(x, self.observation[key])
        else:
            copy_to_torch(observation, self.observation)

    def _tell_ends(self) -> None:
        """Where episodes have ended, in bools, which nobody has to look at for other numbers."""
        self.termination, self.truncation, *time_out = self._ends.bool().unbind()
        if time_out:
            (self.time_out,) = time_out

    def state(self) -> dict[str, Tensor]:
        """What is carried of the environment's state, by its place."""
        return {f"{i:03}": _to_saved(leaf) for i, leaf in enumerate([*self._carried[0], *self._carried[1]])}

    def load_state(self, saved: dict[str, Tensor]) -> None:
        """Goes on from a saved `state`. ValueError if it does not fit."""
        kept, changed = self._carried
        leaves = [*kept, *changed]
        if len(saved) != len(leaves):
            raise ValueError(
                f"the state of {self.name} has {len(saved)} arrays in the checkpoint, but {len(leaves)} here"
            )
        with jax.default_device(self._jax_device):
            found = [_from_saved(x, leaf, self.name) for x, leaf in zip(saved.values(), leaves, strict=True)]
        found = [jax.device_put(x, self._jax_device) for x in found]
        self._carried = found[: len(kept)], found[len(kept) :]


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_saved(leaf: Any) -> Tensor:
    """A copy of an array on the CPU; unsigned numbers as signed ones of the same bits, which every torch can save."""
    x = np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return torch.from_numpy(x.view(np.int32) if x.dtype == np.uint32 else x)


def _from_saved(saved: Tensor, leaf: Any, name: str) -> Any:
    like = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    x = saved.cpu().numpy()
    x = x.view(np.uint32) if like.dtype == np.uint32 else x
    if x.shape != like.shape or x.dtype != like.dtype:
        raise ValueError(f"the state of {name} has an array {x.shape} in the checkpoint, but {like.shape} here")
    return jax.random.wrap_key_data(x, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else jax.numpy.asarray(x)
