"""A toy environment that any framework can reproduce; tests/golden/README.md has it in words."""

import jax
import jax.numpy as jnp
import numpy as np
from brax import envs

from tools.golden.networks import ACTIONS, OBSERVATIONS, PRIVILEGED

TOY_MATRIX = np.array([[1.0, -0.5], [0.3, 0.8], [-0.6, 0.4]], np.float32)
TOY_VECTOR = np.array([0.02, -0.01, 0.015], np.float32)


class ToyEnv(envs.Env):
    """x' = 0.9 x + 0.1 M a + c, done when |x'_0| > `limit` or, if there is a `timeout`, t' >= `timeout`."""

    def __init__(self, limit: float = 0.5, timeout: int | None = None, asymmetric: bool = False) -> None:
        self.limit, self.timeout, self.asymmetric = limit, timeout, asymmetric

    def observe(self, x: jax.Array) -> jax.Array | dict[str, jax.Array]:
        """The observation of a state `(3,)`."""
        state = jnp.concatenate([x, jnp.stack([x[0] * x[1], x[2] ** 2])])
        return {"state": state, "privileged_state": jnp.concatenate([state, -x])} if self.asymmetric else state

    def reset(self, rng: jax.Array) -> envs.State:
        """A start state, uniform in ±0.5."""
        x = jax.random.uniform(rng, (3,), minval=-0.5, maxval=0.5)
        zero = jnp.zeros(())
        return envs.State(
            {"x": x, "t": zero},
            self.observe(x),
            zero,
            zero,
            {"cost": zero, "effort_per_step": zero},
            {"tick": zero, "time_out": zero},
        )

    def step(self, state: envs.State, action: jax.Array) -> envs.State:
        """One sub-step; metrics and info are those of the new state."""
        x = 0.9 * state.pipeline_state["x"] + 0.1 * jnp.asarray(TOY_MATRIX) @ action + jnp.asarray(TOY_VECTOR)
        t = state.pipeline_state["t"] + 1
        cost, effort = jnp.sum(x**2), jnp.sum(action**2)
        time_out = jnp.zeros(()) if self.timeout is None else jnp.where(t >= self.timeout, 1.0, 0.0)
        done = jnp.maximum(jnp.where(jnp.abs(x[0]) > self.limit, 1.0, 0.0), time_out)
        state.metrics.update(cost=cost, effort_per_step=effort)
        state.info.update(tick=state.info["tick"] + 1, time_out=time_out)
        return state.replace(
            pipeline_state={"x": x, "t": t},
            obs=self.observe(x),
            done=done,
            reward=1.0 - 0.1 * cost - 0.01 * effort,
        )

    @property
    def observation_size(self) -> int | dict[str, int]:
        """Length of an observation, or of each."""
        return {"state": OBSERVATIONS, "privileged_state": PRIVILEGED} if self.asymmetric else OBSERVATIONS

    @property
    def action_size(self) -> int:
        """Length of an action."""
        return ACTIONS

    @property
    def backend(self) -> str:
        """A name, which Brax asks for."""
        return "toy"
