"""The public face as editors and type checkers read it; torch_ppo/__init__.py imports each name at its first use."""

from torch_ppo.elsewhere.making import make_vec as make_vec
from torch_ppo.elsewhere.rsl_rl import RslRlEnv as RslRlEnv
from torch_ppo.environments.finding import make_task as make_task
from torch_ppo.episodes import Rollout as Rollout
from torch_ppo.episodes import rollout as rollout
from torch_ppo.errors import UserError as UserError
from torch_ppo.evaluate import Evaluation as Evaluation
from torch_ppo.evaluate import evaluate as evaluate
from torch_ppo.formulas.networks import make_ppo_networks as make_ppo_networks
from torch_ppo.formulas.pixels import make_ppo_networks_vision as make_ppo_networks_vision
from torch_ppo.pictures import Frames as Frames
from torch_ppo.pictures import render as render
from torch_ppo.running.acting import make_env as make_env
from torch_ppo.running.saved_policy import load_policy as load_policy
from torch_ppo.settings.config import Config as Config
from torch_ppo.settings.files import load_config as load_config
from torch_ppo.simulation.env import Env as Env
from torch_ppo.simulation.frames import FrameStack as FrameStack
from torch_ppo.simulation.menagerie import menagerie_model as menagerie_model
from torch_ppo.simulation.physics import Physics as Physics
from torch_ppo.simulation.physics import load_model as load_model
from torch_ppo.simulation.task import Memory as Memory
from torch_ppo.simulation.task import Observation as Observation
from torch_ppo.simulation.task import Task as Task
from torch_ppo.simulation.views import View as View
from torch_ppo.train import train as train

__version__: str
