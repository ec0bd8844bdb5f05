"""Worlds with models of their own: both engines against C MuJoCo with models compiled one by one."""

import mujoco
import numpy as np
import pytest
import torch

import torch_ppo
from tests.helpers.suite_comparison import CPU, make_env
from torch_ppo.environments.finding import source_of
from torch_ppo.environments.sources import Wrapping
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.envs.hopper import Hopper
from torch_ppo.errors import ConfigError
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.engines import make_physics
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.physics import PhysicsError

NUM_ENVS, NUM_SUBSTEPS = 5, 40
both_engines = pytest.mark.parametrize("engine", ["mujoco", "warp"])


def vary(nominal, low, high, seed):
    """The field with one factor per world."""
    factor = np.random.default_rng(seed).uniform(low, high, NUM_ENVS)
    return torch.as_tensor(factor.reshape(-1, *[1] * nominal.ndim) * nominal, dtype=torch.float32)


def hopper_fields(model):
    return {
        "body_mass": vary(model.body_mass, 0.7, 1.5, 0),
        "body_inertia": vary(model.body_inertia, 0.7, 1.5, 1),
        "geom_friction": vary(model.geom_friction, 0.3, 1.5, 2),
        "actuator_gear": vary(model.actuator_gear, 0.8, 1.2, 3),
        "dof_armature": vary(model.dof_armature, 0.5, 2.0, 4),
    }


@both_engines
def test_each_world_is_as_if_compiled_for_itself(engine):
    task = Hopper()
    model = task.make_model()
    fields = hopper_fields(model)
    physics = make_physics(model, NUM_ENVS, device=CPU, engine=engine, nconmax=task.nconmax, njmax=task.njmax)
    physics.set_model_fields(fields)
    start = torch.tensor([0.0, -0.3, 0.1, 0.2, -0.4, 0.3, 0.1])
    ctrl = torch.tensor([0.4, -0.5, 0.3, 0.2])
    physics.qpos.copy_(start)
    physics.ctrl.copy_(ctrl)
    physics.step(NUM_SUBSTEPS)
    ends = []
    for world in range(NUM_ENVS):
        spec = mujoco.MjSpec.from_file(str(task.mjcf))
        own = spec.compile()
        for name, value in fields.items():
            getattr(own, name)[:] = value[world].numpy()
        data = mujoco.MjData(own)
        mujoco.mj_setConst(own, data)
        mujoco.mj_resetData(own, data)
        data.qpos[:], data.ctrl[:] = start, ctrl
        mujoco.mj_step(own, data, nstep=NUM_SUBSTEPS)
        ends.append(data.qpos.copy())
    tolerance = 1e-4 if engine == "mujoco" else 2e-3
    np.testing.assert_allclose(physics.qpos.numpy(), np.array(ends), atol=tolerance, rtol=tolerance)
    assert np.array(ends).std(0).max() > 0.01  # the worlds do differ


def test_derived_constants_matter():
    """Friction loss and limits are scaled by invweight0; a heavier body with the old one would move otherwise."""
    from torch_ppo.simulation.randomization import with_derived_fields

    model = Hopper().make_model()
    derived = with_derived_fields(model, NUM_ENVS, {"body_mass": vary(model.body_mass, 0.5, 2.0, 0)})
    assert {"body_mass", "body_subtreemass", "body_invweight0", "dof_invweight0"} <= derived.keys()
    np.testing.assert_allclose(derived["body_subtreemass"][:, 0], derived["body_mass"].sum(1), rtol=1e-6)
    assert derived.keys() & {"tendon_length0"} == set()  # what does not change stays shared


@both_engines
def test_forward_reads_sensors_of_the_own_model(engine):
    """A shifted sensor site would show; here the torso's centre of mass moves with its mass."""
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body name='a' pos='0 0 1'><freejoint/><geom size='.1' mass='1'/>"
        "<body name='b' pos='1 0 0'><geom size='.1' mass='1'/></body></body></worldbody>"
        "<sensor><subtreecom name='com' body='a'/></sensor></mujoco>"
    )
    physics = make_physics(model, 2, device=CPU, engine=engine)
    physics.set_model_fields({"body_mass": torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 3.0]])})
    physics.forward()
    torch.testing.assert_close(physics.sensor("com"), torch.tensor([[0.5, 0, 1], [0.75, 0, 1]]))
    assert model.body_mass[2] == 1.0  # the nominal model is as it was


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"body_masses": torch.ones(2, 3)}, ["'body_masses'", "not a field"]),
        ({"body_parentid": torch.ones(2, 3)}, ["'body_parentid'"]),
        ({"body_mass": torch.ones(3)}, ["body_mass", "(3,)", "(2, 3)"]),
        ({"body_mass": torch.full((2, 3), torch.nan)}, ["body_mass", "NaN"]),
        ({"body_mass": torch.full((2, 3), -1.0)}, ["body_mass", "-1", "negative"]),
        ({"geom_rbound": torch.ones(2, 5)}, ["geom_rbound", "computes from geom_size"]),
        ({"body_subtreemass": torch.ones(2, 3)}, ["body_subtreemass", "computes from body_mass"]),
        ({"geom_rgba": torch.ones(2, 5, 4)}, ["geom_rgba", "only pictures", "views"]),
        ({"mat_reflectance": torch.ones(2, 4)}, ["mat_reflectance", "only pictures"]),
        ({"jnt_range": torch.ones(2, 2, 2)}, ["jnt_range", "joint 'hinge' has none", 'limited="true"']),
        ({"jnt_springyield": torch.ones(2, 2)}, ["jnt_springyield", "springs that yield"]),
    ],
)
@both_engines
def test_wrong_fields_are_named(engine, fields, words):
    physics = make_physics(Cartpole().make_model(), 2, device=CPU, engine=engine)
    with pytest.raises(PhysicsError) as error:
        physics.set_model_fields(fields)
    for word in words:
        assert word in str(error.value)


def heavier(physics, generator):
    """Poles of 0.1 to 1 kg."""
    mass = torch.as_tensor(physics.model.body_mass, dtype=torch.float32).repeat(physics.num_envs, 1)
    mass[:, -1] = 0.1 + 0.9 * torch.rand(physics.num_envs, generator=generator)
    return {"body_mass": mass}


class Randomised(Cartpole):
    def randomize(self, physics, generator):
        return heavier(physics, generator)


SETTINGS = {
    "num_timesteps": 1,
    "num_envs": 4,
    "batch_size": 4,
    "num_minibatches": 1,
    "unroll_length": 2,
    "num_eval_envs": 3,
}


def poles(env):
    return torch.tensor([model.body_mass[-1] for model in env.physics._models])


def test_randomize_is_obeyed_in_training_and_evaluation():
    def state(task, randomization_fn=None, **settings):
        source = source_of(task, wrapping=Wrapping(randomization_fn=randomization_fn))
        return TrainingState(Config(**SETTINGS, **settings), source)

    nominal = Cartpole().make_model().body_mass[-1]
    plain = state(Randomised())
    assert (poles(plain.env) == nominal).all() and (poles(plain.evaluator.env) == nominal).all()
    both = state(Randomised(), randomize=True)
    assert len(poles(both.env).unique()) == 4 and len(poles(both.evaluator.env).unique()) == 3
    again = state(Randomised(), randomize=True)
    assert torch.equal(poles(again.env), poles(both.env))
    training_only = state(Randomised(), randomize=True, randomize_eval=False)
    assert torch.equal(poles(training_only.env), poles(both.env))
    assert (poles(training_only.evaluator.env) == nominal).all()
    given = state(Cartpole(), heavier)
    assert torch.equal(poles(given.env), poles(both.env))
    with pytest.raises(ConfigError, match="Cartpole has no randomize"):
        state(Cartpole(), randomize=True)


def test_a_function_in_the_manner_of_brax_is_named():
    with pytest.raises(PhysicsError, match="randomisation gives a tuple, but must give a dict of fields of MjModel"):
        torch_ppo.train(Cartpole(), randomization_fn=lambda model, rng: (model, None), **SETTINGS)


def test_library_call_takes_a_randomization_fn():
    calls = []

    def spy(physics, generator):
        calls.append(physics.num_envs)
        return heavier(physics, generator)

    torch_ppo.train(Cartpole(), randomization_fn=spy, episode_length=5, **SETTINGS)
    assert calls == [4, 3]


@both_engines
def test_randomised_worlds_move_apart(engine):
    env = Env(
        Cartpole(),
        8,
        episode_length=100,
        device=CPU,
        generator=torch.Generator().manual_seed(0),
        engine=engine,
        randomization_fn=heavier,
    )
    start = {**env.physics.start_parts(), "qpos": torch.tensor([[0.0, 0.1]]).repeat(8, 1), "qvel": torch.zeros(8, 2)}
    env.physics.reset(torch.ones(8, dtype=torch.bool), start)
    for _ in range(20):
        env.step(torch.ones(8, 1))
    assert len(env.physics.qpos[:, 1].unique()) == 8 and env.physics.qpos.isfinite().all()


class Noisy(Cartpole):
    """Observes its random numbers beside the state."""

    num_random = 2
    memory_kept = ()

    def observe(self, physics, memory):
        return torch.cat([super().observe(physics, memory), memory["random"]], dim=1)


def test_random_numbers_are_fresh_every_step_and_repeatable():
    envs = [make_env(Noisy(), num_envs=4, episode_length=7) for _ in range(2)]
    seen = []
    for _ in range(10):
        for env in envs:
            env.step(torch.zeros(4, 1))
        assert torch.equal(envs[0].observation["state"], envs[1].observation["state"])
        if not envs[0].done.any():
            seen.append(envs[0].observation["state"][:, -2:].clone())
            assert torch.equal(seen[-1], envs[0].memory["random"])
    numbers = torch.stack(seen)
    assert len(numbers.unique()) == numbers.numel() and (numbers >= 0).all() and (numbers < 1).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it traces
def test_random_numbers_stay_outside_of_what_is_compiled():
    torch._dynamo.reset()
    env, plain = (make_env(Noisy(), num_envs=2) for _ in range(2))
    env.after_physics = torch.compile(env.after_physics, fullgraph=True, dynamic=False, backend="eager")
    for _ in range(3):
        for each in (env, plain):
            each.step(torch.zeros(2, 1))
        torch.testing.assert_close(env.observation, plain.observation)


BALL = """<mujoco><worldbody>
  <body name="target" mocap="true"><geom size=".1"/></body>
  <body name="ball"><freejoint/><geom name="ball" size=".1"/></body>
  <body name="disk"><joint name="spin" axis="0 0 1"/><geom name="disk" type="cylinder" size=".1 .1"/></body>
</worldbody></mujoco>"""


@pytest.mark.parametrize(
    ("field", "element", "words"),
    [
        ("body_ipos", 2, ["body 'ball' is compiled with a diagonal mass matrix", '<body simple="false">']),
        ("jnt_axis", 1, ["joint 'spin' is compiled with a diagonal mass matrix"]),
        ("body_pos", 1, ["body 'target' is a mocap body", "physics.mocap_pos"]),
        ("body_pos", 2, ["body 'ball' moves freely", "physics.qpos"]),
    ],
)
@both_engines
def test_what_would_be_ignored_is_refused(engine, field, element, words):
    """MuJoCo's compiler leaves out what it does not need for the nominal values."""
    model = mujoco.MjModel.from_xml_string(BALL)
    physics = make_physics(model, 2, device=CPU, engine=engine)
    value = torch.as_tensor(getattr(model, field), dtype=torch.float32).repeat(2, 1, 1)
    value[1, element, 0] += 0.01
    with pytest.raises(PhysicsError) as error:
        physics.set_model_fields({field: value})
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


@both_engines
def test_randomised_qpos0_is_where_worlds_start(engine):
    model = Cartpole().make_model()
    physics = make_physics(model, 2, device=CPU, engine=engine)
    qpos0 = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    physics.set_model_fields({"qpos0": qpos0})
    torch.testing.assert_close(physics.qpos, qpos0)
