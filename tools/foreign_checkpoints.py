"""Makes tests/importing/others: small checkpoints that RSL-RL, SB3 and CleanRL's script save, and what they act.

    pip install stable-baselines3 rsl-rl-lib && python -m tools.foreign_checkpoints

Of each, beside its files, NAME.npz with observations, and the actions (modes) and values of the library itself.
"""

import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import torch
from rsl_rl.models import MLPModel
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensordict import TensorDict
from torch import nn
from torch.distributions.normal import Normal

FOLDER = Path(__file__).parents[1] / "tests" / "importing" / "others"
SIZE, PRIVILEGED, ACTIONS, ROWS = 5, 7, 2, 16


class Reach(gymnasium.Env):
    """Observations that are far from normalised."""

    def __init__(self):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (SIZE,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

    def observe(self):
        return (3 + 4 * self.np_random.standard_normal(SIZE)).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        return self.observe(), float(-np.square(action).sum()), False, self.np_random.random() < 0.1, {}


def save(name, observation, action, value, privileged=None):
    others = {} if privileged is None else {"privileged_state": privileged}
    np.savez_compressed(FOLDER / f"{name}.npz", state=observation, action=action, value=value, **others)


def seen(size, seed=1):
    return (3 + 4 * np.random.default_rng(seed).standard_normal((ROWS, size))).astype(np.float32)


def leave_out(path, *names):
    """For the file's size, and because it tells of the machine."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if name not in names}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in kept.items():
            archive.writestr(name, content)


def make_sb3():
    """After some updates; with VecNormalize, whose statistics are a file of their own."""
    env = VecNormalize(DummyVecEnv([Reach]))
    kwargs = {"net_arch": {"pi": [8, 6], "vf": [7]}, "activation_fn": nn.ELU}
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=32, policy_kwargs=kwargs, seed=0, device="cpu")
    model.learn(128)
    model.save(FOLDER / "sb3.zip", exclude=["_last_obs", "_last_original_obs"])
    leave_out(FOLDER / "sb3.zip", "policy.optimizer.pth", "system_info.txt")
    env.save(str(FOLDER / "sb3_vecnormalize.pkl"))
    observation = seen(SIZE)
    normal = torch.from_numpy(env.normalize_obs(observation).astype(np.float32))
    with torch.no_grad():
        action = model.policy.get_distribution(normal).mode()  # before SB3 clips it to the action space
        value = model.policy.predict_values(normal)[:, 0]
    save("sb3", observation, action.numpy(), value.numpy())


def jitter(module, generator):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


def make_rsl_rl():
    """As version 5's PPO.save and OnPolicyRunner.save have it: asymmetric, normalised."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    groups = {"actor": ["state"], "critic": ["privileged_state"]}
    observation = {"state": torch.from_numpy(seen(SIZE)), "privileged_state": torch.from_numpy(seen(PRIVILEGED, 2))}
    given = TensorDict(observation, batch_size=[ROWS])
    noise = {"class_name": "rsl_rl.modules.distribution:GaussianDistribution", "init_std": 0.5, "std_type": "log"}
    options = {"activation": "elu", "obs_normalization": True}
    actor = MLPModel(given, groups, "actor", ACTIONS, hidden_dims=[8, 6], distribution_cfg=noise, **options)
    critic = MLPModel(given, groups, "critic", 1, hidden_dims=[7], **options)
    for model in (actor, critic):
        jitter(model, generator)
        model.train()
        for _ in range(2):
            model.update_normalization(given)
        model.eval()
    torch.save(
        {
            "actor_state_dict": actor.state_dict(),
            "critic_state_dict": critic.state_dict(),
            "optimizer_state_dict": {},
            "iter": 7,
            "infos": None,
        },
        FOLDER / "rsl_rl.pt",
    )
    with torch.no_grad():
        action, value = actor(given), critic(given)[:, 0]
    save("rsl_rl", *(x.numpy() for x in (observation["state"], action, value, observation["privileged_state"])))


class Agent(nn.Module):
    """CleanRL's, of ppo_continuous_action.py, in smaller layers."""

    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(SIZE, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
        self.actor_mean = nn.Sequential(
            nn.Linear(SIZE, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, ACTIONS)
        )
        self.actor_logstd = nn.Parameter(torch.zeros(1, ACTIONS))

    def act(self, x):
        mean = self.actor_mean(x)
        return Normal(mean, self.actor_logstd.expand_as(mean).exp()).mean, self.critic(x)[:, 0]


def make_cleanrl():
    """With gymnasium's NormalizeObservation and its clip to ±10 in front, whose statistics are kept as an .npz."""
    torch.manual_seed(0)
    agent, observation = Agent(), seen(SIZE)
    jitter(agent, torch.Generator().manual_seed(0))
    torch.save(agent.state_dict(), FOLDER / "cleanrl.cleanrl_model")
    mean, var = observation.mean(0, dtype=np.float64), observation.var(0, dtype=np.float64)
    np.savez(FOLDER / "cleanrl_normalizer.npz", mean=mean, var=var, count=ROWS)
    normal = np.clip((observation - mean) / np.sqrt(var + 1e-8), -10, 10).astype(np.float32)
    with torch.no_grad():
        action, value = agent.act(torch.from_numpy(normal))
    save("cleanrl", observation, action.numpy(), value.numpy())


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_sb3()
    make_rsl_rl()
    make_cleanrl()


if __name__ == "__main__":
    main()
