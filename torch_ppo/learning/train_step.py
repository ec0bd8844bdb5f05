"""One training step: collect a batch, then learn from it, in Brax's order of effects."""

from collections.abc import Callable

from torch import Tensor

from torch_ppo.learning.collect import Collector
from torch_ppo.learning.update import Learner


def training_step(collector: Collector, learner: Learner, mark: Callable[[], None] = lambda: None) -> Tensor:
    """Collects with the normalizer and networks as they are, then learns. Returns `learner.metrics`.

    `mark` is called at the begin, after collecting, and at the end.
    """
    mark()
    collector()
    mark()
    metrics = learn(learner)
    mark()
    return metrics


def learn(learner: Learner) -> Tensor:
    """What follows collecting; some options change rewards and episode ends in the batch (`torch_ppo.learning.prepare`).

    The normalizer sees the batch before the SGD passes, so stored log-probabilities and the passes normalise
    differently; only where the KL decides something, the adaptive learning rate or `target_kl`, does it come after
    them, because that would spoil the KL.
    """
    normalizer_last = learner.config.normalizer_last
    learner.prepare_batch()
    if not normalizer_last:
        learner.agent.update_normalizer(learner.batch.observation, learner.devices)
    metrics = learner.update()
    if normalizer_last:
        learner.agent.update_normalizer(learner.batch.observation, learner.devices)
    return metrics
