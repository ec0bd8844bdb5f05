"""Learning from pixels, on batches of random pictures: no env, and nothing is drawn."""

import copy

import pytest
import torch

from tests.formulas.test_augmentation import padded_and_cropped
from tests.helpers.golden_data import RecordedNoise
from tests.helpers.graph_on_cpu import record_on_cpu
from torch_ppo.errors import ConfigError
from torch_ppo.formulas.noise import GeneratorNoise
from torch_ppo.learning.agent import make_agent
from torch_ppo.learning.batch import Batch
from torch_ppo.learning.train_step import learn
from torch_ppo.learning.update import Learner, per_parameter
from torch_ppo.running.accelerate import compiled_with_autograd, set_precision, torch_left_as_it_was
from torch_ppo.settings.config import Config

SIZES = {"pixels/front": (12, 10, 3), "pixels/wrist": (11, 10, 1), "state": 4, "privileged_state": 6}
PIXELS = ("pixels/front", "pixels/wrist")
STEPS, SEQUENCES, ACTIONS = 3, 8, 2
SETTINGS = {
    "num_timesteps": 1,
    "vision": True,
    "num_envs": 8,
    "batch_size": 4,
    "num_minibatches": 2,
    "num_updates_per_batch": 2,
    "unroll_length": STEPS,
    "learning_rate": 1e-2,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
    "cnn_output_channels": (4, 6),
    "cnn_kernel_size": (5, 3),
    "cnn_stride": (2, 2),
    "normalize_observations": True,
}

CONVOLUTIONS = {name: getattr(Config, name) for name in SETTINGS if name.startswith("cnn_")}
BLIND = {**CONVOLUTIONS, "vision": False}
RESNET = {**CONVOLUTIONS, "pixel_encoder": "resnet18"}


def make_config(**settings):
    return Config(**{**SETTINGS, **settings})


def random_pictures(sizes, *leading, generator):
    """An observation of these sizes: bytes for pictures, numbers for vectors."""
    return {
        key: torch.randint(256, (*leading, *size), dtype=torch.uint8, generator=generator)
        if isinstance(size, tuple)
        else torch.randn(*leading, size, generator=generator)
        for key, size in sizes.items()
    }


def random_observation(keys, *leading, generator):
    return random_pictures({key: SIZES[key] for key in keys}, *leading, generator=generator)


def random_batch(agent, config, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shape = (STEPS, config.num_unrolls)

    def normal(*trailing):
        return torch.randn(*shape, *trailing, generator=generator)

    ends = torch.rand(*shape, generator=generator)
    return Batch(
        observation=random_observation(agent.obs_keys, *shape, generator=generator),
        bootstrap_observation=random_observation(agent.value_obs_keys, config.num_unrolls, generator=generator),
        raw_action=normal(ACTIONS),
        policy_params=(normal(ACTIONS), normal(ACTIONS).exp()),
        log_prob=normal(),
        reward=normal(),
        truncation=(ends < 0.1).float(),
        termination=(ends > 0.9).float(),
        value=normal() if config.stores_value else None,
        time_out=None,
        episode_done=None,
        episode_metrics={},
        advantage=torch.zeros(shape) if config.gae_per == "batch" else None,
        value_target=torch.zeros(shape) if config.gae_per == "batch" else None,
    )


def make_learner(noise=None, **settings):
    config = make_config(**settings)
    agent = make_agent(config, SIZES, ACTIONS, generator=torch.Generator().manual_seed(0))
    noise = noise or GeneratorNoise(torch.Generator().manual_seed(2))
    return Learner(agent, config, random_batch(agent, config), noise)


# What networks see


def test_observations_of_each_network():
    agent = make_learner(value_obs_key="privileged_state").agent
    assert agent.policy_obs_keys == (*PIXELS, "state") and agent.value_obs_keys == (*PIXELS, "privileged_state")
    assert agent.obs_keys == (*PIXELS, "privileged_state", "state")
    assert agent.normalizer.keys() == {"privileged_state", "state"}
    assert agent.observation_sizes == SIZES
    alone = make_learner(policy_obs_key="", value_obs_key="").agent
    assert alone.policy_obs_keys == alone.value_obs_keys == alone.obs_keys == PIXELS and not len(alone.normalizer)
    # A task without vectors needs no such words.
    (only,) = make_agent(make_config(), {"pixels/front": (12, 10, 3)}, 1).obs_keys
    assert only == "pixels/front"


def test_without_vision_pixels_are_not_seen():
    agent = make_agent(Config(num_timesteps=1), SIZES, ACTIONS)
    assert agent.obs_keys == ("state",) and not agent.pixel_keys


@pytest.mark.parametrize(
    ("sizes", "settings", "words"),
    [
        ({"state": 4}, {}, "vision = True has no effect: the task observes state, and no pixels/"),
        ({"pixels/a": (9, 9, 3)}, BLIND, "pixels alone, which networks see with vision = true"),
        (SIZES, {"policy_obs_key": "stat"}, "policy_obs_key is 'stat'.*'state'.*\"\" for pixels alone"),
        ({"pixels/a": (9, 9, 3), "arm": 2}, {}, "policy_obs_key is 'state'.*arm.*\"\" for pixels alone"),
        ({"pixels/a": (9, 3, 3)}, {"cnn_padding": "valid"}, "kernel of 5 is larger.*cnn_padding = zeros, would work"),
        ({"pixels/a": (9, 9, 3)}, {"action_repeat": 2}, "action_repeat is 2, but must be 1 with vision"),
        (SIZES, {"cnn_stride": (2,)}, "cnn_stride has 1, but all must have one number for each convolution"),
        (SIZES, {"cnn_stride": (2, 0)}, "cnn_stride is .2, 0."),
        (SIZES, {"cnn_activation": "rellu"}, "cnn_activation is 'rellu'.*did you mean 'relu'"),
        (SIZES, {"cnn_kernel_init_scale": 1.4}, "cnn_kernel_init_scale = 1.4 has no effect.*'orthogonal'"),
        (SIZES, {**RESNET, "cnn_max_pool": True}, "cnn_max_pool = True has no effect.*'cnn'"),
        (SIZES, {**BLIND, "cnn_max_pool": True}, "cnn_max_pool = True has no effect.*vision = True"),
        (SIZES, {**BLIND, "augment_pixels": True}, "augment_pixels = True has no effect.*vision = True"),
        (SIZES, {**BLIND, "shared_encoder": True}, "shared_encoder = True has no effect.*vision = True"),
    ],
)
def test_mistakes_are_one_line_that_names_what_works(sizes, settings, words):
    with pytest.raises(ConfigError, match=words) as error:
        make_agent(Config(**{**SETTINGS, **settings}), sizes, ACTIONS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"normalise_channels": True},
        {"cnn_output_channels": (4, 7)},
        {"cnn_kernel_size": (3, 3)},
        {"cnn_stride": (1, 2)},
        {"cnn_padding": "valid"},
        {"cnn_activation": "elu"},
        {"cnn_max_pool": True},
        {"cnn_global_pool": "spatial_softmax"},
        {"cnn_kernel_init_fn": "orthogonal"},
        {"cnn_kernel_init_fn": "orthogonal", "cnn_kernel_init_scale": 2.0},
        {"shared_encoder": True},
        {"augment_pixels": True},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_every_option_changes_what_is_learned(settings):
    assert not torch.equal(learned(), learned(**settings))


def test_resnet18_learns():
    config = make_config(**RESNET, shared_encoder=True)
    agent = make_agent(config, {"pixels/wrist": (11, 10, 1)}, ACTIONS)
    learner = Learner(agent, config, random_batch(agent, config), GeneratorNoise(torch.Generator()))
    before = [x.detach().clone() for x in learner.parameters]
    learner.begin_pass()
    learner.sgd_step()
    assert learner.flat.isfinite().all()
    assert not any(torch.equal(x, was) for x, was in zip(learner.parameters, before, strict=True))


def learned(**settings):
    """All parameters after a training step, those of the start included; of other sizes in another order."""
    learner = make_learner(**settings)
    learn(learner)
    assert learner.flat.isfinite().all()
    return learner.flat.detach().sort().values


# SGD steps


def test_all_parameters_are_views_of_one_vector_that_learns():
    for shared in (False, True):
        learner = make_learner(shared_encoder=shared)
        agent, flat = learner.agent, learner.flat
        assert sum(x.numel() for x in agent.parameters()) == flat.numel()
        addresses = range(flat.data_ptr(), flat.data_ptr() + flat.numel() * flat.element_size())
        assert all(x.data_ptr() in addresses for x in agent.parameters())
        before = {name: x.detach().clone() for name, x in agent.named_parameters()}
        learn(learner)
        assert all(not torch.equal(x, before[name]) for name, x in agent.named_parameters())
        assert not agent.normalizer["state"].mean.eq(0).any()


def test_the_gradient_is_that_of_plain_autograd():
    learner = make_learner(shared_encoder=True, value_obs_key="privileged_state")
    agent, batch = copy.deepcopy(learner.agent), learner.batch
    inputs = batch.minibatch(torch.tensor([5, 0, 3, 3]))
    noise = torch.randn(STEPS, 4, ACTIONS, generator=torch.Generator().manual_seed(5))
    found, metrics = learner.gradients(*inputs, noise)
    # The same with an encoder for each network, whose gradients add up.
    apart = copy.deepcopy(learner)
    apart.agent.value.encoder = copy.deepcopy(apart.agent.policy.encoder)
    apart.agent.shared_encoder = False
    apart.parameters = [*apart.agent.policy.parameters(), *apart.agent.value.parameters()]
    loss, expected_metrics = apart.minibatch_loss(*inputs, noise)
    loss.backward()
    torch.testing.assert_close(metrics, expected_metrics)
    parts = dict(zip(learner.parameters, per_parameter(found, learner.parameters), strict=True))
    for name, parameter in learner.agent.named_parameters():
        expected = apart.agent.get_parameter(name).grad
        if ".encoder." in name:
            expected = expected + apart.agent.get_parameter(name.replace("policy", "value", 1)).grad
        torch.testing.assert_close(parts[parameter], expected, rtol=1e-4, atol=1e-5)
    assert agent.shared_encoder and agent.policy.encoder is agent.value.encoder  # a copy shares it too


@pytest.mark.parametrize("shared_encoder", [False, True])
def test_the_bootstrap_value_in_one_pass(shared_encoder):
    learner = make_learner(shared_encoder=shared_encoder)
    inputs = learner.batch.minibatch(torch.arange(4))
    noise = torch.zeros(STEPS, 4, ACTIONS)
    expected = learner.gradients(*inputs, noise)
    learner.one_value_pass = True
    for ours, theirs in zip(learner.gradients(*inputs, noise), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


# Augmentation


class Shown:
    """Keeps what the networks of a learner are shown in its SGD steps."""

    def __init__(self, learner):
        self.observations, self.bootstraps, inner = [], [], learner.minibatch_loss

        def minibatch_loss(observation, bootstrap, data, noise):
            self.observations.append(observation)
            self.bootstraps.append(bootstrap)
            return inner(observation, bootstrap, data, noise)

        learner.minibatch_loss = minibatch_loss


def recorded(num_sequences, minibatch_shape, passes, *, integers, num_rows=None, seed=3):
    generator = torch.Generator().manual_seed(seed)
    normals = [torch.randn(2, *minibatch_shape, ACTIONS, generator=generator) for _ in range(passes)]
    orders = [torch.randperm(num_rows or num_sequences, generator=generator) for _ in range(passes)]
    offsets = [torch.randint(9, (num_sequences, 2, 2), generator=generator) for _ in range(passes if integers else 0)]
    return orders, offsets, RecordedNoise(normals, orders, offsets)


def test_every_pass_shifts_each_sequence_of_the_original_batch():
    """Per pass, sequence and view one offset, at all steps and in what is bootstrapped from; nothing else is touched."""
    orders, offsets, noise = recorded(8, (STEPS, 4), 2, integers=True)
    learner = make_learner(noise, augment_pixels=True)
    shown, batch = Shown(learner), copy.deepcopy(learner.batch)
    learn(learner)
    noise.assert_spent()
    assert len(shown.observations) == 4
    for i, (observation, bootstrap) in enumerate(zip(shown.observations, shown.bootstraps, strict=True)):
        order, offset = orders[i // 2], offsets[i // 2]
        members = order.view(2, 4)[i % 2]
        for v, key in enumerate(PIXELS):
            expected = padded_and_cropped(batch.observation[key][:, members].numpy(), offset[members, v].tolist())
            assert torch.equal(observation[key], torch.from_numpy(expected))
            following = batch.bootstrap_observation[key][members][None].numpy()
            expected = padded_and_cropped(following, offset[members, v].tolist())[0]
            assert torch.equal(bootstrap[key], torch.from_numpy(expected))
        assert torch.equal(observation["state"], batch.observation["state"][:, members])
        assert torch.equal(bootstrap["state"], batch.bootstrap_observation["state"][members])
    for key in PIXELS:
        assert torch.equal(learner.batch.observation[key], batch.observation[key])


def test_single_transitions_have_the_offset_of_their_sequence():
    settings = {"minibatch_of": "transitions", "gae_per": "batch", "batch_size": 12}
    orders, offsets, noise = recorded(8, (12,), 2, integers=True, num_rows=24)
    learner = make_learner(noise, augment_pixels=True, **settings)
    shown = Shown(learner)
    learn(learner)
    noise.assert_spent()
    for i, observation in enumerate(shown.observations):
        members = orders[i // 2].view(2, 12)[i % 2].tolist()
        for v, key in enumerate(PIXELS):
            pixels = learner.batch.observation[key]
            for found, member in zip(observation[key], members, strict=True):
                step, sequence = divmod(member, 8)
                offset = [offsets[i // 2][sequence, v].tolist()]
                expected = padded_and_cropped(pixels[step, sequence][None, None].numpy(), offset)[0, 0]
                assert torch.equal(found, torch.from_numpy(expected))


def test_without_augmentation_nothing_is_drawn_for_it():
    _, _, noise = recorded(8, (STEPS, 4), 2, integers=False)
    learn(make_learner(noise))
    noise.assert_spent()


# Making it fast


@pytest.mark.parametrize(
    "settings",
    [
        {"augment_pixels": True, "cnn_max_pool": True},
        {"shared_encoder": True, "cnn_global_pool": "spatial_softmax", "normalise_channels": True},
    ],
)
def test_a_recorded_pass_is_replayed_bit_for_bit(settings):
    """As CUDA graphs are recorded: no number is read, no size depends on one, and offsets are new in every pass."""
    live, recorded = make_learner(**settings), make_learner(**settings)
    replay = record_on_cpu(recorded.sgd_pass, torch.device("cpu"), [recorded.noise.generator], with_warp=False)
    assert replay.num_steps > 100
    for _ in range(2):  # as recording has made them
        live.sgd_pass()
    offsets = []
    for _ in range(3):
        live.sgd_pass()
        replay()
        assert torch.equal(live.flat, recorded.flat)
        if live.pixel_shifts is not None:
            offsets.append(live.pixel_shifts.offsets.clone())
            assert torch.equal(offsets[-1], recorded.pixel_shifts.offsets)
    assert len({str(x) for x in offsets}) == len(offsets)


def test_networks_in_bfloat16_learn_nearly_the_same():
    gradients = []
    for bf16 in (False, True):
        with torch_left_as_it_was():
            learner = make_learner()
            set_precision(learner.agent, "high", bf16)
            gradients.append(
                learner.gradients(*learner.batch.minibatch(torch.arange(4)), torch.zeros(STEPS, 4, ACTIONS))[0]
            )
    exact, rounded = gradients
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).norm() < 0.1 * exact.norm()


def test_highest_precision_is_that_of_convolutions_too():
    """Seen on the CPU as the setting that cuDNN reads, which is put back."""
    before = torch.backends.cudnn.conv.fp32_precision
    for precision, expected in (("highest", False), ("high", True)):
        with torch_left_as_it_was():
            set_precision(make_learner().agent, precision, bf16=False)
            assert torch.backends.cudnn.allow_tf32 == expected
        assert torch.backends.cudnn.conv.fp32_precision == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
@pytest.mark.parametrize("settings", [{"augment_pixels": True, "cnn_max_pool": True}, {"shared_encoder": True}])
def test_compiled_learning_is_the_same_but_for_rounding(settings):
    live, compiled_one = make_learner(**settings), make_learner(**settings)
    compiled_one.minibatch_gradient = compiled_with_autograd(compiled_one.minibatch_gradient)
    for learner in (live, compiled_one):
        learner.begin_pass()
    torch.testing.assert_close(compiled_one.minibatch_gradient(), live.minibatch_gradient(), rtol=1e-4, atol=1e-5)
