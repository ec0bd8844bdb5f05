"""One training step: collect a batch, then learn from it, in Brax's order of effects."""

from torch import Tensor

from torch_ppo.collect import Collector
from torch_ppo.update import Learner


def training_step(collector: Collector, learner: Learner) -> Tensor:
    """Collects with the normalizer and networks as they are, then learns. Returns `learner.metrics`."""
    collector()
    return learn(learner)


def learn(learner: Learner) -> Tensor:
    """What follows collecting; changes `batch.reward` if `bootstrap_on_timeout`.

    The normalizer sees the batch before the SGD passes, so stored log-probabilities and the passes normalise
    differently; only with the adaptive learning rate, whose KL that would spoil, does it come after them.
    """
    config, agent, batch = learner.config, learner.agent, learner.batch
    if config.bootstrap_on_timeout:
        batch.reward.addcmul_(batch.time_out, batch.value, value=config.discounting)
    if not config.adaptive_kl:
        agent.update_normalizer(batch.observation)
    metrics = learner.update()
    if config.adaptive_kl:
        agent.update_normalizer(batch.observation)
    return metrics
