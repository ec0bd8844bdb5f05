"""The rules: a condition over the course of a run, what it means, and what to change. One table.

Where limits come from: they lie well beyond all that the healthy runs of this project reported (tests/diagnosis), and
where practice has a number, such as 0.02 for the KL, the text names it. {names} in braces are options, which are shown
in the words of the trainer that a run is of.
"""

from typing import NamedTuple

from torch_ppo.diagnosis import conditions as c
from torch_ppo.diagnosis.conditions import Condition


class Rule(NamedTuple):
    """`told_elsewhere`: a run prints it itself, in more detail; `discrete`: what to change where actions are discrete."""

    name: str
    condition: Condition
    means: str
    change: str
    told_elsewhere: bool = False
    discrete: str | None = None


LOSSES = ("training/total_loss", "training/policy_loss", "training/v_loss", "training/approx_kl", "training/grad_norm")
STD, ENTROPY = "training/policy_dist_mean_std", "training/entropy"

RULES = (
    Rule(
        "not a number",
        c.not_finite(*LOSSES),
        "A reward or observation exploded, or an update did. From here on nothing is learned.",
        "a smaller {learning_rate}, {max_grad_norm} = 1.0, {reward_clip} = 10; look for divisions in the task",
        told_elsewhere=True,
    ),
    Rule(
        "observations jump",
        # At first a drift is from 0 and 1, so that it is in the task's own units.
        c.any_of(c.above("training/normalizer_drift", 30.0, skip=1), c.above("training/normalizer_drift", 1e8)),
        "An observation lies so far from all before that it alone is now the scale of its column, or a column that was "
        "constant changes. What the networks see is another at once; gradients and value loss that explode come from it.",
        "look for it in the task's observe: a division, a sensor of a world that blows up, a column that was constant; "
        "{normalizer_clip} = 10 limits what one observation does",
    ),
    Rule(
        "KL spike",
        c.above("training/approx_kl", 0.2, skip=1),
        "An update moved the policy far beyond what its batch can tell (0.02 is usual): what was learned may be lost.",
        "{max_grad_norm} = 1.0, a smaller {learning_rate}, {target_kl} = 0.02, fewer {num_updates_per_batch}",
    ),
    Rule(
        "too much is clipped",
        c.usually_above("training/clip_fraction", 0.5),
        "Most actions leave the clip range, so most of each batch says nothing more.",
        "a smaller {learning_rate}, fewer {num_updates_per_batch}, a larger minibatch",
    ),
    Rule(
        "exploding gradients",
        c.any_of(
            c.jumps("training/grad_norm", factor=100, at_least=300),
            c.above("training/grad_norm_max", 1e5),
        ),
        "One minibatch's gradient outweighs all others; Adam takes thousands of steps to forget it.",
        "{max_grad_norm} = 1.0, then a smaller {learning_rate} or {reward_scaling}",
    ),
    Rule(
        "exploding value loss",
        c.jumps("training/v_loss", factor=100, at_least=300),
        "The value network is far off. Explained variance can look well meanwhile, as a mean over minibatches.",
        "{max_grad_norm} = 1.0, a smaller {learning_rate}, or {normalize_rewards} = true",
    ),
    Rule(
        "value never fits",
        c.unless(
            c.always_below("training/explained_variance", 0.5, done=0.6, reports=3),
            # What has become the same everywhere leaves nothing to predict: all poles stand.
            c.shrinks("training/value_target_std", to=0.1),
        ),
        "The value network does not predict returns (0.5 or more is usual), so advantages are mostly noise.",
        "{normalize_rewards} = true or another {reward_scaling}; a smaller {discounting}; observe what the reward "
        "depends on",
    ),
    Rule(
        "value loss does not move",
        c.flat("training/v_loss"),
        "The value network does not learn.",
        "{vf_loss_coefficient} = 0.5 or 1, a larger {learning_rate}, {normalize_rewards} = true",
    ),
    Rule(
        "returns far from 1",
        c.any_of(
            c.usually_above("training/value_target_std", 100.0, reports=2),
            c.always_below("training/value_target_std", 1e-4, after=0.3, done=0.5, reports=3),
        ),
        "Value targets are so large, or so small, that the value network starts far from them.",
        "{normalize_rewards} = true, or a {reward_scaling} that brings value_target_std to about 1",
    ),
    Rule(
        "nothing is learned",
        c.all_of(
            # In the first batches the normalizer alone moves the policy.
            c.always_below("training/clip_fraction", 1e-3, done=0.1, skip=1),
            c.always_below("training/approx_kl", 5e-4, done=0.1, skip=1),
        ),
        "The policy hardly changes from one batch to the next.",
        "a larger {learning_rate}: 3e-4 is usual",
    ),
    Rule(
        "updates are skipped",
        c.usually_above("training/skipped_fraction", 0.5),
        "The KL passes its target early in most training steps, and the rest of their updates is left out.",
        "a smaller {learning_rate}, fewer {num_updates_per_batch}, or a larger {target_kl}",
    ),
    Rule(
        "exploration ended early",
        c.any_of(
            c.shrinks_early(STD, to=0.2, within=0.3),
            c.below(STD, 0.01),
            # To be sure of a choice is also what a good policy is.
            c.of_discrete_actions(c.all_of(c.shrinks_early(ENTROPY, to=0.05, within=0.3), c.no_better(done=0.3))),
        ),
        "The policy is sure of itself before it has seen much.",
        "a larger {entropy_cost}, a smaller {learning_rate}, fewer {num_updates_per_batch}",
    ),
    Rule(
        "exploration never ends",
        c.all_of(
            c.any_of(
                c.never_shrinks(STD, share=0.97, done=0.6),
                c.of_discrete_actions(c.never_shrinks(ENTROPY, share=0.97, done=0.6)),
            ),
            c.no_better(done=0.6),
        ),
        "The policy is as random as it was at first: the bonus for entropy outweighs the reward.",
        "a smaller {entropy_cost}, or a larger {reward_scaling}",
    ),
    Rule(
        "actions at their limits",
        c.usually_above("training/saturated_actions", 0.9, reports=2),
        "Nearly all actions are at the end of their range, where the policy has hardly a gradient.",
        "a smaller {learning_rate}, {init_noise_std} or {reward_scaling}; actions scaled in the task; a cost of effort",
    ),
    Rule(
        "constant observations",
        c.above("training/constant_observations", 0.5, times=2),
        "Half of what is observed never changes: a sensor that is not read, or something that is always the same.",
        "look at what the task's observe returns; a column that only later changes will shock the networks",
    ),
    Rule(
        "observations far from 1",
        c.above("training/observation_max", 100.0, skip=1),
        "An observation is hundreds of standard deviations, or units, from what the networks usually see.",
        "{normalize_observations} = true with {normalizer_clip} = 10; scale it in the task",
    ),
    Rule(
        "observations drift",
        c.above("training/normalizer_drift", 1.0, skip=3),
        "What the policy sees is still changing its scale late, which changes the policy without an update.",
        "{normalizer_clip} = 10; look for an observation that grows with time",
    ),
    Rule(
        "reward fell",
        c.fell(share=0.5),
        "Something that was learned is lost; best.pt and policy.pt still have it.",
        "{max_grad_norm} = 1.0, {learning_rate_schedule} = LINEAR, a smaller {learning_rate}, {target_kl} = 0.02",
    ),
    Rule(
        "best was long ago",
        c.best_long_ago(evaluations=4, share=0.85),
        "Training on does not help any more.",
        "{learning_rate_schedule} = LINEAR, a smaller {learning_rate}; or stop there: best.pt has it",
    ),
    Rule(
        "no better than at first",
        c.no_better(done=0.9),
        "Nothing that the reward asks for has been learned.",
        "another seed first; then the reward itself, {discounting}, {learning_rate}, longer training",
    ),
    Rule(
        "stuck",
        c.plateau(below=0.5, done=0.9),
        "A local optimum: the policy has found something, and no longer looks for better.",
        "another seed first; then a larger {entropy_cost}, a {discounting} that sees further, the shape of the reward",
    ),
    Rule(
        "reward is never found",
        c.always_zero(done=0.2),
        "No action so far has led to any reward.",
        "{distribution_type} = normal with {init_noise_std} = 1, {action_repeat} of 2 to 6, starts near the reward",
        discrete="a larger {entropy_cost}, {action_repeat} of 2 to 4, starts near the reward, longer training",
    ),
    Rule(
        "episodes stay short",
        c.stays_short(share=0.2, growth=1.3, done=0.4),
        "Episodes end early and do not grow longer: the task's termination comes before anything can be learned.",
        "a smaller {init_noise_std}, a reward for staying alive, a termination that is more patient",
        discrete="a reward for staying alive, a termination that is more patient, longer training",
    ),
    Rule(
        "discount too short",
        c.short_sight(episodes=60),
        "What comes later than that is not worth an effort now.",
        "a larger {discounting}: 0.97 to 0.995",
    ),
    Rule(
        "unusual batches",
        c.outside(
            env_step_per_training_step=(1024, 20_000_000),
            transitions_per_minibatch=(32, 2_000_000),
            num_updates_per_batch=(1, 32),
            sgd_steps_per_training_step=(1, 2048),
            unroll_length=(4, 4096),
        ),
        "These sizes are unlike any that are known to learn.",
        "batch_size counts sequences of unroll_length steps: docs/semantics.md; num_envs * 20 or so steps per batch",
    ),
    Rule(
        "contacts are lost",
        c.any_of(c.above("training/overflowed_envs", 0.5), c.above("eval/overflowed_envs", 0.5)),
        "MuJoCo Warp's buffers are too small and it drops contacts: robots sink into the ground.",
        "the task's nconmax or njmax; python -m tools.size_buffers proposes them",
        told_elsewhere=True,
    ),
    Rule(
        "worlds break",
        c.above("training/broken_envs", 0.5),
        "Simulations blow up, or a reward or observation is inf or NaN. Nothing is learned from those.",
        "python -m torch_ppo.play --broken FILE shows it; the MJCF's timestep, gains and ranges",
        told_elsewhere=True,
    ),
)
