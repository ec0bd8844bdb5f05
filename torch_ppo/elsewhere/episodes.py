"""What the interfaces of other trainers are put over: envs that begin anew from a seed."""

import torch

from torch_ppo.elsewhere.settings import VectorSettings
from torch_ppo.environments.contract import Environment, EnvironmentMisfit, lacking
from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.running.acting import EnvSettings, env_and_generator
from torch_ppo.running.generators import make_generators
from torch_ppo.simulation.task import Task

STREAM = "env"


class Episodes:
    """Envs that can begin anew from a seed, and say how their episodes end.

    env:     as `make_env` has it, with `final_observation`
    single:  whether an observation is a tensor, not a dict
    """

    def __init__(self, environment: Task | str, num_envs: int, settings: EnvSettings) -> None:
        if not lacking(environment, ("reset", "step")):
            raise ConfigError(
                f"environment is a {type(environment).__name__}, which is made already and cannot be seeded; a task or "
                "its name would work"
            )
        unknown = [name for name in settings if name not in EnvSettings.__annotations__]
        if unknown:
            raise ConfigError(
                f"unknown argument {unknown[0]!r}{did_you_mean(unknown[0], VectorSettings.__annotations__)}"
            )
        env, self._generator = env_and_generator(
            environment, STREAM, {**settings, "num_envs": num_envs}, keep_final=True
        )
        if not env.observation:
            raise ConfigError(f"{env.name} observes nothing with vision = {settings.get('vision')}; True would work")
        if not env.final_observation:
            raise EnvironmentMisfit(
                f"{env.name} does not say what is observed when an episode ends, which Gymnasium's final_obs is; an "
                "environment with final_observation would work (docs/environments.md)"
            )
        self.env: Environment = env
        self.single = not isinstance(env.seen, dict)

    def reset(self, seed: int | None) -> None:
        """Starts a new episode in every env; with a seed, always the same ones from then on."""
        if seed is not None:
            self._generator.set_state(make_generators(seed, self._generator.device)[STREAM].get_state())
        self.env.reset()

    def action(self, given: object, shape: tuple[int, ...]) -> torch.Tensor:
        """Actions as a tensor `(num_envs, action_dim)`; ConfigError if they are of another shape than is asked for."""
        try:
            action = torch.as_tensor(given, dtype=torch.float32, device=self.env.device)
        except (TypeError, ValueError, RuntimeError):
            raise ConfigError(
                f"actions are {type(given).__name__}, but {self.env.name} takes numbers {shape}"
            ) from None
        if action.shape != shape:
            raise ConfigError(f"actions are {tuple(action.shape)}, but {self.env.name} takes {shape}")
        return action.reshape(self.env.num_envs, self.env.action_dim)


def no_options(options: dict | None) -> None:
    """ConfigError for options of a reset, of which there are none."""
    if options:
        raise ConfigError(f"options has {', '.join(options)}, but a reset here takes none; leave options out")
