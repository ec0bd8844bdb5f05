"""Other people's trainers, as they are released, on our cart-pole through Gymnasium's interfaces."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stable_baselines3():
    """By id alone, one world in each env, as SB3 makes them."""
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    envs = make_vec_env("torch_ppo.gymnasium:torch_ppo/cartpole", n_envs=8, seed=1)
    model = PPO("MlpPolicy", envs, n_steps=128, batch_size=256, learning_rate=1e-3, seed=1, device="cpu")
    before, _ = evaluate_policy(model, envs, n_eval_episodes=8)
    model.learn(60_000)
    after, _ = evaluate_policy(model, envs, n_eval_episodes=8)
    print(f"Stable-Baselines3 on cartpole: return {before:.1f} -> {after:.1f} of at most 1000")
    assert after > max(350.0, 2.0 * before)


ENVS_OF_SCRIPT = re.compile(r"envs = gym\.vector\.SyncVectorEnv\(\n.*\n    \)\n")


@pytest.mark.slow
def test_cleanrl(tmp_path):
    """Its ppo_continuous_action.py, whose path CLEANRL_SCRIPT gives, with our envs in place of its own."""
    script = os.environ.get("CLEANRL_SCRIPT")
    if not script:
        pytest.skip("CLEANRL_SCRIPT is not set to the path of CleanRL's ppo_continuous_action.py")
    ours = "envs = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec(args.env_id, args.num_envs), 10_000)\n"
    code, replaced = ENVS_OF_SCRIPT.subn(ours, Path(script).read_text())
    assert replaced == 1
    code = code.replace("    envs.close()\n", '    print("returns", *envs.return_queue)\n    envs.close()\n')
    (tmp_path / "script.py").write_text(code)
    options = "--num-envs 64 --num-steps 64 --total-timesteps 500000 --num-minibatches 8 --learning-rate 1e-3 --no-cuda"
    command = [sys.executable, "script.py", "--env-id", "torch_ppo.gymnasium:torch_ppo/cartpole", *options.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    returns = [float(x) for x in re.search(r"^returns (.*)$", done.stdout, re.MULTILINE)[1].split()]
    before, after = np.mean(returns[:64]), np.mean(returns[-64:])
    print(f"CleanRL on cartpole: return {before:.1f} -> {after:.1f} of at most 1000, of actions that are drawn")
    assert after > max(400.0, 2.0 * before)
