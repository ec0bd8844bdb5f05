"""The contract of an environment: what acting, learning, evaluation and checkpoints ask of it, and nothing else.

docs/environments.md says the same with examples. `Env` meets it; so does `Completed`, which makes it of the few things
that an adapter or a user's own object has to have, `Steps`.
"""

from typing import Any, Protocol

from torch import Tensor

from torch_ppo.errors import ConfigError
from torch_ppo.simulation.broken import BrokenWorlds
from torch_ppo.simulation.physics import Physics
from torch_ppo.simulation.task import Observation, Task
from torch_ppo.simulation.views import Size

MOST_CHOICES = 100_000  # of discrete actions: each is an output of the policy


class EnvironmentMisfit(ConfigError):
    """An environment that cannot be had, or lacks something of the contract."""


class Steps(Protocol):
    """The least that an environment is: `num_envs` episodes side by side, each of which restarts itself.

    num_envs:        how many
    action_dim:      numbers in an action, each meant for [-1, 1]
    episode_length:  env steps of the longest episode
    observation:     after the step and any restart                        (num_envs, obs_dim), or a dict of such;
                     of pictures, with names such as pixels/front, (num_envs, height, width, channels) uint8
    reward:          of the step                                           (num_envs,)
    termination:     where the episode ended by itself                     (num_envs,)
    truncation:      where it was cut off, by a time limit                 (num_envs,)

    Tensors or arrays; they may be new ones after each step. A world whose numbers are no longer finite should restart, too:
    it counts as ended. It may also have, from its
    first reset on, and lacks nothing without:

    choices:            where actions are discrete, how many each has: `action` then has indices from 0, int64; else None
    device:             of its tensors; else the CPU
    action_repeat:      env steps of a `step`; else 1
    name:               what errors call it; else its class
    metrics:            of the step, by name                               (num_envs,) each
    time_out:           where an end is a time limit of its own            (num_envs,)
    success:            where an episode has ended as a success            (num_envs,)
    final_observation:  after the step and before any restart              as observation
    reward_range:       least and greatest reward of an env step
    state():            a nest of dicts of tensors, that `load_state(saved)` goes on from; without, it cannot be checkpointed
    """

    num_envs: int
    action_dim: int
    episode_length: int
    observation: Tensor | Observation
    reward: Tensor
    termination: Tensor
    truncation: Tensor

    def reset(self) -> object:
        """Starts a new episode in every env."""

    def step(self, action: Tensor) -> object:
        """One step with `action` `(num_envs, action_dim)`."""


class Environment(Protocol):
    """What is asked of any environment. Its tensors are float32 where nothing else is said, and stay where they are.

    name:              what errors call it
    num_envs, action_dim, choices, episode_length, action_repeat, device:  as of `Steps`
    observation, seen, reward, done, truncation, termination, time_out, success, steps, metrics, episode_metrics,
    episode_totals, final_observation, final_state, broken:  as of `torch_ppo.Env`
    observation_sizes: numbers of each observation; of pictures height, width and channels
    random_episode_phase, whole_episode:  whether episodes may begin within, and which did not; `(num_envs,)` bool
    reward_range:      least and greatest reward of an env step, infinite where that is not known
    never_terminates:  whether only the time limit ends an episode
    overflowed:        envs that have exceeded a buffer of their simulation so far, int64 `()`
    control_range:     limits of the controls, the last columns of `final_state`; None without that    (2, nu)
    recordable:        whether `step` can be recorded as a CUDA graph
    compilable, compilable_on_gpu:  names of methods that torch.compile takes whole; "step" alone if it takes that
    num_substeps:      timesteps of the simulation in an env step; 1 where that is not known
    task, physics:     of our own tasks; None for others'
    """

    name: str
    num_envs: int
    action_dim: int
    choices: tuple[int, ...] | None
    episode_length: int
    action_repeat: int
    device: Any
    observation: Observation
    seen: Any
    reward: Tensor
    done: Tensor
    truncation: Tensor
    termination: Tensor
    time_out: Tensor
    success: Tensor | None
    steps: Tensor
    metrics: dict[str, Tensor]
    episode_metrics: dict[str, Tensor]
    episode_totals: Tensor
    final_observation: Observation
    final_state: Tensor | None
    broken: BrokenWorlds
    observation_sizes: dict[str, Size]
    random_episode_phase: bool
    whole_episode: Tensor
    reward_range: tuple[float, float]
    never_terminates: bool
    overflowed: Tensor
    control_range: Tensor | None
    recordable: bool
    compilable: tuple[str, ...]
    compilable_on_gpu: tuple[str, ...]
    num_substeps: int
    task: Task | None
    physics: Physics | None

    def reset(self) -> Any:
        """Starts a new episode in every env; returns `seen`."""

    def step(self, action: Tensor) -> tuple[Any, Tensor, Tensor]:
        """One policy step with `action` `(num_envs, action_dim)`; returns `(seen, reward, done)`."""

    def success_now(self) -> Tensor | None:
        """Whether what it is for is achieved now, bool `(num_envs,)`; None where it does not say."""

    def controls(self) -> dict[str, list] | None:
        """What becomes of actions, as `simulation.scaling.to_plain` has it; None if that is not known."""

    def state(self) -> dict[str, object] | None:
        """Tensors, in a nest of dicts, that `load_state` goes on from exactly; None if it cannot be checkpointed."""

    def load_state(self, saved: dict[str, object]) -> None:
        """Goes on from a saved `state`. ValueError if it does not fit."""


NEEDED = tuple(Steps.__annotations__)  # and reset and step
WHOLE = (*Environment.__annotations__, "reset", "step", "success_now", "controls", "state", "load_state")


def lacking(env: object, names: tuple[str, ...]) -> list[str]:
    """Those of the names that an object does not have."""
    return [name for name in names if not hasattr(env, name)]
