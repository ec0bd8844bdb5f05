"""Training: the library call `torch_ppo.train(environment, ...)`, and the program. The loop is `running.loop`.

python -m torch_ppo.train --env cartpole
"""

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch_ppo.callable_module import make_callable
from torch_ppo.environments.contract import Environment
from torch_ppo.environments.sources import Wrapping
from torch_ppo.learning.devices import DeviceLost
from torch_ppo.learning.factory import NetworkFactory
from torch_ppo.learning.policy import MakePolicy, Params, params_of, policy_maker
from torch_ppo.running.accelerate import torch_left_as_it_was
from torch_ppo.running.call_arguments import check_functions, checked_arguments
from torch_ppo.running.checkpoint import restore
from torch_ppo.running.disk import check_folder
from torch_ppo.running.joining import NotNeeded, errors_in_turn, joined, only_the_first_speaks
from torch_ppo.running.loop import DivergedError, Metrics, run, save_extra
from torch_ppo.running.signals import StopRequest
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.plan import summary
from torch_ppo.settings.signature import with_settings
from torch_ppo.simulation.env import RandomizationFn
from torch_ppo.simulation.task import Task

__all__ = ["DivergedError", "train"]  # what `help` shows


@with_settings
def train(
    environment: Task | Environment | Callable[..., object] | str,
    num_timesteps: int,
    *,
    eval_env: Task | Environment | Callable[..., object] | str | None = None,
    network_factory: NetworkFactory | Mapping[str, object] | None = None,
    randomization_fn: RandomizationFn | None = None,
    wrap_env: bool = True,
    wrap_env_fn: Callable[..., object] | None = None,
    progress_fn: Callable[[int, Metrics], object] = lambda step, metrics: None,
    policy_params_fn: Callable[[int, MakePolicy, Params], object] = lambda step, make_policy, params: None,
    restore_params: Params | None = None,
    **settings: object,
) -> tuple[MakePolicy, Params, Metrics]:
    """Trains `environment` and returns `(make_policy, params, metrics)`; the counterpart of `brax...ppo.train`.

    environment:       a task, envs, a function that makes envs, or a name: ours, gym:Ant-v5, file.py:make_env
                       (docs/environments.md)
    num_timesteps:     env steps to train for, at least; 0 only initialises (and restores)
    eval_env:          another one for evaluation
    network_factory:   a dict of Brax's factory options, or a function (policy_obs_dim, value_obs_dim,
                       action_dim) -> (policy, value) of modules as in `torch_ppo.formulas.networks`; with `vision`
                       (sizes of observations by key, action_dim), as in `torch_ppo.formulas.pixels`
    randomization_fn:  (physics, generator) -> values of model fields for each env, as `Task.randomize`; of training
                       and, unless `randomize_eval` is false, of evaluation
    wrap_env:          False uses envs as they are: they restart their own episodes
    wrap_env_fn:       (env, episode_length=, action_repeat=, randomization_fn=) -> envs with rules of episodes, for
                       training and evaluation; a task's `env` has `env.wrap(...)`
    progress_fn:       called with (env steps, metrics) at every report
    policy_params_fn:  called with (env steps, make_policy, params) at step 0 and before every report
    restore_params:    (normalizer, policy, value) to start from; comes before `restore_checkpoint_path`
    settings:          every field of `Config`, with Brax's names and defaults

    Raises ConfigError for a value that cannot work and DivergedError if the loss becomes NaN.
    """
    check_functions(progress_fn=progress_fn, policy_params_fn=policy_params_fn)
    environment, eval_env, network_factory = checked_arguments(
        environment,
        num_timesteps,
        eval_env,
        Wrapping(wrap_env, wrap_env_fn, randomization_fn),
        network_factory,
        restore_params,
        settings,
    )
    # With 0 the networks are still made, so the rest of the configuration is checked as for one training step.
    config = Config(num_timesteps=num_timesteps or 1, **settings)
    if config.save_checkpoint_path is not None:
        check_folder(Path(config.save_checkpoint_path), "save_checkpoint_path")
    with torch_left_as_it_was(), joined(config) as (devices, device):
        state = TrainingState(
            dataclasses.replace(config, device=device),
            environment,
            eval_environment=eval_env,
            network_factory=network_factory,
            devices=devices,
        )
        restore(state, restore_params)
        metrics = {}
        if num_timesteps:
            metrics = run(state, progress_fn=progress_fn, policy_params_fn=policy_params_fn, save=save_extra)
        return policy_maker(state.agent), params_of(state.agent), metrics


def main() -> None:
    """The program `python -m torch_ppo.train`."""
    # Only the program needs these, and TensorBoard takes a while to import.
    from torch_ppo.command import print_notes
    from torch_ppo.errors import user_errors
    from torch_ppo.export import is_exported
    from torch_ppo.in_folder import Start, run_beside, run_in_folder
    from torch_ppo.running.opening import open_run
    from torch_ppo.running.output import lasting_output
    from torch_ppo.running.program import parse_arguments
    from torch_ppo.running.restarts import words_after_restarts
    from torch_ppo.watching.onlookers import Wanted

    started = time.perf_counter()
    print_notes(quiet="--quiet" in sys.argv[1:])
    with (
        only_the_first_speaks(),
        lasting_output(),
        contextlib.ExitStack() as group,
        user_errors(),
        StopRequest().listening() as stop,
    ):
        try:
            with errors_in_turn(stop):
                parsed = parse_arguments(words_after_restarts(sys.argv[1:]))
                devices, device = group.enter_context(joined(parsed[0].settings))
                folder, state, introduction = open_run(parsed, is_exported=is_exported, devices=devices, device=device)
                with contextlib.closing(folder):
                    if devices.rank:
                        run_beside(state, folder, stop)
                    else:
                        arguments, lines = (
                            parsed[0],
                            f"{introduction}\n{summary(state.config, state.batch.pixel_bytes)}",
                        )
                        wanted = Wanted.of(folder.path, arguments.video_every, arguments.tracker)
                        run_in_folder(state, folder, stop, Start(lines, started, arguments.quiet, wanted))
        except KeyboardInterrupt:
            sys.exit(128 + (stop.number or signal.SIGINT))  # without a signal: raised by the task
        except NotNeeded:
            return
        except DeviceLost as error:  # whoever notices says it, for it may be the first that is gone
            print(f"error: {error}", file=sys.__stderr__, flush=True)
            sys.exit(1)


make_callable(__name__)

if __name__ == "__main__":
    main()
