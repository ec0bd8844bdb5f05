"""A run that is stopped in an evaluation makes it again, and goes on as if nothing had been."""

import pytest

import torch_ppo
from torch_ppo.running.evaluate import EvaluationStopped
from torch_ppo.running.loop import run
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config


def make_state():
    config = Config(
        env="cartpole", num_timesteps=160, num_evals=3, num_eval_envs=3, num_envs=4, batch_size=4, num_minibatches=2,
        unroll_length=5, episode_length=60, normalize_observations=True, device="cpu", num_resets_per_eval=1,
        policy_hidden_layer_sizes=(4,), value_hidden_layer_sizes=(4,),
    )  # fmt: skip
    return TrainingState(config, torch_ppo.make_task("cartpole"))


@pytest.mark.parametrize("evaluation", [1, 2, 3])
def test_the_evaluation_is_made_again(evaluation, differences):
    """The first is that before training, the last the one after it. Each has three pieces; it is stopped in the second."""
    whole, stopped, resumed = make_state(), make_state(), make_state()
    expected, reports = [], []
    run(whole, progress_fn=lambda step, metrics: expected.append((step, metrics)))

    pieces = iter(range(10**6))
    stopped.evaluator.should_stop = lambda: next(pieces) == 3 * (evaluation - 1) + 1
    with pytest.raises(EvaluationStopped):
        run(stopped, progress_fn=lambda step, metrics: reports.append((step, metrics)))
    assert len(reports) == evaluation - 1 and stopped.report_is_due == (evaluation > 1)
    resumed.load_checkpoint(stopped.checkpoint())
    run(resumed, progress_fn=lambda step, metrics: reports.append((step, metrics)))

    timeless = [
        [
            (step, {name: x for name, x in metrics.items() if "time" not in name and "sps" not in name})
            for step, metrics in of
        ]
        for of in (expected, reports)
    ]
    assert timeless[0] == timeless[1] and len(reports) == 3
    assert [path for path in differences(whole.checkpoint(), resumed.checkpoint()) if "time" not in path] == []
