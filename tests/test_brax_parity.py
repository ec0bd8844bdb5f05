"""Our functions against numbers that Brax computed; see tests/helpers/golden_data.py for the fixtures.

Tests call what training calls. Randomness is replayed through `Noise`; in float64, tolerances leave room for
rounding only.
"""

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import torch_ppo
from tests.helpers.golden_data import ARRAYS, Case, RecordedNoise, cases, flatten, unflatten
from tests.helpers.toy import ToyTask
from torch_ppo.formulas import distribution, losses
from torch_ppo.formulas.distribution import DISTRIBUTIONS, Bijector
from torch_ppo.formulas.losses import LossInputs
from torch_ppo.formulas.networks import make_ppo_networks
from torch_ppo.formulas.pixels import is_picture
from torch_ppo.formulas.running_statistics import RunningStatistics
from torch_ppo.learning.agent import Agent, make_agent
from torch_ppo.learning.augment import PixelShifts
from torch_ppo.learning.batch import Batch, allocate_batch
from torch_ppo.learning.collect import Collector
from torch_ppo.learning.train_step import learn, training_step
from torch_ppo.learning.update import METRICS, Learner, adaptive_learning_rate, per_parameter
from torch_ppo.running.episode_metrics import EpisodeMetrics
from torch_ppo.running.evaluate import Evaluator, act_of
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Observation

NETWORKS = ("policy", "value")


# Formulas


@cases("gae")
def test_gae(case: Case) -> None:
    vs, advantages = losses.compute_gae(**case.below("in"), **case.cfg)
    case.check({"vs": vs, "advantages": advantages})


def distribution_outputs(
    bijector: Bijector, loc: Tensor, scale: Tensor, old_loc: Tensor, old_scale: Tensor, noise: Tensor
) -> dict[str, Tensor]:
    """Everything that the fixtures record of a distribution but gradients."""
    raw_action = distribution.sample_raw(loc, scale, noise)
    return {
        "loc": loc,
        "scale": scale,
        "raw_action": raw_action,
        "action": bijector.forward(raw_action),
        "mode": bijector.forward(loc),
        "log_det": bijector.log_det(raw_action),
        "log_prob": distribution.log_prob(loc, scale, raw_action.detach(), bijector),
        "entropy": distribution.entropy(loc, scale, noise, bijector),
        "kl_old_new": distribution.kl_divergence(old_loc, old_scale, loc, scale),
    }


def gradient(output: Tensor, of: Tensor) -> Tensor:
    """Gradient of the summed output; zero where it does not depend on `of`."""
    return torch.autograd.grad(output.sum(), of, retain_graph=True, materialize_grads=True)[0]


@cases("dist_tanh")
def test_tanh_normal(case: Case) -> None:
    parameters = case["in/parameters"].requires_grad_()
    new = distribution.tanh_normal_params(parameters, **case.cfg)
    old = distribution.tanh_normal_params(case["in/old_parameters"], **case.cfg)
    outputs = distribution_outputs(DISTRIBUTIONS["tanh_normal"], *new, *old, case["in/noise"])
    gradients = {f"grad_{name}": gradient(outputs[name], parameters) for name in ("log_prob", "entropy")}
    case.check(outputs | gradients)


@cases("dist_normal")
def test_normal(case: Case) -> None:
    new = {name: case[f"in/{name}"].requires_grad_() for name in ("loc", "scale")}
    old = case["in/old_loc"], case["in/old_scale"]
    outputs = distribution_outputs(DISTRIBUTIONS["normal"], *new.values(), *old, case["in/noise"])
    gradients = {
        f"grad_{output}_{name}": gradient(outputs[output], of)
        for output in ("log_prob", "entropy")
        for name, of in new.items()
    }
    case.check(outputs | gradients)


@cases("bijector")
def test_tanh_bijector(case: Case) -> None:
    bijector, x = DISTRIBUTIONS["tanh_normal"], case["in/x"]
    # We have no inverse: log-probabilities take raw actions.
    case.check({"forward": bijector.forward(x), "log_det": bijector.log_det(x)}, without=("inverse",))


@cases("rstats")
def test_running_statistics(case: Case) -> None:
    batches = [case[f"in/batch{i}"] for i in range(len(case.below("in")))]
    statistics = RunningStatistics(batches[0].shape[-1], **case.cfg).to(case.dtype)
    # The std of a constant feature is the floor, 1e-6, so normalizing blows up the last bit of its mean.
    rows = torch.cat([batch.flatten(0, -2) for batch in batches])
    varies = (rows != rows[0]).any(0)
    outputs = {}
    for i, batch in enumerate(batches):
        statistics.update(batch)
        outputs |= {f"{name}{i}": buffer.clone() for name, buffer in statistics.named_buffers()}
        normalized = statistics.normalize(batch)
        case.compare(f"normalized{i}", normalized[..., varies], of=lambda x: x[..., varies])
    case.check(outputs, without=("normalized",))


@cases("adaptive_lr")
def test_adaptive_learning_rate(case: Case) -> None:
    settings = dict(case.cfg)
    rates = [torch.tensor(settings.pop("lr0"), dtype=case.dtype)]
    for kl in case["in/kl"]:
        rates.append(adaptive_learning_rate(rates[-1], kl, **settings))
    case.check({"lr": torch.stack(rates[1:])})


@cases("quantile_huber")
def test_quantile_huber_loss(case: Case) -> None:
    quantiles = case["in/quantiles"].requires_grad_()
    loss = losses.quantile_huber_loss(quantiles, case["in/targets"], **case.cfg).mean()
    case.check({"loss": loss, "grad": gradient(loss, quantiles)})


# Configurations, agents and batches from a fixture


def make_config(net: Mapping[str, object], **settings: object) -> Config:
    """The configuration of a fixture's networks and training settings."""
    values = {"num_timesteps": 1, **net, **settings}
    hidden, asymmetric = values.pop("hidden"), values.pop("asymmetric")
    values["policy_hidden_layer_sizes"] = values["value_hidden_layer_sizes"] = hidden
    values["value_obs_key"] = "privileged_state" if asymmetric else "state"
    # Brax ignores what follows, Config refuses it.
    if values["distribution_type"] == "tanh_normal":
        for name in ("noise_std_type", "init_noise_std", "state_dependent_std", "mean_clip_scale"):
            values.pop(name, None)
    if values.get("normalize_observations_mode") != "ema":
        values.pop("normalize_until_count", None)
    # Networks alone do not need it, Config does.
    if values["use_distributional_critic"]:
        values.setdefault("clipping_epsilon_value", 1.0)
    return Config(**values)


def training_config(case: Case, **changes: object) -> Config:
    """The configuration of a `trainstep` case."""
    return make_config(case.cfg["net"], **(case.cfg["train"] | changes))


def make_case_agent(case: Case, config: Config, observation: Mapping[str, Tensor], action_dim: int) -> Agent:
    """An agent for these observations, in the precision of the case."""
    return make_agent(config, {key: x.shape[-1] for key, x in observation.items()}, action_dim).to(case.dtype)


def from_flat(
    agent: Agent, case: Case, policy: str = "in/policy", value: str = "in/value"
) -> dict[nn.Parameter, Tensor]:
    """One tensor per parameter from the recorded flat vectors of these names."""
    return unflatten(agent.policy, case.spec("policy"), case[policy]) | unflatten(
        agent.value, case.spec("value"), case[value]
    )


def to_flat(agent: Agent, case: Case, tensors: Mapping[nn.Parameter, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The inverse: the flat vectors `<prefix>policy` and `<prefix>value` of one tensor per parameter."""
    return {f"{prefix}{name}": flatten(getattr(agent, name), case.spec(name), tensors) for name in NETWORKS}


@torch.no_grad()
def load_parameters(agent: Agent, case: Case, *names: str) -> None:
    """Both networks from the recorded flat vectors of these names."""
    for parameter, tensor in from_flat(agent, case, *names).items():
        parameter.copy_(tensor)


def load_normalizer(agent: Agent, case: Case, prefix: str = "in/") -> None:
    """What is recorded of mean, std, summed_variance and count."""
    for key, statistics in agent.normalizer.items():
        for name, buffer in statistics.named_buffers():
            for recorded in (f"{prefix}{name}", f"{prefix}{name}/{key}"):
                if recorded in case:
                    buffer.copy_(case[recorded])


def in_order(learner: Learner, tensors: Mapping[nn.Parameter, Tensor]) -> Tensor:
    """One tensor per parameter as a vector in the order of `learner.flat`."""
    return torch.cat([tensors[parameter].flatten() for parameter in learner.parameters])


def by_parameter(learner: Learner, vector: Tensor) -> dict[nn.Parameter, Tensor]:
    """The inverse."""
    return dict(zip(learner.parameters, per_parameter(vector, learner.parameters), strict=True))


def load_adam(learner: Learner, step: Case) -> None:
    """Adam's state before a training step that is not the first: count, moments, and the rate of the last SGD step."""
    mean, square = (
        from_flat(learner.agent, step, f"in/adam_{moment}_policy", f"in/adam_{moment}_value") for moment in ("mu", "nu")
    )
    count = step["in/adam_count"].to(torch.float32)
    before = step.step(int(step.path.rpartition("step")[2]) - 1)
    saved = learner.optimizer.state_dict()
    moments = {"exp_avg": mean, "exp_avg_sq": square}
    saved["state"] = {0: {"step": count} | {name: in_order(learner, moment) for name, moment in moments.items()}}
    saved["param_groups"][0]["lr"] = before["out/metrics/learning_rate"][-1, -1]
    learner.load_optimizer(saved)


def time_first(x: Tensor) -> Tensor:
    """(B, T, ...) -> (T, B, ...), and back."""
    return x.transpose(0, 1).contiguous()


def recorded_batch(case: Case, part: str, value_obs_key: str) -> Batch:
    """The batch that Brax collected, batch first in the fixture."""
    names = "raw_action dist_loc dist_scale dist_logits log_prob reward truncation discount value time_out".split()
    data = {name: time_first(case[f"{part}/{name}"]) for name in names if f"{part}/{name}" in case}
    if "dist_logits" in data:
        loc, scale = distribution.tanh_normal_params(data["dist_logits"])
    else:
        loc, scale = data["dist_loc"], data["dist_scale"]
    observation = {key: time_first(x) for key, x in case.observation(f"{part}/observation").items()}
    following = case.observation(f"{part}/next_observation")[value_obs_key]
    return Batch(
        observation=observation,
        bootstrap_observation={value_obs_key: following[:, -1]},
        raw_action=data["raw_action"],
        policy_params=(loc, scale),
        log_prob=data["log_prob"],
        reward=data["reward"],
        truncation=data["truncation"],
        termination=(1.0 - data["discount"]) * (1.0 - data["truncation"]),
        value=data.get("value"),
        time_out=data.get("time_out"),
        episode_done=None,
        episode_metrics={},
    )


def by_key(name: str, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Something per observation under the names of the fixture: `<name>`, or `<name>/<key>` if there are several."""
    return {name if len(observation) == 1 else f"{name}/{key}": x for key, x in observation.items()}


# Networks and loss


@cases("net")
def test_networks(case: Case) -> None:
    config = make_config(case.cfg)
    observation = case.observation("in/obs")
    agent = make_case_agent(case, config, observation, case["out/loc"].shape[-1])
    load_parameters(agent, case)
    load_normalizer(agent, case)
    loc, scale = agent.policy_params(observation)
    logits = agent.policy.trunk(agent.preprocess(observation, agent.policy_obs_key))
    quantiles, value = agent.quantiles(observation), agent.values(observation)
    case.check({"loc": loc, "scale": scale, "logits": logits, "quantiles": quantiles, "value": value})


# What a `vision` case has whose settings do not say: older fixtures leave it out.
VISION_NETWORK = {"cnn_stride": (2, 2), "cnn_activation": "elu"}
VISION_NAMES = {"padding": "cnn_padding", "max_pool": "cnn_max_pool", "pool": "cnn_global_pool"}


def vision_config(case: Case) -> Config:
    """The configuration of a `vision` case; sizes are those of its parameters."""
    settings = VISION_NETWORK | {VISION_NAMES.get(name, name): value for name, value in case.cfg.items()}
    for network in NETWORKS:
        shapes = dict(entry.split(":") for entry in case.spec(network))
        shapes = {name: [int(dim) for dim in dims.split(",")] for name, dims in shapes.items() if "/kernel" in name}
        hidden = [shape[-1] for name, shape in shapes.items() if name.startswith("MLP_0/")]
        kernels = [shape for name, shape in shapes.items() if name.startswith("CNN_0/")]
        settings[f"{network}_hidden_layer_sizes"] = hidden[:-1]
        settings |= {"cnn_kernel_size": [x[0] for x in kernels], "cnn_output_channels": [x[-1] for x in kernels]}
    return Config(num_timesteps=1, vision=True, normalize_observations=True, **settings)


@cases("vision")
@torch.no_grad()
def test_vision_networks(case: Case) -> None:
    observation = case.observation("in/obs")
    sizes = {key: tuple(x.shape[1:]) if is_picture(key) else x.shape[-1] for key, x in observation.items()}
    agent = make_agent(vision_config(case), sizes, case["out/logits"].shape[-1] // 2).to(case.dtype)
    load_parameters(agent, case)
    load_normalizer(agent, case)
    seen, vector = agent.preprocess(observation, agent.policy_obs_key), agent.policy_obs_key
    features = [agent.policy.encoder(seen), *([seen[vector]] if vector else [])]
    logits = agent.policy.head.trunk(torch.cat(features, -1))
    case.check({"logits": logits, "value": agent.values(observation)})
    for found, expected in zip(agent.policy_params(observation), distribution.tanh_normal_params(logits), strict=True):
        assert torch.equal(found, expected)


@cases("augment")
def test_shifted_pixels(case: Case) -> None:
    """In a pass over sequences in an order of their own, each has its own recorded offset."""
    observation = {key: time_first(x) for key, x in case.observation("in/obs").items()}
    sizes = {key: tuple(x.shape[2:]) if is_picture(key) else x.shape[-1] for key, x in observation.items()}
    config = Config(num_timesteps=1, vision=True, augment_pixels=True)
    agent = make_agent(config, sizes, 1)
    shifts = PixelShifts(config, agent, SimpleNamespace(raw_action=next(iter(observation.values()))))
    shifts.draw(RecordedNoise((), integers=[case["in/offsets"].to(torch.int64)]))
    order = torch.arange(len(case["in/offsets"])).flip(0)
    members = {key: x.index_select(1, order) for key, x in observation.items()}
    last = {key: x[-1] for key, x in members.items()}
    shifted, shifted_last = shifts.of(members, last, order)
    found = {f"obs/{key}": time_first(x.index_select(1, order)) for key, x in shifted.items()}
    case.check(found)
    for key, x in shifted_last.items():
        assert torch.equal(x, shifted[key][-1])


@cases("net_ln")
@torch.no_grad()
def test_layer_norm(case: Case) -> None:
    observation = case["in/obs"]
    spec = case.spec("policy")
    sizes = [int(entry.split(",")[-1]) for entry in spec if "/kernel:" in entry]
    obs_dim = observation.shape[-1]
    policy, _ = make_ppo_networks(
        obs_dim, obs_dim, sizes[-1] // 2, policy_hidden_layer_sizes=sizes[:-1], layer_norm=True, **case.cfg
    )
    policy.to(case.dtype)
    for parameter, tensor in unflatten(policy, spec, case["in/policy"]).items():
        parameter.copy_(tensor)
    case.check({"logits": policy.trunk(observation)})


@torch.no_grad()
def loss_terms(
    agent: Agent,
    config: Config,
    observation: Observation,
    bootstrap_observation: Observation,
    data: LossInputs,
    noise: Tensor,
) -> dict[str, Tensor]:
    """What goes into the loss, each from the function that computes it; the ratio exists only inside the loss."""
    loc, scale = agent.policy_params(observation)
    values, bootstrap_value = agent.values(observation), agent.values(bootstrap_observation)
    vs, advantages = losses.compute_gae(
        data.truncation,
        data.termination,
        data.reward * config.reward_scaling,
        values,
        bootstrap_value,
        lambda_=config.gae_lambda,
        discount=config.discounting,
    )
    return {
        "mid_values": values,
        "mid_bootstrap_value": bootstrap_value,
        "mid_vs": vs,
        "mid_advantages": advantages,
        "mid_log_prob": agent.distribution.log_prob((loc, scale), data.raw_action),
        "mid_entropy": agent.distribution.entropy((loc, scale), noise),
    }


@cases("loss")
def test_loss(case: Case) -> None:
    settings = dict(case.cfg["loss"])
    config = make_config(case.cfg["net"], vf_loss_coefficient=settings.pop("vf_coefficient"), **settings)
    batch = recorded_batch(case, "in", config.value_obs_key)
    agent = make_case_agent(case, config, batch.observation, batch.raw_action.shape[-1])
    load_parameters(agent, case, "in/policy", "in/value_params")
    load_normalizer(agent, case)
    learner, noise = Learner(agent, config, batch, RecordedNoise(())), case["in/noise"]

    everything = torch.arange(batch.reward.shape[1])
    observation, bootstrap_observation, data = batch.minibatch(everything)
    gradient, metrics = learner.gradients(observation, bootstrap_observation, data, noise)
    outputs = dict(zip(losses.METRICS, metrics, strict=True))
    outputs |= to_flat(agent, case, by_parameter(learner, gradient), "grad_")
    outputs |= loss_terms(agent, config, observation, bootstrap_observation, data, noise)
    case.check(outputs, without=("mid_ratio",))


# Episodes


def make_toy_env(case: Case, settings: Mapping[str, object], *, episode_length: int, action_repeat: int) -> Env:
    """The toy env of the case, at its recorded start states."""
    x0 = case["in/x0"]
    constants = {name: torch.from_numpy(ARRAYS[f"toy/{name}"]) for name in ("matrix_M", "vector_c")}
    task = ToyTask(
        x0=x0,
        matrix=constants["matrix_M"],
        vector=constants["vector_c"],
        **{name: settings[name] for name in ("limit", "timeout", "asymmetric") if name in settings},
    )
    return Env(
        task,
        len(x0),
        episode_length=episode_length,
        action_repeat=action_repeat,
        device=torch.device("cpu"),
        generator=torch.Generator(),
    )


@cases("wrap")
def test_episodes(case: Case) -> None:
    cfg = case.cfg
    env = make_toy_env(case, cfg, episode_length=cfg["episode_length"], action_repeat=cfg["action_repeat"])
    for name, observation in by_key("obs0", env.observation).items():
        case.compare(name, observation, part="in")
    seen: dict[str, list[Tensor]] = {}
    for action in case["in/actions"]:
        env.step(action)
        after = {
            "reward": env.reward,
            "done": env.done,
            "truncation": env.truncation,
            "steps": env.steps.to(torch.float32),
            "episode_done": env.done,
            "tick": env.memory["tick"],
            "time_out": env.time_out,
            **by_key("obs", env.observation),
            **{f"episode_metrics/{name}": total for name, total in env.episode_metrics.items()},
        }
        for name, x in after.items():
            seen.setdefault(name, []).append(x.clone())
    case.check({name: torch.stack(steps) for name, steps in seen.items()}, without=("eval_",))


# Training steps


def make_training_env(case: Case, config: Config) -> Env:
    """The env of a `trainstep` case."""
    return make_toy_env(case, case.cfg["env"], episode_length=config.episode_length, action_repeat=config.action_repeat)


def recorded_noise(step: Case, *, collecting: bool, learning: bool) -> RecordedNoise:
    """The noise that one training step draws."""
    actions = step["in/action_noise"] if collecting else ()  # (U, T, N, A)
    entropies = step["in/entropy_noise"] if learning else ()  # (E, M, T, B, A), drawn once per pass
    return RecordedNoise([*actions, *entropies], step["in/permutations"] if learning else ())


@cases("trainstep", torch.float32)
def test_collecting(case: Case) -> None:
    """Rollouts from noise: physics, episodes, acting, and the order of sequences."""
    config = training_config(case, log_training_metrics=True)
    env = make_training_env(case, config)
    agent = make_case_agent(case, config, env.observation, env.action_dim)
    batch = allocate_batch(config, env, agent)
    collector = Collector(config, env, agent, batch, RecordedNoise(()))
    for step in case.steps:
        load_parameters(agent, step)
        load_normalizer(agent, step, "in/normalizer_")
        collector.noise = noise = recorded_noise(step, collecting=True, learning=False)
        collector()
        noise.assert_spent()

        collected = {
            "action": agent.distribution.action(batch.raw_action),
            "raw_action": batch.raw_action,
            "dist_loc": batch.policy_params[0],
            "dist_scale": batch.policy_params[1],
            "log_prob": batch.log_prob,
            "reward": batch.reward,
            "truncation": batch.truncation,
            "discount": 1.0 - (batch.truncation + batch.termination),
            "value": batch.value,
            "time_out": batch.time_out,
            "episode_done": batch.episode_done,
            **by_key("observation", batch.observation),
            **{f"episode_metrics/{name}": total for name, total in batch.episode_metrics.items()},
        }
        collected = {name: time_first(x) for name, x in collected.items() if x is not None}
        step.check(collected, part="in/data", without=("next_observation", "dist_logits"))
        if "in/data/dist_logits" in step:
            params = time_first(torch.cat(batch.policy_params, dim=-1))
            step.compare(
                "dist_logits",
                params,
                part="in/data",
                of=lambda logits: torch.cat(distribution.tanh_normal_params(logits), dim=-1),
            )
        # We keep only the observation that the value of the last step is bootstrapped from.
        several = len(batch.observation) > 1
        (bootstrap,) = batch.bootstrap_observation.values()
        step.compare(
            f"next_observation/{agent.value_obs_key}" if several else "next_observation",
            bootstrap,
            part="in/data",
            of=lambda following: following[:, -1],
        )


def watch(learner: Learner, case: Case) -> list[dict[str, Tensor]]:
    """A list that grows with every SGD step: parameters after it, and its gradients after any clipping."""
    seen = []

    def after_sgd_step(*_: object) -> None:
        parameters, gradients = (by_parameter(learner, x) for x in (learner.flat.detach(), learner.flat.grad))
        seen.append(to_flat(learner.agent, case, parameters) | to_flat(learner.agent, case, gradients, prefix="grad_"))

    learner.optimizer.register_step_post_hook(after_sgd_step)
    return seen


def learning_outputs(learner: Learner, seen: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What the fixtures record of one training step, where `seen` watched its SGD steps."""
    config = learner.config
    metrics = learner.metrics.unflatten(0, (config.num_updates_per_batch, config.num_minibatches))
    outputs = {f"metrics/{name}": column for name, column in zip(METRICS, metrics.unbind(-1), strict=True)}
    outputs["metrics/grad_global_norm"] = outputs.pop("metrics/grad_norm")
    statistics = learner.agent.normalizer
    for name in ("mean", "std", "summed_variance"):
        outputs |= by_key(f"normalizer_{name}", {key: getattr(s, name) for key, s in statistics.items()})
    outputs["normalizer_count"] = next(iter(statistics.values())).count
    outputs |= {f"first_{name}": x for name, x in seen[0].items()}
    for i, last in enumerate(seen[config.num_minibatches - 1 :: config.num_minibatches]):
        outputs |= {f"pass{i}_{name}": last[name] for name in NETWORKS}
    return outputs | {name: seen[-1][name] for name in NETWORKS}


def learn_from_recorded(step: Case, config: Config) -> dict[str, Tensor]:
    """Runs `learn` on the recorded batch of a training step, from its recorded state."""
    batch = recorded_batch(step, "in/data", config.value_obs_key)
    agent = make_case_agent(step, config, batch.observation, batch.raw_action.shape[-1])
    load_parameters(agent, step)
    load_normalizer(agent, step, "in/normalizer_")
    noise = recorded_noise(step, collecting=False, learning=True)
    learner = Learner(agent, config, batch, noise)
    if "in/adam_count" in step:
        load_adam(learner, step)
    seen = watch(learner, step)
    learn(learner)
    noise.assert_spent()
    return learning_outputs(learner, seen)


@cases("trainstep", steps=True)
def test_learning(case: Case) -> None:
    """Updates from recorded data: normalizer, minibatches, loss, gradients, clipping, Adam, metrics."""
    outputs = learn_from_recorded(case, training_config(case))
    # The gradient is recorded before clipping.
    unclipped = learn_from_recorded(case, training_config(case, max_grad_norm=None))
    case.check(outputs | {f"first_grad_{name}": unclipped[f"first_grad_{name}"] for name in NETWORKS})


@cases("trainstep", torch.float32)
def test_training_steps(case: Case) -> None:
    """Whole training steps in a row, from start states and noise alone."""
    config = training_config(case)
    env = make_training_env(case, config)
    agent = make_case_agent(case, config, env.observation, env.action_dim)
    load_parameters(agent, case.step(0))
    batch = allocate_batch(config, env, agent)
    collector = Collector(config, env, agent, batch, RecordedNoise(()))
    learner = Learner(agent, config, batch, RecordedNoise(()))
    seen = watch(learner, case)
    metrics = []
    for step in case.steps:
        seen.clear()
        collector.noise = learner.noise = noise = recorded_noise(step, collecting=True, learning=True)
        metrics.append(training_step(collector, learner).clone())
        noise.assert_spent()
        step.check(learning_outputs(learner, seen), without=("first_grad",))
    means = torch.cat(metrics).mean(0)
    case.check(dict(zip(METRICS, means, strict=True)), part="train_call")


# Evaluation, logging and schedule


@cases("evaluator")
def test_evaluator(case: Case) -> None:
    cfg = case.cfg
    env = make_toy_env(case, cfg, episode_length=cfg["episode_length"], action_repeat=cfg["action_repeat"])
    agent = make_case_agent(case, make_config(cfg["net"]), env.observation, env.action_dim)
    with torch.no_grad():
        for parameter, tensor in unflatten(agent.policy, case.spec("policy"), case["in/policy"]).items():
            parameter.copy_(tensor)
    load_normalizer(agent, case)
    evaluator = Evaluator(env, act_of(agent, env, RecordedNoise(()), deterministic=cfg["deterministic"]))
    evaluator()
    metrics = evaluator()  # the second time, to see that an evaluation starts anew

    names = {name for name in ARRAYS[f"{case.path}/out/metric_names"] if name.startswith("eval/")}
    assert metrics.keys() == names
    recorded = {name for name in names if f"out/{name.removeprefix('eval/')}" in case}
    assert names - recorded == {"eval/epoch_eval_time", "eval/sps", "eval/walltime"}
    for name in recorded:
        case.compare(name.removeprefix("eval/"), torch.tensor(metrics[name], dtype=case.dtype))


class RecordedActions:
    """The agent that plays recorded actions `(num_steps, num_envs, action_dim)` in order."""

    def __init__(self, actions: Tensor) -> None:
        self.actions = iter(actions)

    def mode(self, observation: Observation) -> Tensor:
        return next(self.actions)


@pytest.mark.parametrize("case", [case for case in cases("wrap").args[1] if "out/eval_steps" in case], ids=str)
def test_only_the_first_episode_counts(case: Case) -> None:
    """Sums and lengths per env; once all first episodes have ended, Brax's no longer change."""
    cfg = case.cfg
    env = make_toy_env(case, cfg, episode_length=cfg["episode_length"], action_repeat=cfg["action_repeat"])
    agent = RecordedActions(case["in/actions"])
    sums, lengths = Evaluator(env, agent.mode).run_episodes()
    assert not case["out/eval_active"][-1].any()
    outputs = {"eval_steps": lengths.to(case.dtype), **{f"eval_metrics/{name}": total for name, total in sums.items()}}
    for name, last in outputs.items():
        case.compare(name, last, of=lambda x: x[-1])


@cases("eplog")
def test_training_episode_log(case: Case) -> None:
    cfg = case.cfg
    log = EpisodeMetrics(cfg["steps_between_logging"], window=cfg["buffer_size"])
    num_updates = sum(name.endswith("/dones") for name in case.below("in"))
    for k in range(num_updates):
        recorded = case.below(f"in/update{k}")
        dones = recorded.pop("dones")
        losses_of_step = {name: x for name, x in recorded.items() if x.shape != dones.shape}
        totals = {name: x for name, x in recorded.items() if name not in losses_of_step}
        means = log.update(dones, totals, losses_of_step)

        outputs = {"logged": torch.tensor(int(means is not None)), "num_steps": torch.tensor(log.num_steps)}
        for name, mean in (means or {}).items():
            outputs[f"mean_{name.removeprefix('episode/')}"] = torch.tensor(mean, dtype=case.dtype)
        case.check(outputs, part=f"out/update{k}")


@cases("schedule")
def test_schedule(case: Case) -> None:
    """The steps at which the callbacks of a training run are called."""
    progress, policy_params = [], []
    torch_ppo.train(
        ToyTask(),
        episode_length=8,
        num_updates_per_batch=1,
        num_eval_envs=2,
        network_factory={"policy_hidden_layer_sizes": (4,), "value_hidden_layer_sizes": (4,)},
        progress_fn=lambda step, metrics: progress.append(step),
        policy_params_fn=lambda step, make_policy, params: policy_params.append(step),
        **case.cfg,
    )
    steps = {"progress_steps": progress, "policy_params_steps": policy_params}
    case.check({name: torch.tensor(values, dtype=torch.int64) for name, values in steps.items()})
