"""Brax PPO, exactly, in PyTorch, on MuJoCo Warp and MuJoCo.

`torch_ppo.train(environment, ...)` is the library call, `python -m torch_ppo.train` the program.
"""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout envs/ and configs/ lie beside this folder; a wheel carries them inside it.
if not (Path(__file__).parent / "envs").is_dir():
    __path__.append(str(Path(__file__).parents[1]))
