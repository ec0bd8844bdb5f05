"""Models that are new in every episode: drawn, obeyed by the physics as if compiled so, kept by a checkpoint, recordable."""

import copy

import mujoco
import numpy as np
import pytest
import torch

import torch_ppo
from tests.helpers.graph_on_cpu import graphs_on_cpu
from tests.simulation import test_model_fields as every
from tests.simulation.test_new_episodes import same_distribution
from torch_ppo.errors import ConfigError
from torch_ppo.learning.train_step import training_step
from torch_ppo.running.formats import upgraded_env
from torch_ppo.running.training_state import TrainingState, clone, copy_into
from torch_ppo.settings.config import Config
from torch_ppo.simulation.engines import make_physics
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.host import as_on_cuda
from torch_ppo.simulation.physics import PhysicsError
from torch_ppo.simulation.task import Task

CPU = torch.device("cpu")
both_engines = pytest.mark.parametrize("engine", ["mujoco", "warp"])
SLED, FLOOR = 1, 0  # body, geom


def mjcf(mass=2.0, friction=0.5, gain=30.0, armature=0.1):
    """A sled that a servo pulls over the floor, with a bob that swings on it and knocks on its side."""
    return f"""<mujoco><option timestep="0.004" integrator="implicitfast"/><worldbody>
      <geom name="floor" type="plane" size="5 5 .1" friction="{friction} .005 .0001"/>
      <body name="sled" pos="0 0 .1">
        <joint name="x" type="slide" axis="1 0 0" armature="{armature}"/><joint name="z" type="slide" axis="0 0 1"/>
        <joint name="tilt" axis="0 1 0"/>
        <inertial pos="0 0 .02" mass="{mass}" diaginertia=".02 .03 .04"/>
        <geom name="sled" type="box" size=".2 .1 .1" friction=".1 .005 .0001"/>
        <site name="imu"/>
        <body name="bob" pos="0 0 .3"><joint name="swing" axis="0 1 0" range="-20 20" limited="true" damping=".01"/>
          <inertial pos="0 0 .1" mass=".3" diaginertia=".001 .001 .001"/><geom type="sphere" size=".03" pos="0 0 .1"
          contype="0" conaffinity="0"/></body>
      </body></worldbody>
      <actuator><position name="pull" joint="x" kp="{gain}" kv="2"/></actuator>
      <sensor><accelerometer name="felt" site="imu"/></sensor></mujoco>"""


class Sled(Task):
    """Mass, friction and gain of each episode its own; the policy sees what the sled feels, and the friction."""

    control_dt = 0.02
    nconmax, njmax = 16, 64

    def make_model(self):
        return mujoco.MjModel.from_xml_string(mjcf())

    def randomize_episode(self, physics, generator):
        def uniform(low, high):
            return torch.empty(physics.num_envs, device=physics.device).uniform_(low, high, generator=generator)

        fields = {
            name: physics.lasting_field(name)
            for name in ("body_mass", "geom_friction", "actuator_gainprm", "actuator_biasprm", "dof_armature")
        }
        fields["body_mass"][:, SLED] = uniform(1.0, 4.0)
        fields["geom_friction"][:, FLOOR, 0] = uniform(0.2, 1.0)
        gain = uniform(10.0, 60.0)
        fields["actuator_gainprm"][:, 0, 0] = gain
        fields["actuator_biasprm"][:, 0, 1] = -gain
        fields["dof_armature"][:, 0] = uniform(0.05, 0.3)
        return fields

    def start(self, physics, memory, generator):
        physics.qpos[:, 0].uniform_(-0.1, 0.1, generator=generator)
        physics.qvel[:, 3].uniform_(-2.0, 2.0, generator=generator)
        physics.ctrl.fill_(0.4)

    def observe(self, physics, memory):
        friction = physics.model_field("geom_friction")[:, FLOOR, :1]
        return torch.cat([physics.qpos, physics.qvel, physics.sensor("felt"), friction], dim=1)

    def reward(self, physics, memory, action):
        return physics.qpos[:, 0]


class Knocked(Sled):
    """Ends at another time in each world."""

    def terminated(self, physics, memory):
        return physics.qpos[:, 3].abs() > 0.2


def make_env(task=None, num_envs=8, *, seed=0, episode_length=4, engine="mujoco", randomize_episode=True, **options):
    generator = torch.Generator().manual_seed(seed)
    return Env(
        Sled() if task is None else task,
        num_envs,
        episode_length=episode_length,
        device=CPU,
        generator=generator,
        engine=engine,
        randomize_episode=randomize_episode,
        **options,
    )


def step(env, count=1):
    for _ in range(count):
        env.step(torch.full((env.num_envs, 1), 0.4))


def values(env):
    """Mass, friction, gain and armature of each world, `(num_envs, 4)`."""
    field = env.physics.model_field
    return torch.stack(
        [
            field("body_mass")[:, SLED],
            field("geom_friction")[:, FLOOR, 0],
            field("actuator_gainprm")[:, 0, 0],
            field("dof_armature")[:, 0],
        ],
        dim=1,
    ).clone()


REFUSED_ON_WARP = (
    "actuator_armature actuator_cranklength actuator_gear body_pos body_quat geom_pos geom_quat jnt_axis jnt_pos qpos0 "
    "site_pos site_quat tendon_armature"
).split()

# When


@both_engines
def test_values_hold_within_an_episode_and_are_new_in_the_next(engine):
    env = make_env(Knocked(), 16, engine=engine, episode_length=30)
    before, ended, others = values(env), 0, 0
    assert len(before.unique(dim=0)) == 16
    for _ in range(60):
        step(env)
        done, now = env.done.bool(), values(env)
        assert torch.equal((now == before).all(1), ~done) and torch.equal((now != before).all(1), done)
        assert torch.equal(env.observation["state"][:, -1], now[:, 1])
        ended, others = ended + int(done.sum()), others + int((~done).sum() * done.any())
        before = now
    assert ended > 20 and others > 20  # some end while others go on


@both_engines
@pytest.mark.parametrize("auto_reset", ["cached", "random", "fresh"])
def test_all_kinds_of_restart_and_a_full_reset_draw(engine, auto_reset):
    env = make_env(engine=engine, auto_reset=auto_reset)
    seen = [values(env)]
    for _ in range(2):
        step(env, 4)
        seen.append(values(env))
    env.reset()
    seen.append(values(env))
    assert all(len(column.unique()) == len(column) for column in torch.cat(seen).T)


def test_values_of_later_episodes_are_distributed_as_said():
    env = make_env(num_envs=400, episode_length=1)
    low, high = torch.tensor([1.0, 0.2, 10.0, 0.05]), torch.tensor([4.0, 1.0, 60.0, 0.3])
    said = low + (high - low) * torch.linspace(0.0, 1.0, 401)[:, None]
    for _ in range(3):
        for found, expected in zip(values(env).T, said.T, strict=True):
            assert same_distribution(found, expected)
        step(env)


# What the physics makes of it


def end_of(found, state, ctrl, num_steps):
    """Where C MuJoCo comes to from `state` with a model that its compiler makes at the values."""
    mass, friction, gain, armature = (float(x) for x in found)
    model = mujoco.MjModel.from_xml_string(mjcf(mass, friction, gain, armature))
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = *np.split(state.double().numpy(), 2), ctrl
    mujoco.mj_forward(model, data)
    first = data.sensordata.copy()
    contacts = 0
    for _ in range(num_steps):
        mujoco.mj_step(model, data)
        contacts += data.ncon > 0
    return np.concatenate([data.qpos, data.qvel]), first, contacts


@both_engines
@pytest.mark.parametrize("auto_reset", ["cached", "fresh"])
def test_episodes_go_as_with_a_model_compiled_at_their_values(engine, auto_reset):
    """The third episode of each world, over 50 policy steps in contact; so does what is seen first."""
    env = make_env(engine=engine, episode_length=50, auto_reset=auto_reset)
    step(env, 100)
    state = torch.cat([env.physics.qpos, env.physics.qvel], 1).clone()
    seen, found = env.observation["state"].clone(), values(env)
    step(env, 49)
    ours = torch.cat([env.physics.qpos, env.physics.qvel], 1).numpy()
    ends = [end_of(found[i], state[i], 0.4, 49 * 5) for i in range(env.num_envs)]
    truth, first = np.stack([end for end, _, _ in ends]), np.stack([felt for _, felt, _ in ends])
    assert min(contacts for _, _, contacts in ends) > 150
    tolerance = 2e-4 if engine == "mujoco" else 2e-3
    np.testing.assert_allclose(ours, truth, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(seen[:, 8:11].numpy(), first, atol=5e-3, rtol=1e-3)
    one_model = np.stack([end_of(found[0], state[i], 0.4, 49 * 5)[0] for i in range(env.num_envs)])
    assert np.abs(one_model - truth)[:, 0].max() > 10 * tolerance  # another world's values would show


def test_the_final_observation_is_of_the_model_that_ends():
    env, other = make_env(keep_final=True), make_env(episode_length=5)
    step(env, 4)
    step(other, 4)
    assert env.done.all() and not other.done.any()
    assert torch.equal(env.final_observation["state"], other.observation["state"])
    assert not (env.final_observation["state"][:, -1] == env.observation["state"][:, -1]).any()


@both_engines
def test_worlds_that_go_on_do_not_notice(engine):
    """Those that end later do as if nobody had ended before."""
    env, other = (make_env(engine=engine, episode_length=20) for _ in range(2))
    env.steps[:4] += 14
    for count in range(1, 10):
        step(env)
        step(other)
        assert torch.equal(env.physics.qpos[4:], other.physics.qpos[4:])
        assert torch.equal(env.physics.sensordata[4:], other.physics.sensordata[4:])
        assert torch.equal(env.physics.qpos[:4], other.physics.qpos[:4]) == (count < 6)


@pytest.mark.parametrize("auto_reset", ["cached", "fresh"])
def test_the_same_where_the_host_cannot_ask(auto_reset):
    env, other = (make_env(Knocked(), auto_reset=auto_reset, episode_length=9) for _ in range(2))
    for _ in range(30):
        step(env)
        with as_on_cuda():
            step(other)
        assert torch.equal(env.physics.qpos, other.physics.qpos)
        assert torch.equal(env.observation["state"], other.observation["state"])


def test_histories_begin_with_the_first_observation():
    env = make_env(history=3)
    step(env, 4)
    frames = env.observation["state"].view(8, 3, -1)
    assert (frames == frames[:, :1]).all() and torch.equal(frames[:, 0, -1], values(env)[:, 1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it traces
@both_engines
def test_what_is_compiled_sees_the_new_models(engine):
    torch._dynamo.reset()
    env, plain = (make_env(engine=engine) for _ in range(2))
    env.after_physics = torch.compile(env.after_physics, fullgraph=True, dynamic=False, backend="eager")
    for _ in range(9):
        step(env)
        step(plain)
        assert torch.equal(env.observation["state"], plain.observation["state"])


def test_a_lasting_field_is_a_copy():
    physics = make_env(randomization_fn=offset).physics
    for name in ("body_mass", "geom_friction", "jnt_range"):  # that worlds have, that episodes change, that is nominal
        before = physics.lasting_field(name)
        physics.lasting_field(name).add_(1.0)
        assert torch.equal(physics.lasting_field(name), before) and before.shape[0] == 8


# With models of their own for good


def offset(physics, generator):
    """Each world's own centre of mass and mass of the bob, for good."""
    fields = {name: physics.lasting_field(name) for name in ("body_ipos", "body_mass")}
    fields["body_ipos"][:, SLED, 0] = torch.linspace(-0.05, 0.05, physics.num_envs)
    fields["body_mass"][:, 2] = torch.linspace(0.1, 0.5, physics.num_envs)
    return fields


@both_engines
def test_what_worlds_have_for_good_stays(engine):
    env = make_env(engine=engine, randomization_fn=offset)
    step(env, 4)
    field = env.physics.model_field
    torch.testing.assert_close(field("body_ipos")[:, SLED, 0], torch.linspace(-0.05, 0.05, 8))
    torch.testing.assert_close(field("body_mass")[:, 2], torch.linspace(0.1, 0.5, 8))
    assert len(field("body_mass")[:, SLED].unique()) == 8


def test_warp_computes_constants_from_what_worlds_have_for_good():
    env = make_env(engine="warp", randomization_fn=offset)
    step(env, 4)
    check_constants(env.physics, env.physics.model)


def check_constants(physics, model):
    """Each constant in each world, against MuJoCo's own."""
    live, compared = physics.model_state(), 0
    names = [name for name in every.EVERYWHERE if getattr(model, name).size]
    fields = {name: physics.model_field(name) for name in names}
    for world in range(physics.num_envs):
        copied = copy.copy(model)
        for name, value in fields.items():
            getattr(copied, name)[:] = value[world].numpy().reshape(getattr(copied, name).shape)
        mujoco.mj_setConst(copied, mujoco.MjData(copied))
        for name in live.keys() - fields.keys():
            expected = getattr(copied, name)
            found = live[name][world].numpy().reshape(expected.shape)
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6, err_msg=f"{name} of world {world}")
            compared += not np.allclose(expected, getattr(model, name), rtol=1e-3)
    assert compared


def sled_on_warp(names, **options):
    """Physics of four worlds whose fields `names` vary by a fifth or so, and a draw of them."""
    model, generator = every.NOMINAL, torch.Generator().manual_seed(0)
    simple = torch.as_tensor(model.body_simple != 0)

    def draw():
        fields = {}
        for name in names:
            nominal = torch.as_tensor(getattr(model, name), dtype=torch.float32)
            noise = torch.rand(4, *nominal.shape, generator=generator) - 0.5
            if name == "body_iquat":
                value = torch.nn.functional.normalize(nominal + 0.2 * noise, dim=-1)
            else:
                value = nominal + 0.1 * noise if name == "body_ipos" else nominal * (1 + noise)
            if name in ("body_ipos", "body_iquat"):
                value[:, simple] = nominal[simple]
            if name == "geom_size":
                compiled = torch.as_tensor(np.isin(model.geom_type, (1, 7))) | (
                    torch.arange(model.ngeom) == model.geom("brick").id
                )
                wraps = torch.arange(model.ngeom) == model.geom("pulley").id
                value[:, compiled | wraps] = nominal[compiled | wraps]
            fields[name] = value
        return fields

    physics = make_physics(model, 4, device=CPU, engine="warp", **every.SIZES)
    physics.vary_model_fields([draw() for _ in range(4)])
    return physics, draw


@pytest.mark.parametrize(
    "names",
    [("body_mass",), ("body_inertia",), ("body_ipos", "body_iquat"), ("dof_armature",), ("geom_size",)],
    ids="-".join,
)
def test_warp_computes_the_constants_that_mujoco_does(names):
    """Of every kind of joint, tendon and actuator; written twice, and not everywhere."""
    physics, draw = sled_on_warp(names)
    physics.write_model_fields(torch.tensor([True, True, True, False]), draw())
    physics.write_model_fields(torch.tensor([False, True, False, False]), draw())
    check_constants(physics, every.NOMINAL)


@both_engines
def test_every_accepted_field_acts_when_written_between_steps(engine):
    """As when worlds have it for good: each against a model that MuJoCo compiles at its values, 100 steps with contacts."""
    fields, refused = [], []
    for field in sorted(every.EVERYWHERE | (every.ONLY_MUJOCO if engine == "mujoco" else set())):
        draws = [{field: torch.as_tensor(every.varied(field), dtype=torch.float32)}]
        try:
            make_physics(every.NOMINAL, 2, device=CPU, engine=engine, **every.SIZES).vary_model_fields(draws)
            fields.append(field)
        except PhysicsError as error:
            assert f"randomisation gives {field} in every episode" in str(error)
            refused.append(field)
    assert refused == (["qpos0"] if engine == "mujoco" else REFUSED_ON_WARP)
    worlds = len(fields) + 1
    nominal = {
        name: torch.as_tensor(getattr(every.NOMINAL, name), dtype=torch.float32).repeat(
            worlds, *[1] * getattr(every.NOMINAL, name).ndim
        )
        for name in fields
    }
    varied = {name: value.clone() for name, value in nominal.items()}
    for world, name in enumerate(fields):
        varied[name][world] = torch.as_tensor(every.varied(name)[1])
    physics = make_physics(every.NOMINAL, worlds, device=CPU, engine=engine, **every.SIZES)
    physics.vary_model_fields([varied])
    everywhere = torch.ones(worlds, dtype=torch.bool)
    physics.write_model_fields(everywhere, varied)
    start = {name: x.clone() for name, x in physics.start_parts().items()}
    physics.step(20)
    physics.write_model_fields(everywhere, nominal)
    physics.step(20)
    physics.write_model_fields(everywhere, varied)
    for part, value in (("qpos", every.QPOS), ("qvel", every.QVEL), ("ctrl", every.CTRL)):
        start[part] = torch.as_tensor(value, dtype=torch.float32).expand(worlds, -1)
    physics.reset(everywhere, start)
    for _ in range(every.NUM_STEPS // 20):
        physics.step(20)
    found = torch.cat([physics.qpos, physics.qvel, physics.act, physics.sensordata], dim=1).double().numpy()
    unmoved, kept, wrong = every.end_of(every.NOMINAL), every.columns(engine == "warp"), []
    for world, name in enumerate(fields):
        some = kept if name in every.ONLY_MUJOCO else kept[:-1]
        truth = every.end_of(every.compiled_at(name, every.varied(name)[1]))
        error, effect = (np.abs(truth - x)[some].max() for x in (found[world], unmoved))
        if error > (2e-3 if engine == "warp" else 1e-3) or (engine == "mujoco" and effect < 3 * error):
            wrong.append(f"{name}: effect {effect:.1e}, error {error:.1e}")
    assert not wrong, "\n".join(wrong)


# A checkpoint


SETTINGS = {
    "num_timesteps": 10**6,
    "num_envs": 4,
    "num_evals": 2,
    "num_eval_envs": 3,
    "episode_length": 7,
    "batch_size": 4,
    "num_minibatches": 2,
    "unroll_length": 5,
    "normalize_observations": True,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
    "device": "cpu",
    "randomize": True,
    "compile": False,
}


def make_state(task=None, **settings):
    return TrainingState(Config(**{**SETTINGS, **settings}), task or Sled())


@both_engines
@pytest.mark.parametrize("before", [3, 4])
def test_goes_on_bit_for_bit(engine, before):
    """From a copy of state and generator, amid episodes and right after their ends."""
    env, other = make_env(engine=engine), make_env(engine=engine, seed=9)
    step(env, before)
    step(other, 2)
    saved, number = clone(env.state()), env.generator.get_state()
    copy_into(other.state(), saved)
    other.generator.set_state(number)
    for _ in range(9):
        step(env)
        step(other)
        assert torch.equal(env.observation["state"], other.observation["state"])
        assert torch.equal(env.physics.qpos, other.physics.qpos)
        assert torch.equal(values(env), values(other))


def test_a_run_goes_on_exactly_and_from_before_there_were_episodes_models(differences):
    state, other = make_state(), make_state(seed=1)
    training_step(state.collector, state.learner)
    saved = state.checkpoint()
    other.load_checkpoint(saved)
    for each in (state, other):
        training_step(each.collector, each.learner)
    assert differences(state.checkpoint()["env"], other.checkpoint()["env"]) == []
    old = {name: part for name, part in saved["env"].items() if name != "models"}
    live = other.env.state()
    drawn = clone(live["models"])
    copy_into(live, upgraded_env(old, live, saved["format"], num_substeps=other.env.num_substeps))
    assert differences(clone(live["models"]), drawn) == []


@pytest.mark.parametrize("auto_reset", [pytest.param("cached", marks=pytest.mark.slow), "fresh"])
def test_replayed_training_is_the_same_bit_for_bit(auto_reset, differences):
    """On graphs as CUDA's, played on the CPU."""

    def course(state):
        for i in range(4):
            training_step(state.collector, state.learner)
            state.evaluator()
            if i == 1:
                state.env.reset()
        saved = state.checkpoint()
        return [saved["env"], saved["agent"], clone(state.evaluator.env.state())]

    settings = {"physics": "warp", "auto_reset": auto_reset}
    expected = course(make_state(**settings, capture="none"))
    with graphs_on_cpu():
        state = make_state(**settings, capture="physics")
    assert state.collector.unroll.num_steps > 50
    assert differences(course(state), expected) == []


# When it is wanted, and what cannot be


def test_randomize_switches_it_and_evaluation_goes_along():
    def varies(env):
        return len(values(env)[:, 0].unique()) > 1

    assert varies(make_state().env) and varies(make_state().evaluator.env)
    state = make_state(randomize_eval=False)
    assert varies(state.env) and not varies(state.evaluator.env)
    plain = make_state(randomize=False)
    assert plain.env.models is None and "models" not in plain.env.state()
    assert plain.env.observation["state"][:, -1].eq(0.5).all()  # the nominal friction can be seen all the same
    assert varies(torch_ppo.make_env(Sled(), 4, randomize=True)) and not varies(torch_ppo.make_env(Sled(), 4))
    with pytest.raises(ConfigError, match="has no randomize"):
        torch_ppo.make_env("cartpole", randomize=True)


class Given(Sled):
    """Gives what it is told."""

    def __init__(self, function):
        self.function = function

    def randomize_episode(self, physics, generator):
        return self.function(physics, generator)


CALLS = iter(range(10**6))


@pytest.mark.parametrize(
    ("engine", "function", "words"),
    [
        ("mujoco", lambda p, g: {}, "gives no fields in every episode"),
        (
            "mujoco",
            lambda p, g: {"qpos0": p.lasting_field("qpos0")},
            "gives qpos0 in every episode, where start states",
        ),
        ("mujoco", lambda p, g: {"body_mass": p.lasting_field("body_mass")[0]}, r"gives body_mass as \(3,\), but"),
        ("mujoco", lambda p, g: {"geom_frictions": p.qpos}, "'geom_frictions', which is not a field"),
        ("mujoco", lambda p, g: {"body_mass": p.lasting_field("geom_frictions")}, "'geom_frictions' is not a field"),
        ("mujoco", lambda p, g: {("body_mass", "geom_size")[next(CALLS) % 2]: p.lasting_field("body_mass")}, "another"),
        ("mujoco", lambda p, g: {"body_mass": -p.lasting_field("body_mass")}, "body_mass of -2, but it cannot be neg"),
        (
            "warp",
            lambda p, g: {"jnt_pos": torch.rand(8, 4, 3, generator=g)},
            r"gives jnt_pos in every episode, from which .*invweight0.* follow, .* for good; .*physics = mujoco takes it",
        ),
        (
            "warp",
            lambda p, g: {"geom_pos": torch.rand(8, 3, 3, generator=g)},
            "gives geom_pos in every episode, but geom 'floor' does not move",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(engine, function, words):
    with pytest.raises(PhysicsError, match=words) as error:
        make_env(Given(function), engine=engine)
    assert "\n" not in str(error.value)


def test_warp_refuses_by_what_the_model_has():
    """Gears are read for muscles and armatures, and only geoms that stand are placed for good."""

    def draw(physics, generator):
        place, gear = (physics.lasting_field(name) for name in ("geom_pos", "actuator_gear"))
        place[:, 2, 2].uniform_(0.05, 0.15, generator=generator)
        gear[:, 0, 0].uniform_(0.5, 1.5, generator=generator)
        return {"geom_pos": place, "actuator_gear": gear}

    env = make_env(Given(draw), engine="warp")
    assert len(env.physics.model_field("actuator_gear")[:, 0, 0].unique()) == 8


@pytest.mark.parametrize("randomize_episode", [False, True])
def test_worlds_with_models_of_their_own_are_as_deterministic_as_asked(randomize_episode):
    def mode(**options):
        return make_env(engine="warp", randomize_episode=randomize_episode, **options).physics._model.opt.deterministic

    assert (
        mode(deterministic=True, randomization_fn=offset) == mode(deterministic=True) != mode(randomization_fn=offset)
    )
