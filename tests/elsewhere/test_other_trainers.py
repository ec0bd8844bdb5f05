"""Other people's trainers, as they are released, on our cart-pole through Gymnasium's interfaces."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")

# Three seconds from near the top: of a pole that has fallen long ago little is learned.
TASK = {"max_episode_steps": 150, "action_repeat": 2}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stable_baselines3():
    """By id alone, one world in each env, as SB3 makes them."""
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    envs = make_vec_env("torch_ppo.gymnasium:torch_ppo/cartpole", n_envs=16, seed=1, env_kwargs=TASK)
    settings = {"n_steps": 64, "batch_size": 256, "learning_rate": 1e-3, "gamma": 0.97}
    model = PPO("MlpPolicy", envs, **settings, seed=1, device="cpu")
    before, _ = evaluate_policy(model, envs, n_eval_episodes=32, deterministic=False)
    model.learn(60_000)
    after, _ = evaluate_policy(model, envs, n_eval_episodes=32, deterministic=False)
    print(f"Stable-Baselines3 on cartpole: return {before:.1f} -> {after:.1f} of at most 300")
    assert after > max(250.0, 1.2 * before)


ENVS_OF_SCRIPT = re.compile(r"envs = gym\.vector\.SyncVectorEnv\(\n.*\n    \)\n")


@pytest.mark.slow
def test_cleanrl(tmp_path):
    """Its ppo_continuous_action.py, whose path CLEANRL_SCRIPT gives, with our envs in place of its own."""
    script = os.environ.get("CLEANRL_SCRIPT")
    if not script:
        pytest.skip("CLEANRL_SCRIPT is not set to the path of CleanRL's ppo_continuous_action.py")
    ours = f"envs = gym.make_vec(args.env_id, args.num_envs, **{TASK})\n"
    ours += "    envs = gym.wrappers.vector.RecordEpisodeStatistics(envs, 10_000)\n"
    code, replaced = ENVS_OF_SCRIPT.subn(ours, Path(script).read_text())
    assert replaced == 1
    code = code.replace("    envs.close()\n", '    print("returns", *envs.return_queue)\n    envs.close()\n')
    (tmp_path / "script.py").write_text(code)
    options = "--num-envs 64 --num-steps 64 --num-minibatches 16 --total-timesteps 300000 --gamma 0.97"
    options += " --learning-rate 1e-3 --no-cuda --env-id torch_ppo.gymnasium:torch_ppo/cartpole"
    command = [sys.executable, "script.py", *options.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    returns = [float(x) for x in re.search(r"^returns (.*)$", done.stdout, re.MULTILINE)[1].split()]
    before, after = np.mean(returns[:64]), np.mean(returns[-64:])
    print(f"CleanRL on cartpole: return {before:.1f} -> {after:.1f} of at most 300")
    assert after > max(220.0, 1.5 * before)
