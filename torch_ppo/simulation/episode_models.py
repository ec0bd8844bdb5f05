"""Models that are new in every episode: `Task.randomize_episode`, drawn before a step and taken where an episode begins."""

from collections.abc import Callable

import torch
from torch import Tensor

from torch_ppo.simulation.physics import Physics, left_as_it_was, masked_write

# Worlds that are drawn at first, to see what is drawn: fields that may not be, and numbers that are not always 0.
NUM_SAMPLES = 256

Draw = Callable[[Physics, torch.Generator], dict[str, Tensor]]


class EpisodeModels:
    """Draws fields of the model for all worlds, and gives them to those whose episode begins.

    Nothing of it reads from the device, so that a step can be recorded. A resumed run goes on with `physics.model_state`.
    """

    def __init__(self, draw: Draw, physics: Physics, generator: torch.Generator) -> None:
        self._function, self._physics, self._generator = draw, physics, generator
        own = torch.Generator(generator.device)
        own.set_state(generator.get_state())
        with torch.no_grad():
            draws = [draw(physics, own) for _ in range(-(-NUM_SAMPLES // physics.num_envs))]
            varying = physics.vary_model_fields(draws)
        self._next = {name: physics.model_field(name).clone() for name in varying}

    def draw(self) -> None:
        """Draws what `begin` gives; where an episode ends is compiled, which a generator cannot be."""
        drawn = self._function(self._physics, self._generator)
        for name, tensor in self._next.items():
            tensor.copy_(drawn[name])

    def write(self, where: Tensor) -> None:
        """Gives worlds `where` `(num_envs,)` is true what was drawn."""
        self._physics.write_model_fields(where, self._next)

    def sense(self, where: Tensor) -> None:
        """Gives the sensors of worlds `where` `(num_envs,)` is true what the new model makes of their state."""
        physics = self._physics
        if not physics.model.nsensordata:
            return
        with left_as_it_was(physics):
            physics.forward(where)
            sensors = physics.sensordata.clone()
        masked_write(where, sensors, physics.sensordata)
